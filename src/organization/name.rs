//! Names and slugs of organizations, as types that cannot hold a bad one.

use uuid::Uuid;

use crate::{
    error::{Error, Result},
    text,
};

/// Slugs that would be mistaken for something else in an address, or for somebody else.
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

/// 1 to 100 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationName(String);

impl OrganizationName {
    /// The name in `input.name`, without white space around it.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, or has control characters.
    pub fn parse(input: &str) -> Result<Self> {
        text::line("input.name", input, 100).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// The organization's place in addresses: 2 to 48 of a-z, 0-9 and single hyphens between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slug(String);

impl Slug {
    /// The slug in `input.slug`, as it is: nothing is trimmed or folded.
    ///
    /// # Errors
    ///
    /// When it has another form, or is reserved, which is no other answer than that it is taken.
    pub fn parse(input: &str) -> Result<Self> {
        const FIELD: &str = "input.slug";
        let letters = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit();
        let formed = (2..=48).contains(&input.len())
            && input.split('-').all(|part| !part.is_empty() && part.chars().all(letters));
        if !formed {
            let message = "must have 2 to 48 of a-z and 0-9, with single hyphens between them";
            return Err(Error::bad_input(FIELD, message));
        }
        // An id in a token's claim must not lead to the organization that took it for a slug.
        if Uuid::try_parse(input).is_ok() {
            return Err(Error::bad_input(FIELD, "must not be a UUID"));
        }
        let slug = Self(input.to_owned());
        if RESERVED.contains(&input) { Err(slug.taken()) } else { Ok(slug) }
    }

    /// Another organization has it, or had it not long ago, or none may have it.
    pub(super) fn taken(&self) -> Error {
        Error::Conflict(format!("The slug `{}` is taken. Choose another.", self.0))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_has_its_form_or_is_refused() {
        for good in ["ab", "acme", "a-b-c", "0x", "globex-2"] {
            assert!(Slug::parse(good).is_ok(), "{good:?}");
        }
        let long = "a".repeat(49);
        let bad = [
            "",
            "a",
            "-ab",
            "ab-",
            "a--b",
            "Acme",
            "a_b",
            "a b",
            "ä1",
            "acme\n",
            "graphql",
            "67e55044-10b1-426f-9247-bb680e5fe0c8",
            "67e5504410b1426f9247bb680e5fe0c8",
            &long,
        ];
        for bad in bad {
            assert!(Slug::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reserved_words_are_sorted_and_would_else_be_slugs() {
        assert!(RESERVED.is_sorted());
        assert!(RESERVED.iter().all(|word| word.chars().all(|char| char.is_ascii_lowercase())));
    }
}
