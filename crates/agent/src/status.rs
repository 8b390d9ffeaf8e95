//! What `fettle agent status` shows: read from disk, whether an agent runs or not.

use crate::deploy::record::{Deployment, TaskName};
use crate::deploy::{engine, local_order};
use crate::disk::state::{self, StateError};
use crate::disk::{LogError, StateDir, files};
use crate::link::Identity;
use crate::local;
use crate::report::Spool;
use fettle_domain::machine::{DeploymentState, TaskState};
use fettle_domain::{ChangeId, DeploymentId, HostId, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Deployments that are listed, newest first.
const MOST_LISTED: usize = 20;

/// Where this agent stands.
#[derive(Debug, Clone, Serialize)]
pub struct AgentStatus {
    /// Its id; absent when it is not enrolled.
    pub host: Option<HostId>,
    /// Its server; empty when it is not enrolled.
    pub server: String,
    /// When it was enrolled.
    pub enrolled_at: Option<Timestamp>,
    /// Last contact with the server.
    pub last_contact: Option<LastContact>,
    /// Process of the agent that runs here now; absent when none does.
    pub process: Option<u32>,
    /// Entries that the server has not acknowledged yet.
    pub waiting_reports: usize,
    /// Bytes of the file in which they wait.
    pub spool_bytes: u64,
    /// When the next accepted order may begin; absent when none waits for its window.
    pub next_window: Option<Timestamp>,
    /// Its newest deployments, newest first.
    pub deployments: Vec<DeploymentStatus>,
}

/// The last attempt to check in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastContact {
    /// Last check-in that the server answered.
    pub answered_at: Option<Timestamp>,
    /// Last attempt.
    pub tried_at: Timestamp,
    /// Why the last attempt had no answer; empty when it had.
    pub error: String,
    /// Link of the last check-in that was answered: the next one is tied to it.
    #[serde(default)]
    pub link: String,
}

/// One deployment.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentStatus {
    /// Its id.
    pub deployment: DeploymentId,
    /// Its change; absent when the journal cannot be read.
    pub change: Option<ChangeId>,
    /// Where it stands; absent when the journal cannot be read.
    pub state: Option<DeploymentState>,
    /// Begin no earlier; absent when the journal cannot be read.
    pub window_start: Option<Timestamp>,
    /// Begin no later.
    pub window_end: Option<Timestamp>,
    /// Packages that it changes.
    pub packages: usize,
    /// Whether its former package files are kept, so that it can be undone here.
    pub undoable: bool,
    /// Its tasks that have begun or will not be done, in order.
    pub tasks: Vec<TaskStatus>,
    /// Why it failed, or why its journal cannot be read; empty when neither.
    pub why: Vec<String>,
}

/// One task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskStatus {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub state: TaskState,
    /// When it last went on.
    pub at: Timestamp,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The folder cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The spool cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Reads where the agent of this folder stands.
pub fn status(state_dir: &Path) -> Result<AgentStatus, StatusError> {
    let state = StateDir::peek(state_dir);
    let identity = Identity::load(&state)?;
    let ids = state.deployment_ids().map_err(StateError::from)?;
    let deployments: Vec<DeploymentStatus> =
        ids.into_iter().rev().take(MOST_LISTED).map(|id| deployment(&state, id)).collect();
    let waiting = deployments.iter().filter(|one| one.state == Some(DeploymentState::Queued));
    Ok(AgentStatus {
        host: identity.as_ref().map(|identity| identity.about.host),
        server: identity.as_ref().map(|identity| identity.about.server.clone()).unwrap_or_default(),
        enrolled_at: identity.as_ref().map(|identity| identity.about.enrolled_at),
        last_contact: state::read_json(&state.last_contact(), 64 << 10)?,
        process: local::holder(state_dir),
        waiting_reports: Spool::peek(&state.spool())?,
        spool_bytes: std::fs::metadata(state.spool()).map_or(0, |found| found.len()),
        next_window: waiting.filter_map(|one| one.window_start).min(),
        deployments,
    })
}

/// Why a deployment cannot be confirmed.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// Not the id of a deployment.
    #[error("`{0}` is no deployment of this agent: `fettle agent status` lists them")]
    Unknown(String),
    /// Too late, or not needed.
    #[error("{deployment} is {state}: there is nothing to confirm")]
    Late {
        /// Which.
        deployment: DeploymentId,
        /// How it stands.
        state: DeploymentState,
    },
    /// The folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its journal cannot be read.
    #[error("{0}")]
    Journal(String),
}

/// Confirms a deployment that the host's policy lets wait for a person here (`fettle agent confirm`).
/// Only who may write the agent's folder can.
pub fn confirm(state_dir: &Path, deployment: &str) -> Result<(), ConfirmError> {
    let state = StateDir::peek(state_dir);
    let unknown = || ConfirmError::Unknown(deployment.chars().take(100).collect());
    let id: DeploymentId = deployment.trim().parse().map_err(|_| unknown())?;
    let found = engine::peek(&state.deployment(id)).map_err(|error| ConfirmError::Journal(error.to_string()))?;
    let found = found.ok_or_else(unknown)?;
    use DeploymentState as S;
    let waits = matches!(found.state, S::Offered | S::Queued | S::Fetching | S::Ready) || found.undo_order.is_some();
    if !waits {
        return Err(ConfirmError::Late { deployment: id, state: found.state });
    }
    files::replace(&engine::confirmed_path(&state.deployment(id)), b"", 0o600).map_err(StateError::from)?;
    Ok(())
}

fn deployment(state: &StateDir, id: DeploymentId) -> DeploymentStatus {
    let folder = state.deployment(id);
    let unreadable = |why: String| DeploymentStatus {
        deployment: id,
        change: None,
        state: None,
        window_start: None,
        window_end: None,
        packages: 0,
        undoable: false,
        tasks: Vec::new(),
        why: vec![why],
    };
    match engine::peek(&folder) {
        Ok(Some(deployment)) => DeploymentStatus {
            deployment: id,
            change: Some(deployment.offer.change),
            state: Some(deployment.state),
            window_start: Some(deployment.offer.window_start),
            window_end: Some(deployment.offer.window_end),
            packages: deployment.offer.manifest.steps.len(),
            undoable: local_order::why_not(&deployment, &folder).is_none(),
            tasks: tasks(&deployment),
            why: deployment.failure.iter().map(ToString::to_string).collect(),
        },
        Ok(None) => unreadable("it has no journal yet".to_owned()),
        Err(error) => unreadable(error.to_string()),
    }
}

fn tasks(deployment: &Deployment) -> Vec<TaskStatus> {
    let standing = TaskName::ALL.into_iter().filter_map(|name| Some((name, deployment.task(name)?)));
    standing
        .filter(|(_, task)| task.state != TaskState::Do)
        .map(|(name, task)| TaskStatus { name: name.as_str(), state: task.state, at: task.at })
        .collect()
}
