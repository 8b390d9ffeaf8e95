//! The reboot, when the new state needs it and the order permits, and the proof afterwards.

use super::health::wait_until_healthy;
use super::{Failure, Outcome, Task, TaskContext};
use crate::clock;
use crate::deploy::record::{KernelImage, Left, TaskName};
use crate::facts::{self, PackageSummary};
use fettle_domain::health::Phase;
use fettle_domain::host::Kernel;
use fettle_domain::plan::{Manifest, RebootPolicy};
use fettle_domain::reason::Reason;
use fettle_plugin::ProviderEvents as _;

/// Asks for the reboot. Its end is seen in [`see_reboot`], after the host is up again.
pub(super) struct Reboot;

impl Task for Reboot {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        let packages = PackageSummary::of(&context.provider.inventory(&context.reading())?);
        let needed = context.system.reboot_reasons(&packages);
        if needed.is_empty() {
            return Ok(Outcome::default());
        }
        let refused = match context.deployment.offer.reboot {
            _ if !context.policy.allows_reboot() => Some("this host's policy does not permit a reboot".to_owned()),
            RebootPolicy::Never => Some("the change does not permit a reboot".to_owned()),
            RebootPolicy::IfNeeded => context.system.may_reboot().err(),
        };
        if let Some(why) = refused {
            let text = format!("a reboot is pending ({}), and was not made: {why}", needed.join("; "));
            return Ok(Outcome::noted(vec![Reason::new("reboot.pending", text)]));
        }
        let notes = needed.into_iter().map(|reason| Reason::new("reboot.needed", reason)).collect();
        let kernels = wanted_kernels(&context.system.kernel(&packages), context.manifest());
        let left = Left::Reboot { boot_id: context.system.boot_id(), kernels };
        Ok(Outcome { left, notes, awaits_reboot: true })
    }

    /// A reboot cannot be taken back; when the former state needs one too, the inventory says so.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}

/// The kernels of which one must come up: those that the plan brings, and the newest installed one.
/// None where the host has no kernel of its own (containers), or runs one that no package knows.
fn wanted_kernels(kernel: &Kernel, manifest: &Manifest) -> Vec<KernelImage> {
    if kernel.newest_installed_release.is_empty() || kernel.running_version.is_empty() {
        return Vec::new();
    }
    let newest = KernelImage {
        release: kernel.newest_installed_release.clone(),
        version: kernel.newest_installed_version.clone(),
    };
    let planned = manifest.steps.iter().filter_map(|step| {
        let release = facts::image_release(&step.name)?.to_owned();
        Some(KernelImage { release, version: step.to.clone()? })
    });
    let mut wanted: Vec<KernelImage> = planned.collect();
    if !wanted.contains(&newest) {
        wanted.push(newest);
    }
    wanted
}

/// Compares the kernel that came up; the reason says which it is.
fn judge_kernel(wanted: &[KernelImage], kernel: &Kernel) -> Result<Reason, Reason> {
    let (release, version) = (&kernel.running_release, &kernel.running_version);
    let runs = if version.is_empty() { release.clone() } else { format!("{release} ({version})") };
    let is_it = |image: &&KernelImage| {
        image.release == *release && (version.is_empty() || image.version.is_empty() || image.version == *version)
    };
    if wanted.iter().any(|image| is_it(&image)) {
        return Ok(Reason::new("reboot.kernel", format!("kernel {runs} runs, as wanted")));
    }
    let names: Vec<String> = wanted.iter().map(|image| format!("{} ({})", image.release, image.version)).collect();
    let text = format!(
        "kernel {} was to run after the reboot, but {runs} came up: look at the boot loader's default entry",
        names.join(" or ")
    );
    Err(Reason::new("reboot.other-kernel", text))
}

/// Where a reboot stands.
#[derive(Debug)]
pub(crate) enum Rebooted {
    /// Another boot id proves it.
    Proved(Reason),
    /// Asked for; wait.
    NotYet,
    /// It did not happen in its time.
    Failed(Reason),
}

/// Looks whether the host has rebooted since; asks for it otherwise. `first`: not yet asked for by
/// this process.
pub(crate) fn see_reboot(context: &TaskContext<'_>, first: bool) -> Rebooted {
    let Left::Reboot { boot_id, .. } = context.deployment.left(TaskName::Reboot) else {
        return Rebooted::Failed(Reason::new(
            "reboot.no-record",
            "the journal does not tell in which boot the reboot was asked for",
        ));
    };
    let now = context.system.boot_id();
    if now != *boot_id {
        let text = format!("the host has rebooted: its boot id was {boot_id} and is {now}");
        return Rebooted::Proved(Reason::new("reboot.proved", text));
    }
    let asked = context.deployment.task(TaskName::Reboot).map_or(clock::now(), |task| task.at);
    let limit = context.limits.reboot;
    if asked.until(clock::now()) > limit {
        let text = format!(
            "the reboot that was asked for at {asked} did not happen within {} minutes: see what holds it up \
             (systemd-inhibit --list, the host's log), and reboot by hand",
            limit.as_secs() / 60
        );
        return Rebooted::Failed(Reason::new("reboot.not-happened", text));
    }
    // Refused now is not refused for ever (a shutdown inhibitor, a job of the init system): asked again
    // until its time is over.
    if first && let Err(why) = context.system.reboot() {
        tracing::warn!(error.text = why, "the reboot is refused for now");
        context.output.output(&format!("cannot reboot now: {why}"));
    }
    Rebooted::NotYet
}

/// Proves packages, kernel and health once more: after the reboot where there was one, else after restarts.
pub(super) struct VerifyAfterReboot;

impl Task for VerifyAfterReboot {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        let wrong = context.unproved(false)?;
        if !wrong.is_empty() {
            return Err(Failure::because(wrong));
        }
        let (mut notes, mut limit) = (Vec::new(), context.limits.health);
        if let Left::Reboot { kernels, .. } = context.deployment.left(TaskName::Reboot) {
            limit = context.limits.health_after_reboot;
            if !kernels.is_empty() {
                let packages = PackageSummary::of(&context.provider.inventory(&context.reading())?);
                let judged = judge_kernel(kernels, &context.system.kernel(&packages));
                notes.push(judged.map_err(|reason| Failure::because(vec![reason]))?);
            }
        }
        let healthy = wait_until_healthy(context, Phase::After, limit)?;
        notes.extend(healthy.notes);
        Ok(Outcome::noted(notes))
    }

    /// Looking leaves nothing.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}
