//! What this server may be called: the names its TLS certificate must cover.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Names in a certificate at most; container hosts have hundreds of addresses.
const MOST: usize = 64;

/// `localhost` and its addresses, the host's name, the address listened on or else all addresses of
/// the host, and what the settings add.
pub fn server_names(listen: SocketAddr, configured: &[String]) -> Vec<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).collect();
    names.extend(configured.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()));
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if is_dns_name(&host) {
        names.insert(host);
    }
    if listen.ip().is_unspecified() {
        let room = MOST.saturating_sub(names.len());
        names.extend(addresses().into_iter().map(|address| address.to_string()).take(room));
    } else {
        names.insert(listen.ip().to_string());
    }
    names.into_iter().collect()
}

/// Whether a text can stand in a certificate: as an address or as a DNS name.
pub(crate) fn is_name(text: &str) -> bool {
    let text = text.trim();
    text.parse::<IpAddr>().is_ok() || is_dns_name(text)
}

/// Whether a text can stand in a certificate as a DNS name.
fn is_dns_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

/// Addresses of this machine without link-local ones, from the kernel's tables; empty where there
/// are none.
fn addresses() -> BTreeSet<IpAddr> {
    let v4 = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    v4_addresses(&v4).into_iter().map(IpAddr::V4).chain(v6_addresses(&v6).into_iter().map(IpAddr::V6)).collect()
}

/// A local address stands on the line before `/32 host LOCAL`.
fn v4_addresses(table: &str) -> BTreeSet<Ipv4Addr> {
    let lines: Vec<&str> = table.lines().collect();
    lines
        .windows(2)
        .filter_map(|pair| match pair {
            [address, kind] if kind.contains("/32 host LOCAL") => address.rsplit(' ').next()?.parse().ok(),
            _ => None,
        })
        .filter(|address: &Ipv4Addr| !address.is_loopback() && !address.is_link_local())
        .collect()
}

/// Thirty-two hex digits first; scope in the fourth column (`00` is global).
fn v6_addresses(table: &str) -> BTreeSet<Ipv6Addr> {
    table
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_whitespace();
            let address = u128::from_str_radix(columns.next()?, 16).ok()?;
            (columns.nth(2)? == "00").then(|| Ipv6Addr::from_bits(address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_tables() {
        let v4 = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.2.0\n        /24 link UNICAST\n     |-- 10.1.2.7\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(v4_addresses(v4).into_iter().collect::<Vec<_>>(), [Ipv4Addr::new(10, 1, 2, 7)]);
        let v6 = "00000000000000000000000000000001 01 80 10 80       lo\n20010db8000000000000000000000007 02 40 00 80     eth0\nfe800000000000000000000000000001 02 40 20 80     eth0\n";
        assert_eq!(v6_addresses(v6).into_iter().collect::<Vec<_>>(), ["2001:db8::7".parse::<Ipv6Addr>().unwrap()]);
    }

    #[test]
    fn names_hold_what_was_configured_and_the_address_listened_on() {
        let names = server_names("192.0.2.9:8443".parse().unwrap(), &["Patch.Example".into(), " ".into()]);
        for name in ["localhost", "127.0.0.1", "::1", "patch.example", "192.0.2.9"] {
            assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
        }
    }
}
