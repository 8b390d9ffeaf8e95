//! When the packages of a plan bring the agent itself: the new program has to prove itself before the
//! deployment goes on.

use super::{Failure, Outcome, TaskContext};
use crate::selfupdate::Own;

/// Before the install.
pub(super) fn keep(context: &TaskContext<'_>) -> Result<(), Failure> {
    let kept = context.system.before_install(context.deployment.id(), context.manifest());
    kept.map_err(|why| Failure::new("self-update.not-kept", why))
}

/// After the install.
pub(super) fn prove(context: &TaskContext<'_>) -> Result<Outcome, Failure> {
    match context.system.own_program(context.deployment.id(), context.stop) {
        Own::Untouched => Ok(Outcome::default()),
        Own::Proved(notes) => Ok(Outcome::noted(notes)),
        Own::Failed(reasons) => Err(Failure::because(reasons)),
        Own::HandOver => {
            // A task that was told to stop has not failed: the other program takes it up.
            context.stop.tell();
            Err(Failure::default())
        }
    }
}
