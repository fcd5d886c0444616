//! Placements: where the rows of each organization are (shared tables, dedicated schema, dedicated
//! database), and the changes that have to be copied from one place to another.
//!
//! A dedicated database has the same tables as the control database, and its organizations are in
//! the shared ones. The control database keeps copies of the rows by which organizations, members,
//! invitations and Stripe customers are found; a dedicated database keeps copies of its users.
//! Changes record which row has changed, and the row is copied as it is then.

use crate::rls::{
    self, ALL, QUEUE,
    Verb::{Insert, Select},
};

pub(super) fn sql() -> String {
    [
        include_str!("placement.sql").to_owned(),
        rls::control("app.placements", ALL),
        rls::touch("app.placements"),
        rls::control("app.pending_changes", QUEUE),
        rls::control("app.database", &[Select, Insert]),
        rls::touch("app.database"),
        rls::control("app.directory_changes", QUEUE),
        rls::control("auth.user_changes", QUEUE),
    ]
    .concat()
}
