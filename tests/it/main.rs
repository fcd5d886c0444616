//! Integration tests with real PostgreSQL and real HTTP. The app connects as the unprivileged role.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may access everything, and fail by panicking"
)]

mod support;

mod admission;
mod app;
mod attacks;
mod audit_year;
mod authorization;
mod billing;
mod browser;
mod catalogue;
mod children;
mod clients;
mod command_line;
mod database;
mod databases;
mod deploying;
mod dev;
mod doctor;
mod documented_commands;
mod entitlements;
mod faults;
mod federation;
mod fuzz;
mod http;
mod idempotency;
mod identity_providers;
mod injection;
mod invitation;
mod isolation;
mod isolation_model;
mod issuer;
mod key_sets;
mod loaders;
mod mail;
mod malicious_clients;
mod many_organizations;
mod member;
mod meters;
mod metrics;
mod mutation;
mod new_resource;
mod nginx;
mod opening;
mod operations;
mod organization;
mod page;
mod performance;
mod placement;
mod placement_lock;
mod postgres;
mod prices;
mod profile;
mod replica;
mod resolution;
mod rust_client;
mod schema;
mod schemas;
mod seats;
mod session;
mod session_cache;
mod stripe;
mod stripe_states;
mod subscription;
mod telemetry;
mod tenant;
mod tidy;
mod transport;
mod usage;
