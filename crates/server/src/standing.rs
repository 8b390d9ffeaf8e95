//! How a rollout stands, read once for the reconciler that carries it on and for the explanation that
//! people read: both see the same.

use fettle_domain::{RolloutId, Timestamp};
use fettle_process::installation::{DeploymentFacts, Proof, RolloutFacts, WaveFacts};
use fettle_store::systems::deployment::{self, DeploymentRecord, ProofState};
use fettle_store::systems::plan::{self, PlanRecord};
use fettle_store::systems::rollout::{self, RolloutRecord, WaveRecord};
use fettle_store::{Connection, Result, StoreError};

/// A rollout with all that belongs to it.
pub(crate) struct Standing {
    /// Itself.
    pub(crate) rollout: RolloutRecord,
    /// Its plan.
    pub(crate) plan: PlanRecord,
    /// Its waves.
    pub(crate) waves: Vec<WaveRecord>,
    /// Its deployments.
    pub(crate) deployments: Vec<DeploymentRecord>,
    /// The same as the pure step sees it.
    pub(crate) facts: RolloutFacts,
}

/// Reads it.
pub(crate) fn load(connection: &mut Connection, id: RolloutId, listening_since: Timestamp) -> Result<Standing> {
    let rollout = rollout::rollout_get(connection, id)?;
    let plan = plan::plan_get(connection, rollout.plan)?;
    let waves = rollout::waves(connection, id)?;
    let deployments = deployment::deployments_of_rollout(connection, id)?;
    let head = plan.head.as_ref().ok_or_else(|| StoreError::Corrupt { what: format!("{} has no content", plan.id) })?;
    let facts = RolloutFacts {
        state: rollout.state,
        plan: plan.state,
        start_at: rollout.start_at,
        window_end: rollout.window_end,
        acceptance: head.acceptance.clone(),
        listening_since,
        waves: waves
            .iter()
            .map(|wave| WaveFacts { number: wave.number, state: wave.state, opened_at: wave.opened_at })
            .collect(),
        deployments: deployments.iter().map(facts_of).collect(),
    };
    Ok(Standing { rollout, plan, waves, deployments, facts })
}

fn facts_of(record: &DeploymentRecord) -> DeploymentFacts {
    DeploymentFacts {
        id: record.id,
        wave: record.wave,
        state: record.state,
        heard_at: record.heard_at,
        delivered: record.delivered_at.is_some(),
        withdrawal_asked: record.withdraw_at.is_some(),
        undo_asked: record.undo_at.is_some(),
        undo_refused: record.undo_refused.is_some(),
        proof: match record.proof {
            ProofState::Awaited => Proof::Awaited,
            ProofState::Proved => Proof::Proved,
            ProofState::Differs => Proof::Differs,
        },
    }
}
