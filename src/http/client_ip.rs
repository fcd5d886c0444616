//! The client's address: the peer's, or the one that a trusted proxy reports in `X-Forwarded-For`
//! or in `Forwarded` (RFC 7239).

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

use super::media_range::split;

/// Walks the addresses from their end, where the nearest proxy appends, to the first one that is
/// not a trusted proxy. An address that is unknown ends the walk at the proxy that reports it.
///
/// `Forwarded` counts only without `X-Forwarded-For`: a proxy that sends one of them passes the
/// other on as the client sent it.
pub(super) fn client_ip(headers: &HeaderMap, peer: SocketAddr, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
    let mut client = peer.ip().to_canonical();
    let lines =
        |name| headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let hops: Vec<Option<IpAddr>> = if headers.contains_key("x-forwarded-for") {
        let addresses = |line: &str| line.split(',').map(address).collect::<Vec<_>>();
        lines("x-forwarded-for").flat_map(|line| addresses(&line)).collect()
    } else {
        lines("forwarded").flat_map(|line| forwarded_for(&line)).collect()
    };
    for hop in hops.into_iter().rev() {
        match hop {
            Some(ip) if is_trusted(&client) => client = ip.to_canonical(),
            _ => break,
        }
    }
    client
}

/// Parses an address as proxies write it: with a port, in brackets, in quotes, or with a zone.
/// Returns `None` for `unknown` and for names that hide the address (RFC 7239, section 6).
fn address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"').trim();
    let host = match node.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            Some(host).filter(|_| port.is_empty() || port.starts_with(':'))?
        }
        None => match node.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => node,
        },
    };
    host.split('%').next()?.parse().ok()
}

/// The parameter `for` of each element of `Forwarded`. A line that ends within a quoted string is
/// not valid: a client may have opened it to hide what proxies append.
fn forwarded_for(line: &str) -> Vec<Option<IpAddr>> {
    // A comma within a quoted string separates nothing, so this one shows whether one is open.
    let closed = format!("{line},");
    let mut elements: Vec<_> = split(&closed, ',').collect();
    if elements.pop() != Some("") {
        return vec![None];
    }
    let of_client = |pair: &str| {
        let (name, node) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| address(node))
    };
    elements.into_iter().map(|pairs| split(pairs, ';').find_map(of_client).flatten()).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(lines: &[(&'static str, &str)], peer: &str) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client_ip(&headers, SocketAddr::new(peer.parse().unwrap(), 1), &trusted).to_string()
    }

    fn ip(forwarded: &str, peer: &str) -> String {
        client(&[("x-forwarded-for", forwarded)], peer)
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(ip("1.1.1.1", "9.9.9.9"), "9.9.9.9");
        assert_eq!(client(&[("forwarded", "for=1.1.1.1")], "9.9.9.9"), "9.9.9.9");
        assert_eq!(ip("1.1.1.1", "10.0.0.1"), "1.1.1.1");
        assert_eq!(ip("6.6.6.6, 1.1.1.1, 10.0.0.2", "10.0.0.1"), "1.1.1.1");
        assert_eq!(ip("1.1.1.1", "::ffff:10.0.0.1"), "1.1.1.1");
        assert_eq!(ip("1.1.1.1, ::ffff:10.0.0.2", "fd00::1"), "1.1.1.1");
    }

    #[test]
    fn addresses_are_read_in_all_forms() {
        for (form, expected) in [
            ("8.8.8.8:1234", "8.8.8.8"),
            ("\"8.8.8.8\"", "8.8.8.8"),
            ("\t8.8.8.8 ", "8.8.8.8"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("\"[2001:db8::1]:_port\"", "2001:db8::1"),
            ("2001:db8::1%eth0", "2001:db8::1"),
            ("::ffff:8.8.8.8", "8.8.8.8"),
            // The proxy does not know, or does not tell.
            ("unknown", "10.0.0.1"),
            ("_hidden", "10.0.0.1"),
            ("nonsense", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("1.1.1.1, unknown", "10.0.0.1"),
            ("1.1.1.1,", "10.0.0.1"),
            ("[2001:db8::1", "10.0.0.1"),
            ("[2001:db8::1]x", "10.0.0.1"),
            ("010.1.1.1", "10.0.0.1"),
        ] {
            assert_eq!(ip(form, "10.0.0.1"), expected, "{form:?}");
        }
        // Bytes of a client do not hide what the proxy appended.
        assert_eq!(ip("\u{ff}, 1.1.1.1", "10.0.0.1"), "1.1.1.1");
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "1.1.1.1, 10.0.0.2")];
        assert_eq!(client(&lines, "10.0.0.1"), "1.1.1.1");
    }

    #[test]
    fn forwarded_is_read_in_all_forms() {
        for (line, expected) in [
            ("for=1.1.1.1", "1.1.1.1"),
            ("For=1.1.1.1;Proto=http;By=10.0.0.1", "1.1.1.1"),
            ("by=10.0.0.1; for=\"1.1.1.1:80\"", "1.1.1.1"),
            ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=\"[2001:db8::1]\", for=10.0.0.2", "2001:db8::1"),
            ("for=6.6.6.6, for=1.1.1.1;host=\"a,b;for=7.7.7.7\"", "1.1.1.1"),
            ("for=6.6.6.6;x=\"a\\\", for=7.7.7.7\", for=1.1.1.1", "1.1.1.1"),
            ("for=1.1.1.1, for=unknown", "10.0.0.1"),
            ("for=1.1.1.1, for=_hidden;proto=https", "10.0.0.1"),
            ("for=1.1.1.1, proto=https", "10.0.0.1"),
            ("", "10.0.0.1"),
            // The client opened a quoted string around what the proxy appended.
            ("for=6.6.6.6;x=\", for=1.1.1.1", "10.0.0.1"),
            ("for=6.6.6.6;x=\", for=\"[2001:db8::1]\"", "10.0.0.1"),
        ] {
            assert_eq!(client(&[("forwarded", line)], "10.0.0.1"), expected, "{line:?}");
        }
        let lines = [("forwarded", "for=6.6.6.6;x=\""), ("forwarded", "for=1.1.1.1")];
        assert_eq!(client(&lines, "10.0.0.1"), "1.1.1.1");
    }

    #[test]
    fn a_client_cannot_replace_x_forwarded_for_with_forwarded() {
        let lines = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.1.1.1")];
        assert_eq!(client(&lines, "10.0.0.1"), "1.1.1.1");
    }
}
