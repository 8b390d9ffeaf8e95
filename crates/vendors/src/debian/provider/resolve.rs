//! From what a change wants to exact versions: which of the offered ones is asked of apt, or why none.

use super::lists::Index;
use super::session::{APT_CACHE, Session};
use super::status::{Database, Entry, argument};
use super::{is_at_least, is_newer, text};
use super::run::Program;
use fettle_domain::plan::{WantedPackage, WantedVersion};
use fettle_domain::reason::Reason;
use fettle_plugin::PluginError;
use std::collections::HashMap;

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
            resolve_installed(database, index, &preferred, wanted, entry, &mut resolved);
        }
    }
    resolved.wishes.dedup();
    Ok(resolved)
}

/// A package that is not installed: only an exact version or apt's own choice can be meant.
fn resolve_new(database: &Database, preferred: &HashMap<String, String>, wanted: &WantedPackage, resolved: &mut Resolved) {
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
        (None, WantedVersion::Exactly { .. }) => Reason::new("apt.bad-version", format!("the version wanted of {name} is no Debian version")),
        (None, WantedVersion::Candidate) => Reason::new("apt.not-offered", format!("no repository of this host offers {name}")),
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
        let text = format!("{argument} is held at {installed} by the administrator: {version} is offered, and not installed");
        return resolved.obstacles.push(Reason::new("apt.held", text));
    }
    let downgrade = is_newer(installed, &version);
    resolved.wishes.push(Wish { name: entry.name().to_owned(), argument, version, downgrade });
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
        WantedVersion::Candidate => preferred.get(argument).cloned().ok_or_else(|| {
            Reason::new("apt.not-offered", format!("no repository of this host offers {argument}"))
        }),
        WantedVersion::SourceAtLeast { version } => {
            if !text::is_version(version) {
                return Err(Reason::new("apt.bad-version", format!("the version wanted of {argument} is no Debian version")));
            }
            if is_at_least(&installed.source_version, version) {
                let text = format!("{argument} {} comes from source version {}, which is at least {version}", installed.version, installed.source_version);
                return Err(Reason::new("apt.already", text));
            }
            let enough = index
                .of(installed)
                .find(|(offer, _)| is_newer(&offer.version, &installed.version) && is_at_least(&offer.source_version, version));
            enough.map(|(offer, _)| offer.version.clone()).ok_or_else(|| not_offered(index, entry, argument, version))
        }
    }
}

fn not_offered(index: &Index, entry: &Entry, argument: &str, version: &str) -> Reason {
    let newest = index.of(&entry.package).last().map(|(offer, release)| format!("the newest offered is {} from {}", offer.version, release.origin));
    let newest = newest.unwrap_or_else(|| "no repository of this host offers it at all".to_owned());
    let text = format!("no offered version of {argument} comes from source version {version} or later: {newest}");
    Reason::new("apt.not-offered", text)
}

/// apt's own choice for the packages that leave it to apt, by argument.
fn preferred(session: &Session<'_, '_>, database: &Database, wanted: &[WantedPackage]) -> Result<HashMap<String, String>, PluginError> {
    let mut arguments = Vec::new();
    for wanted in wanted.iter().filter(|wanted| wanted.version == WantedVersion::Candidate && text::is_name(&wanted.name)) {
        let installed: Vec<String> = database.named(&wanted.name).map(|entry| entry.argument(&database.native)).collect();
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
    use super::policy;

    #[test]
    fn reads_what_apt_prefers() {
        let found = policy("tb-app:\n  Installed: 1.0-1\n  Candidate: 2.0-1\n  Version table:\n     2.0-1 500\nnone:\n  Installed: (none)\n  Candidate: (none)\nlibc6:i386:\n  Candidate: 2.36-9\nN: Unable to locate package x\n");
        assert_eq!(found.get("tb-app").map(String::as_str), Some("2.0-1"));
        assert_eq!(found.get("libc6:i386").map(String::as_str), Some("2.36-9"));
        assert_eq!(found.len(), 2);
    }
}
