//! The signature in the last line of an export: HMAC-SHA256 over all lines before it.

use std::io::{self, BufRead, Write};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::tenancy::SecretKeys;

/// Separates signatures of exports from other uses of the same secret.
const PURPOSE: &[u8] = b"tenantry tenant export\n";

#[derive(Debug, Serialize, Deserialize)]
struct Signature {
    signature: String,
}

fn context(key: &[u8]) -> hmac::Context {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(PURPOSE);
    context
}

fn text(context: hmac::Context) -> String {
    BASE64_STANDARD.encode(context.sign())
}

/// A writer that signs its output.
pub(super) struct Signing<W> {
    output: W,
    context: Option<hmac::Context>,
}

impl<W: Write> Signing<W> {
    /// Creates a writer. Without a key it writes no signature.
    pub(super) fn new(output: W, key: Option<&[u8]>) -> Self {
        Self { output, context: key.map(context) }
    }

    /// Writes the signature.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if let Some(context) = self.context {
            let signature = Signature { signature: text(context) };
            serde_json::to_writer(&mut self.output, &signature)?;
            self.output.write_all(b"\n")?;
        }
        self.output.flush()
    }
}

impl<W: Write> Write for Signing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        if let Some(context) = &mut self.context {
            context.update(&bytes[..written]);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A reader of lines that verifies their signature at the end.
pub(super) struct Verifying<R> {
    input: R,
    /// One context per key. Empty if the file is not verified.
    contexts: Vec<hmac::Context>,
}

impl<R: BufRead> Verifying<R> {
    pub(super) fn new(input: R, keys: Option<&SecretKeys>) -> Self {
        let keys = keys.into_iter().flat_map(SecretKeys::all);
        Self { input, contexts: keys.map(context).collect() }
    }

    /// Returns the next line, or `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<String>, Failure> {
        let line = self.read()?;
        for context in &mut self.contexts {
            context.update(line.as_deref().unwrap_or_default().as_bytes());
        }
        Ok(line)
    }

    /// Verifies that the file ends here, with a signature by one of the keys.
    pub(super) fn verify(mut self) -> Result<(), Failure> {
        let line = self.read()?;
        let shown = line.as_deref().and_then(|line| serde_json::from_str::<Signature>(line).ok());
        let ends = shown.is_none() || self.read()?.is_none();
        if !ends || (shown.is_none() && line.is_some()) {
            return Err(Failure::new("the export continues after its end. Export it again."));
        }
        if self.contexts.is_empty() {
            return Ok(());
        }
        let Some(Signature { signature }) = shown else {
            return Err(Failure::new(
                "the export is not signed. To import it without verification, pass --unsigned.",
            ));
        };
        let is_signed = self.contexts.into_iter().any(|context| {
            verify_slices_are_equal(text(context).as_bytes(), signature.as_bytes()).is_ok()
        });
        if is_signed {
            return Ok(());
        }
        Err(Failure::new(
            "the signature of the export is not valid: the file was changed, or signed with a key that \
             is not in EXPORT_KEY or SECRET_KEY",
        ))
    }

    fn read(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        let read = self.input.read_line(&mut line)?;
        Ok((read > 0).then_some(line))
    }
}
