//! The client's address: the peer's, or the one that a trusted proxy reports.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Walks `X-Forwarded-For` from its end, where the nearest proxy appends, to the first address that
/// is not a trusted proxy.
pub(super) fn client_ip(headers: &HeaderMap, peer: SocketAddr, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
    let mut client = peer.ip().to_canonical();
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in hops.into_iter().rev() {
        if !is_trusted(&client) {
            break;
        }
        match address(hop.trim()) {
            Some(ip) => client = ip.to_canonical(),
            None => break,
        }
    }
    client
}

/// Parses an address. Some proxies append the port.
fn address(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse().ok().map(|address: SocketAddr| address.ip());
    hop.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(forwarded: &str, peer: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded.parse().unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        client_ip(&headers, SocketAddr::new(peer.parse().unwrap(), 1), &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(ip("1.1.1.1", "9.9.9.9"), "9.9.9.9");
        assert_eq!(ip("1.1.1.1", "10.0.0.1"), "1.1.1.1");
        assert_eq!(ip("6.6.6.6, 1.1.1.1, 10.0.0.2", "10.0.0.1"), "1.1.1.1");
        assert_eq!(ip("8.8.8.8:1234", "10.0.0.1"), "8.8.8.8");
        assert_eq!(ip("[2001:db8::1]:443", "10.0.0.1"), "2001:db8::1");
        assert_eq!(ip("nonsense", "10.0.0.1"), "10.0.0.1");
        assert_eq!(ip("1.1.1.1", "::ffff:10.0.0.1"), "1.1.1.1");
    }
}
