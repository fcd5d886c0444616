//! tenantry: the multi-tenant core of a SaaS product as a GraphQL API on PostgreSQL.
//!
//! # One request
//!
//! `http` reads the request and its bearer token. `auth` turns the token into a caller. `request`
//! parses the document, validates it against the schema and checks its limits. `admission` gives it
//! a permit. `tenancy` then opens a **session**: one connection with one transaction. In it,
//! PostgreSQL has resolved user, organization and role, and has set the variables that the
//! row-level security policies read. Resolvers and loaders work in that session and have no other
//! access to the database. A query reads one snapshot. A mutation commits as a whole before its
//! response is sent, or writes nothing. `docs/architecture.md` follows a request file by file.
//!
//! # Where things are
//!
//! - The **floor** knows no area: errors, paging, authentication (`auth`), database access
//!   (`tenancy`) and the GraphQL toolkit (`graphql`).
//! - The **areas** are vertical slices with the same file names: `area.rs` (what the area
//!   contributes to the API), `graphql.rs` (types and resolvers, which only translate), `ops.rs`
//!   (rules and SQL, without GraphQL) and `loader.rs` (batched lookups). `areas.rs` lists them.
//! - The **product** (`app`) has the same kind of areas. `app/mod.rs` lists them.
//! - The **surface** assembles the areas and decides nothing: configuration, schema, request, HTTP,
//!   command line.
//!
//! Dependencies point down only. `tests/it/tidy.rs` checks this.

// Floor.
pub mod action;
pub mod area;
pub mod calendar;
pub mod children;
pub mod clock;
pub mod declared;
pub mod edit;
pub mod enum_name;
pub mod error;
pub mod mail;
pub mod metrics;
pub mod page;
pub mod permission;
pub mod rate_limit;
mod sql;
pub mod text;

pub mod admission;
pub mod auth;
pub mod graphql;
pub mod tenancy;

// Areas.
mod audit;
pub mod billing;
mod idempotency;
pub mod invitation;
pub mod member;
pub mod node;
pub mod organization;
pub mod outbox;
pub mod plan;
pub mod seats;
pub mod usage;
pub mod user;

// The areas of the product.
pub mod app;

// Surface.
pub mod api_docs;
pub mod areas;
pub mod background;
pub mod cli;
pub mod config;
pub mod federation;
pub mod http;
pub mod request;
pub mod schema;
pub mod subscription;
pub mod telemetry;
