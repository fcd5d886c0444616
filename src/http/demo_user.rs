//! The demo users that GraphiQL offers in development.

use serde::Serialize;

/// A demo user with a token. Development only.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoUser {
    /// The organization's slug.
    pub organization: &'static str,
    /// The organization's name.
    pub organization_name: &'static str,
    /// The user's name.
    pub name: &'static str,
    /// The user's role in the organization, as the API names it.
    pub role: String,
    /// The token's `sub`.
    pub subject: &'static str,
    /// The token.
    pub token: String,
}
