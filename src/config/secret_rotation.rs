//! Secrets that can be rotated: a setting holds the newest secret and older ones, separated by
//! commas. Error texts never repeat a secret.

use super::ConfigError;

/// RFC 7518, section 3.2: a key for HS256 has at least the size of the hash.
const MIN_BYTES: usize = 32;

/// Returns the secrets of a setting, at least one, newest first.
pub(super) fn secrets<'text>(
    variable: &'static str,
    text: &'text str,
) -> Result<Vec<&'text str>, ConfigError> {
    let secrets: Vec<&str> = text.split(',').map(str::trim).collect();
    let short = secrets.iter().enumerate().find(|(_, secret)| secret.len() < MIN_BYTES);
    let Some((index, secret)) = short else {
        return Ok(secrets);
    };
    let which = if secrets.len() == 1 {
        variable.to_owned()
    } else {
        format!("{variable}: secret {} of {}", index + 1, secrets.len())
    };
    Err(ConfigError(format!(
        "{which} has {} bytes. Use at least {MIN_BYTES}, for example from openssl rand -hex 32.",
        secret.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_secret_is_trimmed_and_long_enough() {
        let (new, old) = ("n".repeat(32), "o".repeat(32));
        let both = format!(" {new} ,{old}\n");
        assert_eq!(secrets("X", &both).unwrap(), [new.as_str(), old.as_str()]);
        assert_eq!(secrets("X", "short").unwrap_err().0.split('.').next(), Some("X has 5 bytes"));
        for (bad, which) in
            [(format!("{new},"), 2), (format!(",{new}"), 1), (format!("{new},s"), 2)]
        {
            let text = secrets("X", &bad).unwrap_err().0;
            assert!(text.starts_with(&format!("X: secret {which} of 2 has")), "{text}");
            assert!(!text.contains(&new), "{text}");
        }
    }
}
