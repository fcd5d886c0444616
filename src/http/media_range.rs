//! Media types with parameters, as `Accept` and `Content-Type` have them (RFC 9110, sections 5.6.6
//! and 12.5.1).

/// A media type, or a range of them.
pub(super) struct MediaRange {
    pub(super) kind: String,
    pub(super) subtype: String,
    /// The names are in lower case. Empty parameters are left out.
    parameters: Vec<(String, String)>,
}

impl MediaRange {
    /// Parses all ranges of a list. What is not a media range is left out.
    pub(super) fn list(text: &str) -> impl Iterator<Item = Self> {
        split(text, ',').filter_map(Self::parse)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = split(text, ';');
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let parameters = parts.filter(|part| !part.is_empty()).map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.trim().to_ascii_lowercase(), unquoted(value.trim()))
        });
        Some(Self {
            kind: kind.trim().to_ascii_lowercase(),
            subtype: subtype.trim().to_ascii_lowercase(),
            parameters: parameters.collect(),
        })
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        parameters.find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind == kind && self.subtype == subtype
    }

    /// Whether the content is in UTF-8, as JSON always is. `utf8` is a common misspelling.
    pub(super) fn is_utf8(&self) -> bool {
        let charset = self.parameter("charset").unwrap_or_default();
        ["", "utf-8", "utf8"].iter().any(|name| charset.eq_ignore_ascii_case(name))
    }
}

/// Splits a text at each separator outside of quoted strings.
pub(super) fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |char| {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return !quoted && char == separator,
        }
        false
    });
    parts.map(str::trim)
}

fn unquoted(value: &str) -> String {
    let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inside.map_or_else(|| value.to_owned(), |inside| inside.replace('\\', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_may_be_empty_quoted_or_without_a_value() {
        let text = r#"Application/JSON; ;V;profile="a,\"b;c";charset="UTF8", text/html,, nonsense"#;
        let ranges: Vec<_> = MediaRange::list(text).collect();
        let [json, html] = ranges.as_slice() else { panic!("{}", ranges.len()) };
        assert!(json.is("application", "json") && json.is_utf8() && html.is("text", "html"));
        assert_eq!(json.parameter("profile"), Some("a,\"b;c"));
        assert_eq!((json.parameter("v"), json.parameter("q")), (Some(""), None));
        assert!(!MediaRange::parse("application/json;charset=latin1").unwrap().is_utf8());
    }
}
