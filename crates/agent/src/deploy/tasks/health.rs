//! Health: the host is as well after the change as it was before. Looked at are what ran before
//! ([`super::derived`]), the checks of the host's own file and those of the change; each has its time
//! to hold, and all must hold at once.

use super::derived;
use super::{Failure, Outcome, Task, TaskContext};
use crate::deploy::probe::Watched;
use crate::deploy::record::{Left, TaskName};
use fettle_domain::health::{HealthCheck, Judgement, Look, Phase, Seen, judge};
use fettle_domain::reason::Reason;
use fettle_wire::agent::Service;
use std::time::{Duration, Instant};

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Before the change, for a check that is bad for a moment only.
    pub(crate) health_before: Duration,
    /// For services to be up again.
    pub(crate) health: Duration,
    /// The same after a reboot, when everything starts at once.
    pub(crate) health_after_reboot: Duration,
    /// Between two looks, and before another attempt.
    pub(crate) pause: Duration,
    /// For a reboot that was asked for to happen.
    pub(crate) reboot: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            health_before: Duration::from_secs(5),
            health: Duration::from_secs(60),
            health_after_reboot: Duration::from_secs(300),
            pause: Duration::from_secs(1),
            reboot: Duration::from_secs(900),
        }
    }
}

/// The pause between two looks grows up to so many times, so that commands are not run every second.
const MOST_PAUSES: u32 = 5;

/// Compares services with those before the change, and looks at the checks that held before.
pub(super) struct HealthChecks;

impl Task for HealthChecks {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        wait_until_healthy(context, Phase::Between, context.limits.health)
    }

    /// Looking leaves nothing.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}

/// Before the change: which checks there are and how they stand. A required one that does not hold
/// ends the deployment before it changed anything.
pub(super) fn before(context: &TaskContext<'_>) -> Result<(Vec<Watched>, Vec<Reason>), Failure> {
    let mut watched = context.system.watch(&context.deployment.offer.checks).map_err(Failure::because)?;
    let patience = |watched: &Watched| {
        let check = &watched.check;
        if check.when.is_required_before() { within(check) } else { context.limits.health_before }
    };
    let seen = observe(context, Phase::Before, &watched, patience, &mut || Vec::new(), Duration::ZERO)?;
    let judgement = judged(Phase::Before, &watched, &seen.looks);
    for (watched, seen) in watched.iter_mut().zip(seen.looks) {
        watched.before = seen;
    }
    if judgement.failures.is_empty() { Ok((watched, judgement.notes)) } else { Err(failure(judgement, Vec::new())) }
}

/// Waits until everything is well again. `limit`: for what ran before, and at least for every check.
pub(super) fn wait_until_healthy(context: &TaskContext<'_>, phase: Phase, limit: Duration) -> Result<Outcome, Failure> {
    let (services, watched) = recorded(context)?;
    // After a reboot everything takes longer, checks too.
    let least = if limit > context.limits.health { limit } else { Duration::ZERO };
    let patience = |watched: &Watched| within(&watched.check).max(least);
    let mut missing = || derived::missing(services, &context.system.services(), context.system);
    let seen = observe(context, phase, watched, patience, &mut missing, limit)?;
    let mut judgement = judged(phase, watched, &seen.looks);
    if seen.missing.is_empty() {
        judgement.notes.insert(0, derived::all_there(services, context.system));
    }
    if seen.missing.is_empty() && judgement.failures.is_empty() {
        return Ok(Outcome::noted(judgement.notes));
    }
    Err(failure(judgement, seen.missing))
}

/// How the host is once the former versions are back: told, not judged.
pub(super) fn after_undo(context: &TaskContext<'_>) -> Vec<Reason> {
    let healthy = match wait_until_healthy(context, Phase::Between, context.limits.health) {
        Ok(outcome) => outcome.notes,
        Err(failure) => failure.reasons,
    };
    let told = |reason: Reason| Reason { text: format!("after the undo: {}", reason.text), ..reason };
    healthy.into_iter().map(told).collect()
}

fn within(check: &HealthCheck) -> Duration {
    Duration::from_secs(u64::from(check.within_seconds))
}

fn recorded<'a>(context: &'a TaskContext<'_>) -> Result<(&'a [Service], &'a [Watched]), Failure> {
    match context.deployment.left(TaskName::PreCheck) {
        Left::Before { services, checks, .. } => Ok((services, checks)),
        _ => Err(Failure::new("health.no-record", "the journal does not tell which services ran before")),
    }
}

fn judged(phase: Phase, watched: &[Watched], seen: &[Option<Seen>]) -> Judgement {
    let looks = watched.iter().zip(seen).filter_map(|(watched, now)| {
        let now = now.as_ref()?;
        Some(Look { check: &watched.check, source: watched.origin.as_str(), before: watched.before.as_ref(), now })
    });
    judge(phase, &looks.collect::<Vec<_>>())
}

fn failure(judgement: Judgement, missing: Vec<Reason>) -> Failure {
    Failure::because(missing.into_iter().chain(judgement.failures).chain(judgement.notes).collect())
}

/// What the last look at everything found.
struct Observed {
    /// One for each check; `None` when it does not count in this phase.
    looks: Vec<Option<Seen>>,
    /// What ran before and does not.
    missing: Vec<Reason>,
}

/// Looks again and again until all is well, or the patience for something that is not is used up.
fn observe(
    context: &TaskContext<'_>,
    phase: Phase,
    watched: &[Watched],
    patience: impl Fn(&Watched) -> Duration,
    missing: &mut dyn FnMut() -> Vec<Reason>,
    missing_limit: Duration,
) -> Result<Observed, Failure> {
    let begun = Instant::now();
    // Since when each holds, as often as it was looked at.
    let mut holds_since: Vec<Option<Instant>> = vec![None; watched.len()];
    let mut pauses = 0;
    loop {
        let mut seen = Observed { looks: Vec::with_capacity(watched.len()), missing: missing() };
        let mut used_up = !seen.missing.is_empty() && begun.elapsed() >= missing_limit;
        let mut waits = !seen.missing.is_empty();
        for (watched, since) in watched.iter().zip(&mut holds_since) {
            let (check, before) = (&watched.check, watched.before.as_ref());
            if !check.counts(phase, before) {
                seen.looks.push(None);
                continue;
            }
            let look = context.system.look(watched);
            if look.holds {
                let since = since.get_or_insert_with(Instant::now);
                let hold = if phase == Phase::After { u64::from(check.hold_seconds) } else { 0 };
                waits |= since.elapsed() < Duration::from_secs(hold);
            } else {
                *since = None;
                // What was bad before is told and not waited for.
                let wanted = phase == Phase::Before || check.blames(phase, before);
                waits |= wanted;
                used_up |= wanted && begun.elapsed() >= patience(watched);
            }
            seen.looks.push(Some(look));
        }
        if used_up || !waits {
            return Ok(seen);
        }
        pauses = (pauses + 1).min(MOST_PAUSES);
        if context.stop.wait(context.limits.pause.saturating_mul(pauses)) {
            return Err(Failure::new("task.stopped", "the agent was told to stop; it looks again at its next start"));
        }
    }
}
