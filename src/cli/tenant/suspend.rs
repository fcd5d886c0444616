//! `tenantry tenant suspend` and `resume`. The suspension is stored in the organization's
//! placement, which every session reads.

use pg::Client;
use serde_json::json;

use super::{
    Failure,
    placed_organization::{PlacedOrganization, change_in_place},
    placement::Placement,
};
use crate::{
    audit::Action,
    cli::{owner_connection::Owner, say},
    tenancy::Change,
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
        let (name, has_changed) = set(owner, control, &self.organization, Some(suspension)).await?;
        if has_changed {
            say(format!("suspended {name} ({suspension})"));
        } else {
            say(format!("{name} is already suspended ({suspension})"));
        }
        Ok(())
    }
}

impl Resume {
    pub(super) async fn run(self, owner: &Owner, control: &mut Client) -> Result<(), Failure> {
        let (name, has_changed) = set(owner, control, &self.organization, None).await?;
        say(if has_changed {
            format!("resumed {name}")
        } else {
            format!("{name} is not suspended")
        });
        Ok(())
    }
}

/// Changes the suspension in the organization's database and in the control database, which serves
/// requests that leave the organization. Returns the organization's name and whether anything
/// changed.
async fn set(
    owner: &Owner,
    control: &mut Client,
    organization: &str,
    suspension: Option<&str>,
) -> Result<(String, bool), Failure> {
    change_in_place(owner, control, organization, Change::access(None), async |placed| {
        let mut has_changed =
            write(placed.control, &placed, &Placement::Shared, suspension).await?;
        let mut must_record = has_changed;
        if placed.organization.placement.database().is_some() {
            must_record =
                write(placed.connection, &placed, &Placement::Elsewhere, suspension).await?;
            has_changed |= must_record;
        }
        if must_record {
            record(&placed, suspension).await?;
        }
        Ok((placed.organization.name.clone(), has_changed))
    })
    .await
}

/// `unplaced` is where an organization without a row in `app.placements` lives.
async fn write(
    connection: &Client,
    placed: &PlacedOrganization<'_>,
    unplaced: &Placement,
    suspension: Option<&str>,
) -> pg::Result<bool> {
    let written = connection
        .execute(
            "INSERT INTO app.placements AS p (organization_id, placement, suspension, suspended_at)
         VALUES ($1, $2, $3, CASE WHEN $3::text IS NOT NULL THEN now() END)
         ON CONFLICT (organization_id) DO UPDATE SET suspension = excluded.suspension, suspended_at = excluded.suspended_at
         WHERE p.suspension IS DISTINCT FROM excluded.suspension",
            &[&placed.organization.id, &unplaced.name(), &suspension],
        )
        .await?;
    Ok(written == 1)
}

async fn record(placed: &PlacedOrganization<'_>, suspension: Option<&str>) -> pg::Result<()> {
    let before = placed.organization.suspension.as_ref().map(|(suspension, _)| suspension.as_str());
    let (act, stored) = match suspension {
        Some(_) => (("tenantry tenant suspend", Action::OrganizationSuspended), suspension),
        None => (("tenantry tenant resume", Action::OrganizationResumed), before),
    };
    placed.record(act, json!({ "suspension": stored })).await
}
