//! What is to be done now.

use super::facts::{DeploymentFacts, RolloutFacts, WaveFacts};
use super::gate::Tally;
use fettle_domain::machine::{
    DeploymentState, Machine as _, PlanEvent, PlanState, RolloutEvent, RolloutState, WaveEvent, WaveState,
};
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, Timestamp};

/// One thing to do. Each leads to other facts, so that asking again after doing it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The plan goes on.
    Plan(PlanEvent, Vec<Reason>),
    /// The rollout goes on.
    Rollout(RolloutEvent, Vec<Reason>),
    /// A wave goes on. [`WaveEvent::Open`] makes its deployments, in state Offered.
    Wave(u32, WaveEvent, Vec<Reason>),
    /// The order was never handed out and its time is over.
    Expire(DeploymentId, Vec<Reason>),
    /// Take the order back: at once when it was never handed out, else the host is asked.
    Withdraw(DeploymentId),
    /// Order the host to undo it.
    Undo(DeploymentId),
}

/// Decides. The answer is empty when nothing is to be done until something happens or time passes.
pub fn next_actions(rollout: &RolloutFacts, now: Timestamp) -> Vec<Action> {
    let mut actions = match rollout.state {
        RolloutState::Scheduled => scheduled(rollout, now),
        RolloutState::Running => running(rollout, now),
        RolloutState::Paused | RolloutState::Halted => Vec::new(),
        RolloutState::Completed => close_plan(rollout, "rollout.completed", "every wave passed its gate"),
        RolloutState::RollingBack => rolling_back(rollout, now),
        RolloutState::RolledBack => close_plan(rollout, "rollout.rolled-back", "what could be undone is undone"),
        RolloutState::Cancelled => cancelled(rollout),
    };
    // Where everything is taken back anyway, nothing is left to expire.
    if !matches!(rollout.state, RolloutState::RollingBack | RolloutState::Cancelled) {
        actions.extend(expired(rollout, now));
    }
    actions
}

fn scheduled(rollout: &RolloutFacts, now: Timestamp) -> Vec<Action> {
    if now > rollout.window_end {
        let text = format!("its window ended at {} before it could start", rollout.window_end);
        return vec![Action::Rollout(RolloutEvent::Cancel, vec![Reason::new("rollout.window-over", text)])];
    }
    if now < rollout.start_at {
        return Vec::new();
    }
    let mut actions = Vec::new();
    if rollout.plan == PlanState::Approved {
        actions.push(Action::Plan(PlanEvent::Activate, vec![Reason::new("plan.rollout-starts", "its rollout starts")]));
    }
    let text = format!("its start, {}, has come", rollout.start_at);
    actions.push(Action::Rollout(RolloutEvent::Start, vec![Reason::new("rollout.start-has-come", text)]));
    actions
}

fn running(rollout: &RolloutFacts, now: Timestamp) -> Vec<Action> {
    let Some(wave) = rollout.waves.iter().find(|wave| wave.state != WaveState::Passed) else {
        return vec![Action::Rollout(
            RolloutEvent::Complete,
            vec![Reason::new("rollout.completed", "every wave passed its gate")],
        )];
    };
    match wave.state {
        WaveState::Waiting => {
            vec![wave_goes(wave, WaveEvent::Open, "wave.turn-has-come", "its turn has come".to_owned())]
        }
        WaveState::Failed => {
            vec![wave_goes(
                wave,
                WaveEvent::Retry,
                "wave.resumed",
                "a person resumed the rollout: its hosts are judged again".to_owned(),
            )]
        }
        WaveState::Open | WaveState::Soaking => judge(rollout, wave, now),
        // Skipped belongs to a rollout that ended.
        WaveState::Passed | WaveState::Skipped => Vec::new(),
    }
}

fn judge(rollout: &RolloutFacts, wave: &WaveFacts, now: Timestamp) -> Vec<Action> {
    let tally = Tally::of_wave(rollout, wave.number, now);
    let told = tally.told(&rollout.acceptance);
    if tally.is_missed(&rollout.acceptance) {
        let why = Reason::new("gate.missed", format!("the gate of wave {} is missed: {told}", wave.number));
        return vec![
            Action::Wave(wave.number, WaveEvent::Fail, vec![why.clone()]),
            Action::Rollout(RolloutEvent::Halt, vec![why]),
        ];
    }
    match wave.state {
        WaveState::Open if tally.is_settled() => {
            vec![wave_goes(wave, WaveEvent::Soak, "wave.settled", format!("every host has ended: {told}"))]
        }
        WaveState::Soaking if tally.is_judged() => {
            vec![wave_goes(wave, WaveEvent::Pass, "gate.met", format!("the gate is met: {told}"))]
        }
        _ => Vec::new(),
    }
}

fn wave_goes(wave: &WaveFacts, event: WaveEvent, topic: &str, text: String) -> Action {
    Action::Wave(wave.number, event, vec![Reason::new(topic, text)])
}

fn close_plan(rollout: &RolloutFacts, topic: &str, text: &str) -> Vec<Action> {
    if rollout.plan == PlanState::Active {
        return vec![Action::Plan(PlanEvent::Close, vec![Reason::new(topic, text)])];
    }
    Vec::new()
}

/// Waves of a rollout that goes no further.
fn end_waves(rollout: &RolloutFacts, why: &str) -> Vec<Action> {
    let event_of = |state| match state {
        WaveState::Waiting => Some(WaveEvent::Skip),
        WaveState::Open | WaveState::Soaking => Some(WaveEvent::Fail),
        WaveState::Passed | WaveState::Failed | WaveState::Skipped => None,
    };
    let waves = rollout.waves.iter().filter_map(|wave| Some((wave, event_of(wave.state)?)));
    waves.map(|(wave, event)| wave_goes(wave, event, "wave.rollout-ended", why.to_owned())).collect()
}

/// Orders that have not begun to change their host.
fn withdraw_open(rollout: &RolloutFacts) -> impl Iterator<Item = Action> {
    let open =
        rollout.deployments.iter().filter(|deployment| is_before_change(deployment) && !deployment.withdrawal_asked);
    open.map(|deployment| Action::Withdraw(deployment.id))
}

fn is_before_change(deployment: &DeploymentFacts) -> bool {
    use DeploymentState as S;
    matches!(deployment.state, S::Offered | S::Queued | S::Fetching | S::Ready)
}

fn cancelled(rollout: &RolloutFacts) -> Vec<Action> {
    let mut actions = end_waves(rollout, "a person cancelled the rollout");
    actions.extend(withdraw_open(rollout));
    let event = match rollout.plan {
        PlanState::Active => Some(PlanEvent::Close),
        PlanState::Draft | PlanState::Proposed | PlanState::Approved => Some(PlanEvent::Supersede),
        PlanState::Closed | PlanState::Rejected | PlanState::Superseded => None,
    };
    actions.extend(
        event.map(|event| Action::Plan(event, vec![Reason::new("rollout.cancelled", "its rollout was cancelled")])),
    );
    actions
}

fn rolling_back(rollout: &RolloutFacts, now: Timestamp) -> Vec<Action> {
    use DeploymentState as S;
    let mut actions = end_waves(rollout, "the rollout is rolled back");
    actions.extend(withdraw_open(rollout));
    let to_undo = |deployment: &&DeploymentFacts| {
        matches!(deployment.state, S::Applying | S::Rebooting | S::Checking | S::Succeeded) && !deployment.undo_asked
    };
    actions.extend(rollout.deployments.iter().filter(to_undo).map(|deployment| Action::Undo(deployment.id)));
    if !actions.is_empty() {
        return actions;
    }
    let ended = |deployment: &DeploymentFacts| {
        deployment.state.is_final() || deployment.undo_refused || rollout.is_silent(deployment, now)
    };
    if rollout.deployments.iter().all(ended) {
        actions.push(Action::Rollout(RolloutEvent::FinishRollBack, rolled_back(rollout)));
    }
    actions
}

/// What a roll-back came to.
fn rolled_back(rollout: &RolloutFacts) -> Vec<Reason> {
    use DeploymentState as S;
    let count =
        |of: &dyn Fn(&DeploymentFacts) -> bool| rollout.deployments.iter().filter(|deployment| of(deployment)).count();
    let undone = count(&|deployment| deployment.state == S::Undone);
    let stuck = count(&|deployment| deployment.state == S::Stuck);
    let untouched =
        count(&|deployment| deployment.state.is_final() && !matches!(deployment.state, S::Undone | S::Stuck));
    let open = count(&|deployment| !deployment.state.is_final());
    let mut reasons = vec![Reason::new(
        "rollout.rolled-back",
        format!("{undone} hosts are as before, {untouched} were never changed"),
    )];
    if stuck > 0 {
        reasons.push(Reason::new(
            "rollout.stuck",
            format!("{stuck} hosts are stuck: their undo failed and a person must look"),
        ));
    }
    if open > 0 {
        reasons.push(Reason::new("rollout.not-undone", format!("{open} hosts refused the undo or were silent; a silent one still undoes when it comes back before its order expires")));
    }
    reasons
}

/// Only orders that no host has seen: what was handed out may have begun, and only the host knows.
fn expired(rollout: &RolloutFacts, now: Timestamp) -> Vec<Action> {
    if now <= rollout.window_end {
        return Vec::new();
    }
    let never_seen =
        |deployment: &&DeploymentFacts| deployment.state == DeploymentState::Offered && !deployment.delivered;
    let text = format!("its window ended at {} before its host asked for work", rollout.window_end);
    let reason = Reason::new("deployment.window-over", text);
    rollout
        .deployments
        .iter()
        .filter(never_seen)
        .map(|deployment| Action::Expire(deployment.id, vec![reason.clone()]))
        .collect()
}
