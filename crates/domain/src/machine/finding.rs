//! A finding: from the first evidence to the proof that the flaw is gone.
use super::machine;
machine! { "finding",
/// Where a finding stands.
FindingState {
    /// Present, nothing under way.
    Open = "open",
    /// A change that closes it is proposed or approved.
    Planned = "planned",
    /// The change ran; the proof by inventory is awaited.
    Remediated = "remediated",
    /// A later inventory proved the fixed version installed and running.
    Verified = "verified",
    /// A stop-gap holds while no patch may go out.
    Mitigated = "mitigated",
    /// A person accepted the risk until a date.
    Accepted = "accepted",
    /// Stated not to apply here, with a justification.
    NotAffected = "not-affected",
}
/// What happens to a finding.
FindingEvent {
    /// A change that closes it was proposed.
    Plan = "plan",
    /// That change was rejected, cancelled, failed or was undone.
    Release = "release",
    /// Its deployment on this host succeeded.
    Remediate = "remediate",
    /// An inventory proves the flaw gone.
    Prove = "prove",
    /// An inventory shows the flaw again.
    Regress = "regress",
    /// A stop-gap became active.
    Mitigate = "mitigate",
    /// The stop-gap ended.
    Lift = "lift",
    /// A person accepted the risk.
    Accept = "accept",
    /// The acceptance ran out.
    Expire = "expire",
    /// A statement says it does not apply.
    Dismiss = "dismiss",
    /// That statement was withdrawn.
    Reinstate = "reinstate",
}
next = next, is_final = is_final }
fn next(state: FindingState, event: FindingEvent) -> Option<FindingState> {
    use FindingEvent as E;
    use FindingState as S;
    Some(match (state, event) {
        (S::Open, E::Plan) => S::Planned,
        (S::Planned | S::Remediated, E::Release) => S::Open,
        (S::Open | S::Planned, E::Remediate) => S::Remediated,
        // However it came about (by hand, by another change): only the inventory counts.
        (S::Open | S::Planned | S::Remediated | S::Mitigated | S::Accepted, E::Prove) => S::Verified,
        (S::Verified, E::Regress) => S::Open,
        (S::Open | S::Planned, E::Mitigate) => S::Mitigated,
        (S::Mitigated, E::Lift) => S::Open,
        (S::Open, E::Accept) => S::Accepted,
        (S::Accepted, E::Expire) => S::Open,
        (S::Open | S::Planned | S::Remediated | S::Mitigated | S::Accepted | S::Verified, E::Dismiss) => S::NotAffected,
        (S::NotAffected, E::Reinstate) => S::Open,
        _ => return None,
    })
}
/// No state of a finding is final: what was proved gone can come back.
fn is_final(_: FindingState) -> bool {
    false
}
