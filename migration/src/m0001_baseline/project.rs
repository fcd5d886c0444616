//! Projects: the example for every further tenant-owned resource.

use crate::table::{OnDelete::SetNull, Reference, Table};

pub(super) const TABLE: Table = Table {
    name: "app.projects",
    resource: "project",
    columns: "
    name        text NOT NULL,
    description text,
    created_by  uuid",
    references: &[Reference::global("created_by", "auth.users", SetNull)],
    // The pages of `Member.projects`. A reference to a table of organizations would have this
    // index.
    more: "CREATE INDEX ON projects (organization_id, created_by, created_at DESC, id DESC);\n",
    ..Table::RESOURCE
};
