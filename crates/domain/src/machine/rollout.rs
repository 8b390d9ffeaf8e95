//! A rollout: an approved plan under way.
use super::machine;
machine! { "rollout",
/// Where a rollout stands.
RolloutState {
    /// Approved, not begun.
    Scheduled = "scheduled",
    /// Waves are opened.
    Running = "running",
    /// A person stopped it for a while.
    Paused = "paused",
    /// A gate failed: it stopped itself, a person decides.
    Halted = "halted",
    /// Every wave passed. Can still be undone.
    Completed = "completed",
    /// Deployments are being undone.
    RollingBack = "rolling-back",
    /// All that could be undone is undone.
    RolledBack = "rolled-back",
    /// Ended by a person; finished deployments stay.
    Cancelled = "cancelled",
}
/// What happens to a rollout.
RolloutEvent {
    /// Its start has come.
    Start = "start",
    /// A person pauses it.
    Pause = "pause",
    /// A person resumes it.
    Resume = "resume",
    /// A gate failed.
    Halt = "halt",
    /// The last wave passed.
    Complete = "complete",
    /// A person (or policy, on failure) undoes it.
    RollBack = "roll-back",
    /// The last undo ended.
    FinishRollBack = "finish-roll-back",
    /// A person ends it.
    Cancel = "cancel",
}
next = next, is_final = is_final }
fn next(state: RolloutState, event: RolloutEvent) -> Option<RolloutState> {
    use RolloutEvent as E;
    use RolloutState as S;
    Some(match (state, event) {
        (S::Scheduled, E::Start) => S::Running,
        (S::Running, E::Pause) => S::Paused,
        (S::Paused | S::Halted, E::Resume) => S::Running,
        (S::Running, E::Halt) => S::Halted,
        (S::Running, E::Complete) => S::Completed,
        (S::Running | S::Paused | S::Halted | S::Completed | S::Cancelled, E::RollBack) => S::RollingBack,
        (S::RollingBack, E::FinishRollBack) => S::RolledBack,
        (S::Scheduled | S::Running | S::Paused | S::Halted, E::Cancel) => S::Cancelled,
        _ => return None,
    })
}
fn is_final(state: RolloutState) -> bool {
    matches!(state, RolloutState::RolledBack)
}
