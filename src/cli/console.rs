//! What commands print.

use std::io::Write;

/// Prints a line. Ignores a closed pipe, on which `println!` would panic.
pub(super) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A number with its noun, for example "1 fault" or "2 faults".
pub(super) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
