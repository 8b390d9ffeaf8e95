//! Addresses and MACs, from the kernel's files: no sockets, no unsafe code.

use super::sorted;
use crate::disk::files;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// IP addresses without loopback, sorted. IPv6 addresses that change by themselves (temporary,
/// link-local) are left out: they would make every inventory differ and find nobody.
pub(crate) fn addresses() -> Vec<String> {
    let mut all = ipv4(&files::text("/proc/net/fib_trie"));
    all.extend(ipv6(&files::text("/proc/net/if_inet6")));
    sorted(all)
}

/// Local addresses of the routing trie: a line `|-- 10.0.0.5` followed by `/32 host LOCAL`.
fn ipv4(trie: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address| !address.is_loopback())
        {
            found.push(address.to_string());
        }
    }
    found
}

/// Lines `ADDRESS INDEX PREFIX SCOPE FLAGS NAME` in hexadecimal.
fn ipv6(table: &str) -> Vec<String> {
    const GLOBAL: u32 = 0x00;
    const TEMPORARY: u32 = 0x01;
    const DEPRECATED: u32 = 0x20;
    const TENTATIVE: u32 = 0x40;
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let address = u128::from_str_radix(fields.next()?, 16).ok()?;
            let scope = u32::from_str_radix(fields.nth(2)?, 16).ok()?;
            let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
            let lasting = scope == GLOBAL && flags & (TEMPORARY | DEPRECATED | TENTATIVE) == 0;
            lasting.then(|| Ipv6Addr::from(address).to_string())
        })
        .collect()
}

/// MAC addresses, sorted; without the host's ends of containers' cables, which come and go.
pub(super) fn macs(interfaces: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(interfaces) else { return Vec::new() };
    let macs = entries.flatten().filter_map(|entry| {
        let path = entry.path();
        let plugged_into_bridge = path.join("master").exists() && !path.join("device").exists();
        let mac = files::text(path.join("address")).trim().to_lowercase();
        let real = mac.len() == 17 && mac != "00:00:00:00:00:00";
        (real && !plugged_into_bridge).then_some(mac)
    });
    sorted(macs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_tables() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.0.2.15\n        /32 host LOCAL\n     |-- 10.0.2.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(ipv4(trie), ["10.0.2.15"]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\nfe80000000000000000000fffe000001 02 40 20 80     eth0\n20010db8000000000000000000000005 02 40 00 80     eth0\n20010db8000000000000000000000006 02 40 00 01     eth0\ngarbage\n";
        assert_eq!(ipv6(table), ["2001:db8::5"]);
    }

    #[test]
    fn container_cables_and_loopback_are_no_macs_of_the_host() {
        let sys = tempfile::tempdir().unwrap();
        let add = |name: &str, mac: &str, marks: &[&str]| {
            let folder = sys.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join("address"), mac).unwrap();
            for mark in marks {
                std::fs::create_dir(folder.join(mark)).unwrap();
            }
        };
        add("lo", "00:00:00:00:00:00\n", &[]);
        add("eth0", "52:54:00:AA:BB:CC\n", &["device", "master"]);
        add("veth1", "02:42:00:00:00:01\n", &["master"]);
        add("docker0", "02:42:00:00:00:02\n", &[]);
        assert_eq!(macs(sys.path()), ["02:42:00:00:00:02", "52:54:00:aa:bb:cc"]);
    }
}
