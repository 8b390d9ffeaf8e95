//! What a check may be. A check comes from a person, from a file, or inside an order: the same rules
//! hold for all, since it ends in paths, addresses and arguments on a host.

use super::{HealthCheck, Least, LogSource, Probe, When};
use std::net::{IpAddr, Ipv4Addr};

/// Bounds of a check's times (seconds).
const LONGEST_TIMEOUT: u32 = 60;
const LONGEST_WITHIN: u32 = 1800;
const LONGEST_HOLD: u32 = 600;
/// Bytes of a path, URL or name, and of a pattern.
const LONGEST: usize = 500;
const LONGEST_PATTERN: usize = 200;
/// Load for each processor, in hundredths.
const HIGHEST_LOAD: u32 = 100_000;

impl HealthCheck {
    /// What is wrong with it, in words; `None` when it may be carried out.
    pub fn problem(&self) -> Option<String> {
        if !is_line(&self.name, LONGEST) {
            return Some("its name is empty, too long or more than a line".to_owned());
        }
        let bounds = [
            ("timeout", self.timeout_seconds, 1, LONGEST_TIMEOUT),
            ("within", self.within_seconds, 0, LONGEST_WITHIN),
            ("hold", self.hold_seconds, 0, LONGEST_HOLD),
        ];
        for (what, seconds, least, most) in bounds {
            if !(least..=most).contains(&seconds) {
                return Some(format!("{what} is {seconds} s, allowed are {least} to {most} s"));
            }
        }
        if matches!(self.probe, Probe::Log { .. }) && self.when != When::After {
            return Some("a log is read from the change on, so the check can only be for `when=after`".to_owned());
        }
        self.probe.problem()
    }
}

impl Probe {
    fn problem(&self) -> Option<String> {
        let (good, why) = match self {
            Probe::Unit { unit } => (is_unit(unit), "that is no name of a unit"),
            Probe::Port { port, .. } => (*port != 0, "there is no port 0"),
            Probe::Process { executable, at_least } => {
                (is_path(executable) && (1..=10_000).contains(at_least), "an absolute path and 1 to 10000 are wanted")
            }
            Probe::Http { url, status, contains, host } => return http_problem(url, *status, contains, host),
            Probe::Command { command } => {
                (is_command(command), "a command is named (letters, digits, `-` and `_`), never written out")
            }
            Probe::Log { source, pattern, .. } => return log_problem(source, pattern),
            Probe::Disk { path, at_least } => {
                let some = match at_least {
                    Least::Bytes { bytes } => *bytes > 0,
                    Least::Percent { percent } => (1..=99).contains(percent),
                };
                (is_path(path) && some, "an absolute path and some bytes, or 1 to 99 per cent, are wanted")
            }
            Probe::Load { at_most_hundredths } => {
                ((1..=HIGHEST_LOAD).contains(at_most_hundredths), "the load of a processor is 0.01 to 1000")
            }
        };
        (!good).then(|| why.to_owned())
    }
}

fn http_problem(url: &str, status: Option<u16>, contains: &Option<String>, host: &Option<String>) -> Option<String> {
    if let Err(why) = http_target(url) {
        return Some(why.to_owned());
    }
    if status.is_some_and(|status| !(100..=599).contains(&status)) {
        return Some("a status is 100 to 599".to_owned());
    }
    if contains.as_ref().is_some_and(|text| !is_line(text, LONGEST_PATTERN)) {
        return Some(format!("the text that is looked for is one line of at most {LONGEST_PATTERN} bytes"));
    }
    let plain = |host: &String| {
        !host.is_empty()
            && host.len() < 256
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:_[]".contains(&b))
    };
    if host.as_ref().is_some_and(|host| !plain(host)) { Some("that is no host name".to_owned()) } else { None }
}

fn log_problem(source: &LogSource, pattern: &str) -> Option<String> {
    if !is_line(pattern, LONGEST_PATTERN) || pattern.bytes().all(|byte| byte == b'*') {
        return Some(format!("a pattern is text of one line, at most {LONGEST_PATTERN} bytes"));
    }
    let (good, why) = match source {
        LogSource::File { path } => {
            (is_path(path) && path.starts_with("/var/log/"), "log files are below /var/log, without `..`")
        }
        LogSource::Journal { unit } => (is_unit(unit), "that is no name of a unit"),
    };
    (!good).then(|| why.to_owned())
}

/// Address, port and path of a URL that may be probed. Names are left out on purpose: a name can be
/// made to mean any address, and asking for it takes time without a limit.
pub(super) fn http_target(url: &str) -> Result<(IpAddr, u16, &str), &'static str> {
    const FORM: &str = "the URL is http://ADDRESS[:PORT][/PATH] with an IP address or localhost";
    if url.starts_with("https://") {
        return Err("https is not probed: name a command of the host's own file, or ask the plain port");
    }
    if url.len() > LONGEST || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(FORM);
    }
    let rest = url.strip_prefix("http://").ok_or(FORM)?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(at).ok_or(FORM)?;
    if path.starts_with('?') || path.contains('#') {
        return Err(FORM);
    }
    let (address, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address.parse().map_err(|_| FORM)?, port.strip_prefix(':').unwrap_or(port)),
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            let localhost = host == "localhost";
            (if localhost { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { host.parse().map_err(|_| FORM)? }, port)
        }
    };
    let port = if port.is_empty() { 80 } else { port.parse().map_err(|_| FORM)? };
    if port == 0 {
        return Err(FORM);
    }
    Ok((address, port, if path.is_empty() { "/" } else { path }))
}

fn is_line(text: &str, longest: usize) -> bool {
    !text.trim().is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

/// A name that an init system takes and that means nothing else.
fn is_unit(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 256
        && !name.starts_with(['-', '.'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@:\\+".contains(&byte))
}

fn is_command(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Absolute, without steps upwards.
fn is_path(path: &str) -> bool {
    path.len() <= LONGEST
        && !path.chars().any(char::is_control)
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.is_empty() || rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        })
}
