//! What depends on the server: its versions, the roles and settings of its administrators,
//! addresses, TLS and poolers.

mod addresses;
mod pooler;
mod remedies;
mod roles;
mod server;
mod settings;
mod tls;
