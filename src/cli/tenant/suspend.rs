//! `tenantry tenant suspend` and `resume`. The suspension is stored in the organization's
//! placement, which every session reads.

use pg::Client;
use serde_json::json;

use super::{
    Failure, MAINTENANCE_LOCK,
    organization::{self, Organization},
    placement::Placement,
};
use crate::{
    audit::Action,
    cli::{owner_connection::Owner, say},
    tenancy::{Change, ChangeFeed},
};

/// Suspend an organization: refuse its requests and end its subscriptions. Owners can still read
/// billing and pay.
#[derive(Debug, clap::Args)]
pub(super) struct Suspend {
    /// The organization's slug or id.
    organization: String,

    /// Refuse only changes: members can still read.
    #[arg(long)]
    read_only: bool,
}

/// End the suspension of an organization.
#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    /// The organization's slug or id.
    organization: String,
}

impl Suspend {
    pub(super) async fn run(self, owner: &Owner, control: &mut Client) -> Result<(), Failure> {
        let suspension = if self.read_only { "read-only" } else { "full" };
        let organization = Organization::find(control, &self.organization).await?;
        if set(owner, control, &organization, Some(suspension)).await? {
            say(format!("suspended {} ({suspension})", organization.name));
        } else {
            say(format!("{} is already suspended ({suspension})", organization.name));
        }
        Ok(())
    }
}

impl Resume {
    pub(super) async fn run(self, owner: &Owner, control: &mut Client) -> Result<(), Failure> {
        let organization = Organization::find(control, &self.organization).await?;
        if set(owner, control, &organization, None).await? {
            say(format!("resumed {}", organization.name));
        } else {
            say(format!("{} is not suspended", organization.name));
        }
        Ok(())
    }
}

/// Changes the suspension in the organization's database and in the control database, which serves
/// requests that leave the organization. If interrupted in between, the command can be repeated.
/// Returns whether anything changed.
async fn set(
    owner: &Owner,
    control: &mut Client,
    organization: &Organization,
    suspension: Option<&str>,
) -> Result<bool, Failure> {
    if organization.ended {
        return Err(Failure::new(format!("the organization {} is deleted", organization.name)));
    }
    let transaction = control.begin().await?;
    hold(&transaction, organization).await?;
    // From here on the placement cannot change.
    let organization = Organization::get(&transaction, organization.id).await?;
    let mut has_changed = false;
    if let Some(name) = organization.placement.database() {
        let mut there = organization::dedicated(owner, name).await?;
        let there = there.begin().await?;
        hold(&there, &organization).await?;
        has_changed = write(&there, &organization, &Placement::Elsewhere, suspension).await?;
        if has_changed {
            record(&there, &organization, &Placement::Shared, suspension).await?;
        }
        there.commit().await?;
    }
    if write(&transaction, &organization, &Placement::Shared, suspension).await? {
        has_changed = true;
        if organization.placement.database().is_none() {
            record(&transaction, &organization, &organization.placement, suspension).await?;
        }
    }
    let (channel, notice) = ChangeFeed::notification(Some(organization.id), Change::access(None))?;
    transaction.execute("SELECT pg_notify($1, $2)", &[&channel, &notice]).await?;
    transaction.commit().await?;
    Ok(has_changed)
}

/// Locks as every writer does: the organization does not move, and a running move records what is
/// written.
pub(super) async fn hold(connection: &Client, organization: &Organization) -> pg::Result<()> {
    let lock = format!("SELECT pg_advisory_xact_lock_shared({MAINTENANCE_LOCK})");
    connection.execute(&lock, &[]).await?;
    connection
        .execute("SELECT pg_advisory_xact_lock_shared(app.placement_lock($1))", &[&organization.id])
        .await?;
    connection
        .execute(
            "SELECT set_config('app.moving', 'on', true)
         WHERE EXISTS (SELECT FROM app.placements WHERE organization_id = $1 AND moving_to IS NOT NULL)",
            &[&organization.id],
        )
        .await?;
    Ok(())
}

/// `unplaced` is where an organization without a row in `app.placements` lives.
async fn write(
    connection: &Client,
    organization: &Organization,
    unplaced: &Placement,
    suspension: Option<&str>,
) -> pg::Result<bool> {
    let written = connection
        .execute(
            "INSERT INTO app.placements AS p (organization_id, placement, suspension, suspended_at)
         VALUES ($1, $2, $3, CASE WHEN $3::text IS NOT NULL THEN now() END)
         ON CONFLICT (organization_id) DO UPDATE SET suspension = excluded.suspension, suspended_at = excluded.suspended_at
         WHERE p.suspension IS DISTINCT FROM excluded.suspension",
            &[&organization.id, &unplaced.name(), &suspension],
        )
        .await?;
    Ok(written == 1)
}

async fn record(
    connection: &Client,
    organization: &Organization,
    placement: &Placement,
    suspension: Option<&str>,
) -> pg::Result<()> {
    let (act, stored) = match suspension {
        Some(_) => (("tenantry tenant suspend", Action::OrganizationSuspended), suspension),
        None => (
            ("tenantry tenant resume", Action::OrganizationResumed),
            organization.suspension.as_ref().map(|(suspension, _)| suspension.as_str()),
        ),
    };
    organization.record(connection, placement, act, json!({ "suspension": stored })).await
}
