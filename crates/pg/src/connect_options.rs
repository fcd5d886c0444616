//! The address of a database: a URL with host, login and parameters, as libpq has them.

use std::{collections::BTreeMap, fmt, fmt::Write as _, path::Path, str::FromStr};

use percent_encoding::percent_decode_str;

use crate::{Error, Result};

/// How to connect to a database. Parameters have libpq's names (PostgreSQL manual, section 34.1.2).
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectOptions(BTreeMap<String, String>);

/// The parameters of TLS, which the driver does not know.
const TLS: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

/// The value of `sslrootcert` for the certificates of the operating system.
pub(crate) const SYSTEM_ROOTS: &str = "system";

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Where packages put the sockets of local servers.
const SOCKETS: [&str; 3] = ["/var/run/postgresql", "/private/tmp", "/tmp"];

impl ConnectOptions {
    /// Replaces a parameter.
    #[must_use]
    pub fn with(mut self, parameter: &str, value: impl Into<String>) -> Self {
        self.0.insert(parameter.to_owned(), value.into());
        self
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, parameter: &str) -> Option<&str> {
        self.0.get(parameter).map(String::as_str)
    }

    /// The host, or the folder of its Unix socket. Several are separated by commas.
    #[must_use]
    pub fn host(&self) -> &str {
        self.get("host").unwrap_or("localhost")
    }

    /// The role that logs in.
    #[must_use]
    pub fn user(&self) -> &str {
        self.get("user").unwrap_or_default()
    }

    /// The weakest protection of connections that is accepted.
    #[must_use]
    pub fn ssl_mode(&self) -> &str {
        self.get("sslmode").unwrap_or("prefer")
    }

    /// Host and port, for error texts.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host(), self.get("port").unwrap_or("5432"))
    }

    pub(crate) fn config(&self) -> Result<tokio_postgres::Config> {
        let mut text = String::new();
        // libpq ignores the mode for sockets, which never have TLS. It prefers `hostaddr` to
        // `host`.
        let is_socket = self.get("hostaddr").is_none()
            && self.host().split(',').all(|host| host.starts_with('/'));
        for (parameter, value) in &self.0 {
            let value = match (parameter.as_str(), value.as_str()) {
                ("sslmode" | "sslnegotiation", _) if is_socket => continue,
                ("sslmode", "disable" | "allow") => "disable",
                ("sslmode", "require" | "verify-ca" | "verify-full") => "require",
                (parameter, _) if TLS.contains(&parameter) => continue,
                (_, value) => value,
            };
            let value = value.replace('\\', r"\\").replace('\'', r"\'");
            // Writing to a String cannot fail.
            let _ = write!(text, "{parameter}='{value}' ");
        }
        let read = tokio_postgres::Config::from_str(&text);
        // The source names the parameter and has no value, which may be a password.
        read.map_err(|error| {
            let source = std::error::Error::source(&error);
            Error::configuration(source.map_or_else(|| error.to_string(), ToString::to_string))
        })
    }

    fn add_host(&mut self, text: &str) -> Result<()> {
        let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = port.filter(|port| !port.is_empty()).unwrap_or("5432");
        if port.parse::<u16>().is_err() {
            return Err(Error::configuration(
                "the port is not a number. Special characters of a user name or a password must be percent-encoded",
            ));
        }
        self.append("host", ',', &decoded("host", host)?);
        self.append("port", ',', port);
        Ok(())
    }

    fn append(&mut self, parameter: &str, separator: char, value: &str) {
        let known = self.0.entry(parameter.to_owned()).or_default();
        if !known.is_empty() {
            known.push(separator);
        }
        known.push_str(value);
    }

    fn add_parameter(&mut self, pair: &str) -> Result<()> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded("the name of a parameter", name)?;
        let value = decoded(&name, value)?;
        match name.as_str() {
            "options" => self.append("options", ' ', &value),
            name if let Some(setting) = name.strip_prefix("options[") => {
                let setting = setting.trim_end_matches(']');
                self.append("options", ' ', &format!("-c {setting}={value}"));
            }
            "ssl-mode" => drop(self.0.insert("sslmode".to_owned(), value)),
            "ssl-ca" | "ssl-root-cert" => drop(self.0.insert("sslrootcert".to_owned(), value)),
            "ssl-cert" => drop(self.0.insert("sslcert".to_owned(), value)),
            "ssl-key" => drop(self.0.insert("sslkey".to_owned(), value)),
            // As in libpq, for addresses of JDBC. An explicit mode is more exact.
            "ssl" if value == "true" => {
                self.0.entry("sslmode".to_owned()).or_insert_with(|| "require".into());
            }
            "keepalives_count" => drop(self.0.insert("keepalives_retries".to_owned(), value)),
            _ => drop(self.0.insert(name, value)),
        }
        Ok(())
    }

    /// Checks `sslmode`. With the system's certificates it cannot be weaker than `verify-full`, as
    /// in libpq, because anyone can get a certificate from those authorities.
    fn check_ssl_mode(&mut self) -> Result<()> {
        if !SSL_MODES.contains(&self.ssl_mode()) {
            let modes = SSL_MODES.join(", ");
            return Err(Error::configuration(format!("sslmode must be one of {modes}")));
        }
        if self.get("sslrootcert") == Some(SYSTEM_ROOTS) {
            let mode = self.0.entry("sslmode".to_owned()).or_insert_with(|| "verify-full".into());
            if mode != "verify-full" {
                return Err(Error::configuration("sslrootcert=system needs sslmode=verify-full"));
            }
        }
        Ok(())
    }

    /// A URL without a host means a server on this machine.
    fn add_host_of_this_machine(&mut self) {
        let file = format!(".s.PGSQL.{}", self.get("port").unwrap_or("5432"));
        let socket = SOCKETS.iter().find(|folder| Path::new(folder).join(&file).exists());
        let host = socket.copied().unwrap_or("localhost");
        self.0.insert("host".to_owned(), host.to_owned());
    }
}

/// Parses a URL. Errors never repeat a value, which may be a password.
impl FromStr for ConnectOptions {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| Error::configuration("it must begin with postgres://"))?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let mut options = Self(BTreeMap::new());
        for (name, text) in [("user", user), ("password", password), ("dbname", database)] {
            if !text.is_empty() {
                options.0.insert(name.to_owned(), decoded(name, text)?);
            }
        }
        for host in hosts.split(',').filter(|host| !host.is_empty()) {
            options.add_host(host)?;
        }
        for pair in parameters.split('&').filter(|pair| !pair.is_empty()) {
            options.add_parameter(pair)?;
        }
        match (options.get("host"), options.get("hostaddr").map(ToOwned::to_owned)) {
            (None, Some(address)) => drop(options.0.insert("host".to_owned(), address)),
            (None, None) => options.add_host_of_this_machine(),
            (Some(_), _) => {}
        }
        options.check_ssl_mode()?;
        options.config()?;
        Ok(options)
    }
}

fn decoded(name: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| Error::configuration(format!("{name} is not UTF-8")))?;
    Ok(decoded.into_owned())
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ConnectOptions({}@{})", self.user(), self.address())
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

    use super::*;

    fn config(url: &str) -> tokio_postgres::Config {
        ConnectOptions::from_str(url).unwrap().config().unwrap()
    }

    #[test]
    fn a_url_becomes_the_driver_s_configuration() {
        let url = "postgres://a%40b:p%25%2F'\\%C3%BC@db.example:6432/shop?application_name=me";
        let config = config(url);
        assert_eq!(config.get_hosts(), [Host::Tcp("db.example".to_owned())]);
        assert_eq!(config.get_ports(), [6432]);
        assert_eq!(config.get_user(), Some("a@b"));
        assert_eq!(config.get_password(), Some("p%/'\\ü".as_bytes()));
        assert_eq!(config.get_dbname(), Some("shop"));
        assert_eq!(config.get_application_name(), Some("me"));
    }

    #[test]
    fn a_host_is_a_name_an_address_or_a_socket() {
        let hosts = |url: &str| config(url).get_hosts().to_vec();
        let socket = [Host::Unix("/run/postgresql".into())];
        assert_eq!(hosts("postgres://me@localhost/shop?host=/run/postgresql"), socket);
        assert_eq!(hosts("postgres://me@%2Frun%2Fpostgresql/shop"), socket);
        assert_eq!(hosts("postgres://me@[::1]:7000/shop"), [Host::Tcp("::1".to_owned())]);
        let two = "postgresql://me@one,two:6432/shop?target_session_attrs=read-write";
        assert_eq!(hosts(two), ["one", "two"].map(|host| Host::Tcp(host.to_owned())));
        assert_eq!(config(two).get_ports(), [5432, 6432]);
        assert_eq!(config(two).get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn addresses_are_read_as_providers_write_them() {
        let cloud_sql = "postgres://me:pw@/shop?host=/cloudsql/project:region:instance";
        let socket = [Host::Unix("/cloudsql/project:region:instance".into())];
        for url in [
            cloud_sql.to_owned(),
            format!("{cloud_sql}&sslmode=require"),
            "postgresql:///shop?host=/cloudsql/project:region:instance&user=me&password=pw".into(),
            "postgres://me:pw@%2Fcloudsql%2Fproject%3Aregion%3Ainstance/shop".into(),
            "postgres://me:pw@:5432/shop?host=%2Fcloudsql%2Fproject:region:instance".into(),
        ] {
            let config = config(&url);
            assert_eq!(config.get_hosts(), socket, "{url}");
            assert_eq!((config.get_user(), config.get_dbname()), (Some("me"), Some("shop")));
        }
        for url in [
            "postgresql://me:pw@ep-a-pooler.eu.neon.example/shop?sslmode=require&channel_binding=require",
            "postgres://me:pw@ep-a.neon.example/shop?sslmode=require&options=endpoint%3Dep-a",
            "postgresql://me.project:pw@pooler.supabase.example:6543/shop",
            "postgres://me%40server:pw@server.azure.example:5432/shop?sslmode=require",
            "postgres://me:pw@ec2.heroku.example:5432/shop?ssl=true&connect_timeout=10",
            "postgres://me:pw@one,two/shop?target_session_attrs=read-write&keepalives_count=3",
            "postgres://me:pw@db.rds.example/shop?hostaddr=10.0.0.1&sslnegotiation=direct&sslmode=require",
        ] {
            assert_eq!(config(url).get_dbname(), Some("shop"), "{url}");
        }
        let by_address = ConnectOptions::from_str("postgres:///shop?hostaddr=10.0.0.1").unwrap();
        assert_eq!(by_address.host(), "10.0.0.1");
        let jdbc = ConnectOptions::from_str("postgres://db/shop?ssl=true").unwrap();
        assert_eq!(jdbc.ssl_mode(), "require");
    }

    #[test]
    fn no_parameter_weakens_the_mode_of_tls() {
        for parameters in ["sslmode=verify-full&ssl=true", "ssl=true&sslmode=verify-full"] {
            let url = format!("postgres://db/shop?{parameters}&sslrootcert=ca.pem");
            assert_eq!(ConnectOptions::from_str(&url).unwrap().ssl_mode(), "verify-full", "{url}");
        }
        let socket = "postgres:///shop?host=/cloudsql/x&sslmode=verify-full";
        assert_eq!(config(socket).get_ssl_mode(), SslMode::Prefer);
        let address = config(&format!("{socket}&hostaddr=10.0.0.1"));
        assert_eq!(address.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn the_system_s_certificates_are_used_with_the_strictest_mode_only() {
        let read = |mode: &str| {
            ConnectOptions::from_str(&format!("postgres://db/shop?sslrootcert=system{mode}"))
        };
        assert_eq!(read("").unwrap().ssl_mode(), "verify-full");
        assert_eq!(read("&sslmode=verify-full").unwrap().ssl_mode(), "verify-full");
        for weaker in ["verify-ca", "require", "prefer", "disable"] {
            let error = read(&format!("&sslmode={weaker}")).unwrap_err().to_string();
            assert!(error.contains("sslrootcert"), "{error}");
        }
    }

    #[test]
    fn options_of_both_forms_add_up() {
        let options = config("postgres://db/shop?options=-c%20jit=off&options[lock_timeout]=1s");
        assert_eq!(options.get_options(), Some("-c jit=off -c lock_timeout=1s"));
    }

    #[test]
    fn errors_name_the_parameter_and_no_value() {
        for (url, expected) in [
            ("mysql://me:secret@db/shop", "postgres://"),
            ("postgres://me:secret@db/shop?sslmode=secret", "sslmode"),
            ("postgres://me:secret@db/shop?connect_timeout=secret", "connect_timeout"),
            ("postgres://me:secret@db:secret/shop", "port"),
            ("postgres://me:secret@db/shop?colour=secret", "colour"),
            ("postgres://me:secret@db/shop?sslmod=require", "sslmod"),
            ("postgres://me:secret@db/shop?pgbouncer=true", "pgbouncer"),
            ("postgres://me:secret@db/shop?sslcompression=0", "sslcompression"),
            (
                "postgres://me:secret@db/shop?target_session_attrs=any-secret",
                "target_session_attrs",
            ),
            ("postgres://me:secret/word@db/shop", "percent-encoded"),
            ("postgres://me:secret@db/shop?port=secret", "port"),
            ("postgres://me:%ff@db/shop", "password"),
        ] {
            let error = ConnectOptions::from_str(url).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
        let options = ConnectOptions::from_str("postgres://me:secret@db/shop").unwrap();
        assert_eq!(format!("{options:?}"), "ConnectOptions(me@db:5432)");
    }
}
