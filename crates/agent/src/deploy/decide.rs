//! What comes next for a deployment: a pure decision from what its journal tells and the time.

use super::local_order;
use super::record::{Deployment, TaskName};
use fettle_domain::Timestamp;
use fettle_domain::machine::{DeploymentEvent, DeploymentState, TaskEvent, TaskState};
use fettle_domain::reason::Reason;
use fettle_wire::offer::Offer;

/// The next act.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    /// Nothing before this moment: the window has not begun.
    Wait(Timestamp),
    /// The deployment goes on.
    Event(DeploymentEvent, Vec<Reason>),
    /// Do this task (again, when it was cut off).
    Do(TaskName),
    /// Note that this task will not be done, or is to be undone.
    Mark(TaskName, TaskEvent),
    /// Undo this task (again, when it was cut off).
    Undo(TaskName),
    /// See whether the reboot has happened.
    AwaitReboot,
    /// Forget the undo order: its time is over.
    Lapse(Vec<Reason>),
    /// Nothing until a person asks.
    Rest,
}

/// Decides. `withdrawn`: the server took the order back.
pub(crate) fn next(deployment: &Deployment, now: Timestamp, withdrawn: bool) -> Act {
    use DeploymentEvent as E;
    use DeploymentState as S;
    match deployment.state {
        S::Offered => Act::Event(E::Accept, Vec::new()),
        S::Queued => before_change(deployment, now, withdrawn).unwrap_or_else(|| {
            if now < deployment.offer.window_start {
                Act::Wait(deployment.offer.window_start)
            } else {
                Act::Event(E::Fetch, Vec::new())
            }
        }),
        S::Fetching if deployment.has_failed() => unwind(deployment).unwrap_or_else(|| {
            let event = if deployment.is_not_applicable() { E::NotApply } else { E::Fail };
            Act::Event(event, deployment.failure.clone())
        }),
        S::Fetching => before_change(deployment, now, withdrawn)
            .or_else(|| first_open(deployment, |task| task.is_before_change()).map(Act::Do))
            .unwrap_or(Act::Event(E::Prepare, Vec::new())),
        S::Ready => before_change(deployment, now, withdrawn).unwrap_or(Act::Event(E::Apply, Vec::new())),
        S::Applying if deployment.has_failed() => Act::Event(E::Undo, deployment.failure.clone()),
        S::Applying => match first_open(deployment, |task| task == TaskName::Install) {
            Some(install) => Act::Do(install),
            None => Act::Event(E::Check, Vec::new()),
        },
        S::Rebooting if deployment.task_state(TaskName::Reboot) == TaskState::Wait => Act::AwaitReboot,
        S::Rebooting => Act::Event(E::Check, Vec::new()),
        S::Checking => checking(deployment),
        S::Succeeded => undo_on_order(deployment, now),
        S::Undoing if deployment.is_stuck() => Act::Event(E::GetStuck, deployment.failure.clone()),
        S::Undoing => unwind(deployment).unwrap_or_else(|| {
            // Said once more: it is why the deployment stands where it ends.
            Act::Event(E::FinishUndo, deployment.local_undo.iter().map(|by| local_order::reason(by)).collect())
        }),
        S::Undone | S::Stuck | S::Failed | S::Withdrawn | S::Expired | S::NotApplicable => Act::Rest,
    }
}

/// Reasons not to begin the change at all: taken back, or too late. Rule: nothing is installed that
/// is not in its window; so the window is looked at again right before the package manager begins.
fn before_change(deployment: &Deployment, now: Timestamp, withdrawn: bool) -> Option<Act> {
    if withdrawn {
        let reason = Reason::new("order.withdrawn", "the server took the order back before anything was changed");
        return Some(Act::Event(DeploymentEvent::Withdraw, vec![reason]));
    }
    too_late(&deployment.offer, now).map(|reason| Act::Event(DeploymentEvent::Expire, vec![reason]))
}

fn too_late(offer: &Offer, now: Timestamp) -> Option<Reason> {
    if now > offer.expires {
        Some(Reason::new("order.expired", format!("the order was good until {}, it is {now}", offer.expires)))
    } else if now > offer.window_end {
        Some(Reason::new("order.window-over", format!("its window ended at {}, it is {now}", offer.window_end)))
    } else {
        None
    }
}

fn checking(deployment: &Deployment) -> Act {
    if deployment.has_failed() {
        return Act::Event(DeploymentEvent::Undo, deployment.failure.clone());
    }
    if let Some(by) = &deployment.local_undo {
        return Act::Event(DeploymentEvent::Undo, vec![local_order::reason(by)]);
    }
    if deployment.undo_order.is_some() {
        return Act::Event(DeploymentEvent::Undo, vec![ordered()]);
    }
    if deployment.task_state(TaskName::Reboot) == TaskState::Wait {
        return Act::Event(DeploymentEvent::Reboot, Vec::new());
    }
    first_open(deployment, |task| task > TaskName::Install)
        .map_or(Act::Event(DeploymentEvent::Succeed, Vec::new()), Act::Do)
}

fn undo_on_order(deployment: &Deployment, now: Timestamp) -> Act {
    // Whoever sits at the host needs no window: the server's is for what nobody watches.
    if let Some(by) = &deployment.local_undo {
        return Act::Event(DeploymentEvent::Undo, vec![local_order::reason(by)]);
    }
    let Some(order) = &deployment.undo_order else { return Act::Rest };
    if let Some(reason) = too_late(order, now) {
        return Act::Lapse(vec![reason]);
    }
    if now < order.window_start {
        return Act::Wait(order.window_start);
    }
    Act::Event(DeploymentEvent::Undo, vec![ordered()])
}

fn ordered() -> Reason {
    Reason::new("undo.ordered", "a person ordered the undo")
}

fn first_open(deployment: &Deployment, of: impl Fn(TaskName) -> bool) -> Option<TaskName> {
    TaskName::ALL
        .into_iter()
        .filter(|task| of(*task))
        .find(|task| matches!(deployment.task_state(*task), TaskState::Do | TaskState::Doing))
}

/// From the last task to the first: skip what was not begun, undo what was. Ends at the first undo
/// that failed, so that what an earlier task kept is still there for a person.
fn unwind(deployment: &Deployment) -> Option<Act> {
    for task in TaskName::ALL.into_iter().rev() {
        match deployment.task_state(task) {
            TaskState::Do => return Some(Act::Mark(task, TaskEvent::Skip)),
            TaskState::Doing | TaskState::Wait | TaskState::Done => return Some(Act::Mark(task, TaskEvent::Revert)),
            TaskState::Undo | TaskState::Undoing => return Some(Act::Undo(task)),
            TaskState::Undone | TaskState::Hold => {}
            TaskState::Error => return None,
        }
    }
    None
}
