//! Which names stand for this machine itself: one answer for the doors, the configuration and the connections to models.

/// Returns whether a host's name is this machine's loopback interface: `localhost` and what is below it (RFC 6761, section
/// 6.3), or a loopback address, in brackets or not, with a dot at its end or not.
pub(crate) fn is_loopback_host(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_for_everybody() {
        for name in [
            "localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback_host(name), "{name}");
        }
        for name in [
            "", "localhost.example.com", "notlocalhost", "0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.com",
        ] {
            assert!(!is_loopback_host(name), "{name}");
        }
    }
}
