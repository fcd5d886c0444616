//! The threat model as tests: each file is one kind of attack by a caller who holds nothing but a
//! valid token, a payment or a stolen secret, and asserts that it fails and leaves nothing behind.
//!
//! `docs/security.md` describes the same threats in the same order.

// Taking the service from others.
mod client_connections;
mod large_responses;
mod log_flooding;
mod repeated_fields;
mod strangers;
mod subscriptions;
mod unread_bodies;

// Becoming or impersonating another user.
mod account_linking;
mod display_names;
mod erased_users;
mod issuers;
mod rotated_secrets;

// Reaching another tenant, or escaping one's role.
mod app_role;
mod replayed_keys;
mod slug_guessing;
mod suspension;

// Through the systems around the server.
mod caching;
mod imports;
mod invitation_mail;
mod metrics_exposure;
mod stripe_binding;
mod weak_tls;
