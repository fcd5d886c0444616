//! Words a syntax error: what was expected, and what was found.

use super::prescan::token;

/// The parser's names of what it expects, and what clients call them.
const NAMES: [(&str, &str); 17] = [
    ("Unexpected <EOF>", "an operation or a fragment"),
    ("expected definition", "an operation or a fragment"),
    ("expected a definition", "an operation or a fragment"),
    ("expected a StringValue, Name or OperationDefinition", "an operation or a fragment"),
    ("expected an Operation Type or a Selection Set", "an operation or a fragment"),
    ("expected at least one Selection in Selection Set", "a field or a fragment"),
    ("expected an Inline Fragment or a Fragment Spread", "a fragment after `...`"),
    ("expected a Selection Set", "`{`"),
    ("expected Selection Set", "`{`"),
    ("expected Type Condition", "`on`"),
    ("expected 'on'", "`on`"),
    ("expected L_CURLY", "`{`"),
    ("expected R_CURLY", "a field or `}`"),
    ("expected R_PAREN", "`)`"),
    ("expected R_BRACK", "`]`"),
    ("expected COLON", "`:`"),
    ("expected EQ", "`=`"),
];

/// The maximum length of what was found.
const MAX_TOKEN_CHARS: usize = 30;

/// The message for a client. The error was found at this byte of the text.
pub(super) fn syntax_error(message: &str, text: &str, offset: usize) -> String {
    let message = message.strip_prefix("syntax error: ").unwrap_or(message);
    let message = message.split(", got ").next().unwrap_or(message).trim_end_matches('.');
    let name = NAMES.iter().find(|(name, _)| *name == message).map(|(_, name)| *name);
    let Some(expected) = name.or_else(|| message.strip_prefix("expected ")) else {
        return format!("Syntax error: {message}.");
    };
    let found: String = token(text, offset).chars().take(MAX_TOKEN_CHARS).collect();
    match found.as_str() {
        "" => format!("Syntax error: expected {expected}, found the end of the document."),
        found => format!("Syntax error: expected {expected}, found `{found}`."),
    }
}
