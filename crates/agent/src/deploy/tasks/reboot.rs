//! The reboot, when the new state needs it and the order permits, and the proof afterwards.

use super::health::wait_until_healthy;
use super::{Failure, Outcome, Task, TaskContext};
use crate::clock;
use crate::deploy::record::{Left, TaskName};
use crate::facts::PackageSummary;
use fettle_domain::plan::RebootPolicy;
use fettle_domain::reason::Reason;

/// Asks for the reboot. Its end is seen in [`see_reboot`], after the host is up again.
pub(super) struct Reboot;

impl Task for Reboot {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        let packages = context.provider.inventory(&context.reading())?;
        let needed = context.system.reboot_reasons(&PackageSummary::of(&packages));
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
        let left = Left::Reboot { boot_id: context.system.boot_id() };
        Ok(Outcome { left, notes, awaits_reboot: true })
    }

    /// A reboot cannot be taken back; when the former state needs one too, the inventory says so.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}

/// Where a reboot stands.
#[derive(Debug)]
pub(crate) enum Rebooted {
    /// Another boot id proves it.
    Proved,
    /// Asked for; wait.
    NotYet,
    /// It does not happen: go on without, and say so.
    GivenUp(Reason),
}

/// Looks whether the host has rebooted since; asks for it otherwise. `first`: not yet asked for by
/// this process.
pub(crate) fn see_reboot(context: &TaskContext<'_>, first: bool) -> Rebooted {
    let Left::Reboot { boot_id } = context.deployment.left(TaskName::Reboot) else {
        return Rebooted::GivenUp(Reason::new(
            "reboot.no-record",
            "the journal does not tell in which boot the reboot was asked for",
        ));
    };
    if context.system.boot_id() != *boot_id {
        return Rebooted::Proved;
    }
    let asked = context.deployment.task(TaskName::Reboot).map_or(clock::now(), |task| task.at);
    if asked.until(clock::now()) > context.limits.reboot {
        let text = "the reboot that was asked for did not happen: reboot by hand, it is still pending";
        return Rebooted::GivenUp(Reason::new("reboot.not-happened", text));
    }
    if first && let Err(why) = context.system.reboot() {
        return Rebooted::GivenUp(Reason::new("reboot.refused", format!("cannot reboot: {why}; it is still pending")));
    }
    Rebooted::NotYet
}

/// Proves packages and services once more: after the reboot where there was one, else after restarts.
pub(super) struct VerifyAfterReboot;

impl Task for VerifyAfterReboot {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        let wrong = context.unproved(false)?;
        if !wrong.is_empty() {
            return Err(Failure::because(wrong));
        }
        let rebooted = matches!(context.deployment.left(TaskName::Reboot), Left::Reboot { .. });
        let limit = if rebooted { context.limits.health_after_reboot } else { context.limits.health };
        wait_until_healthy(context, limit)
    }

    /// Looking leaves nothing.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}
