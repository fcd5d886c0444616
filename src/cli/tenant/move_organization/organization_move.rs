//! What moves, and where to.

use migration::TenantTable;

use crate::cli::tenant::{organization::Organization, placement::Placement, table_rows::TableRows};

/// A move within the control database, or the part that both kinds of move share.
pub(super) struct OrganizationMove {
    pub(super) organization: Organization,
    pub(super) target: Placement,
    /// The tables, parents first.
    pub(super) rows: Vec<TableRows>,
}

impl OrganizationMove {
    pub(super) fn source(&self, table: &TenantTable) -> String {
        self.organization.placement.table(table, self.organization.id)
    }

    pub(super) fn target(&self, table: &TenantTable) -> String {
        self.target.table(table, self.organization.id)
    }

    /// The tables to copy. Triggers already mirror the others in the shared tables.
    pub(super) fn copied(&self) -> impl DoubleEndedIterator<Item = &TableRows> {
        self.rows.iter().filter(|rows| self.target == Placement::Schema || !rows.table.mirrored)
    }
}
