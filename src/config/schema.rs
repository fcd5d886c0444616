//! Settings that decide which schema is served, and who may read it.

use clap::{ArgAction, Args, ValueEnum};

/// Who may introspect the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Introspection {
    /// All callers, without a token.
    Always,
    /// Callers with a valid token.
    Authenticated,
    /// No caller.
    Never,
}

/// The schema that clients see.
#[derive(Args, Clone, Debug)]
pub struct SchemaConfig {
    /// Who may introspect the schema: every caller, callers with a token, or none.
    #[arg(long, env, default_value = "authenticated")]
    pub introspection: Introspection,

    /// Whether the API is also a subgraph of Apollo Federation 2. Gateways then read entities with
    /// `_entities`, and the subgraph's schema with `_service` as far as INTROSPECTION allows.
    #[arg(long, env, default_value_t = false, action = ArgAction::Set)]
    pub federation: bool,
}
