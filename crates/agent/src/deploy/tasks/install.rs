//! The change itself, and its proof.

use super::health;
use super::restart::restart_pending;
use super::{Failure, Outcome, Task, TaskContext, own_program, told};
use crate::deploy::record::{Left, TaskName};
use fettle_domain::reason::Reason;
use fettle_plugin::{Applied, Step};
use std::time::Duration;

/// How often an undo is tried again when the package manager refuses, and how long is waited before.
const UNDO_ATTEMPTS: u32 = 3;
const UNDO_PAUSE: Duration = Duration::from_secs(5);

/// Installs exactly the plan.
pub(super) struct Install;

impl Task for Install {
    /// Cut off in its middle, the package manager first finishes what it left; when that proves the
    /// plan, the deployment goes on, else it is undone. After a power cut it is undone in any case: dpkg
    /// does not sync configuration files when it unpacks them, and would install empty ones.
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        if context.interrupted {
            return finish_interrupted(context);
        }
        own_program::keep(context)?;
        let applied = context.provider.apply(&context.acting(), &context.request(Step::Install))?;
        let notes = applied.notes.clone();
        Ok(Outcome::left(Left::Applied { applied }, notes))
    }

    /// Puts the former versions back, proves it, and lets services use them.
    fn undo(&self, context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        let mut attempt = 1;
        loop {
            // An undo that ended early may have left configuration files and marks as they were, even when
            // all packages are back.
            let notes = match put_back(context) {
                Ok(mut notes) => match context.unproved(true) {
                    Ok(wrong) if wrong.is_empty() => {
                        notes.extend(after_undo(context));
                        return Ok(notes);
                    }
                    Ok(wrong) => notes.into_iter().chain(wrong).collect(),
                    Err(failure) => notes.into_iter().chain(failure.reasons).collect(),
                },
                Err(notes) => notes,
            };
            if attempt == UNDO_ATTEMPTS || context.stop.wait(UNDO_PAUSE.min(context.limits.pause)) {
                return Err(Failure::because(notes));
            }
            attempt += 1;
        }
    }
}

fn finish_interrupted(context: &TaskContext<'_>) -> Result<Outcome, Failure> {
    let mut notes =
        vec![Reason::new("install.interrupted", "the install was cut off; what was begun is finished first")];
    match context.provider.recover(&context.acting()) {
        Ok(mended) => notes.extend(mended),
        Err(error) => notes.extend(told(&error)),
    }
    if lost_power(context) {
        let text = "the host went down in the middle of the install, and what was written last may be lost: the former versions are put back";
        notes.push(Reason::new("install.power-cut", text));
        return Err(Failure::because(notes));
    }
    let wrong = context.unproved(false)?;
    if wrong.is_empty() {
        return Ok(Outcome::left(Left::Applied { applied: Applied::default() }, notes));
    }
    notes.extend(wrong);
    Err(Failure::because(notes))
}

/// Whether the host was started anew since the install began.
fn lost_power(context: &TaskContext<'_>) -> bool {
    matches!(context.deployment.left(TaskName::Install), Left::Begun { boot_id } if *boot_id != context.system.boot_id())
}

/// `Err`: it was not whole; what the package manager left half done was finished where that works.
fn put_back(context: &TaskContext<'_>) -> Result<Vec<Reason>, Vec<Reason>> {
    let request = context.request(Step::Install);
    // What the provider left is passed only when it came from a whole act.
    let applied = context.applied(TaskName::Install).filter(|applied| **applied != Applied::default());
    match context.provider.undo(&context.acting(), &request, applied) {
        Ok(applied) => Ok(applied.notes),
        Err(error) => {
            let mut notes = told(&error);
            match context.provider.recover(&context.acting()) {
                Ok(mended) => notes.extend(mended),
                Err(error) => notes.extend(told(&error)),
            }
            Err(notes)
        }
    }
}

/// Services take up the former files, and people are told whether the host is as well as before.
fn after_undo(context: &TaskContext<'_>) -> Vec<Reason> {
    let mut notes = Vec::new();
    if context.deployment.offer.restart_services {
        let restarted = restart_pending(context);
        notes.extend(restarted.notes.into_iter().chain(restarted.failures));
    }
    notes.extend(health::after_undo(context));
    notes
}

/// Compares the plan with what is installed now; the exit code of the package manager proves nothing.
pub(super) struct VerifyInstalled;

impl Task for VerifyInstalled {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        let wrong = context.unproved(false)?;
        if wrong.is_empty() { own_program::prove(context) } else { Err(Failure::because(wrong)) }
    }

    /// Looking leaves nothing.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}
