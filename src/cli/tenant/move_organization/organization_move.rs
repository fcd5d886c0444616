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

/// The connections of a move, by its route.
pub(super) enum MoveConnections<'c> {
    /// Between the shared tables and a schema of the control database.
    Within(&'c mut Client),
    /// To a dedicated database.
    ToDedicated { control: &'c mut Client, dedicated: &'c mut Client },
    /// From a dedicated database to the control database.
    FromDedicated { control: &'c mut Client, dedicated: &'c mut Client },
}

impl<'c> MoveConnections<'c> {
    pub(super) fn new(
        moving: &OrganizationMove,
        control: &'c mut Client,
        dedicated: Option<&'c mut Client>,
    ) -> Result<Self, Failure> {
        let OrganizationMove { organization, target, .. } = moving;
        match (organization.placement.database(), target.database(), dedicated) {
            (None, None, _) => Ok(Self::Within(control)),
            (None, Some(_), Some(dedicated)) => Ok(Self::ToDedicated { control, dedicated }),
            (Some(_), _, Some(dedicated)) => Ok(Self::FromDedicated { control, dedicated }),
            (None, Some(name), None) | (Some(name), _, None) => {
                Err(Failure::new(format!("there is no connection to the database {name}")))
            }
        }
    }

    /// The control database, and the dedicated database of a move between databases.
    pub(super) fn each(&mut self) -> (&mut Client, Option<&mut Client>) {
        match self {
            Self::Within(control) => (control, None),
            Self::ToDedicated { control, dedicated }
            | Self::FromDedicated { control, dedicated } => (control, Some(dedicated)),
        }
    }

    pub(super) fn control(&mut self) -> &mut Client {
        self.each().0
    }

    pub(super) fn source(&mut self) -> &mut Client {
        match self {
            Self::Within(source)
            | Self::ToDedicated { control: source, .. }
            | Self::FromDedicated { dedicated: source, .. } => source,
        }
    }

    pub(super) fn target(&mut self) -> &mut Client {
        match self {
            Self::Within(target)
            | Self::ToDedicated { dedicated: target, .. }
            | Self::FromDedicated { control: target, .. } => target,
        }
    }

    /// Waits until dropped transactions are rolled back.
    pub(super) async fn roll_back(&mut self) -> pg::Result<()> {
        let (control, dedicated) = self.each();
        control.batch("").await?;
        match dedicated {
            Some(dedicated) => dedicated.batch("").await,
            None => Ok(()),
        }
    }
}

impl OrganizationMove {
    /// The generation of the placement after a cross-database move.
    pub(super) fn generation(&self) -> i64 {
        self.organization.generation + 1
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

    /// Fails unless the statement changed exactly one placement.
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
