//! The trial of a new version, on disk, where the launcher (a shell script), the new version and the
//! former one read it:
//!
//! ```text
//! trial/about      what is tried, for which deployment
//! trial/former     the program before; there is a trial as long as this file is there
//! trial/starts     one line for each start of the new program
//! trial/given-up   why the new one is not started any more
//! ```

use super::program::Program;
use crate::disk::files::{self, DiskError};
use crate::disk::{StateDir, state};
use fettle_domain::{DeploymentId, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const LONGEST: u64 = 64 << 10;

/// What is on trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trial {
    /// Where the package has the program.
    pub(super) program: PathBuf,
    /// Which deployment installed it; `None` when an administrator did.
    pub(super) deployment: Option<DeploymentId>,
    pub(super) former_sha256: String,
    /// Empty while it is not installed yet.
    pub(super) new_sha256: String,
    /// Empty while it is not known.
    pub(super) new_version: String,
    pub(super) since: Timestamp,
    pub(super) limit_seconds: u64,
}

fn folder(state: &StateDir) -> PathBuf {
    state.path().join("trial")
}

fn about(state: &StateDir) -> PathBuf {
    folder(state).join("about")
}

/// The kept program.
pub(super) fn former(state: &StateDir) -> PathBuf {
    folder(state).join("former")
}

fn given_up(state: &StateDir) -> PathBuf {
    folder(state).join("given-up")
}

/// Whether a new version is on trial.
pub(super) fn is_under_way(state: &StateDir) -> bool {
    former(state).exists()
}

/// Whether it was given up already.
pub(super) fn is_given_up(state: &StateDir) -> bool {
    given_up(state).exists()
}

/// The launcher starts the former program from now on.
pub(super) fn give_up(state: &StateDir, why: &str) -> Result<(), DiskError> {
    files::replace(&given_up(state), why.as_bytes(), 0o644)
}

/// The trial is over. The kept program goes first: without it there is no trial, whatever else stays.
pub(super) fn end(state: &StateDir) -> Result<(), DiskError> {
    files::remove(&former(state))?;
    files::remove(&folder(state))
}

impl Trial {
    /// The trial that is under way.
    pub(super) fn load(state: &StateDir) -> Option<Self> {
        is_under_way(state).then(|| state::read_json(&about(state), LONGEST).ok().flatten()).flatten()
    }

    /// Whether the program with this digest is the new one. When the power went before the new one was
    /// looked at, it is any other than the former one.
    pub(super) fn is_of(&self, sha256: &str) -> bool {
        if self.new_sha256.is_empty() { sha256 != self.former_sha256 } else { sha256 == self.new_sha256 }
    }

    /// Begins. The kept program comes last: half a trial is none.
    pub(super) fn begin(&self, state: &StateDir, program: &Program) -> Result<(), String> {
        // The kept copy may be the very program that runs: it is replaced by its own bytes.
        let kept = files::beside(&folder(state), ".former");
        let begun = program
            .keep(&kept)
            .and_then(|()| end(state))
            .and_then(|()| files::make_folder(&folder(state), 0o755))
            .map_err(|error| error.to_string())
            .and_then(|()| state::write_json(&about(state), self).map_err(|error| error.to_string()))
            .and_then(|()| rename(&kept, &former(state)).map_err(|error| error.to_string()));
        begun.map_err(|why| format!("the running program cannot be kept, so the new one is not tried: {why}"))
    }

    /// Why the new version was given up, in words.
    pub(super) fn why_given_up(&self, state: &StateDir) -> String {
        let starts = files::text(folder(state).join("starts")).lines().count();
        let said = files::text(given_up(state));
        let why = if said.trim().is_empty() {
            format!("it was started {starts} times and ended each time before it had checked in")
        } else {
            said.trim().to_owned()
        };
        let version = if self.new_version.is_empty() { "" } else { " " };
        let version = format!("{version}{}", self.new_version);
        format!("the agent's new version{version} did not prove itself: {why}; the former version runs again")
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    std::fs::rename(from, to).map_err(|error| DiskError::io("replace", to, error))?;
    files::sync_parent(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial() -> Trial {
        Trial {
            program: PathBuf::from("/usr/bin/fettle"),
            deployment: None,
            former_sha256: "a".into(),
            new_sha256: "b".into(),
            new_version: "2".into(),
            since: Timestamp::from_unix_millis(0),
            limit_seconds: 300,
        }
    }

    #[test]
    fn begins_is_given_up_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let program = Program::running(None, &former(&state)).unwrap();
        assert_eq!(Trial::load(&state), None);
        for _ in 0..2 {
            trial().begin(&state, &program).unwrap();
            assert_eq!(Trial::load(&state), Some(trial()));
            assert!(trial().why_given_up(&state).contains("started 0 times"));
            give_up(&state, "it hung").unwrap();
            assert!(trial().why_given_up(&state).contains("it hung"), "{}", trial().why_given_up(&state));
        }
        // A new trial forgets why the one before was given up.
        trial().begin(&state, &program).unwrap();
        assert!(!is_given_up(&state));
        end(&state).unwrap();
        end(&state).unwrap();
        assert_eq!(Trial::load(&state), None);
        assert!(!folder.path().join("trial").exists());
    }
}
