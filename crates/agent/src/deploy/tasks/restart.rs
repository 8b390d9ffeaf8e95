//! Restarts the services that still use replaced files.

use super::health::wait_until_healthy;
use super::{Failure, Outcome, Task, TaskContext};
use crate::services::own_unit;
use fettle_domain::reason::Reason;
use std::collections::BTreeSet;

/// Services whose restart ends sessions or takes the host down with it; the list follows
/// needrestart's. They are named and left to a person or a reboot.
const LEFT_ALONE: [&str; 16] = [
    "dbus",
    "gdm",
    "gdm3",
    "kdm",
    "lightdm",
    "lxdm",
    "sddm",
    "xdm",
    "greetd",
    "getty@",
    "serial-getty@",
    "autovt@",
    "systemd-logind",
    "networking",
    "NetworkManager",
    "wpa_supplicant",
];

/// Restarts what uses replaced files.
pub(super) struct RestartServices;

impl Task for RestartServices {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        let restarted = restart_pending(context);
        if !restarted.failures.is_empty() {
            return Err(Failure::because(restarted.failures));
        }
        if restarted.any {
            wait_until_healthy(context, context.limits.health)?;
        }
        Ok(Outcome::noted(restarted.notes))
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

/// Restarts each unit that uses replaced files, as far as the order and the host permit.
pub(super) fn restart_pending(context: &TaskContext<'_>) -> Restarted {
    let pending = context.system.services().into_iter().filter(|service| service.restart_pending);
    let (mut units, mut others) = (BTreeSet::new(), BTreeSet::new());
    for service in pending {
        if service.unit.is_empty() {
            others.insert(service.executable);
        } else {
            units.insert(service.unit);
        }
    }
    let mut restarted = Restarted::default();
    for executable in others {
        restarted.note(
            "restart.no-service",
            format!("{executable} uses replaced files but is no service: restart it by hand"),
        );
    }
    if units.is_empty() {
        return restarted;
    }
    let refused = if context.deployment.offer.restart_services {
        context.system.may_restart().err()
    } else {
        Some("the change does not ask for it".to_owned())
    };
    if let Some(why) = refused {
        let units: Vec<String> = units.into_iter().collect();
        restarted.note(
            "restart.pending",
            format!("{} still use replaced files and were not restarted: {why}", units.join(", ")),
        );
        return restarted;
    }
    let own = own_unit();
    for unit in units {
        if unit == own || is_left_alone(&unit) {
            restarted.note(
                "restart.left-alone",
                format!("{unit} uses replaced files and was left alone: restart it by hand or reboot"),
            );
            continue;
        }
        match context.system.restart(&unit) {
            Ok(()) => restarted.note("restart.done", format!("{unit} was restarted")),
            Err(why) => restarted.failures.push(Reason::new("restart.failed", format!("cannot restart {unit}: {why}"))),
        }
        restarted.any = true;
    }
    restarted
}

fn is_left_alone(unit: &str) -> bool {
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    LEFT_ALONE.iter().any(|left| if left.ends_with('@') { name.starts_with(left) } else { name == *left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_the_network_are_left_alone() {
        for unit in ["dbus.service", "getty@tty1.service", "NetworkManager.service"] {
            assert!(is_left_alone(unit), "{unit}");
        }
        for unit in ["dbus-thing.service", "ssh.service", "gettyx.service"] {
            assert!(!is_left_alone(unit), "{unit}");
        }
    }
}
