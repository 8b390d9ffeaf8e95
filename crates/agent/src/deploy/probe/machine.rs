//! Looks at units, ports, processes, space and load.

use crate::deploy::command;
use crate::disk::files;
use crate::services;
use fettle_domain::health::{Least, Protocol, Seen};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Whether a unit is active. Without systemd: whether a process of it runs.
pub(super) fn unit(root: &Path, unit: &str, limit: Duration, scratch: &Path) -> Seen {
    if services::is_systemd(root) && crate::facts::is_live(root) {
        let argv = ["systemctl", "show", "--property", "LoadState,ActiveState,SubState,Result", "--", unit];
        return match command::run(&argv, limit, scratch) {
            Ok(shown) => unit_state(unit, &shown),
            Err(why) => Seen::fails(why),
        };
    }
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    let is_it = |found: &str| found == unit || found.strip_suffix(".service").unwrap_or(found) == name;
    match services::running(root).into_iter().find(|service| is_it(&service.unit)) {
        Some(service) => Seen::holds(format!("{unit} runs ({})", service.executable)),
        None => Seen::fails(format!("no process of {unit} runs")),
    }
}

/// Reads `systemctl show`.
fn unit_state(unit: &str, shown: &str) -> Seen {
    let value =
        |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().trim();
    let state = value("ActiveState");
    let said = format!("{unit} is {state} ({})", value("SubState"));
    if matches!(state, "active" | "reloading") {
        return Seen::holds(said);
    }
    let why = match (value("LoadState"), value("Result")) {
        ("loaded", "success" | "") => String::new(),
        ("loaded", result) => format!(": {result}"),
        (load, _) => format!(": the unit is {load}"),
    };
    Seen::fails(format!("{said}{why}"))
}

/// Whether a TCP port takes a connection, or a UDP port is bound.
pub(super) fn port(protocol: Protocol, address: Option<IpAddr>, port: u16, limit: Duration) -> Seen {
    match (protocol, address) {
        (Protocol::Tcp, Some(address)) => connect(&[SocketAddr::new(address, port)], limit),
        (Protocol::Tcp, None) => {
            // Where it listens, so that a service on one address only is found too.
            let listening = services::bound("tcp", port);
            if listening.is_empty() {
                return Seen::fails(format!("nothing listens on TCP port {port}"));
            }
            connect(&listening.into_iter().map(reachable).collect::<Vec<_>>(), limit)
        }
        (Protocol::Udp, address) => {
            let bound = services::bound("udp", port);
            let fits = |socket: &&SocketAddr| {
                address.is_none_or(|address| socket.ip().is_unspecified() || socket.ip().to_canonical() == address)
            };
            match bound.iter().find(fits) {
                Some(socket) => Seen::holds(format!("UDP {socket} is bound")),
                None => Seen::fails(format!("UDP port {port} is not bound{}", at(address))),
            }
        }
    }
}

fn at(address: Option<IpAddr>) -> String {
    address.map_or_else(String::new, |address| format!(" at {address}"))
}

/// Where one connects to what listens everywhere.
fn reachable(socket: SocketAddr) -> SocketAddr {
    match socket.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), socket.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), socket.port()),
        _ => socket,
    }
}

fn connect(sockets: &[SocketAddr], limit: Duration) -> Seen {
    let end = Instant::now() + limit;
    let mut failures = Vec::new();
    for socket in sockets {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(socket, left) {
            Ok(_) => return Seen::holds(format!("TCP {socket} takes connections")),
            Err(error) => failures.push(format!("TCP {socket}: {error}")),
        }
    }
    Seen::fails(failures.join("; "))
}

/// Whether so many processes of an executable run.
pub(super) fn processes(root: &Path, executable: &str, at_least: u32) -> Seen {
    let found = services::processes_of(root, executable);
    let said = format!("processes of {executable}: {found}");
    if found >= at_least as usize { Seen::holds(said) } else { Seen::fails(format!("{said}, wanted are {at_least}")) }
}

/// Whether there is space left.
pub(super) fn disk(root: &Path, path: &str, at_least: Least) -> Seen {
    let place = root.join(path.trim_start_matches('/'));
    let found = match rustix::fs::statvfs(&place) {
        Ok(found) => found,
        Err(error) => return Seen::fails(format!("cannot look at {path}: {error}")),
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let all = found.f_blocks.saturating_mul(found.f_frsize);
    let percent = free.saturating_mul(100).checked_div(all).unwrap_or(0);
    let said = format!("{path} has {} of {} free ({percent} %)", shown(free), shown(all));
    let enough = match at_least {
        Least::Bytes { bytes } => free >= bytes,
        Least::Percent { percent: wanted } => percent >= u64::from(wanted),
    };
    if enough { Seen::holds(said) } else { Seen::fails(format!("{said}, wanted is {at_least}")) }
}

/// A size for people, such as `1.5 GiB`.
fn shown(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut size, mut unit) = (bytes as f64 / 1024.0, UNITS.iter());
    let mut name = unit.next().copied().unwrap_or_default();
    for next in unit {
        if size < 1024.0 {
            break;
        }
        (size, name) = (size / 1024.0, next);
    }
    format!("{size:.1} {name}")
}

/// Whether the load of the last minute is bearable.
pub(super) fn load(at_most_hundredths: u32) -> Seen {
    load_of(&files::text("/proc/loadavg"), &files::text("/proc/stat"), at_most_hundredths)
}

fn load_of(loadavg: &str, stat: &str, at_most_hundredths: u32) -> Seen {
    let is_processor =
        |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let processors = stat.lines().filter(is_processor).count().max(1) as f64;
    let Some(load) = loadavg.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()) else {
        return Seen::fails("the kernel does not tell its load");
    };
    let limit = f64::from(at_most_hundredths) / 100.0;
    let said = format!("the load is {load:.2} on {processors} processors, {:.2} each", load / processors);
    if load / processors <= limit { Seen::holds(said) } else { Seen::fails(format!("{said}, at most {limit:.2}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_units_are_read() {
        let state = |active: &str, load: &str, result: &str| {
            unit_state("x.service", &format!("LoadState={load}\nActiveState={active}\nSubState=sub\nResult={result}\n"))
        };
        assert_eq!(state("active", "loaded", "success"), Seen::holds("x.service is active (sub)"));
        assert_eq!(state("failed", "loaded", "exit-code"), Seen::fails("x.service is failed (sub): exit-code"));
        assert_eq!(state("inactive", "loaded", "success"), Seen::fails("x.service is inactive (sub)"));
        assert_eq!(
            state("inactive", "not-found", "success"),
            Seen::fails("x.service is inactive (sub): the unit is not-found")
        );
        assert!(!unit_state("x.service", "").holds);
    }

    #[test]
    fn the_load_is_of_one_processor() {
        let stat = "cpu  1 2 3\ncpu0 1 2\ncpu1 1 2\nintr 5\n";
        assert_eq!(load_of("3.10 1 1 1/1 1", stat, 155), Seen::holds("the load is 3.10 on 2 processors, 1.55 each"));
        assert!(load_of("3.20 1 1 1/1 1", stat, 155).evidence.ends_with("1.60 each, at most 1.55"));
        assert!(!load_of("", stat, 155).holds);
        assert!(load(100_000).holds, "{}", load(100_000).evidence);
    }

    #[test]
    fn ports_are_found_where_they_listen() {
        let limit = Duration::from_secs(5);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        assert!(port(Protocol::Tcp, None, number, limit).evidence.contains("takes connections"));
        assert!(port(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST.into()), number, limit).holds);
        drop(listener);
        let seen = port(Protocol::Tcp, None, number, limit);
        assert_eq!(seen, Seen::fails(format!("nothing listens on TCP port {number}")));
        assert!(port(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST.into()), number, limit).evidence.contains("refused"));
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = socket.local_addr().unwrap().port();
        assert!(port(Protocol::Udp, None, number, limit).holds);
        assert!(!port(Protocol::Udp, Some("127.0.0.2".parse().unwrap()), number, limit).holds);
    }

    #[test]
    fn space_is_of_the_file_system_that_is_meant() {
        let root = Path::new("/");
        assert_eq!([shown(0), shown(1536), shown(3 << 40)], ["0.0 KiB", "1.5 KiB", "3.0 TiB"]);
        assert!(disk(root, "/", Least::Bytes { bytes: 1 }).holds);
        let seen = disk(root, "/", Least::Bytes { bytes: u64::MAX });
        assert!(!seen.holds && seen.evidence.contains("wanted is"), "{}", seen.evidence);
        assert!(disk(root, "/no/such/place", Least::Percent { percent: 1 }).evidence.contains("cannot look at"));
    }

    #[test]
    fn processes_are_counted_by_executable() {
        let own = std::fs::read_link("/proc/self/exe").unwrap();
        let own = own.to_str().unwrap();
        assert!(processes(Path::new("/"), own, 1).holds);
        assert!(processes(Path::new("/"), own, 10_000).evidence.contains("wanted are 10000"));
        assert!(!processes(Path::new("/"), "/usr/sbin/no-such-daemon", 1).holds);
    }
}
