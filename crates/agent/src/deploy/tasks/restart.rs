//! Restarts the services that still use files which this deployment replaced: those and no others.

use super::health::wait_until_healthy;
use super::{Failure, Outcome, Task, TaskContext};
use crate::deploy::record::{Left, TaskName};
use crate::services::{Holder, Use, UsedFile, own_unit};
use fettle_domain::health::Phase;
use fettle_domain::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};

/// Services whose restart ends sessions, cuts the network or takes the host down with it, by the
/// beginnings of their names; the list follows needrestart's own (`override_rc`). They are named and
/// left to a person or a reboot.
const LEFT_ALONE: [&str; 46] = [
    "apt-daily",
    "autovt@",
    "bird",
    "bluetooth",
    "cloud-",
    "cron-",
    "dbus",
    "display-manager",
    "docker",
    "elogind",
    "emergency",
    "freeswan",
    "frr",
    "gdm",
    "getty@",
    "greetd",
    "kdm",
    "libreswan",
    "libvirt",
    "lightdm",
    "lxcfs",
    "lxdm",
    "ModemManager",
    "mythtv-backend",
    "network",
    "NetworkManager",
    "nodm",
    "openswan",
    "openvpn",
    "quagga",
    "rc-local",
    "rescue",
    "sddm",
    "serial-getty@",
    "slim",
    "strongswan",
    "systemd-logind",
    "tinc",
    "unattended-upgrades",
    "user@",
    "virtlo",
    "wdm",
    "wpa_supplicant",
    "xdm",
    "xendomains",
    "zfs-fuse",
];

/// Programs outside services that are named one by one.
const MOST_NAMED: usize = 20;

/// Restarts what uses replaced files.
pub(super) struct RestartServices;

impl Task for RestartServices {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        let restarted = restart_pending(context);
        if !restarted.failures.is_empty() {
            return Err(Failure::because(restarted.failures.into_iter().chain(restarted.notes).collect()));
        }
        let mut notes = restarted.notes;
        if restarted.any {
            match wait_until_healthy(context, Phase::Between, context.limits.health) {
                Ok(healthy) => notes.extend(healthy.notes),
                // Which restart broke it is evidence too.
                Err(failure) => {
                    return Err(Failure { reasons: failure.reasons.into_iter().chain(notes).collect(), ..failure });
                }
            }
        }
        Ok(Outcome::noted(notes))
    }

    /// Restarted services stay restarted; once the former files are back, the undo of the install
    /// restarts those that use the newer ones.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}

/// What came of restarting.
#[derive(Default)]
pub(super) struct Restarted {
    pub(super) notes: Vec<Reason>,
    pub(super) failures: Vec<Reason>,
    pub(super) any: bool,
}

impl Restarted {
    fn note(&mut self, topic: &str, text: String) {
        self.notes.push(Reason::new(topic, text));
    }
}

/// Restarts each unit that uses files of this deployment, as far as the order and the host permit.
pub(super) fn restart_pending(context: &TaskContext<'_>) -> Restarted {
    let mut restarted = Restarted::default();
    let units = to_restart(context, &mut restarted);
    if units.is_empty() {
        return restarted;
    }
    let refused = if context.deployment.offer.restart_services {
        context.system.may_restart().err()
    } else {
        Some("the change does not ask for it".to_owned())
    };
    if let Some(why) = refused {
        let units: Vec<String> = units.into_keys().collect();
        restarted.note(
            "restart.pending",
            format!("{} still use replaced files and were not restarted: {why}", units.join(", ")),
        );
        return restarted;
    }
    for (unit, files) in units {
        match context.system.restart(&unit) {
            Ok(()) => restarted.note("restart.done", format!("{unit} was restarted: it used {files}")),
            Err(why) => restarted.failures.push(Reason::new("restart.failed", format!("cannot restart {unit}: {why}"))),
        }
        restarted.any = true;
    }
    restarted
}

/// The units to restart with the files that each used. What is left to a person is noted.
fn to_restart(context: &TaskContext<'_>, restarted: &mut Restarted) -> BTreeMap<String, String> {
    let (before, named_before) = before(context);
    let packages: BTreeSet<&str> = context.manifest().steps.iter().map(|step| step.name.as_str()).collect();
    let said = context.system.needrestart();
    let mut units = BTreeMap::new();
    let mut by_hand = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for used in context.system.uses_replaced() {
        let files: Vec<&UsedFile> = used.files.iter().filter(|file| is_ours(&used, file, &packages, &before)).collect();
        if files.is_empty() {
            continue;
        }
        known.insert(used.unit.clone());
        let shown = shown(&files);
        match why_left(&used, said.as_ref().map(|said| &said.services)) {
            Some(why) => by_hand.push(format!("{} ({why}) uses {shown}", used.name())),
            None => {
                units.insert(used.unit.clone(), shown);
            }
        }
    }
    // What only needrestart sees (interpreters' modules): it did not name it before the change.
    for unit in said.into_iter().flat_map(|said| said.services) {
        if known.contains(&unit) || named_before.contains(&unit) {
            continue;
        }
        if unit == own_unit() || is_left_alone(&unit) {
            by_hand.push(format!("{unit} (left alone) is named by needrestart since the change"));
        } else {
            units.insert(unit, "what needrestart names since the change".to_owned());
        }
    }
    let more = by_hand.len().saturating_sub(MOST_NAMED);
    for text in by_hand.into_iter().take(MOST_NAMED) {
        restarted.note("restart.by-hand", format!("a restart is pending, by hand or by a reboot: {text}"));
    }
    if more > 0 {
        restarted.note("restart.by-hand", format!("and {more} more programs still use replaced files"));
    }
    units
}

/// What used replaced files already before the change, and what needrestart named then.
fn before<'a>(context: &'a TaskContext<'_>) -> (BTreeSet<(&'a str, &'a str)>, BTreeSet<String>) {
    match context.deployment.left(TaskName::PreCheck) {
        Left::Before { replaced, needrestart, .. } => (
            replaced.iter().map(|(name, path)| (name.as_str(), path.as_str())).collect(),
            needrestart.iter().cloned().collect(),
        ),
        _ => Default::default(),
    }
}

/// Whether a package of this deployment replaced the file. One that no package owns any more went with
/// its package or got another name: then it is ours unless it was gone before.
fn is_ours(used: &Use, file: &UsedFile, packages: &BTreeSet<&str>, before: &BTreeSet<(&str, &str)>) -> bool {
    if file.package.is_empty() {
        !before.contains(&(used.name(), file.path.as_str()))
    } else {
        packages.contains(file.package.as_str())
    }
}

/// Why something is not restarted, if so. `named`: what needrestart names, where it is asked: it knows
/// the administrator's exceptions.
fn why_left(used: &Use, named: Option<&BTreeSet<String>>) -> Option<&'static str> {
    match used.holder {
        _ if used.own => Some("the agent itself, which restarts by itself later"),
        Holder::Init => Some("the init system: systemctl daemon-reexec, or a reboot"),
        Holder::Session => Some("a person's session"),
        Holder::Container => Some("a container"),
        Holder::Other => Some("no service"),
        Holder::Unit if used.unit == own_unit() => Some("the agent itself, which restarts by itself later"),
        Holder::Unit if is_left_alone(&used.unit) => Some("left alone: a restart would cut people or the host off"),
        Holder::Unit if named.is_some_and(|named| !named.contains(&used.unit)) => {
            Some("needrestart does not name it: an exception in its configuration?")
        }
        Holder::Unit => None,
    }
}

fn shown(files: &[&UsedFile]) -> String {
    let one = |file: &&UsedFile| {
        if file.package.is_empty() { file.path.clone() } else { format!("{} of {}", file.path, file.package) }
    };
    let named = files.iter().take(3).map(one).collect::<Vec<_>>().join(", ");
    if files.len() > 3 { format!("{named} and {} more", files.len() - 3) } else { named }
}

fn is_left_alone(unit: &str) -> bool {
    LEFT_ALONE.iter().any(|left| unit.starts_with(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(unit: &str, holder: Holder, own: bool, files: &[(&str, &str)]) -> Use {
        let file =
            |(path, package): &(&str, &str)| UsedFile { path: (*path).to_owned(), package: (*package).to_owned() };
        Use {
            unit: unit.to_owned(),
            holder,
            executable: "/usr/sbin/x".to_owned(),
            files: files.iter().map(file).collect(),
            own,
        }
    }

    #[test]
    fn sessions_and_the_network_are_left_alone() {
        for unit in ["dbus.service", "dbus-broker.service", "getty@tty1.service", "NetworkManager.service", "gdm3"] {
            assert!(is_left_alone(unit), "{unit}");
        }
        for unit in ["ssh.service", "gettyx.service", "nginx", "systemd-journald.service", "cron"] {
            assert!(!is_left_alone(unit), "{unit}");
        }
    }

    #[test]
    fn only_files_of_this_deployment_count() {
        let packages = BTreeSet::from(["libssl3"]);
        let before = BTreeSet::from([("web.service", "/usr/lib/gone.so")]);
        let web = used("web.service", Holder::Unit, false, &[]);
        let is_ours = |path: &str, package: &str| {
            is_ours(&web, &UsedFile { path: path.to_owned(), package: package.to_owned() }, &packages, &before)
        };
        assert!(is_ours("/usr/lib/libssl.so.3", "libssl3"));
        assert!(!is_ours("/usr/lib/libz.so.1", "zlib1g"), "another package replaced it, at another time");
        assert!(!is_ours("/usr/lib/gone.so", ""), "it was gone before");
        assert!(is_ours("/usr/lib/old.so", ""), "it went with this deployment");
    }

    #[test]
    fn what_is_left_to_a_person_says_why() {
        let why = |used: &Use, named: Option<&[&str]>| {
            let named = named.map(|named| named.iter().map(|name| (*name).to_owned()).collect());
            why_left(used, named.as_ref()).unwrap_or_default()
        };
        let unit = |name: &str| used(name, Holder::Unit, false, &[]);
        assert_eq!(why(&unit("web.service"), None), "");
        assert_eq!(why(&unit("web.service"), Some(&["web.service"])), "");
        assert!(why(&unit("web.service"), Some(&["other.service"])).contains("needrestart does not name it"));
        assert!(why(&unit("dbus.service"), Some(&["dbus.service"])).contains("left alone"));
        assert!(why(&used("x.service", Holder::Unit, true, &[]), None).contains("the agent itself"));
        assert!(why(&used("", Holder::Init, false, &[]), None).contains("daemon-reexec"));
        assert!(why(&used("", Holder::Session, false, &[]), None).contains("session"));
        assert!(why(&used("", Holder::Other, false, &[]), None).contains("no service"));
    }
}
