//! Who still uses files that were replaced: the services to restart, and what only a person or a
//! reboot can help.

use super::process::{self, Holder, Process};
use super::{InitScripts, PackageOwner, ask_owner, own_executable};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One unit, or one executable outside units, with the replaced files that its processes use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// systemd unit or init script; empty when neither is known.
    pub(crate) unit: String,
    /// What its processes belong to.
    pub(crate) holder: Holder,
    /// Executable of the oldest process.
    pub(crate) executable: String,
    /// Replaced files, sorted.
    pub(crate) files: Vec<UsedFile>,
    /// The agent itself is among its processes.
    pub(crate) own: bool,
}

impl Use {
    /// Name for people, and to tell it again later.
    pub(crate) fn name(&self) -> &str {
        if self.unit.is_empty() { &self.executable } else { &self.unit }
    }
}

/// A replaced file in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UsedFile {
    /// As seen inside the root.
    pub(crate) path: String,
    /// Package that owns the path now; empty when none does any more.
    pub(crate) package: String,
}

/// Everyone in this root who uses replaced files, sorted.
pub(crate) fn uses(root: &Path, owner: Option<&dyn PackageOwner>) -> Vec<Use> {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let scripts = InitScripts::read(&root);
    let own = own_executable().display().to_string();
    let own = own.strip_suffix(" (deleted)").unwrap_or(&own).to_owned();
    let processes = process::all(Path::new("/proc"), &root);
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    combine(
        processes,
        std::process::id(),
        &own,
        |executable| scripts.of(executable),
        |path| owners.entry(path.to_owned()).or_insert_with(|| ask_owner(owner, &root, path)).clone(),
    )
}

#[derive(Default)]
struct Group {
    oldest: u32,
    executable: String,
    files: BTreeSet<String>,
    own: bool,
}

fn combine(
    processes: Vec<Process>,
    own_pid: u32,
    own_executable: &str,
    script: impl Fn(&str) -> String,
    mut owner_of: impl FnMut(&str) -> String,
) -> Vec<Use> {
    let mut groups: BTreeMap<(String, Holder, String), Group> = BTreeMap::new();
    for process in processes {
        let unit = match process.holder {
            Holder::Other => script(&process.executable),
            _ => process.unit.clone(),
        };
        let holder = if unit.is_empty() { process.holder } else { Holder::Unit };
        // Of a unit all processes are one; elsewhere an executable is.
        let alone = if unit.is_empty() { process.executable.clone() } else { String::new() };
        let group = groups.entry((unit, holder, alone)).or_default();
        if group.oldest == 0 || process.pid < group.oldest {
            group.oldest = process.pid;
            group.executable.clone_from(&process.executable);
        }
        group.own |= process.pid == own_pid || process.executable == own_executable;
        group.files.extend(process.replaced);
    }
    let used = groups.into_iter().filter(|(_, group)| !group.files.is_empty());
    used.map(|((unit, holder, _), group)| Use {
        unit,
        holder,
        executable: group.executable,
        own: group.own,
        files: group.files.into_iter().map(|path| UsedFile { package: owner_of(&path), path }).collect(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, holder: Holder, unit: &str, executable: &str, replaced: &[&str]) -> Process {
        Process {
            pid,
            unit: unit.to_owned(),
            holder,
            executable: executable.to_owned(),
            sockets: Vec::new(),
            replaced: replaced.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    #[test]
    fn units_are_whole_and_the_agent_is_known() {
        let lib = "/usr/lib/libx.so.1";
        let uses = combine(
            vec![
                process(1, Holder::Init, "", "/lib/systemd/systemd", &[lib]),
                process(50, Holder::Unit, "web.service", "/usr/sbin/web", &[]),
                process(51, Holder::Unit, "web.service", "/usr/bin/helper", &[lib]),
                process(60, Holder::Unit, "fettle-agent.service", "/usr/bin/fettle", &[lib]),
                process(61, Holder::Other, "", "/usr/bin/fettle", &[lib]),
                process(70, Holder::Other, "", "/usr/sbin/cron", &[lib]),
                process(80, Holder::Session, "", "/usr/bin/bash", &[lib]),
                process(90, Holder::Unit, "quiet.service", "/usr/sbin/quiet", &[]),
            ],
            61,
            "/usr/bin/fettle",
            |executable| if executable == "/usr/sbin/cron" { "cron".to_owned() } else { String::new() },
            |_| "libx1".to_owned(),
        );
        let shown: Vec<String> = uses
            .iter()
            .map(|used| format!("{}|{:?}|{}|{}", used.unit, used.holder, used.executable, used.own))
            .collect();
        assert_eq!(
            shown,
            [
                "|Init|/lib/systemd/systemd|false",
                "|Session|/usr/bin/bash|false",
                "|Other|/usr/bin/fettle|true",
                "cron|Unit|/usr/sbin/cron|false",
                "fettle-agent.service|Unit|/usr/bin/fettle|true",
                "web.service|Unit|/usr/sbin/web|false",
            ]
        );
        assert_eq!(uses[5].files, [UsedFile { path: lib.to_owned(), package: "libx1".to_owned() }]);
    }
}
