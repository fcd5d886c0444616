//! A look at a document's text before it is parsed: what is too long or too deep never reaches the parser.

use super::document::{Limits, MAX_NESTING, Refusal};

/// Counts tokens and nesting without parsing (GraphQL specification, section 2.1).
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
                token_length(&bytes[at..])
            }
        };
        if tokens > limits.tokens {
            let limit = limits.tokens;
            return Err(Refusal::too_complex(format!("the document has more than {limit} tokens")));
        }
        if nesting > MAX_NESTING {
            let message = format!("the document nests deeper than {MAX_NESTING} levels");
            return Err(Refusal::too_complex(message));
        }
    }
    Ok(())
}

/// How many bytes the token at the start takes; never 0.
fn token_length(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\"\"\"") {
        let end = (3..bytes.len())
            .find(|&at| bytes[at..].starts_with(b"\"\"\"") && bytes[at - 1] != b'\\');
        return end.map_or(bytes.len(), |end| end + 3);
    }
    if bytes[0] == b'"' {
        let mut at = 1;
        while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\n' {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        return (at + 1).min(bytes.len());
    }
    length(bytes, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-').max(1)
}

fn length(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !wanted(byte)).unwrap_or(bytes.len())
}
