//! Health checks: what must hold before and after a change, and what is made of it.
//!
//! A check names one thing that can be seen on a host. [`text`] is the form in which people write
//! one (`http=http://127.0.0.1:8080/health,within=30s`), [`judge`] makes verdicts of what was seen.
//! Nothing here can carry a command line: a command is named, and the host's own file says what it is.

mod judge;
mod text;
mod valid;

pub use judge::{Judgement, Look, Phase, judge};
pub use text::CheckTextError;

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Checks that one change, or one host's own file, may name.
pub const MOST_CHECKS: usize = 32;

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What people call it; made from the probe when they do not say.
    pub name: String,
    /// What is looked at.
    pub probe: Probe,
    /// When it counts.
    pub when: When,
    /// Time for one look (seconds).
    pub timeout_seconds: u32,
    /// How long after the change it may take until it holds (seconds).
    pub within_seconds: u32,
    /// How long it must then go on holding (seconds).
    pub hold_seconds: u32,
}

/// When a check counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// It must hold before, else the change does not begin.
    Before,
    /// It must hold after, however it was before.
    After,
    /// What held before must hold after; what was bad before is named and not blamed on the change.
    #[default]
    Both,
    /// It must hold before, else the change does not begin, and after.
    Always,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Probe {
    /// A unit (or init script's service) is active.
    Unit {
        /// Its name, such as `nginx.service`.
        unit: String,
    },
    /// A TCP port of this host takes a connection; a UDP port is bound.
    Port {
        /// Which protocol.
        protocol: Protocol,
        /// An address of this host; the loopback, or any address for UDP, when absent.
        address: Option<IpAddr>,
        /// Which port.
        port: u16,
    },
    /// So many processes of an executable run.
    Process {
        /// Absolute path.
        executable: String,
        /// How many at least.
        at_least: u32,
    },
    /// A GET over plain HTTP is answered; redirects are not followed.
    Http {
        /// `http://ADDRESS[:PORT][/PATH]`; the address is an IP address or `localhost`.
        url: String,
        /// The status wanted; any of 200 to 299 when absent.
        status: Option<u16>,
        /// Text that must stand in the answer's first part.
        contains: Option<String>,
        /// The header `Host`, for servers with several names; the URL's address when absent.
        host: Option<String>,
    },
    /// A command of the host's own file ends with exit code 0.
    Command {
        /// Its name there. Never a command line.
        command: String,
    },
    /// Lines that were logged since the change began.
    Log {
        /// Where.
        source: LogSource,
        /// Text of a line; `*` stands for any text.
        pattern: String,
        /// Whether it has to be there.
        expect: Expect,
    },
    /// Free space.
    Disk {
        /// Absolute path on the file system that is meant.
        path: String,
        /// How much.
        at_least: Least,
    },
    /// The load of the last minute.
    Load {
        /// At most so many hundredths for each processor: 150 is 1.5.
        at_most_hundredths: u32,
    },
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where log lines are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LogSource {
    /// A file below `/var/log`.
    File {
        /// Absolute path.
        path: String,
    },
    /// The journal of a unit.
    Journal {
        /// Its name.
        unit: String,
    },
}

/// Whether a log pattern has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// Some line must match.
    Present,
    /// No line may match.
    Absent,
}

/// Least free space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Least {
    /// So many bytes.
    Bytes {
        /// Bytes.
        bytes: u64,
    },
    /// So much of the file system.
    Percent {
        /// 1 to 99.
        percent: u8,
    },
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seen {
    /// Whether the check held.
    pub holds: bool,
    /// What was seen, in words: the evidence either way.
    pub evidence: String,
}

impl Seen {
    /// It held.
    pub fn holds(evidence: impl Into<String>) -> Self {
        Self { holds: true, evidence: evidence.into() }
    }

    /// It did not.
    pub fn fails(evidence: impl Into<String>) -> Self {
        Self { holds: false, evidence: evidence.into() }
    }
}

impl When {
    /// Stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            When::Before => "before",
            When::After => "after",
            When::Both => "both",
            When::Always => "always",
        }
    }

    /// Whether it is looked at before the change.
    pub fn is_before(self) -> bool {
        self != When::After
    }

    /// Whether the change does not begin unless it holds.
    pub fn is_required_before(self) -> bool {
        matches!(self, When::Before | When::Always)
    }
}

/// The host and port that a probe's URL names, and its path; `None` when it is none that a probe may have.
pub fn http_target(url: &str) -> Option<(IpAddr, u16, &str)> {
    valid::http_target(url).ok()
}
