//! tenantry: the multi-tenant core of a SaaS product as a GraphQL API on PostgreSQL.
//!
//! # One request
//!
//! `http` takes the bytes and the bearer token; `auth` makes a caller of the token; `request` reads
//! the document and holds it against its limits and the schema, then asks `tenancy` for a
//! **session**: one connection, one transaction, in which the database has resolved person,
//! organization and role and set what its row-level security policies look at. Every resolver and
//! every dataloader works in that session and has no other way to the database. A query reads one
//! snapshot; a mutation commits as a whole or not at all, and is answered after its COMMIT.
//!
//! # Where things are
//!
//! - The **floor** knows no area: errors, configuration, paging, who is calling (`auth`), the way to the database
//!   (`tenancy`), and the toolkit for GraphQL (`graphql`).
//! - The **areas** are slices with the same file names: `graphql.rs` (types and resolvers, which only translate),
//!   `ops.rs` (rules and SQL, which know no GraphQL), `loader.rs` (batched look-ups).
//! - The **surface** assembles and decides nothing: schema, request, HTTP, command line.
//!
//! Arrows point down only; `tests/it/tidy.rs` holds that.

// Floor.
pub mod calendar;
pub mod clock;
pub mod config;
pub mod error;
pub mod mail;
pub mod metrics;
pub mod page;
pub mod postgres;
pub mod rate_limit;
pub mod stripe;
pub mod telemetry;
pub mod text;

pub mod admission;
pub mod auth;
pub mod graphql;
pub mod tenancy;

// Areas.
pub mod audit;
pub mod billing;
pub mod idempotency;
pub mod invitation;
pub mod member;
pub mod node;
pub mod organization;
pub mod outbox;
pub mod plan;
pub mod project;
pub mod usage;
pub mod user;

// Surface.
pub mod api_docs;
pub mod background;
pub mod cli;
pub mod http;
pub mod request;
pub mod schema;
pub mod subscription;
