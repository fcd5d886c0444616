//! The digest that stands for a text.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of a text in hexadecimal.
#[must_use]
pub fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
