//! Scans the text of a document before it is parsed, so that text that is too long or too deep
//! never reaches a parser.

use async_graphql::Pos;

use super::limits::{Limits, MAX_NESTING, Refusal};

/// No schema has longer names, and comparing them takes time.
const MAX_NAME_BYTES: usize = 200;

/// Longer values belong in variables, which are read only once.
const MAX_STRING_BYTES: usize = 64 * 1024;

/// Counts tokens and nesting (GraphQL specification, section 2.1) in a text with line feeds as its
/// only line ends.
pub(super) fn scan(text: &str, limits: &Limits) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    let (mut at, mut tokens, mut nesting) = (0, 0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => 1,
            b'#' => length(&bytes[at..], |byte| byte != b'\n'),
            _ => {
                tokens += 1;
                match byte {
                    b'{' | b'(' | b'[' => nesting += 1,
                    b'}' | b')' | b']' => nesting = nesting.saturating_sub(1),
                    _ => {}
                }
                let length = token_length(&bytes[at..]);
                let (kind, most) = match byte {
                    b'"' => ("string", MAX_STRING_BYTES),
                    _ => ("name", MAX_NAME_BYTES),
                };
                if length > most {
                    let message = format!(
                        "The document has a {kind} of more than {most} bytes. Use a variable for long values."
                    );
                    return Err(Refusal::too_complex_at(place(bytes, at), message));
                }
                length
            }
        };
        if tokens > limits.tokens {
            let message = format!("The document has more than {} tokens.", limits.tokens);
            return Err(Refusal::too_complex_at(place(bytes, at), message));
        }
        if nesting > MAX_NESTING {
            let message = format!("The document nests deeper than {MAX_NESTING} levels.");
            return Err(Refusal::too_complex_at(place(bytes, at), message));
        }
        at += length;
    }
    Ok(())
}

/// The line and column of a byte.
fn place(bytes: &[u8], at: usize) -> Pos {
    let before = String::from_utf8_lossy(&bytes[..at]);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Pos { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
}

/// The token that begins at this byte.
pub(super) fn token(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or_default();
    let length = if rest.is_empty() { 0 } else { token_length(rest.as_bytes()) };
    // A character that begins no token may have several bytes.
    rest.get(..length).unwrap_or_else(|| rest.split_at(rest.ceil_char_boundary(1)).0)
}

/// The length of the token at the start, in bytes. Never 0.
fn token_length(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\"\"\"") {
        let mut at = 3;
        while at < bytes.len() {
            if bytes[at..].starts_with(b"\\\"\"\"") {
                at += 4;
            } else if bytes[at..].starts_with(b"\"\"\"") {
                return at + 3;
            } else {
                at += 1;
            }
        }
        return bytes.len();
    }
    if bytes[0] == b'"' {
        let mut at = 1;
        while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\n' {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        return (at + 1).min(bytes.len());
    }
    if bytes.starts_with(b"...") {
        return 3;
    }
    length(bytes, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-').max(1)
}

fn length(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !wanted(byte)).unwrap_or(bytes.len())
}
