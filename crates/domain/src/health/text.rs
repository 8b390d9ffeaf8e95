//! How people write a check: `KIND=VALUE[,OPTION=VALUE]…`, the same on the command line, on pages and
//! in a host's own file. A comma that no known option follows is part of the text before it.

use super::{Expect, HealthCheck, Least, LogSource, Probe, Protocol, When};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Where and why the text is no check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {why}")]
pub struct CheckTextError {
    /// What was read.
    pub text: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

const TIMEOUT: u32 = 10;
const WITHIN: u32 = 60;
/// A line that must not come needs time to come.
const HOLD_ABSENT: u32 = 10;

/// Options of every kind.
const COMMON: [&str; 5] = ["name", "when", "timeout", "within", "hold"];
/// Kinds with the options of their own.
const KINDS: [(&str, &[&str]); 9] = [
    ("unit", &[]),
    ("port", &[]),
    ("process", &["at-least"]),
    ("http", &["status", "contains", "host"]),
    ("command", &[]),
    ("log", &["present", "absent"]),
    ("journal", &["present", "absent"]),
    ("disk", &["at-least"]),
    ("load", &[]),
];

type Options = BTreeMap<String, String>;

impl FromStr for HealthCheck {
    type Err = CheckTextError;

    fn from_str(text: &str) -> Result<Self, CheckTextError> {
        let wrong = |why: String| CheckTextError { text: text.chars().take(120).collect(), why };
        let check = read(text.trim()).map_err(wrong)?;
        check.problem().map_or(Ok(check), |why| Err(wrong(why)))
    }
}

fn read(text: &str) -> Result<HealthCheck, String> {
    let known = || KINDS.map(|(kind, _)| kind).join(", ");
    let (kind, rest) = text.split_once('=').ok_or_else(|| format!("a check is KIND=VALUE; kinds are {}", known()))?;
    let (_, own) = KINDS
        .iter()
        .find(|(name, _)| *name == kind)
        .ok_or_else(|| format!("there is no kind `{kind}`; kinds are {}", known()))?;
    let (value, mut options) = split(rest, own)?;
    let mut take = |name: &str| options.remove(name);
    let name = take("name");
    let when = take("when");
    let seconds = |text: Option<String>, or: u32| text.map_or(Ok(or), |text| seconds(&text));
    let (timeout, within, hold) = (take("timeout"), take("within"), take("hold"));
    let probe = probe(kind, &value, &mut options)?;
    let (is_log, is_absent) = match &probe {
        Probe::Log { expect, .. } => (true, *expect == Expect::Absent),
        _ => (false, false),
    };
    Ok(HealthCheck {
        name: name.unwrap_or_else(|| default_name(&probe)),
        when: match when.as_deref() {
            None if is_log => When::After,
            None => When::Both,
            Some(text) => [When::Before, When::After, When::Both, When::Always]
                .into_iter()
                .find(|when| when.as_str() == text)
                .ok_or_else(|| format!("`when={text}`: it is before, after, both or always"))?,
        },
        timeout_seconds: seconds(timeout, TIMEOUT)?,
        within_seconds: seconds(within, WITHIN)?,
        hold_seconds: seconds(hold, if is_absent { HOLD_ABSENT } else { 0 })?,
        probe,
    })
}

fn default_name(probe: &Probe) -> String {
    format!("{} {}", probe.kind(), probe.value())
}

/// The value, and the options behind it.
fn split(text: &str, own: &[&str]) -> Result<(String, Options), String> {
    let mut value = String::new();
    let mut options: Vec<(String, String)> = Vec::new();
    for (index, part) in text.split(',').enumerate() {
        let option = part.split_once('=').filter(|(name, _)| COMMON.contains(name) || own.contains(name));
        match (option, options.last_mut()) {
            (Some((name, text)), _) if index > 0 => options.push((name.to_owned(), text.to_owned())),
            (_, Some((_, last))) => {
                last.push(',');
                last.push_str(part);
            }
            (_, None) => {
                if index > 0 {
                    value.push(',');
                }
                value.push_str(part);
            }
        }
    }
    let mut found = Options::new();
    for (name, text) in options {
        if found.contains_key(&name) {
            return Err(format!("the option `{name}` stands there twice"));
        }
        found.insert(name, text);
    }
    Ok((value, found))
}

fn probe(kind: &str, value: &str, options: &mut Options) -> Result<Probe, String> {
    let mut take = |name: &str| options.remove(name);
    Ok(match kind {
        "unit" => Probe::Unit { unit: value.to_owned() },
        "port" => port(value)?,
        "process" => Probe::Process {
            executable: value.to_owned(),
            at_least: take("at-least").map_or(Ok(1), |text| number(&text))?,
        },
        "http" => Probe::Http {
            url: value.to_owned(),
            status: take("status").map(|text| number(&text)).transpose()?,
            contains: take("contains"),
            host: take("host"),
        },
        "command" => Probe::Command { command: value.to_owned() },
        "log" | "journal" => {
            let (pattern, expect) = match (take("present"), take("absent")) {
                (Some(pattern), None) => (pattern, Expect::Present),
                (None, Some(pattern)) => (pattern, Expect::Absent),
                _ => return Err("say either present=TEXT or absent=TEXT".to_owned()),
            };
            let text = value.to_owned();
            let source = if kind == "log" { LogSource::File { path: text } } else { LogSource::Journal { unit: text } };
            Probe::Log { source, pattern, expect }
        }
        "disk" => Probe::Disk {
            path: value.to_owned(),
            at_least: least(&take("at-least").ok_or("say at-least=SIZE, such as 500M or 10%")?)?,
        },
        _ => Probe::Load { at_most_hundredths: hundredths(value)? },
    })
}

fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{text}` is no number that fits here"))
}

/// `30`, `30s` or `5m`.
fn seconds(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.strip_suffix('m') {
        Some(digits) => (digits, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let count: u32 = number(digits)?;
    count.checked_mul(unit).ok_or_else(|| format!("`{text}` is too long a time"))
}

/// `[tcp:|udp:][ADDRESS:]PORT`.
fn port(text: &str) -> Result<Probe, String> {
    let (protocol, rest) = match (text.strip_prefix("tcp:"), text.strip_prefix("udp:")) {
        (Some(rest), _) => (Protocol::Tcp, rest),
        (_, Some(rest)) => (Protocol::Udp, rest),
        _ => (Protocol::Tcp, text),
    };
    if let Ok(port) = rest.parse() {
        return Ok(Probe::Port { protocol, address: None, port });
    }
    let socket: SocketAddr =
        rest.parse().map_err(|_| "a port is [tcp:|udp:][ADDRESS:]PORT, such as 443 or udp:127.0.0.1:53".to_owned())?;
    Ok(Probe::Port { protocol, address: Some(socket.ip()), port: socket.port() })
}

const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// `10%`, or bytes with K, M, G or T.
fn least(text: &str) -> Result<Least, String> {
    if let Some(percent) = text.strip_suffix('%') {
        return Ok(Least::Percent { percent: number(percent)? });
    }
    let (digits, unit) =
        UNITS.into_iter().find_map(|(letter, unit)| Some((text.strip_suffix(letter)?, unit))).unwrap_or((text, 1));
    let bytes = number::<u64>(digits)?.checked_mul(unit).ok_or_else(|| format!("`{text}` is too much"))?;
    Ok(Least::Bytes { bytes })
}

/// `1.5` is 150: kept whole, so that a plan's digest cannot differ by rounding.
fn hundredths(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is no load such as 1.5");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 2 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let part: u32 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
    whole.checked_mul(100).and_then(|whole| whole.checked_add(part)).ok_or_else(wrong)
}

impl fmt::Display for Least {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Least::Percent { percent } => write!(f, "{percent}%"),
            Least::Bytes { bytes } => match UNITS.iter().find(|(_, unit)| *bytes > 0 && bytes % unit == 0) {
                Some((letter, unit)) => write!(f, "{}{letter}", bytes / unit),
                None => write!(f, "{bytes}"),
            },
        }
    }
}

impl Probe {
    /// Word of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Probe::Unit { .. } => "unit",
            Probe::Port { .. } => "port",
            Probe::Process { .. } => "process",
            Probe::Http { .. } => "http",
            Probe::Command { .. } => "command",
            Probe::Log { source: LogSource::File { .. }, .. } => "log",
            Probe::Log { source: LogSource::Journal { .. }, .. } => "journal",
            Probe::Disk { .. } => "disk",
            Probe::Load { .. } => "load",
        }
    }

    fn value(&self) -> String {
        match self {
            Probe::Unit { unit: text }
            | Probe::Process { executable: text, .. }
            | Probe::Http { url: text, .. }
            | Probe::Command { command: text }
            | Probe::Log { source: LogSource::File { path: text } | LogSource::Journal { unit: text }, .. }
            | Probe::Disk { path: text, .. } => text.clone(),
            Probe::Port { protocol, address, port } => {
                let protocol = if *protocol == Protocol::Tcp { "tcp" } else { "udp" };
                match address {
                    Some(IpAddr::V6(address)) => format!("{protocol}:[{address}]:{port}"),
                    Some(address) => format!("{protocol}:{address}:{port}"),
                    None => format!("{protocol}:{port}"),
                }
            }
            Probe::Load { at_most_hundredths } => {
                format!("{}.{:02}", at_most_hundredths / 100, at_most_hundredths % 100)
            }
        }
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        let mut add = |name: &'static str, text: Option<String>| options.extend(text.map(|text| (name, text)));
        match self {
            Probe::Process { at_least, .. } => add("at-least", (*at_least != 1).then(|| at_least.to_string())),
            Probe::Http { status, contains, host, .. } => {
                add("status", status.map(|status| status.to_string()));
                add("contains", contains.clone());
                add("host", host.clone());
            }
            Probe::Log { pattern, expect: Expect::Present, .. } => add("present", Some(pattern.clone())),
            Probe::Log { pattern, expect: Expect::Absent, .. } => add("absent", Some(pattern.clone())),
            Probe::Disk { at_least, .. } => add("at-least", Some(at_least.to_string())),
            Probe::Unit { .. } | Probe::Port { .. } | Probe::Command { .. } | Probe::Load { .. } => {}
        }
        options
    }
}

/// The text that would be read as this check; what is usual is left out.
impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.probe.kind(), self.probe.value())?;
        for (name, text) in self.probe.options() {
            write!(f, ",{name}={text}")?;
        }
        let (is_log, hold) = match &self.probe {
            Probe::Log { expect: Expect::Absent, .. } => (true, HOLD_ABSENT),
            Probe::Log { .. } => (true, 0),
            _ => (false, 0),
        };
        if self.when != (if is_log { When::After } else { When::Both }) {
            write!(f, ",when={}", self.when.as_str())?;
        }
        let times = [
            ("timeout", self.timeout_seconds, TIMEOUT),
            ("within", self.within_seconds, WITHIN),
            ("hold", self.hold_seconds, hold),
        ];
        for (name, seconds, usual) in times {
            if seconds != usual {
                write!(f, ",{name}={seconds}s")?;
            }
        }
        if self.name != default_name(&self.probe) {
            write!(f, ",name={}", self.name)?;
        }
        Ok(())
    }
}
