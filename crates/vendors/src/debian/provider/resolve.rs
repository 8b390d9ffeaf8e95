//! From what a change wants to exact versions: which of the offered ones is asked of apt, or why none.

use super::facts::kernel_release;
use super::lists::Index;
use super::run::Program;
use super::session::{APT_CACHE, Session};
use super::status::{Database, Entry, argument};
use super::{is_at_least, is_newer, text};
use fettle_domain::plan::{WantedPackage, WantedVersion};
use fettle_domain::reason::Reason;
use fettle_plugin::PluginError;
use std::collections::{HashMap, HashSet};

/// One exact version that is asked of apt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    /// Package name.
    pub name: String,
    /// Name as an argument (with a foreign architecture).
    pub argument: String,
    /// Exact version.
    pub version: String,
    /// The version is older than the installed one.
    pub downgrade: bool,
}

impl Wish {
    /// `NAME=VERSION`.
    pub fn exact(&self) -> String {
        format!("{}={}", self.argument, self.version)
    }

    /// For messages.
    pub fn shown(&self) -> String {
        format!("{} {}", self.argument, self.version)
    }
}

/// What became of all that is wanted.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    /// To be asked of apt.
    pub wishes: Vec<Wish>,
    /// Cannot be: held, not offered, not installed.
    pub obstacles: Vec<Reason>,
    /// Is so already.
    pub satisfied: Vec<Reason>,
}

/// Resolves each wanted package by itself.
pub(super) fn resolve(
    session: &Session<'_, '_>,
    database: &Database,
    index: &Index,
    wanted: &[WantedPackage],
) -> Result<Resolved, PluginError> {
    let preferred = preferred(session, database, wanted)?;
    let mut resolved = Resolved::default();
    for wanted in wanted {
        if !text::is_name(&wanted.name) {
            let shown: String = wanted.name.chars().take(100).collect();
            resolved.obstacles.push(Reason::new("apt.bad-name", format!("`{shown}` is no Debian package name")));
            continue;
        }
        let entries: Vec<&Entry> = database.named(&wanted.name).collect();
        if entries.is_empty() {
            resolve_new(database, &preferred, wanted, &mut resolved);
        }
        for entry in entries {
            let entry = kernel_meta(database, index, wanted, entry).unwrap_or(entry);
            resolve_installed(database, index, &preferred, wanted, entry, &mut resolved);
        }
    }
    let mut seen = HashSet::new();
    resolved.wishes.retain(|wish| seen.insert((wish.argument.clone(), wish.version.clone())));
    Ok(resolved)
}

/// A package that is not installed: only an exact version or apt's own choice can be meant.
fn resolve_new(
    database: &Database,
    preferred: &HashMap<String, String>,
    wanted: &WantedPackage,
    resolved: &mut Resolved,
) {
    let name = &wanted.name;
    let version = match &wanted.version {
        WantedVersion::Exactly { version } if text::is_version(version) => Some(version),
        WantedVersion::Candidate => preferred.get(name),
        _ => None,
    };
    let reason = match (version, &wanted.version) {
        (Some(version), _) => {
            let argument = argument(name, "", &database.native);
            let wish = Wish { name: name.clone(), argument, version: version.clone(), downgrade: false };
            return resolved.wishes.push(wish);
        }
        (None, WantedVersion::SourceAtLeast { .. }) => {
            Reason::new("apt.not-installed", format!("{name} is not installed, so there is nothing to update"))
        }
        (None, WantedVersion::Exactly { .. }) => {
            Reason::new("apt.bad-version", format!("the version wanted of {name} is no Debian version"))
        }
        (None, WantedVersion::Candidate) => {
            Reason::new("apt.not-offered", format!("no repository of this host offers {name}"))
        }
    };
    resolved.obstacles.push(reason);
}

fn resolve_installed(
    database: &Database,
    index: &Index,
    preferred: &HashMap<String, String>,
    wanted: &WantedPackage,
    entry: &Entry,
    resolved: &mut Resolved,
) {
    let installed = &entry.package.version;
    let argument = entry.argument(&database.native);
    let version = match choose(index, preferred, wanted, entry, &argument) {
        Ok(version) if version == *installed => {
            let text = format!("{argument} has {installed} already");
            return resolved.satisfied.push(Reason::new("apt.already", text));
        }
        Ok(version) => version,
        Err(reason) if reason.topic == "apt.already" => return resolved.satisfied.push(reason),
        Err(reason) => return resolved.obstacles.push(reason),
    };
    if entry.held {
        let text =
            format!("{argument} is held at {installed} by the administrator: {version} is offered, and not installed");
        return resolved.obstacles.push(Reason::new("apt.held", text));
    }
    let downgrade = is_newer(installed, &version);
    resolved.wishes.push(Wish { name: entry.name().to_owned(), argument, version, downgrade });
}

/// A kernel image has its ABI in its name, so a newer kernel is *another* package; the one to update is the meta
/// package that follows the newest, when that is installed (`linux-image-6.1.0-18-amd64`: `linux-image-amd64`).
fn kernel_meta<'d>(database: &'d Database, index: &Index, wanted: &WantedPackage, entry: &Entry) -> Option<&'d Entry> {
    let WantedVersion::SourceAtLeast { version } = &wanted.version else { return None };
    let flavour = kernel_flavour(kernel_release(entry.name())?)?;
    let offered = index.of(&entry.package).any(|(offer, _)| is_at_least(&offer.source_version, version));
    let meta = database
        .named(&format!("linux-image-{flavour}"))
        .find(|meta| meta.package.architecture == entry.package.architecture);
    meta.filter(|_| !offered && !is_at_least(&entry.package.source_version, version))
}

/// What follows version and ABI number: `amd64` of `6.1.0-18-amd64`, `cloud-amd64` of `6.12.9+bpo-cloud-amd64`.
fn kernel_flavour(release: &str) -> Option<&str> {
    let (_, rest) = release.split_once('-')?;
    match rest.split_once('-') {
        Some((abi, flavour)) if abi.bytes().all(|b| b.is_ascii_digit()) => Some(flavour),
        _ => Some(rest),
    }
}

/// The version to ask for, or why there is none.
fn choose(
    index: &Index,
    preferred: &HashMap<String, String>,
    wanted: &WantedPackage,
    entry: &Entry,
    argument: &str,
) -> Result<String, Reason> {
    let installed = &entry.package;
    match &wanted.version {
        WantedVersion::Exactly { version } if text::is_version(version) => Ok(version.clone()),
        WantedVersion::Exactly { .. } => {
            Err(Reason::new("apt.bad-version", format!("the version wanted of {argument} is no Debian version")))
        }
        WantedVersion::Candidate => preferred
            .get(argument)
            .cloned()
            .ok_or_else(|| Reason::new("apt.not-offered", format!("no repository of this host offers {argument}"))),
        WantedVersion::SourceAtLeast { version } => {
            if !text::is_version(version) {
                return Err(Reason::new(
                    "apt.bad-version",
                    format!("the version wanted of {argument} is no Debian version"),
                ));
            }
            if is_at_least(&installed.source_version, version) {
                let text = format!(
                    "{argument} {} comes from source version {}, which is at least {version}",
                    installed.version, installed.source_version
                );
                return Err(Reason::new("apt.already", text));
            }
            let enough = index.of(installed).find(|(offer, _)| {
                is_newer(&offer.version, &installed.version) && is_at_least(&offer.source_version, version)
            });
            enough.map(|(offer, _)| offer.version.clone()).ok_or_else(|| not_offered(index, entry, argument, version))
        }
    }
}

fn not_offered(index: &Index, entry: &Entry, argument: &str, version: &str) -> Reason {
    let newest = index
        .of(&entry.package)
        .last()
        .map(|(offer, release)| format!("the newest offered is {} from {}", offer.version, release.origin));
    let newest = newest.unwrap_or_else(|| "no repository of this host offers it at all".to_owned());
    let text = format!("no offered version of {argument} comes from source version {version} or later: {newest}");
    Reason::new("apt.not-offered", text)
}

/// apt's own choice for the packages that leave it to apt, by argument.
fn preferred(
    session: &Session<'_, '_>,
    database: &Database,
    wanted: &[WantedPackage],
) -> Result<HashMap<String, String>, PluginError> {
    let mut arguments = Vec::new();
    for wanted in
        wanted.iter().filter(|wanted| wanted.version == WantedVersion::Candidate && text::is_name(&wanted.name))
    {
        let installed: Vec<String> =
            database.named(&wanted.name).map(|entry| entry.argument(&database.native)).collect();
        if installed.is_empty() { arguments.push(wanted.name.clone()) } else { arguments.extend(installed) }
    }
    let mut preferred = HashMap::new();
    // One at a time in the output, many in one call: an argument list has its limits.
    for some in arguments.chunks(200) {
        let ended = session.run(Program::query(APT_CACHE).args(["policy"]).args(some.iter().cloned()))?;
        preferred.extend(policy(&ended.stdout));
    }
    Ok(preferred)
}

/// `NAME:` followed by `  Candidate: VERSION`.
fn policy(output: &str) -> HashMap<String, String> {
    let mut found = HashMap::new();
    let mut name = "";
    for line in output.lines() {
        if !line.starts_with(' ') {
            name = line.strip_suffix(':').unwrap_or_default();
        } else if let Some(version) = line.trim().strip_prefix("Candidate: ")
            && text::is_version(version)
            && !name.is_empty()
        {
            found.insert(name.to_owned(), version.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::provider::lists::IndexCache;
    use fettle_plugin::{ProviderContext, ProviderEvents};

    struct Silent;
    impl ProviderEvents for Silent {
        fn output(&self, _: &str) {}
        fn progress(&self, _: u8, _: &str) {}
    }

    /// Resolves without any program: nothing here asks for apt's own choice.
    fn resolved(status: &str, packages: &str, wanted: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let lists = folder.path().join("var/lib/apt/lists");
        std::fs::create_dir_all(&lists).unwrap();
        std::fs::create_dir_all(folder.path().join("var/lib/dpkg")).unwrap();
        std::fs::write(folder.path().join("var/lib/dpkg/status"), status).unwrap();
        std::fs::write(lists.join("h_dists_s_main_binary-amd64_Packages"), packages).unwrap();
        std::fs::write(lists.join("h_dists_s_InRelease"), "Origin: O\nSuite: s\n").unwrap();
        let context = ProviderContext {
            root: folder.path().to_owned(),
            events: &Silent,
            deadline: std::time::Instant::now() + std::time::Duration::from_secs(9),
            lock_patience: std::time::Duration::ZERO,
            limits: fettle_plugin::ResourceLimits::default(),
        };
        let session = Session::new(&context).unwrap();
        let database = session.database().unwrap();
        let index = IndexCache::default().index(&session.root, &database).unwrap();
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(name, version)| WantedPackage {
                name: (*name).into(),
                version: WantedVersion::SourceAtLeast { version: (*version).into() },
            })
            .collect();
        let resolved = resolve(&session, &database, &index, &wanted).unwrap();
        let reasons = resolved.obstacles.iter().chain(&resolved.satisfied).map(|reason| reason.topic.clone());
        resolved.wishes.iter().map(Wish::exact).chain(reasons).collect::<Vec<_>>().join(" ")
    }

    fn stanza(name: &str, version: &str, more: &str) -> String {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n{more}\n")
    }

    #[test]
    fn a_newer_kernel_comes_by_its_meta_package() {
        let signed = |version: &str| format!("Source: linux-signed-amd64 ({})\n", version.replace('-', "+"));
        let mut status = stanza("dpkg", "1", "");
        status += &stanza("linux-image-amd64", "6.1.76-1", &signed("6.1.76-1"));
        for (abi, version) in [("17", "6.1.69-1"), ("18", "6.1.76-1")] {
            status += &stanza(&format!("linux-image-6.1.0-{abi}-amd64"), version, &signed(version));
        }
        let offered = stanza("linux-image-amd64", "6.1.153-1", &signed("6.1.153-1"))
            + &stanza("linux-image-6.1.0-40-amd64", "6.1.153-1", &signed("6.1.153-1"));
        let both = [("linux-image-6.1.0-17-amd64", "6.1.153-1"), ("linux-image-6.1.0-18-amd64", "6.1.153-1")];
        assert_eq!(resolved(&status, &offered, &both), "linux-image-amd64=6.1.153-1");
        assert_eq!(resolved(&status, &offered, &[("linux-image-6.1.0-18-amd64", "6.1.76-1")]), "apt.already");
        assert_eq!(resolved(&status, &offered, &[("linux-image-6.1.0-18-amd64", "6.1.200-1")]), "apt.not-offered");
        for (release, flavour) in
            [("6.1.0-18-amd64", "amd64"), ("6.1.0-18-cloud-amd64", "cloud-amd64"), ("6.12.9+bpo-rt-amd64", "rt-amd64")]
        {
            assert_eq!(kernel_flavour(release), Some(flavour));
        }
    }

    #[test]
    fn the_lowest_version_whose_source_is_enough_is_taken() {
        let status =
            stanza("dpkg", "1", "") + &stanza("a", "1.0-1+b1", "Source: src (1.0-1)\n") + &stanza("b", "1.0-1", "");
        let offered = stanza("a", "2.0-1", "Source: src\n")
            + &stanza("a", "1.0-1+deb1+b2", "Source: src (1.0-1+deb1)\n")
            + &stanza("a", "1.0-1+b3", "Source: src (1.0-1)\n");
        assert_eq!(resolved(&status, &offered, &[("a", "1.0-1+deb1")]), "a=1.0-1+deb1+b2");
        assert_eq!(resolved(&status, &offered, &[("a", "1.0-1")]), "apt.already");
        assert_eq!(
            resolved(&status, &offered, &[("a", "3"), ("b", "2"), ("c", "1"), ("a", "b a d")]),
            "apt.not-offered apt.not-offered apt.not-installed apt.bad-version"
        );
        let held = status.replace("Package: a\nStatus: install", "Package: a\nStatus: hold");
        assert_eq!(resolved(&held, &offered, &[("a", "2")]), "apt.held");
    }

    #[test]
    fn reads_what_apt_prefers() {
        let found = policy(
            "tb-app:\n  Installed: 1.0-1\n  Candidate: 2.0-1\n  Version table:\n     2.0-1 500\nnone:\n  Installed: (none)\n  Candidate: (none)\nlibc6:i386:\n  Candidate: 2.36-9\nN: Unable to locate package x\n",
        );
        assert_eq!(found.get("tb-app").map(String::as_str), Some("2.0-1"));
        assert_eq!(found.get("libc6:i386").map(String::as_str), Some("2.36-9"));
        assert_eq!(found.len(), 2);
    }
}
