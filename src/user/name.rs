//! The name that a user has chosen, as a type that holds only valid values.

use crate::{error::Result, text};

/// A name of 1 to 200 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// Parses the name in `input.name`, without surrounding white space.
    ///
    /// # Errors
    ///
    /// [`Error::BadUserInput`](crate::error::Error::BadUserInput) if the name is empty, too long,
    /// or contains control or invisible characters.
    pub fn parse(input: &str) -> Result<Self> {
        text::line("input.name", input, 200).map(Self)
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
