//! The threat model as tests. Each file is one kind of attack by a caller who has only a valid
//! token, a payment or a stolen secret, and asserts that it fails without a trace.
//!
//! `docs/security.md` describes the same threats in the same order.

// Denial of service.
mod client_connections;
mod control_reads;
mod large_responses;
mod log_flooding;
mod outsiders;
mod repeated_fields;
mod subscriptions;
mod unread_bodies;

// Impersonation.
mod account_linking;
mod display_names;
mod erased_users;
mod issuers;
mod rotated_secrets;

// Access to another tenant, or more rights than the role has.
mod app_role;
mod replayed_keys;
mod slug_guessing;
mod suspension;

// Attacks through the systems around the server.
mod caching;
mod imports;
mod invitation_mail;
mod metrics_exposure;
mod stripe_binding;
mod weak_tls;
