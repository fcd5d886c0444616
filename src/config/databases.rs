//! Databases of organizations' own: `NAME=URL`, separated by white space.

use sqlx::postgres::PgConnectOptions;

use super::{ConfigError, parse_database_url};

/// A database that organizations can have of their own.
#[derive(Clone, Debug)]
pub struct NamedDatabase {
    /// How placements name it.
    pub name: String,
    /// How to reach it.
    pub connect: PgConnectOptions,
    /// The address that it was read from, which may hold a password.
    pub url: String,
}

/// Reads the setting `variable`.
///
/// # Errors
///
/// Names what is wrong, and never an address, which may hold a password.
pub fn databases(variable: &str, text: &str) -> Result<Vec<NamedDatabase>, ConfigError> {
    let mut databases: Vec<NamedDatabase> = Vec::new();
    for (index, entry) in text.split_whitespace().enumerate() {
        let (name, url) = entry
            .split_once('=')
            .filter(|(name, _)| is_database_name(name))
            .ok_or_else(|| {
                ConfigError(format!(
                    "{variable}: entry {} must be NAME=URL, where NAME has small letters, digits, - and _, 40 at the most, \
                     and begins with a letter",
                    index + 1
                ))
            })?;
        if databases.iter().any(|database| database.name == name) {
            return Err(ConfigError(format!("{variable}: {name} is there twice")));
        }
        let connect = parse_database_url(&format!("{variable}: {name}"), url)?;
        databases.push(NamedDatabase { name: name.to_owned(), connect, url: url.to_owned() });
    }
    Ok(databases)
}

/// Whether a database may have this name, as the tables check it.
#[must_use]
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
        assert_eq!(read[0].connect.get_host(), "one");
        assert!(databases("DATABASES", "").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_without_the_address() {
        for (text, told) in [
            ("postgres://u:secret@h/d", "entry 1 must be NAME=URL"),
            ("Eu=postgres://u:secret@h/d", "entry 1 must be NAME=URL"),
            ("eu=postgres://h/d eu=postgres://u:secret@h/d", "eu is there twice"),
            ("eu=secret", "DATABASES: eu is not a PostgreSQL address"),
        ] {
            let error = databases("DATABASES", text).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
