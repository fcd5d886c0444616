//! Scans the text of a document before it is parsed, so that text that is too long or too deep
//! never reaches a parser.

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
        at += match byte {
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
                    return Err(Refusal::too_complex(message));
                }
                length
            }
        };
        if tokens > limits.tokens {
            let limit = limits.tokens;
            return Err(Refusal::too_complex(format!(
                "The document has more than {limit} tokens."
            )));
        }
        if nesting > MAX_NESTING {
            let message = format!("The document nests deeper than {MAX_NESTING} levels.");
            return Err(Refusal::too_complex(message));
        }
    }
    Ok(())
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
