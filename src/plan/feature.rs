//! What a plan can limit.

use async_graphql::Enum;

/// Something that plans allow or limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum)]
pub enum Feature {
    /// Projects of an organization.
    Projects,
    /// Seats: members and open invitations.
    TeamMembers,
    /// Operations executed in a calendar month, UTC.
    ApiCallsPerMonth,
}

impl Feature {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Projects, Self::TeamMembers, Self::ApiCallsPerMonth];

    /// The feature's key in `billing.plan_features` and `billing.usage`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Projects => "projects",
            Self::TeamMembers => "team_members",
            Self::ApiCallsPerMonth => "api_calls_per_month",
        }
    }

    /// The feature with that key; `None` for one that this version does not know.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.key() == key)
    }
}
