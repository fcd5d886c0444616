//! Parses lists of dedicated databases: `NAME=URL`, separated by white space. Error texts never
//! repeat an address, which may hold a password.

use pg::ConnectOptions;

use super::{ConfigError, parse_database_url};

/// A dedicated database.
#[derive(Clone, Debug)]
pub struct NamedDatabase {
    /// The name that placements use.
    pub name: String,
    /// How to connect to it.
    pub connect: ConnectOptions,
    /// The address it was parsed from, which may hold a password.
    pub url: String,
}

/// Parses the value of the setting `variable`.
///
/// # Errors
///
/// Names the faulty entry, and never repeats an address.
pub fn databases(variable: &str, text: &str) -> Result<Vec<NamedDatabase>, ConfigError> {
    let mut databases: Vec<NamedDatabase> = Vec::new();
    for (index, entry) in text.split_whitespace().enumerate() {
        let (name, url) = entry
            .split_once('=')
            .filter(|(name, _)| is_database_name(name))
            .ok_or_else(|| {
                ConfigError(format!(
                    "{variable}: entry {} must be NAME=URL. NAME begins with a lower-case letter and has at most \
                     40 lower-case letters, digits, - and _.",
                    index + 1
                ))
            })?;
        if databases.iter().any(|database| database.name == name) {
            return Err(ConfigError(format!(
                "{variable} contains {name} twice. Remove one of the entries."
            )));
        }
        let connect = parse_database_url(&format!("{variable}: {name}"), url)?;
        databases.push(NamedDatabase { name: name.to_owned(), connect, url: url.to_owned() });
    }
    Ok(databases)
}

/// Whether a name is valid for a dedicated database. The tables have the same check.
pub fn is_database_name(name: &str) -> bool {
    let mut characters = name.chars();
    name.len() <= 40
        && characters.next().is_some_and(|first| first.is_ascii_lowercase())
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_read_by_name() {
        let text =
            "eu=postgres://tenantry_app:s=cret@one/a\n  big_2=postgresql://tenantry_app@two/b ";
        let read = databases("DATABASES", text).unwrap();
        let names: Vec<&str> = read.iter().map(|database| database.name.as_str()).collect();
        assert_eq!(names, ["eu", "big_2"]);
        assert_eq!(read[0].connect.host(), "one");
        assert!(databases("DATABASES", "").unwrap().is_empty());
    }
}
