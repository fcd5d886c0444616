//! What moves between which databases.

use pg::Client;

use super::super::organization_move::OrganizationMove;
use crate::cli::{
    Failure,
    tenant::{organization::Organization, placement::Placement, table_rows::TableRows},
};

/// The two connections of a cross-database move.
pub(in super::super) struct Endpoints<'c> {
    pub(in super::super) control: &'c mut Client,
    /// The dedicated database.
    pub(in super::super) there: &'c mut Client,
}

impl Endpoints<'_> {
    /// Waits until dropped transactions are rolled back.
    pub(super) async fn roll_back(&mut self) -> pg::Result<()> {
        self.control.batch("").await?;
        self.there.batch("").await
    }
}

/// A cross-database move.
pub(in super::super) struct CrossDatabaseMove {
    pub(super) move_organization: OrganizationMove,
    /// The name of the dedicated database.
    pub(super) database: String,
    /// Whether the organization leaves the control database.
    pub(super) out: bool,
    /// The generation of the placement after the move.
    pub(super) generation: i64,
}

impl CrossDatabaseMove {
    pub(in super::super) fn new(move_organization: OrganizationMove) -> Result<Self, Failure> {
        let (placement, target) =
            (&move_organization.organization.placement, &move_organization.target);
        let database = target.database().or(placement.database());
        let database =
            database.ok_or_else(|| Failure::new("neither placement is a database"))?.to_owned();
        let out = target.database().is_some();
        let generation = move_organization.organization.generation + 1;
        Ok(Self { move_organization, database, out, generation })
    }

    pub(super) fn organization(&self) -> &Organization {
        &self.move_organization.organization
    }

    /// The source and the target of rows.
    pub(super) fn sides<'e>(
        &self,
        ends: &'e mut Endpoints<'_>,
    ) -> (&'e mut Client, &'e mut Client) {
        if self.out { (ends.control, ends.there) } else { (ends.there, ends.control) }
    }

    /// The tables to copy row by row. Directory sync keeps the others in the control database.
    pub(super) fn copied(&self) -> impl DoubleEndedIterator<Item = &TableRows> {
        self.move_organization.rows.iter().filter(|rows| self.out || !rows.table.mirrored)
    }
}

/// The name that the dedicated database stores for the placement of an organization that leaves it.
pub(super) fn elsewhere() -> String {
    Placement::Elsewhere.name()
}
