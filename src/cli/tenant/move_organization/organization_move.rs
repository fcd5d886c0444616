//! What moves, where to, and over which connections.

use migration::TenantTable;
use pg::Client;
use serde_json::{Value, json};

use crate::cli::{
    Failure,
    tenant::{organization::Organization, placement::Placement, table_rows::TableRows},
};

/// A move of an organization.
pub(super) struct OrganizationMove {
    pub(super) organization: Organization,
    pub(super) target: Placement,
    /// The tables, parents first.
    pub(super) rows: Vec<TableRows>,
}

/// The way that a move takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Between the shared tables and a schema of the control database.
    Within,
    /// To a dedicated database.
    Out,
    /// From a dedicated database to the control database.
    Back,
}

/// The connections of a move.
pub(super) struct Ends<'c> {
    pub(super) control: &'c mut Client,
    /// The dedicated database of a cross-database move.
    pub(super) there: Option<&'c mut Client>,
}

impl Ends<'_> {
    /// Control database and dedicated database; `None` for a move within the control database.
    pub(super) fn both(&mut self) -> Option<(&mut Client, &mut Client)> {
        Some((self.control, self.there.as_deref_mut()?))
    }

    /// Waits until dropped transactions are rolled back.
    pub(super) async fn roll_back(&mut self) -> pg::Result<()> {
        self.control.batch("").await?;
        match &self.there {
            Some(there) => there.batch("").await,
            None => Ok(()),
        }
    }
}

impl OrganizationMove {
    pub(super) fn route(&self) -> Route {
        match (self.organization.placement.database(), self.target.database()) {
            (None, None) => Route::Within,
            (None, Some(_)) => Route::Out,
            (Some(_), _) => Route::Back,
        }
    }

    /// The generation of the placement after a cross-database move.
    pub(super) fn generation(&self) -> i64 {
        self.organization.generation + 1
    }

    /// The connection to the source.
    pub(super) fn source_of<'e>(&self, ends: &'e mut Ends<'_>) -> &'e mut Client {
        match (self.route(), &mut ends.there) {
            (Route::Back, Some(there)) => there,
            _ => ends.control,
        }
    }

    /// The connection to the target.
    pub(super) fn target_of<'e>(&self, ends: &'e mut Ends<'_>) -> &'e mut Client {
        match (self.route(), &mut ends.there) {
            (Route::Out, Some(there)) => there,
            _ => ends.control,
        }
    }

    /// The connections to source and target of a cross-database move.
    pub(super) fn sides<'e>(
        &self,
        ends: &'e mut Ends<'_>,
    ) -> Option<(&'e mut Client, &'e mut Client)> {
        let (control, there) = ends.both()?;
        Some(if self.route() == Route::Out { (control, there) } else { (there, control) })
    }

    pub(super) fn source(&self, table: &TenantTable) -> String {
        self.organization.placement.table(table, self.organization.id)
    }

    pub(super) fn target(&self, table: &TenantTable) -> String {
        self.target.table(table, self.organization.id)
    }

    /// Whether the move copies the table. Triggers and directory sync already mirror the others in
    /// the shared tables of the control database.
    pub(super) fn copies(&self, rows: &TableRows) -> bool {
        self.target != Placement::Shared || !rows.table.mirrored
    }

    /// The metadata of the audit entry about the move.
    pub(super) fn metadata(&self, count: i64) -> Value {
        let from = self.organization.placement.name();
        json!({ "from": from, "to": self.target.name(), "rows": count })
    }

    /// Fails unless a statement has changed the organization's placement.
    pub(super) fn require_placed(&self, changed: u64) -> Result<(), Failure> {
        if changed == 1 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "another process changed the placement of {}. Run the command again.",
            self.organization.name
        )))
    }
}
