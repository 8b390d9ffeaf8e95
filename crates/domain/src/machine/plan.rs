//! A plan: from the draft to the closed change.
use super::machine;
machine! { "plan",
/// Where a plan stands.
PlanState {
    /// Dry runs are awaited.
    Draft = "draft",
    /// Complete and immutable; awaits approval.
    Proposed = "proposed",
    /// Approved; its digest is locked.
    Approved = "approved",
    /// Its rollout is under way.
    Active = "active",
    /// Its rollout ended.
    Closed = "closed",
    /// Refused by a person, or impossible everywhere.
    Rejected = "rejected",
    /// Cancelled, or replaced by a newer plan, before it started.
    Superseded = "superseded",
}
/// What happens to a plan.
PlanEvent {
    /// All dry runs are in and at least one host can change.
    Propose = "propose",
    /// A person with the right approved it.
    Approve = "approve",
    /// A person refused it, or no host can change.
    Reject = "reject",
    /// Its rollout starts.
    Activate = "activate",
    /// Its rollout ended.
    Close = "close",
    /// It was cancelled or replaced before it started.
    Supersede = "supersede",
    /// A person asked to undo the finished rollout.
    Reopen = "reopen",
}
next = next, is_final = is_final }
fn next(state: PlanState, event: PlanEvent) -> Option<PlanState> {
    use PlanEvent as E;
    use PlanState as S;
    Some(match (state, event) {
        (S::Draft, E::Propose) => S::Proposed,
        (S::Draft | S::Proposed, E::Reject) => S::Rejected,
        (S::Proposed, E::Approve) => S::Approved,
        (S::Approved, E::Activate) => S::Active,
        (S::Active, E::Close) => S::Closed,
        (S::Draft | S::Proposed | S::Approved, E::Supersede) => S::Superseded,
        (S::Closed, E::Reopen) => S::Active,
        _ => return None,
    })
}
fn is_final(state: PlanState) -> bool {
    matches!(state, PlanState::Rejected | PlanState::Superseded)
}
