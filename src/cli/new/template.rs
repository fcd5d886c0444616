//! Fills in templates: `{{name}}` stands for a text, and lines between `//if flag`, `//else` and
//! `//end` are kept or left out.

use std::process::{Command, Stdio};

use crate::cli::Failure;

/// What a template may name.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) texts: Vec<(&'static str, String)>,
    pub(super) flags: Vec<&'static str>,
}

impl Values {
    /// Fills in a template. A line whose only text is empty disappears.
    pub(super) fn fill(&self, template: &str) -> String {
        let mut filled = String::new();
        let mut keep = true;
        for line in template.lines() {
            match line.split_once(' ') {
                Some(("//if", flag)) => keep = self.flags.contains(&flag),
                None if line == "//else" => keep = !keep,
                None if line == "//end" => keep = true,
                _ if keep => self.fill_line(line, &mut filled),
                _ => {}
            }
        }
        filled
    }

    fn fill_line(&self, line: &str, filled: &mut String) {
        let replace = |line: String, (name, text): &(&str, String)| {
            line.replace(&format!("{{{{{name}}}}}"), text)
        };
        let text = self.texts.iter().fold(line.to_owned(), replace);
        if line.is_empty() || !text.trim().is_empty() {
            filled.push_str(&text);
            filled.push('\n');
        }
    }
}

/// Formats a file with `rustfmt`, as `cargo fmt` does.
pub(super) fn formatted(root: &std::path::Path, name: &str, text: &str) -> Result<String, Failure> {
    let problem = |problem: String| Failure::new(format!("rustfmt: {name}: {problem}"));
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--emit", "stdout", "--quiet", "--config-path"])
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| problem(format!("{error}. Install it: rustup component add rustfmt")))?;
    // Reads everything before it writes.
    let input = rustfmt.stdin.take();
    let sent =
        input.map_or(Ok(()), |mut input| std::io::Write::write_all(&mut input, text.as_bytes()));
    let output = rustfmt.wait_with_output().map_err(|error| problem(error.to_string()))?;
    if !output.status.success() || sent.is_err() {
        return Err(problem(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")));
    }
    String::from_utf8(output.stdout).map_err(|error| problem(error.to_string()))
}

/// A documentation comment that wraps at 100 columns, in a block that is indented by four.
pub(super) fn documentation(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let width = lines.last().map_or(0, |line| line.chars().count());
        if width + 1 + word.chars().count() > 100 - "    /// ".len() {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    format!("    /// {}\n", lines.join("\n    /// "))
}
