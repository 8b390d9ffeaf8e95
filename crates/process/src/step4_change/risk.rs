//! What could go wrong, in words for the people who discuss and approve.

use fettle_domain::plan::{Plan, RebootPolicy};
use fettle_domain::reason::Reason;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How careful one should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RiskLevel {
    /// A few ordinary packages.
    Low,
    /// Something that others depend on, or many packages.
    Medium,
    /// The kernel, the C library, removals, going back.
    High,
}

impl RiskLevel {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            RiskLevel::Low => "low",
            RiskLevel::Medium => "medium",
            RiskLevel::High => "high",
        }
    }
}

/// The level and what makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Risk {
    /// How careful.
    pub level: RiskLevel,
    /// Most serious first.
    pub reasons: Vec<Reason>,
}

/// Packages whose failure takes much down, by prefix, and what for.
const HEAVY: [(&str, RiskLevel, &str); 10] = [
    ("linux-image-", RiskLevel::High, "the kernel"),
    ("libc6", RiskLevel::High, "the C library that every program uses"),
    ("grub-", RiskLevel::High, "the boot loader"),
    ("systemd", RiskLevel::High, "the init system"),
    ("dpkg", RiskLevel::Medium, "the package manager itself"),
    ("apt", RiskLevel::Medium, "the package manager itself"),
    ("openssh-server", RiskLevel::Medium, "remote access"),
    ("libssl", RiskLevel::Medium, "a cryptographic library that many services use"),
    ("postgresql", RiskLevel::Medium, "a database"),
    ("mariadb", RiskLevel::Medium, "a database"),
];

/// Judges a plan.
pub fn assess(plan: &Plan) -> Risk {
    let mut found: Vec<(RiskLevel, Reason)> = Vec::new();
    let mut heavy: BTreeMap<&str, (RiskLevel, &str, usize)> = BTreeMap::new();
    let (mut removed, mut downgraded, mut added, mut most_steps) = (0_usize, 0_usize, 0_usize, 0_usize);
    for host in &plan.hosts {
        most_steps = most_steps.max(host.manifest.steps.len());
        for step in &host.manifest.steps {
            removed += usize::from(step.to.is_none());
            added += usize::from(step.from.is_none());
            downgraded += usize::from(is_downgrade(step.from.as_deref(), step.to.as_deref()));
            if let Some((prefix, level, what)) = HEAVY.iter().find(|(prefix, ..)| step.name.starts_with(prefix)) {
                heavy.entry(prefix).or_insert((*level, what, 0)).2 += 1;
            }
        }
    }
    for (level, what, times) in heavy.into_values() {
        found.push((level, Reason::new("risk.package", format!("{what} is replaced ({times} packages)"))));
    }
    if removed > 0 {
        found.push((RiskLevel::High, Reason::new("risk.removes", format!("{removed} packages are removed"))));
    }
    if downgraded > 0 {
        found.push((
            RiskLevel::High,
            Reason::new("risk.downgrade", format!("{downgraded} packages go back to an older version")),
        ));
    }
    if added > 0 {
        found.push((RiskLevel::Low, Reason::new("risk.adds", format!("{added} packages are new on their hosts"))));
    }
    if most_steps > 50 {
        found.push((
            RiskLevel::Medium,
            Reason::new("risk.many-packages", format!("up to {most_steps} packages change on one host")),
        ));
    }
    found.extend(of_conduct(plan));
    found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let level = found.first().map_or(RiskLevel::Low, |(level, _)| *level);
    Risk { level, reasons: found.into_iter().map(|(_, reason)| reason).collect() }
}

fn of_conduct(plan: &Plan) -> Vec<(RiskLevel, Reason)> {
    let mut found = Vec::new();
    let hosts = plan.hosts.len();
    if hosts > 1 {
        let level = if hosts >= 100 { RiskLevel::Medium } else { RiskLevel::Low };
        found.push((level, Reason::new("risk.all-at-once", format!("all {hosts} hosts are in one wave"))));
    }
    if plan.reboot == RebootPolicy::IfNeeded {
        found.push((RiskLevel::Medium, Reason::new("risk.reboot", "hosts are rebooted when the new state needs it")));
    }
    let edited =
        plan.hosts.iter().flat_map(|host| &host.notes).filter(|note| note.topic.ends_with("conffile-edited")).count();
    if edited > 0 {
        found.push((
            RiskLevel::Low,
            Reason::new(
                "risk.conffiles",
                format!("{edited} configuration files were edited by administrators and stay as they are"),
            ),
        ));
    }
    found
}

fn is_downgrade(from: Option<&str>, to: Option<&str>) -> bool {
    let (Some(from), Some(to)) = (from, to) else { return false };
    fettle_domain::version::Scheme::Dpkg.compare(to, from) == Ok(std::cmp::Ordering::Less)
}
