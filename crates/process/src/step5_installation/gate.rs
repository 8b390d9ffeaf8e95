//! The gate of a wave: how many hosts are proved, how many failed, how many are open.

use super::facts::{DeploymentFacts, Proof, RolloutFacts};
use fettle_domain::Timestamp;
use fettle_domain::machine::DeploymentState;
use fettle_domain::plan::Acceptance;

/// How one deployment counts at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// An inventory proved it.
    Proved,
    /// The host says it succeeded; the inventory that proves it is awaited.
    Claimed,
    /// Still open.
    Open,
    /// It cannot succeed any more, but its undo is not finished.
    Failing,
    /// It did not succeed.
    Failed,
    /// Nothing was heard for too long: counts as failed.
    Silent,
}

impl Standing {
    /// Of a deployment.
    pub fn of(rollout: &RolloutFacts, deployment: &DeploymentFacts, now: Timestamp) -> Self {
        use DeploymentState as S;
        match (deployment.state, deployment.proof) {
            (S::Succeeded, Proof::Proved) => Standing::Proved,
            (S::Succeeded, Proof::Differs) => Standing::Failed,
            (S::Undone | S::Stuck | S::Failed | S::Withdrawn | S::Expired | S::NotApplicable, _) => Standing::Failed,
            _ if rollout.is_silent(deployment, now) => Standing::Silent,
            (S::Succeeded, Proof::Awaited) => Standing::Claimed,
            (S::Undoing, _) => Standing::Failing,
            _ => Standing::Open,
        }
    }
}

/// Counts of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Proved.
    pub proved: usize,
    /// Claimed by the host.
    pub claimed: usize,
    /// Open.
    pub open: usize,
    /// Failing.
    pub failing: usize,
    /// Failed.
    pub failed: usize,
    /// Silent.
    pub silent: usize,
}

impl Tally {
    /// Counts a wave.
    pub fn of_wave(rollout: &RolloutFacts, number: u32, now: Timestamp) -> Self {
        let mut tally = Self::default();
        for deployment in rollout.of_wave(number) {
            match Standing::of(rollout, deployment, now) {
                Standing::Proved => tally.proved += 1,
                Standing::Claimed => tally.claimed += 1,
                Standing::Open => tally.open += 1,
                Standing::Failing => tally.failing += 1,
                Standing::Failed => tally.failed += 1,
                Standing::Silent => tally.silent += 1,
            }
        }
        tally
    }

    /// All hosts.
    pub fn total(&self) -> usize {
        self.proved + self.claimed + self.open + self.bad()
    }

    /// Those that cannot succeed any more.
    pub fn bad(&self) -> usize {
        self.failing + self.failed + self.silent
    }

    /// How many must succeed: the share, rounded up.
    pub fn needed(&self, acceptance: &Acceptance) -> usize {
        (self.total() * usize::from(acceptance.success_percent.min(100))).div_ceil(100)
    }

    /// More failed than may: whatever the others do, the gate is missed.
    pub fn is_missed(&self, acceptance: &Acceptance) -> bool {
        self.total() - self.bad() < self.needed(acceptance)
    }

    /// Every host has ended, well or not.
    pub fn is_settled(&self) -> bool {
        self.open == 0 && self.failing == 0
    }

    /// Every host has ended, and every success is proved.
    pub fn is_judged(&self) -> bool {
        self.is_settled() && self.claimed == 0
    }

    /// In words.
    pub fn told(&self, acceptance: &Acceptance) -> String {
        let parts = [
            (self.proved, "proved"),
            (self.claimed, "await proof by inventory"),
            (self.open, "under way"),
            (self.failing, "being undone"),
            (self.failed, "failed"),
            (self.silent, "silent"),
        ];
        let parts: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        format!(
            "of {} hosts {}; {} must be proved ({} %)",
            self.total(),
            if parts.is_empty() { "none".to_owned() } else { parts.join(", ") },
            self.needed(acceptance),
            acceptance.success_percent
        )
    }
}
