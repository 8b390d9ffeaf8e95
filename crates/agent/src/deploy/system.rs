//! The host outside its package manager: services, boots, free space. One face, so that tests can
//! put a simulated host behind it; [`LocalSystem`] is the real one.

use super::command;
use super::needrestart::{self, NeedRestart};
use super::probe::{Prober, Watched};
use crate::clock::Stop;
use crate::facts::{self, PackageSummary};
use crate::selfupdate::{Own, SelfUpdate};
use crate::services::{self, PackageOwner, Use};
use fettle_domain::DeploymentId;
use fettle_domain::health::{HealthCheck, Seen};
use fettle_domain::host::Kernel;
use fettle_domain::plan::Manifest;
use fettle_domain::reason::Reason;
use fettle_wire::agent::Service;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A service may take so long to stop and start (systemd's own default is 90 s each).
const RESTART_LIMIT: Duration = Duration::from_secs(200);
/// Asking systemd something.
const ASK_LIMIT: Duration = Duration::from_secs(20);
/// needrestart looks through all processes, and into what their interpreters have loaded.
const NEEDRESTART_LIMIT: Duration = Duration::from_secs(120);
const NEEDRESTART: &str = "/usr/sbin/needrestart";
const NEEDRESTART_OUTPUT: u64 = 256 << 10;

/// The host as tasks see it.
pub(crate) trait System: Send + Sync {
    /// Changes with each boot.
    fn boot_id(&self) -> String;
    /// What runs now.
    fn services(&self) -> Vec<Service>;
    /// Why a unit that is not seen running counts as failed; `None` when it has a right to be gone.
    fn why_failed(&self, unit: &str) -> Option<String>;
    /// Why services cannot be restarted here, if so.
    fn may_restart(&self) -> Result<(), String>;
    /// Restarts one unit or init script.
    fn restart(&self, unit: &str) -> Result<(), String>;
    /// Why a reboot is pending; empty when it is not.
    fn reboot_reasons(&self, packages: &PackageSummary) -> Vec<String>;
    /// Why the host cannot be rebooted from here, if so.
    fn may_reboot(&self) -> Result<(), String>;
    /// Begins the reboot.
    fn reboot(&self) -> Result<(), String>;
    /// Bytes that may still be written below a path; `None` when unknown.
    fn free_bytes(&self, path: &Path) -> Option<u64>;
    /// Before the packages are installed: keeps the agent's own program when it is among them.
    fn before_install(&self, _deployment: DeploymentId, _manifest: &Manifest) -> Result<(), String> {
        Ok(())
    }
    /// After the packages were verified: sees whether the agent's own program was replaced, and how the
    /// new one does.
    fn own_program(&self, _deployment: DeploymentId, _stop: &Stop) -> Own {
        Own::Untouched
    }
    /// Ports from here on may differ after a restart of their service.
    fn first_ephemeral_port(&self) -> u16;
    /// The health checks of a deployment: the host's own and those of its order; `Err`: what keeps it
    /// from beginning.
    fn watch(&self, offered: &[HealthCheck]) -> Result<Vec<Watched>, Vec<Reason>>;
    /// Looks once at what a check names.
    fn look(&self, watched: &Watched) -> Seen;
    /// Who uses files that were replaced or deleted.
    fn uses_replaced(&self) -> Vec<Use>;
    /// What needrestart says; `None` where it is not installed or cannot look.
    fn needrestart(&self) -> Option<NeedRestart>;
    /// The kernel that runs, and the newest installed one; empty where the host has none of its own.
    fn kernel(&self, packages: &PackageSummary) -> Kernel;
}

/// This host.
pub(crate) struct LocalSystem {
    root: PathBuf,
    scratch: PathBuf,
    own_unit: String,
    owner: Option<Arc<dyn PackageOwner>>,
    prober: Prober,
    self_update: Option<Arc<SelfUpdate>>,
}

impl LocalSystem {
    /// `etc`: the folder of the administrator's own files. Commands put their output into `scratch` for
    /// a moment.
    pub(crate) fn new(root: &Path, etc: &Path, scratch: &Path, owner: Option<Arc<dyn PackageOwner>>) -> Self {
        Self {
            root: root.to_owned(),
            scratch: scratch.to_owned(),
            own_unit: services::own_unit(),
            owner,
            prober: Prober::new(root, etc, scratch),
            self_update: None,
        }
    }

    /// The same, watching over the agent's own program.
    pub(crate) fn with_self_update(mut self, own: Arc<SelfUpdate>) -> Self {
        self.self_update = Some(own);
        self
    }

    fn ask(&self, argv: &[&str], limit: Duration) -> Result<String, String> {
        command::run(argv, limit, &self.scratch)
    }

    fn is_live_and_root(&self) -> Result<(), String> {
        if !facts::is_live(&self.root) {
            return Err(format!("{} is not the running system", self.root.display()));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("the agent does not run as root".to_owned());
        }
        Ok(())
    }

    fn init_script(&self, unit: &str) -> Option<String> {
        let script = Path::new("/etc/init.d").join(unit);
        (services::is_plain_name(unit) && script.is_file()).then(|| script.display().to_string())
    }
}

impl System for LocalSystem {
    fn boot_id(&self) -> String {
        facts::boot_id()
    }

    fn services(&self) -> Vec<Service> {
        services::running(&self.root)
    }

    fn why_failed(&self, unit: &str) -> Option<String> {
        if !services::is_systemd(&self.root) {
            return Some("no process of it runs".to_owned());
        }
        if !services::is_plain_name(unit) {
            return None;
        }
        let properties = "LoadState,ActiveState,Type,TriggeredBy,Result";
        let shown = self.ask(&["systemctl", "show", "--property", properties, "--", unit], ASK_LIMIT).ok()?;
        why_failed(&shown)
    }

    fn may_restart(&self) -> Result<(), String> {
        self.is_live_and_root()?;
        let possible = services::is_systemd(&self.root) || Path::new("/etc/init.d").is_dir();
        if possible { Ok(()) } else { Err("neither systemd nor init scripts are here".to_owned()) }
    }

    fn restart(&self, unit: &str) -> Result<(), String> {
        if !services::is_plain_name(unit) {
            return Err(format!("`{}` is no name of a service", unit.escape_default()));
        }
        if unit == self.own_unit {
            return Err("that is the agent itself".to_owned());
        }
        if services::is_systemd(&self.root) {
            return self.ask(&["systemctl", "restart", "--", unit], RESTART_LIMIT).map(drop);
        }
        match self.init_script(unit) {
            Some(script) => self.ask(&[&script, "restart"], RESTART_LIMIT).map(drop),
            None => Err(format!("there is no init script {unit}")),
        }
    }

    fn reboot_reasons(&self, packages: &PackageSummary) -> Vec<String> {
        let mut reasons = facts::collect(&self.root, &crate::config::Config::default(), packages, false).reboot_pending;
        reasons.extend(self.needrestart().into_iter().flat_map(|said| said.reboot));
        reasons
    }

    fn may_reboot(&self) -> Result<(), String> {
        self.is_live_and_root()?;
        let possible = services::is_systemd(&self.root) || Path::new("/sbin/reboot").exists();
        if possible { Ok(()) } else { Err("there is no command to reboot with".to_owned()) }
    }

    fn reboot(&self) -> Result<(), String> {
        let argv: &[&str] = if services::is_systemd(&self.root) { &["systemctl", "reboot"] } else { &["/sbin/reboot"] };
        self.ask(argv, ASK_LIMIT).map(drop)
    }

    fn free_bytes(&self, path: &Path) -> Option<u64> {
        rustix::fs::statvfs(path).ok().map(|found| found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn before_install(&self, deployment: DeploymentId, manifest: &Manifest) -> Result<(), String> {
        self.self_update.as_ref().map_or(Ok(()), |own| own.before_install(deployment, manifest))
    }

    fn own_program(&self, deployment: DeploymentId, stop: &Stop) -> Own {
        self.self_update.as_ref().map_or(Own::Untouched, |own| own.check(deployment, stop))
    }

    fn first_ephemeral_port(&self) -> u16 {
        services::first_ephemeral_port()
    }

    fn watch(&self, offered: &[HealthCheck]) -> Result<Vec<Watched>, Vec<Reason>> {
        self.prober.watch(offered)
    }

    fn look(&self, watched: &Watched) -> Seen {
        self.prober.look(watched)
    }

    fn uses_replaced(&self) -> Vec<Use> {
        services::uses(&self.root, self.owner.as_deref())
    }

    fn needrestart(&self) -> Option<NeedRestart> {
        if self.is_live_and_root().is_err() || !Path::new(NEEDRESTART).exists() {
            return None;
        }
        let argv = [NEEDRESTART, "-b", "-r", "l"];
        match command::run_as(&argv, NEEDRESTART_LIMIT, &self.scratch, None, NEEDRESTART_OUTPUT) {
            Ok(text) => Some(needrestart::read(&text)),
            Err(why) => {
                tracing::warn!(error.text = why, "needrestart does not answer; what /proc shows is used");
                None
            }
        }
    }

    fn kernel(&self, packages: &PackageSummary) -> Kernel {
        facts::kernel(&self.root, packages)
    }
}

/// Reads `systemctl show`. A unit that ended and was never meant to stay (one-shot, started by a
/// timer or socket, gone with its package) is no failure.
fn why_failed(shown: &str) -> Option<String> {
    let value =
        |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default().trim();
    match value("ActiveState") {
        "failed" => Some(format!("systemd says failed ({})", value("Result"))),
        "inactive" => {
            let may_end =
                value("LoadState") != "loaded" || value("Type") == "oneshot" || !value("TriggeredBy").is_empty();
            (!may_end).then(|| "systemd says inactive".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_may_end_is_no_failure() {
        let shown = |state: &str, kind: &str, load: &str, by: &str| {
            why_failed(&format!(
                "Type={kind}\nTriggeredBy={by}\nLoadState={load}\nActiveState={state}\nResult=exit-code\n"
            ))
        };
        assert_eq!(shown("active", "simple", "loaded", ""), None);
        assert!(shown("failed", "simple", "loaded", "").unwrap().contains("exit-code"));
        assert!(shown("inactive", "notify", "loaded", "").is_some());
        assert_eq!(shown("inactive", "oneshot", "loaded", ""), None);
        assert_eq!(shown("inactive", "simple", "loaded", "x.timer"), None);
        assert_eq!(shown("inactive", "simple", "not-found", ""), None);
    }

    #[test]
    fn another_root_is_neither_restarted_nor_rebooted() {
        let root = tempfile::tempdir().unwrap();
        let system = LocalSystem::new(root.path(), root.path(), root.path(), None);
        assert!(system.may_restart().unwrap_err().contains("not the running system"));
        assert!(system.may_reboot().is_err());
        assert!(system.restart("../evil").is_err());
    }
}
