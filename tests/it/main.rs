//! All tests of the whole: real PostgreSQL, real HTTP, the app as the unprivileged role.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may look at everything, and ends by panicking"
)]

mod support;

mod admission;
mod attacks;
mod authorization;
mod billing;
mod browser;
mod command_line;
mod database;
mod databases;
mod dev;
mod doctor;
mod faults;
mod fuzz;
mod hostile;
mod http;
mod idempotency;
mod identity_providers;
mod injection;
mod invitation;
mod isolation;
mod issuer;
mod loaders;
mod mail;
mod member;
mod metrics;
mod mutation;
mod operations;
mod organization;
mod page;
mod performance;
mod placement;
mod project;
mod remembered;
mod replica;
mod resolution;
mod rust_client;
mod schema;
mod schemas;
mod session;
mod stripe;
mod subscription;
mod telemetry;
mod tenant;
mod tidy;
mod transport;
mod usage;
mod wall;
mod year;
