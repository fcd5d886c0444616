//! The table of projects, and their limits in plans.

use crate::{Change, OnDelete, Reference, Step, Table};

pub(crate) const STEP: Step = Step { name: "app/0001_project", changes };

const TABLE: Table = Table {
    name: "app.projects",
    resource: "project",
    columns: "
    name        text NOT NULL,
    description text,
    created_by  uuid",
    references: &[Reference::global("created_by", "auth.users", OnDelete::SetNull)],
    // The pages of `Member.projects`. A reference to a table of organizations would have this
    // index.
    more: "CREATE INDEX ON projects (organization_id, created_by, created_at DESC, id DESC);\n",
    ..Table::RESOURCE
};

fn changes() -> Vec<Change> {
    vec![
        Change::Table(TABLE),
        Change::once(
            "INSERT INTO billing.features (feature, kind, name, unit, description, position) VALUES
                 ('projects', 'count', 'Projects', 'project',
                  'The projects of an organization.', 1);
             INSERT INTO billing.plan_features (plan, feature, limit_value) VALUES
                 ('free', 'projects', 3), ('pro', 'projects', 50),
                 ('enterprise', 'projects', NULL)",
        ),
    ]
}
