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
