//! Names and descriptions of projects, as types that cannot hold a bad one.

use crate::{error::Result, text};

/// 1 to 100 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectName(String);

impl ProjectName {
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

/// Up to 2,000 characters, lines included; `None` instead of an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description(Option<String>);

impl Description {
    /// The description in `input.description`, without white space around it.
    ///
    /// # Errors
    ///
    /// When it is too long, or has control characters other than line breaks and tabs.
    pub fn parse(input: Option<&str>) -> Result<Self> {
        input.map_or(Ok(Self(None)), |input| {
            text::block("input.description", input, 2_000).map(Self)
        })
    }

    /// The text, if any.
    #[must_use]
    pub fn into_option(self) -> Option<String> {
        self.0
    }
}
