//! The slug of an organization, as a type that holds only valid values.

use uuid::Uuid;

use crate::error::{Error, Result};

/// Slugs that could be mistaken for a path of the service or for its operator.
const RESERVED: [&str; 41] = [
    "about",
    "account",
    "admin",
    "administrator",
    "api",
    "app",
    "assets",
    "auth",
    "billing",
    "blog",
    "contact",
    "dashboard",
    "demo",
    "dev",
    "docs",
    "graphiql",
    "graphql",
    "health",
    "help",
    "home",
    "internal",
    "login",
    "logout",
    "mail",
    "me",
    "metrics",
    "new",
    "null",
    "org",
    "organization",
    "root",
    "security",
    "settings",
    "signup",
    "static",
    "status",
    "support",
    "system",
    "tenantry",
    "undefined",
    "www",
];

/// A slug: 2 to 48 characters of a-z and 0-9, with single hyphens between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slug(String);

impl Slug {
    /// Parses the slug in `input.slug` unchanged: nothing is trimmed or folded.
    ///
    /// # Errors
    ///
    /// [`Error::BadUserInput`] if the slug is malformed. [`Error::Conflict`] if it is reserved,
    /// which clients cannot tell from a taken slug.
    pub fn parse(input: &str) -> Result<Self> {
        const FIELD: &str = "input.slug";
        let letters = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
        let formed = (2..=48).contains(&input.len())
            && input.split('-').all(|part| !part.is_empty() && part.chars().all(letters));
        if !formed {
            let message =
                "must have 2 to 48 characters of a-z and 0-9, with single hyphens between them";
            return Err(Error::bad_input(FIELD, message));
        }
        // The organization in a token's claim can be an id. It must not lead to an organization
        // that took this id as its slug.
        if Uuid::try_parse(input).is_ok() {
            return Err(Error::bad_input(FIELD, "must not be a UUID. Choose another slug."));
        }
        let slug = Self(input.to_owned());
        if RESERVED.contains(&input) { Err(slug.taken()) } else { Ok(slug) }
    }

    /// The error for a slug that another organization has or had recently, or that is reserved.
    pub(super) fn taken(&self) -> Error {
        Error::Conflict(format!("The slug `{}` is taken. Choose another.", self.0))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text.
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_words_are_sorted_and_could_be_slugs() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| word.chars().all(|char| char.is_ascii_lowercase())));
    }
}
