//! What is asked of one host's package manager: findings become "a source version at least this",
//! package names become exact versions or the manager's own choice.

use fettle_domain::advisory::VulnId;
use fettle_domain::finding::VerdictState;
use fettle_domain::machine::HostState;
use fettle_domain::package::Ecosystem;
use fettle_domain::plan::{Job, WantedPackage, WantedVersion};
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;
use fettle_domain::{FindingId, HostId};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The kernel's source package in Debian.
const KERNEL: &str = "linux";

/// A package that a change names itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskedPackage {
    /// Binary package name.
    pub name: String,
    /// Exactly this version; absent: what the package manager prefers.
    pub version: Option<String>,
}

/// A finding that a change is to close on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Which.
    pub finding: FindingId,
    /// The flaw.
    pub vulnerability: VulnId,
    /// Source package it sits in.
    pub source: String,
    /// Binary packages of that source on the host.
    pub packages: Vec<String>,
    /// What matching says.
    pub verdict: VerdictState,
    /// First fixed source version, where one is published.
    pub fixed_version: Option<String>,
}

/// A package as the host has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledHere {
    /// Whose package it is.
    pub ecosystem: Ecosystem,
    /// Version.
    pub version: String,
    /// Held back by the administrator.
    pub held: bool,
}

/// A host that a change is meant for.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    /// Which.
    pub host: HostId,
    /// Its name.
    pub name: &'a str,
    /// Where it stands.
    pub state: HostState,
    /// Its agent may not change it.
    pub read_only: bool,
    /// Installed packages by name; may be empty when only findings outside the kernel are asked for.
    pub installed: &'a BTreeMap<String, InstalledHere>,
    /// What is to be closed here.
    pub needs: &'a [Need],
}

/// What is asked of a host, or why nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which host.
    pub host: HostId,
    /// For its package manager; absent when it is left out.
    pub job: Option<Job>,
    /// Why each package is (or is not) asked for.
    pub reasons: Vec<Reason>,
}

/// Chooses what is asked of a host.
pub fn choose(target: &Target<'_>, packages: &[AskedPackage], allow_removals: bool) -> Choice {
    let mut reasons = Vec::new();
    if let Some(reason) = unfit(target) {
        return Choice { host: target.host, job: None, reasons: vec![reason] };
    }
    let mut wanted: BTreeMap<String, WantedVersion> = BTreeMap::new();
    for need in target.needs {
        close(target, need, &mut wanted, &mut reasons);
    }
    // One job is one package manager's. Findings are Debian's alone; without any, the first name decides.
    let of_first = || packages.iter().find_map(|package| target.installed.get(&package.name));
    let ecosystem =
        if wanted.is_empty() { of_first().map_or(Ecosystem::Debian, |here| here.ecosystem) } else { Ecosystem::Debian };
    for package in packages {
        take(target, package, ecosystem, &mut wanted, &mut reasons);
    }
    if wanted.is_empty() {
        if reasons.is_empty() {
            reasons.push(Reason::new(
                "change.nothing-asked",
                format!("nothing of what the change asks for concerns {}", target.name),
            ));
        }
        return Choice { host: target.host, job: None, reasons };
    }
    let wanted = wanted.into_iter().map(|(name, version)| WantedPackage { name, version }).collect();
    Choice { host: target.host, job: Some(Job { ecosystem, wanted, allow_removals }), reasons }
}

fn unfit(target: &Target<'_>) -> Option<Reason> {
    let name = target.name;
    match target.state {
        HostState::Retired => Some(Reason::new("change.host-retired", format!("{name} was revoked"))),
        HostState::Imported => Some(Reason::new(
            "change.host-agentless",
            format!("{name} is known from an imported file only: no agent runs there that could carry out a change"),
        )),
        HostState::Discovered | HostState::Ignored => {
            Some(Reason::new("change.host-unmanaged", format!("no agent runs on {name}: enrol it first")))
        }
        HostState::Enrolling | HostState::Managed | HostState::Silent if target.read_only => Some(Reason::new(
            "change.host-read-only",
            format!("the agent of {name} runs with --read-only and may not change the host"),
        )),
        HostState::Enrolling | HostState::Managed | HostState::Silent => None,
    }
}

/// Adds what closes a finding.
fn close(target: &Target<'_>, need: &Need, wanted: &mut BTreeMap<String, WantedVersion>, reasons: &mut Vec<Reason>) {
    let Need { vulnerability, source, .. } = need;
    let record = need.finding.to_string();
    if need.verdict == VerdictState::RestartNeeded {
        let text = format!(
            "{vulnerability} in {source}: the fixed version is installed already and only has to run: restart services or reboot {}",
            target.name
        );
        return reasons.push(Reason::from_source("change.restart-only", text, record));
    }
    let Some(fixed) = &need.fixed_version else {
        let text = format!("{vulnerability} in {source}: no fixed version is published, so no update closes it");
        return reasons.push(Reason::from_source("change.no-fix", text, record));
    };
    let names = names_to_ask(target, need);
    if names.is_empty() {
        let text = format!(
            "{vulnerability} in {source}: no installed package would bring a new kernel; install the meta package of its flavour (such as linux-image-amd64)"
        );
        return reasons.push(Reason::from_source("change.kernel-without-meta", text, record));
    }
    let text = format!("{vulnerability} is closed by source version {fixed} of {source}: {}", names.join(", "));
    reasons.push(Reason::from_source("change.closes", text, record));
    for name in names {
        let entry = wanted.entry(name).or_insert_with(|| WantedVersion::SourceAtLeast { version: fixed.clone() });
        if let WantedVersion::SourceAtLeast { version } = entry
            && Scheme::Dpkg.compare(fixed, version) == Ok(Ordering::Greater)
        {
            version.clone_from(fixed);
        }
    }
}

/// Each kernel version is a package of its own name; what brings the next one is the meta package.
fn names_to_ask(target: &Target<'_>, need: &Need) -> Vec<String> {
    if need.source != KERNEL {
        return need.packages.clone();
    }
    let mut names: Vec<String> = need
        .packages
        .iter()
        .filter_map(|name| flavour(name))
        .map(|flavour| format!("linux-image-{flavour}"))
        .filter(|name| target.installed.contains_key(name))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// `cloud-amd64` of `linux-image-6.1.0-18-cloud-amd64`.
fn flavour(image: &str) -> Option<&str> {
    let rest = image.strip_prefix("linux-image-")?;
    let start = rest.char_indices().zip(rest.chars().skip(1)).find(|((_, a), b)| *a == '-' && b.is_ascii_alphabetic());
    let ((at, _), _) = start?;
    rest.get(at + 1..).filter(|_| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Adds a package that the change names. Where it is not installed nothing is to be updated: a
/// change for a group must not spread a package over hosts that never had it.
fn take(
    target: &Target<'_>,
    package: &AskedPackage,
    ecosystem: Ecosystem,
    wanted: &mut BTreeMap<String, WantedVersion>,
    reasons: &mut Vec<Reason>,
) {
    let name = &package.name;
    let Some(installed) = target.installed.get(name) else {
        let text = format!("{name} is not installed on {}, so there is nothing to update", target.name);
        return reasons.push(Reason::new("change.not-installed", text));
    };
    if installed.ecosystem != ecosystem {
        let text = format!(
            "{name} is a package of {}, this change on {} is one of {ecosystem}: ask for it in a change of its own",
            installed.ecosystem, target.name
        );
        return reasons.push(Reason::new("change.other-ecosystem", text));
    }
    if installed.held {
        let text = format!(
            "{name} is held at {} by the administrator of {}; the dry run will tell",
            installed.version, target.name
        );
        reasons.push(Reason::new("change.held", text));
    }
    let version = match &package.version {
        Some(version) if *version == installed.version => {
            let text = format!("{name} has {version} on {} already", target.name);
            return reasons.push(Reason::new("change.already", text));
        }
        Some(version) => WantedVersion::Exactly { version: version.clone() },
        None => WantedVersion::Candidate,
    };
    let shown = package.version.as_deref().unwrap_or("what the package manager prefers");
    reasons.push(Reason::new("change.asked-by-name", format!("{name} is asked for by name: {shown}")));
    // A version named by a person counts before one that follows from a finding.
    wanted.insert(name.clone(), version);
}

#[cfg(test)]
mod tests {
    use super::flavour;

    #[test]
    fn finds_the_flavour_of_a_kernel_image() {
        assert_eq!(flavour("linux-image-6.1.0-18-amd64"), Some("amd64"));
        assert_eq!(flavour("linux-image-6.1.0-18-cloud-amd64"), Some("cloud-amd64"));
        assert_eq!(flavour("linux-image-6.12.43+deb13-amd64"), Some("amd64"));
        assert_eq!(flavour("linux-image-amd64"), None);
        assert_eq!(flavour("linux-headers-6.1.0-18-amd64"), None);
    }
}
