//! Names and descriptions of projects, as types that hold only valid values.

use crate::{error::Result, text};

/// A name of 1 to 100 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectName(String);

impl ProjectName {
    /// Parses the name in `input.name`, without surrounding white space.
    ///
    /// # Errors
    ///
    /// [`Error::BadUserInput`](crate::error::Error::BadUserInput) if the name is empty, too long or
    /// contains control characters.
    pub fn parse(input: &str) -> Result<Self> {
        text::line("input.name", input, 100).map(Self)
    }

    /// Returns the text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A description of up to 2,000 characters, possibly on several lines. `None` if it is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description(Option<String>);

impl Description {
    /// Parses the description in `input.description`, without surrounding white space.
    ///
    /// # Errors
    ///
    /// [`Error::BadUserInput`](crate::error::Error::BadUserInput) if the description is too long or
    /// contains control characters other than line breaks and tabs.
    pub fn parse(input: Option<&str>) -> Result<Self> {
        input.map_or(Ok(Self(None)), |input| {
            text::block("input.description", input, 2_000).map(Self)
        })
    }

    /// Returns the text.
    #[must_use]
    pub fn into_option(self) -> Option<String> {
        self.0
    }
}
