//! Checks that connections to PostgreSQL on other hosts are encrypted.

use std::net::IpAddr;

use pg::ConnectOptions;

use super::{DatabaseOptions, Finding, Severity};

impl DatabaseOptions {
    /// A warning for each address whose connections are not encrypted.
    #[must_use]
    pub fn transport_findings(&self) -> Vec<Finding> {
        let others = [
            ("SYSTEM_DATABASE_URL", self.system.as_ref()),
            ("DATABASE_LISTEN_URL", self.listen.as_ref()),
            ("DATABASE_REPLICA_URL", self.replica.as_ref()),
        ];
        let others = others.into_iter().filter_map(|(name, connect)| Some((name, connect?)));
        let named = [("DATABASE_URL", &self.connect)].into_iter().chain(others);
        let named = named.filter_map(|(name, connect)| transport_finding(name, connect));
        let dedicated = self.dedicated.iter().filter_map(|(name, connect)| {
            transport_finding(&format!("DATABASES: {name}"), connect)
        });
        named.chain(dedicated).collect()
    }
}

/// A warning if an address on another host has a weaker mode than `sslmode=require`.
#[must_use]
pub fn transport_finding(setting: &str, connect: &ConnectOptions) -> Option<Finding> {
    let (host, sslmode) = (connect.host(), connect.ssl_mode());
    if !["disable", "allow", "prefer"].contains(&sslmode) || host.split(',').all(is_this_host) {
        return None;
    }
    Some(Finding {
        severity: Severity::Warning,
        subject: setting.to_owned(),
        problem: format!(
            "connects to {host} with sslmode={sslmode}: the network can read and change the traffic"
        ),
        remedy: "add sslmode=verify-full and sslrootcert to the address; sslmode=require \
                 encrypts without verifying the server"
            .to_owned(),
    })
}

/// Whether the host is a Unix socket or a loopback address.
fn is_this_host(host: &str) -> bool {
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn only_another_host_needs_tls() {
        let problem = |rest: &str| {
            let connect = ConnectOptions::from_str(&format!("postgres://me:secret@{rest}"));
            transport_finding("DATABASE_URL", &connect.unwrap()).map(|finding| finding.to_string())
        };
        for rest in [
            "localhost/a",
            "LOCALHOST:6432/a?sslmode=disable",
            "127.0.0.2/a",
            "[::1]/a",
            "[::ffff:127.0.0.1]/a",
            "db.example/a?host=/run/postgresql",
            "%2Frun%2Fpostgresql/a",
            "db.example/a?sslmode=require",
            "db.example/a?sslmode=verify-ca",
            "10.0.0.1/a?sslmode=verify-full",
        ] {
            assert_eq!(problem(rest), None, "{rest}");
        }
        for (rest, expected) in [
            ("db.example/a", "db.example with sslmode=prefer"),
            ("10.0.0.1/a?sslmode=disable", "10.0.0.1 with sslmode=disable"),
            ("[fd00::1]/a?sslmode=allow", "with sslmode=allow"),
            ("localhost.example/a", "localhost.example with"),
        ] {
            let problem = problem(rest).unwrap();
            assert!(problem.contains(expected) && !problem.contains("secret"), "{problem}");
        }
    }
}
