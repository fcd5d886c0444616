//! The features that plans limit, with their keys in the database.

use async_graphql::Enum;

/// A feature that plans include and limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum Feature {
    /// The projects of an organization.
    Projects,
    /// The members of an organization, together with its open invitations that have not expired.
    TeamMembers,
    /// The operations executed in a calendar month (UTC).
    ApiCallsPerMonth,
}

impl Feature {
    /// All features, in display order.
    pub const ALL: [Self; 3] = [Self::Projects, Self::TeamMembers, Self::ApiCallsPerMonth];

    /// The key of the feature in `billing.plan_features` and `billing.usage`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Projects => "projects",
            Self::TeamMembers => "team_members",
            Self::ApiCallsPerMonth => "api_calls_per_month",
        }
    }

    /// Finds the feature with this key. Returns `None` if this version does not have it.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.key() == key)
    }
}
