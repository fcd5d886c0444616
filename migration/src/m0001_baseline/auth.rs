//! Users, the identities with which they sign in, and the keys with which servers prove callers.
//! Users belong to all organizations; `organization.rs` restricts which of them a request sees.

use crate::rls::{self, ALL, KEEP, Verb};

pub(super) fn sql() -> String {
    let protected = [
        ("auth.users", ALL),
        ("auth.identities", ALL),
        ("auth.erased_identities", KEEP),
        ("auth.unlinked_identities", &[Verb::Select, Verb::Insert]),
        ("auth.proof_keys", ALL),
    ]
    .map(|(table, verbs)| rls::control(table, verbs) + &rls::touch(table));
    include_str!("auth.sql").to_owned() + &protected.concat()
}
