//! How a rollout stands, as the store tells it.

use fettle_domain::machine::{DeploymentState, PlanState, RolloutState, WaveState};
use fettle_domain::plan::Acceptance;
use fettle_domain::{DeploymentId, Timestamp};

/// Whether an inventory agrees with what a deployment reported of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// No inventory made after its end is here yet.
    Awaited,
    /// An inventory made after its end shows exactly the manifest.
    Proved,
    /// It shows something else.
    Differs,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutFacts {
    /// Where it stands.
    pub state: RolloutState,
    /// Where its plan stands.
    pub plan: PlanState,
    /// Begin no earlier.
    pub start_at: Timestamp,
    /// Begin nothing later.
    pub window_end: Timestamp,
    /// When it counts as a success.
    pub acceptance: Acceptance,
    /// Since when somebody is there to hear the hosts: their silence before is not theirs.
    pub listening_since: Timestamp,
    /// In order.
    pub waves: Vec<WaveFacts>,
    /// Of all opened waves.
    pub deployments: Vec<DeploymentFacts>,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveFacts {
    /// From 1.
    pub number: u32,
    /// Where it stands.
    pub state: WaveState,
    /// When it was last opened: by its turn, or by a person who resumed the rollout.
    pub opened_at: Timestamp,
}

/// One deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentFacts {
    /// Which.
    pub id: DeploymentId,
    /// In which wave.
    pub wave: u32,
    /// Where it stands.
    pub state: DeploymentState,
    /// When its host last told something of it, or was last asked something.
    pub heard_at: Timestamp,
    /// Its order was handed to the host: from then on only the host knows whether it began.
    pub delivered: bool,
    /// The host was asked to give the order back.
    pub withdrawal_asked: bool,
    /// The host was ordered to undo it.
    pub undo_asked: bool,
    /// The host refused that.
    pub undo_refused: bool,
    /// What inventories say of its success.
    pub proof: Proof,
}

impl RolloutFacts {
    /// The deployments of a wave.
    pub fn of_wave(&self, number: u32) -> impl Iterator<Item = &DeploymentFacts> {
        self.deployments.iter().filter(move |deployment| deployment.wave == number)
    }

    /// Since when a deployment's silence counts.
    pub fn silent_since(&self, deployment: &DeploymentFacts) -> Timestamp {
        let wave =
            self.waves.iter().find(|wave| wave.number == deployment.wave).map_or(self.start_at, |wave| wave.opened_at);
        deployment.heard_at.max(wave).max(self.listening_since)
    }

    /// Whether a deployment has been silent for too long.
    pub fn is_silent(&self, deployment: &DeploymentFacts, now: Timestamp) -> bool {
        self.silent_since(deployment).until(now).as_secs() >= self.acceptance.silence_seconds
    }
}
