//! Listening sockets by inode, from `/proc/net`.

use super::first_ephemeral_port;
use crate::disk::files;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Inode to text such as `tcp 0.0.0.0:22`. The kernel lists listening TCP sockets before connections,
/// so that the cap on the file's length cuts off only the latter.
pub(super) fn listening(net: &Path) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    let ephemeral = u32::from(first_ephemeral_port());
    for (file, protocol) in [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")] {
        for line in files::text(net.join(file)).lines().skip(1) {
            if let Some((inode, address)) = read_line(line, protocol, ephemeral) {
                found.insert(inode, format!("{protocol} {address}"));
            }
        }
    }
    found
}

/// Addresses at which a TCP port listens or a UDP port is bound, of the ephemeral range too.
pub(super) fn bound(net: &Path, protocol: &str, port: u16) -> Vec<SocketAddr> {
    const ANY: u32 = 1 << 16;
    let text = [protocol.to_owned(), format!("{protocol}6")].map(|file| files::text(net.join(file)));
    let lines = text.iter().flat_map(|text| text.lines().skip(1));
    let sockets = lines.filter_map(|line| read_line(line, protocol, ANY)).map(|(_, socket)| socket);
    sockets.filter(|socket| socket.port() == port).collect()
}

/// A line `N: LOCAL REMOTE STATE … INODE …`; `None` when it is no service.
fn read_line(line: &str, protocol: &str, ephemeral: u32) -> Option<(u64, SocketAddr)> {
    const TCP_LISTEN: &str = "0A";
    // UDP has no listening: an unconnected socket (state "closed") may be one. Those on a port of the
    // ephemeral range are nearly all clients and would make every inventory differ.
    const UDP_UNCONNECTED: &str = "07";
    let mut fields = line.split_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let state = fields.nth(1)?;
    let inode: u64 = fields.nth(5)?.parse().ok()?;
    let listens = match protocol {
        "tcp" => state == TCP_LISTEN,
        _ => state == UDP_UNCONNECTED && u32::from(local.port()) < ephemeral,
    };
    (listens && inode != 0).then_some((inode, local))
}

/// `0100007F:0016` or 32 hexadecimal digits for IPv6: 32-bit words in the host's byte order.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(host.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        assert_eq!(read_line(line, "tcp", 32768), Some((4242, "127.0.0.1:22".parse().unwrap())));
        let established = line.replace(" 0A ", " 01 ");
        assert_eq!(read_line(&established, "tcp", 32768), None);
        let six = "  1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 7 1";
        assert_eq!(read_line(six, "tcp", 32768), Some((7, "[::1]:8080".parse().unwrap())));
        let udp = "  9: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 8 2";
        assert_eq!(read_line(udp, "udp", 32768), Some((8, "0.0.0.0:68".parse().unwrap())));
        assert_eq!(read_line(&udp.replace(":0044", ":FFFF"), "udp", 32768), None);
        for garbage in ["", "0:", "0: x:y z 0A", "  9: 00000000:0044"] {
            assert_eq!(read_line(garbage, "tcp", 32768), None, "{garbage}");
        }
    }
}
