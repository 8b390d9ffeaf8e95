//! A wave: one part of a rollout's hosts, with a gate.
use super::machine;
machine! { "wave",
/// Where a wave stands.
WaveState {
    /// Its turn has not come.
    Waiting = "waiting",
    /// Its hosts are offered their deployments.
    Open = "open",
    /// All hosts are done; time passes before the gate is judged.
    Soaking = "soaking",
    /// The gate was met.
    Passed = "passed",
    /// The gate was missed.
    Failed = "failed",
    /// Left out, because the rollout ended before its turn.
    Skipped = "skipped",
}
/// What happens to a wave.
WaveEvent {
    /// Its turn has come.
    Open = "open",
    /// Every host of it is settled.
    Soak = "soak",
    /// The gate is met.
    Pass = "pass",
    /// The gate is missed.
    Fail = "fail",
    /// The rollout ends without it.
    Skip = "skip",
    /// A person resumed the halted rollout: its open hosts are judged again.
    Retry = "retry",
}
next = next, is_final = is_final }
fn next(state: WaveState, event: WaveEvent) -> Option<WaveState> {
    use WaveEvent as E;
    use WaveState as S;
    Some(match (state, event) {
        (S::Waiting, E::Open) => S::Open,
        (S::Waiting, E::Skip) => S::Skipped,
        (S::Open, E::Soak) => S::Soaking,
        (S::Soaking, E::Pass) => S::Passed,
        (S::Open | S::Soaking, E::Fail) => S::Failed,
        (S::Failed, E::Retry) => S::Open,
        _ => return None,
    })
}
fn is_final(state: WaveState) -> bool {
    matches!(state, WaveState::Passed | WaveState::Skipped)
}
