//! The log that is kept of a deployment.

use crate::deploy::engine;
use crate::disk::{DiskError, StateDir};
use crate::report::keep;
use fettle_domain::DeploymentId;
use fettle_wire::log::{LogLine, LogStream};
use std::path::Path;

/// Bytes read at once.
const PART: u64 = 1 << 20;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No such deployment.
    #[error(
        "nothing is kept of {0} here: it was not made by this agent, or too long ago (`fettle agent status` lists them)"
    )]
    Unknown(DeploymentId),
    /// No deployment at all.
    #[error("nothing was deployed on this host yet")]
    Nothing,
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Hands out the kept lines of a deployment, or of the newest one, with a line in place of each gap.
/// Returns which deployment it was.
pub fn kept_log(
    state_dir: &Path,
    deployment: Option<DeploymentId>,
    line: &mut dyn FnMut(LogLine),
) -> Result<DeploymentId, LogError> {
    let state = StateDir::peek(state_dir);
    let id = match deployment {
        Some(id) => id,
        None => state.deployment_ids()?.pop().ok_or(LogError::Nothing)?,
    };
    let folder = state.deployment(id);
    if engine::peek(&folder).ok().flatten().is_none() && !keep::folder_of(&folder).is_dir() {
        return Err(LogError::Unknown(id));
    }
    let mut from = 1;
    loop {
        let part = keep::read(&folder, from, PART)?;
        for kept in part.lines {
            if let Some(gap) = gap(from, &kept) {
                line(gap);
            }
            from = kept.number + 1;
            line(kept);
        }
        if part.last {
            return Ok(id);
        }
    }
}

/// What stands in place of lines that were cut.
fn gap(expected: u64, next: &LogLine) -> Option<LogLine> {
    (next.number > expected).then(|| LogLine {
        number: expected,
        at: next.at,
        task: String::new(),
        stream: LogStream::Fettle,
        text: format!(
            "[lines {expected} to {} were cut: of a long log the beginning and the end are kept]",
            next.number - 1
        ),
    })
}
