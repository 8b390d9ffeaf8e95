//! An undo that the administrator of the host asked for on the host itself. It waits in a file of its
//! deployment's folder until the engine has it in the journal; from there on it is like any other.
//!
//! Only who may write to the agent's folder can ask, and who may do that can do anything here.

use super::desk::Desk;
use super::engine::{Engine, EngineError, Host};
use super::record::{Deployment, Record};
use crate::clock;
use crate::disk::state::{self, StateError};
use crate::disk::{StateDir, files};
use fettle_domain::machine::{DeploymentState, Machine as _};
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Cap of the file.
const LONGEST: u64 = 4 << 10;
/// Longest name of a person that is told on.
const LONGEST_NAME: usize = 100;

/// What stands in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LocalUndo {
    /// Who asked: the user's name.
    pub(crate) by: String,
    /// When.
    pub(crate) at: Timestamp,
}

/// File in which the request waits for the engine.
pub(crate) fn request_path(folder: &Path) -> PathBuf {
    folder.join("local-undo")
}

/// File that tells a running agent to look for such requests: one look at one file, however many
/// deployments there are.
fn mark_path(state: &StateDir) -> PathBuf {
    state.path().join("local-orders")
}

/// Writes the request down, and tells the agent that may be running.
pub(crate) fn ask(state: &StateDir, id: DeploymentId, by: &str) -> Result<(), StateError> {
    let by = by.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    state::write_json(&request_path(&state.deployment(id)), &LocalUndo { by, at: clock::now() })?;
    Ok(files::replace(&mark_path(state), b"", 0o600)?)
}

/// Takes the request back; true when nobody had taken it up.
pub(crate) fn take_back(state: &StateDir, id: DeploymentId) -> Result<bool, StateError> {
    let path = request_path(&state.deployment(id));
    let waited = path.exists();
    files::remove(&path)?;
    Ok(waited)
}

/// Why a deployment cannot be undone on the host, if so.
pub(crate) fn why_not(deployment: &Deployment, folder: &Path) -> Option<String> {
    use DeploymentState as S;
    match deployment.state {
        S::Succeeded if folder.join("old").is_dir() => None,
        S::Succeeded => Some("the former package files are not kept any more".to_owned()),
        S::Undone => Some("it is undone already".to_owned()),
        state => Some(format!("it is {state}: only what succeeded can be undone")),
    }
}

/// Why an undo happens that was asked for on the host.
pub(crate) fn reason(by: &str) -> Reason {
    Reason::new("undo.on-the-host", format!("undone on the host by {by}"))
}

impl Engine<'_> {
    /// Takes the request into the journal.
    pub(super) fn take_local_undo(&mut self, folder: &Path) -> Result<(), EngineError> {
        let path = request_path(folder);
        let Some(LocalUndo { by, at }) = state::read_json(&path, LONGEST)? else { return Ok(()) };
        if self.deployment.local_undo.is_none() && !self.deployment.state.is_final() {
            self.record(Record::LocalUndo { at, by })?;
        }
        Ok(files::remove(&path)?)
    }
}

impl Desk {
    /// Notices what was asked for on the host since the last look.
    pub(crate) fn take_local_orders(&mut self, host: &Host) {
        let mark = mark_path(&host.state);
        // Before the look: what is asked for meanwhile makes the mark anew.
        if !mark.exists() || files::remove(&mark).is_err() {
            return;
        }
        for id in self.deployments() {
            if request_path(&host.state.deployment(id)).exists() {
                self.undo_waits_now(id);
            }
        }
    }
}
