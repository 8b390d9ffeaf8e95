//! Looks at this host for health checks: each look is bounded in time and in what it reads, changes
//! nothing, and says in words what it saw.
//!
//! A check that came with an order can do less than one of the host's own file ([`own`]): it names
//! commands of that file and nothing else, it asks only this host's own addresses, and it learns how
//! many lines of a log match but not what stands in them.

mod by_hand;
mod http;
mod logs;
mod machine;
mod own;
#[cfg(test)]
mod tests;

use crate::facts;
use crate::report::Masker;
use fettle_domain::health::{HealthCheck, Probe, Seen, http_target};
use fettle_domain::reason::Reason;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use by_hand::{CheckSeen, ChecksError, look_at_checks};
pub(crate) use logs::LogMark;
pub(crate) use own::OwnChecks;

/// Longest evidence of one look.
const LONGEST_EVIDENCE: usize = 600;

/// Who asks for a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// The host's administrator, in the host's own file.
    Host,
    /// The change, in its signed order.
    Change,
}

impl Origin {
    /// Where the check can be read.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Origin::Host => "checks.toml of the host",
            Origin::Change => "the change",
        }
    }
}

/// A check that a deployment looks at, as its journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub(crate) check: HealthCheck,
    pub(crate) origin: Origin,
    /// Where its log stood when the deployment began.
    #[serde(default)]
    pub(crate) mark: Option<LogMark>,
    /// What was seen before the change.
    #[serde(default)]
    pub(crate) before: Option<Seen>,
}

/// Looks at one host.
pub(crate) struct Prober {
    root: PathBuf,
    /// Folder of the administrator's files.
    etc: PathBuf,
    /// Commands put their output here for a moment.
    scratch: PathBuf,
}

impl Prober {
    pub(crate) fn new(root: &Path, etc: &Path, scratch: &Path) -> Self {
        Self { root: root.to_owned(), etc: etc.to_owned(), scratch: scratch.to_owned() }
    }

    /// The checks of a deployment: the host's own and those of its order. `Err`: what keeps it from
    /// beginning.
    pub(crate) fn watch(&self, offered: &[HealthCheck]) -> Result<Vec<Watched>, Vec<Reason>> {
        let own = OwnChecks::load(&self.etc).map_err(|why| vec![Reason::new("health.own-file", why)])?;
        let refused = |origin: Origin, check: &HealthCheck, why: String| {
            let text = format!("the check `{}` is not carried out here: {why}", check.name);
            Reason::from_source("health.refused", text, origin.as_str())
        };
        let mut reasons = Vec::new();
        let mut watched = Vec::new();
        let own_ones = own.checks.iter().map(|check| (Origin::Host, check));
        for (origin, check) in own_ones.chain(offered.iter().map(|check| (Origin::Change, check))) {
            match self.refuses(origin, check, &own) {
                Some(why) => reasons.push(refused(origin, check, why)),
                None => watched.push(Watched {
                    check: check.clone(),
                    origin,
                    mark: logs::mark(&self.root, &check.probe),
                    before: None,
                }),
            }
        }
        if reasons.is_empty() { Ok(watched) } else { Err(reasons) }
    }

    /// Why a check is not carried out here, if so.
    fn refuses(&self, origin: Origin, check: &HealthCheck, own: &OwnChecks) -> Option<String> {
        if let Some(why) = check.problem() {
            return Some(why);
        }
        match &check.probe {
            Probe::Command { command } if !own.commands.contains_key(command) => Some(format!(
                "{} defines no command `{command}`; add `[command.{command}]` there with `argv = [\"/path\", …]`",
                OwnChecks::path(&self.etc).display()
            )),
            _ => elsewhere(origin, &check.probe),
        }
    }

    /// Looks once.
    pub(crate) fn look(&self, watched: &Watched) -> Seen {
        let limit = Duration::from_secs(u64::from(watched.check.timeout_seconds));
        // Once more at the last moment: the host's addresses may be others than at the beginning.
        if let Some(why) = elsewhere(watched.origin, &watched.check.probe) {
            return Seen::fails(why);
        }
        let seen = match &watched.check.probe {
            Probe::Unit { unit } => machine::unit(&self.root, unit, limit, &self.scratch),
            Probe::Port { protocol, address, port } => machine::port(*protocol, *address, *port, limit),
            Probe::Process { executable, at_least } => machine::processes(&self.root, executable, *at_least),
            Probe::Http { url, status, contains, host } => match http_target(url) {
                Some((address, port, path)) => {
                    http::get(&http::Request { address, port, path, host, status: *status, contains, limit })
                }
                None => Seen::fails(format!("{url} is none that is probed")),
            },
            Probe::Command { command } => self.command(command, limit),
            Probe::Log { source, pattern, expect } => {
                logs::look(&self.root, &self.scratch, source, pattern, *expect, watched, limit)
            }
            Probe::Disk { path, at_least } => machine::disk(&self.root, path, *at_least),
            Probe::Load { at_most_hundredths } => machine::load(*at_most_hundredths),
        };
        Seen { holds: seen.holds, evidence: shown(&seen.evidence) }
    }

    /// A command of the host's own file, as it stands there now.
    fn command(&self, name: &str, limit: Duration) -> Seen {
        let own = match OwnChecks::load(&self.etc) {
            Ok(own) => own,
            Err(why) => return Seen::fails(why),
        };
        match own.commands.get(name) {
            Some(command) => match own::run(command, &self.root, limit, &self.scratch) {
                Ok(output) => Seen::holds(format!("`{name}` ended with exit code 0{}", said(&output))),
                Err(why) => Seen::fails(why),
            },
            None => Seen::fails(format!("{} does not define `{name}` any more", OwnChecks::path(&self.etc).display())),
        }
    }
}

fn said(output: &str) -> String {
    let last = output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if last.is_empty() { String::new() } else { format!(": {last}") }
}

/// Why a probe may not ask where it points, if so: one that came with an order asks this host only.
fn elsewhere(origin: Origin, probe: &Probe) -> Option<String> {
    match (origin, probe) {
        (Origin::Change, Probe::Http { url, .. }) => http_target(url).and_then(|(address, _, _)| not_own(address)),
        (Origin::Change, Probe::Port { address: Some(address), .. }) => not_own(*address),
        _ => None,
    }
}

/// Why an address is none that an order may have asked: only this host itself.
fn not_own(address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    let own = address.is_loopback() || facts::addresses().iter().any(|own| own.parse() == Ok(address));
    (!own).then(|| format!("{address} is no address of this host, and an order may probe no other"))
}

/// As it may leave the host: secrets masked, one line, cut.
fn shown(evidence: &str) -> String {
    let mut masker = Masker::default();
    let line = evidence.lines().map(|line| masker.mask(line)).collect::<Vec<_>>().join(" | ");
    let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if plain.len() <= LONGEST_EVIDENCE {
        return plain;
    }
    let end = plain.char_indices().map(|(at, _)| at).take_while(|at| *at <= LONGEST_EVIDENCE).last().unwrap_or(0);
    format!("{}…", plain.get(..end).unwrap_or_default())
}
