//! The forms of a name: `time_entry`, `timeEntry`, `TimeEntry`, `TIME_ENTRY`, "time entry", and the
//! plural.

use crate::cli::{Failure, capitalized};

/// Words that Rust or PostgreSQL reserves.
const RESERVED: &str = "abstract all analyse analyze and any array as asc async asymmetric await \
    become both box break case cast check collate column const constraint continue crate create \
    default deferrable desc distinct do dyn else end enum except extern false fetch final fn for \
    foreign from gen grant group having if impl in initially intersect into lateral leading let \
    limit localtime localtimestamp loop macro match mod move mut not null offset on only or order \
    override placing primary priv pub ref references return returning select self some static \
    struct super symmetric table then to trailing trait true try type typeof union unique unsafe \
    unsized use user using variadic virtual when where while window with yield";

/// A name of one or more lower-case words, joined by underscores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    /// Parses the name of something new, for example of a field.
    pub(super) fn parse(what: &str, text: &str) -> Result<Self, Failure> {
        let name = Self::known(what, text)?;
        if RESERVED.split_whitespace().any(|word| word == text) {
            return Err(Failure::new(format!(
                "the {what} `{text}` is a reserved word. Choose another name."
            )));
        }
        Ok(name)
    }

    /// Parses the name of something that exists.
    pub(super) fn known(what: &str, text: &str) -> Result<Self, Failure> {
        let is_word = |word: &str| {
            word.starts_with(|char: char| char.is_ascii_lowercase())
                && word.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit())
        };
        if text.len() > 40 || !text.split('_').all(is_word) {
            let form = "lower-case words, joined by underscores, of at most 40 characters";
            return Err(Failure::new(format!(
                "the {what} `{text}` must have the form due_on: {form}"
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// `time_entry`
    pub(super) fn snake(&self) -> &str {
        &self.0
    }

    /// `TimeEntry`
    pub(super) fn pascal(&self) -> String {
        self.0.split('_').map(capitalized).collect()
    }

    /// `timeEntry`
    pub(super) fn camel(&self) -> String {
        let (first, rest) = self.0.split_once('_').unwrap_or((&self.0, ""));
        first.to_owned() + &rest.split('_').map(capitalized).collect::<String>()
    }

    /// "time entry"
    pub(super) fn words(&self) -> String {
        self.0.replace('_', " ")
    }

    /// "a" or "an"
    pub(super) fn article(&self) -> &'static str {
        if self.0.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
    }

    /// The regular plural.
    pub(super) fn plural(&self) -> Self {
        let name = &self.0;
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        Self(match name.strip_suffix('y') {
            Some(stem) if !ends(&["ay", "ey", "oy", "uy"]) => format!("{stem}ies"),
            _ if ends(&["s", "x", "z", "ch", "sh"]) => format!("{name}es"),
            _ => format!("{name}s"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_forms() {
        let name = Name::parse("resource", "time_entry").unwrap();
        assert_eq!((name.pascal(), name.camel()), ("TimeEntry".to_owned(), "timeEntry".to_owned()));
        assert_eq!((name.plural().snake(), &*name.words()), ("time_entries", "time entry"));
        for (one, many) in
            [("task", "tasks"), ("box", "boxes"), ("day", "days"), ("match_up", "match_ups")]
        {
            assert_eq!(Name(one.to_owned()).plural().snake(), many);
        }
        for bad in ["", "Task", "a-b", "_a", "a__b", "1a", "type", "order", "é"] {
            assert!(Name::parse("field", bad).is_err(), "{bad}");
        }
    }
}
