//! When an invitation is open: it was neither accepted nor revoked, and its inviter may still
//! invite to its role. Otherwise an inviter who was removed or demoted could return, or add others,
//! through an earlier invitation. An open invitation may have expired.

use std::sync::LazyLock;

use entity::OrgRole;
use sea_orm::{ActiveEnum, Iterable};

use crate::auth::Permission;

/// The condition in SQL, on the rows of a table named `invitations`.
pub static IS_OPEN: LazyLock<String> = LazyLock::new(|| {
    let pairs =
        OrgRole::iter().flat_map(|inviter| OrgRole::iter().map(move |role| (inviter, role)));
    let allowed: Vec<String> = pairs
        .filter(|(inviter, role)| Permission::allow_inviting(*inviter, *role))
        .map(|(inviter, role)| format!("('{}', '{}')", inviter.to_value(), role.to_value()))
        .collect();
    format!(
        "invitations.accepted_at IS NULL AND invitations.revoked_at IS NULL AND EXISTS (
            SELECT FROM organization_members inviter
            WHERE inviter.organization_id = invitations.organization_id AND inviter.user_id = invitations.invited_by
              AND (inviter.role, invitations.role) IN ({}))",
        allowed.join(", ")
    )
});

/// The key of the feature that limits members and open invitations.
pub const TEAM_MEMBERS: &str = "team_members";

/// The number of members, and of invitations that can still be accepted, as a query: `$1` is the
/// organization, `$2` the time.
pub static IN_USE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "(SELECT count(*) FROM organization_members WHERE organization_id = $1)
         + (SELECT count(*) FROM invitations WHERE organization_id = $1 AND expires_at > $2 AND {})",
        *IS_OPEN
    )
});
