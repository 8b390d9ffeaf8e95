//! A deployment: one plan's patches on one host. Its state follows from what the agent reports of
//! its tasks; the server adds only what the agent cannot know (offered, withdrawn, expired).
use super::machine;
machine! { "deployment",
/// Where a deployment stands.
DeploymentState {
    /// The signed offer waits for the agent.
    Offered = "offered",
    /// Accepted by the agent; its window has not begun.
    Queued = "queued",
    /// Package files are being fetched.
    Fetching = "fetching",
    /// Fetched, verified, former files kept.
    Ready = "ready",
    /// The package manager is at work.
    Applying = "applying",
    /// A reboot is under way.
    Rebooting = "rebooting",
    /// Proving: inventory against plan, health, restarts.
    Checking = "checking",
    /// Proved on the host. Can still be undone by a person.
    Succeeded = "succeeded",
    /// Former versions are being put back.
    Undoing = "undoing",
    /// Former versions are proved to be back.
    Undone = "undone",
    /// The undo failed: a person must look.
    Stuck = "stuck",
    /// Failed before anything was changed.
    Failed = "failed",
    /// Taken back by the server before anything was changed.
    Withdrawn = "withdrawn",
    /// Not begun before its offer expired.
    Expired = "expired",
    /// The host has it already, or has changed so that it no longer applies.
    NotApplicable = "not-applicable",
}
/// What happens to a deployment.
DeploymentEvent {
    /// The agent verified the offer and took it.
    Accept = "accept",
    /// The agent began to fetch.
    Fetch = "fetch",
    /// All files are there, verified, and former ones kept.
    Prepare = "prepare",
    /// The package manager begins.
    Apply = "apply",
    /// The host reboots.
    Reboot = "reboot",
    /// Checks begin.
    Check = "check",
    /// Checks passed.
    Succeed = "succeed",
    /// Something failed before any change.
    Fail = "fail",
    /// An undo begins, by failure or by a person.
    Undo = "undo",
    /// The undo is proved.
    FinishUndo = "finish-undo",
    /// The undo failed.
    GetStuck = "get-stuck",
    /// The server takes the offer back.
    Withdraw = "withdraw",
    /// The offer's time ran out.
    Expire = "expire",
    /// It does not apply (any more).
    NotApply = "not-apply",
}
next = next, is_final = is_final }
fn next(state: DeploymentState, event: DeploymentEvent) -> Option<DeploymentState> {
    use DeploymentEvent as E;
    use DeploymentState as S;
    Some(match (state, event) {
        (S::Offered, E::Accept) => S::Queued,
        (S::Queued, E::Fetch) => S::Fetching,
        (S::Fetching, E::Prepare) => S::Ready,
        (S::Ready, E::Apply) => S::Applying,
        (S::Applying | S::Checking, E::Reboot) => S::Rebooting,
        (S::Applying | S::Rebooting, E::Check) => S::Checking,
        (S::Checking, E::Succeed) => S::Succeeded,
        (S::Offered | S::Queued | S::Fetching | S::Ready, E::Fail) => S::Failed,
        (S::Applying | S::Rebooting | S::Checking | S::Succeeded, E::Undo) => S::Undoing,
        (S::Undoing, E::FinishUndo) => S::Undone,
        (S::Undoing, E::GetStuck) => S::Stuck,
        (S::Offered | S::Queued | S::Fetching | S::Ready, E::Withdraw) => S::Withdrawn,
        (S::Offered | S::Queued | S::Fetching | S::Ready, E::Expire) => S::Expired,
        (S::Offered | S::Queued | S::Fetching | S::Ready, E::NotApply) => S::NotApplicable,
        _ => return None,
    })
}
fn is_final(state: DeploymentState) -> bool {
    use DeploymentState as S;
    matches!(state, S::Undone | S::Stuck | S::Failed | S::Withdrawn | S::Expired | S::NotApplicable)
}
impl DeploymentState {
    /// Whether nothing more happens unless a person asks: all final states, and success.
    pub fn is_settled(self) -> bool {
        self == DeploymentState::Succeeded || is_final(self)
    }

    /// Whether the packages of the host may differ from what they were before.
    pub fn has_touched_host(self) -> bool {
        use DeploymentState as S;
        matches!(self, S::Applying | S::Rebooting | S::Checking | S::Succeeded | S::Undoing | S::Stuck)
    }
}
