//! The agent's folder: where everything it must not forget stands.
//!
//! ```text
//! lock                    held by the one process that may write here
//! agent.toml              the administrator's: location, tags, interval
//! trust                   this host's id and the keys whose signatures on orders count
//! sequence                highest order seen, so that an old one is known as a replay
//! spool                   what the server has not acknowledged yet
//! deployments/ID/         journal, orders, new/ and old/ package files, log/ with the whole output
//! local-orders            that an undo was asked for on the host, until the running agent has seen it
//! deployments/ID/         journal, orders, new/ and old/ package files
//! trial/                  a new version of the agent that has not proved itself yet (`selfupdate`)
//! network/                all that the network-facing half may write:
//!   identity/             key (0600), certificate, authority, host id; replaced in one step
//!   identity.next/        the next key and certificate, until they have been used once
//!   identity.own/         what a copy of another host is when the executor has read the signed change beside it
//!   acknowledged-*        what the server has of the inventory, so that only differences are sent
//!   last-contact          for `fettle agent status`
//! ```

use super::files::{self, DiskError};
use fettle_domain::DeploymentId;
use rustix::fs::FlockOperation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Folders may be entered by others because package managers fetch as an unprivileged user; what is
/// secret has a mode of its own.
const FOLDER_MODE: u32 = 0o755;
/// What only the network-facing half needs.
const NETWORK_MODE: u32 = 0o700;

/// The folder, and which process may write to it.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: Option<File>,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another agent works on it.
    #[error("another agent is at work in {}: stop it first, or choose another folder with --state", .0.display())]
    Busy(PathBuf),
    /// A file of it cannot be understood.
    #[error("cannot read {}: {why}; remove it or restore it", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl StateDir {
    /// Makes the folder where needed and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        files::make_folder(path, FOLDER_MODE)?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| DiskError::io("open", &lock_path, error))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StateError::Busy(path.to_owned()))?;
        files::make_folder(&path.join("deployments"), FOLDER_MODE)?;
        files::make_folder(&path.join("network"), NETWORK_MODE)?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// The folder for reading only, while an agent may be at work in it.
    pub(crate) fn peek(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.network().join("identity")
    }

    /// All that the network-facing half may write.
    pub(crate) fn network(&self) -> PathBuf {
        self.path.join("network")
    }

    pub(crate) fn trust(&self) -> PathBuf {
        self.path.join("trust")
    }

    /// The next identity of this host, until it has been used once.
    pub(crate) fn identity_next(&self) -> PathBuf {
        files::beside(&self.identity(), ".next")
    }

    /// The identity of its own that a copy of another host got, until the executor obeys for it.
    pub(crate) fn identity_own(&self) -> PathBuf {
        files::beside(&self.identity(), ".own")
    }

    /// The signed document that makes it so.
    pub(crate) fn identity_change(&self) -> PathBuf {
        files::beside(&self.identity(), ".change")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path.join("agent.toml")
    }

    pub(crate) fn sequence(&self) -> PathBuf {
        self.path.join("sequence")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    pub(crate) fn last_contact(&self) -> PathBuf {
        self.network().join("last-contact")
    }

    pub(crate) fn acknowledged_digests(&self) -> PathBuf {
        self.network().join("acknowledged-digests")
    }

    pub(crate) fn acknowledged_packages(&self) -> PathBuf {
        self.network().join("acknowledged-packages")
    }

    pub(crate) fn deployments(&self) -> PathBuf {
        self.path.join("deployments")
    }

    /// Folder of one deployment.
    pub(crate) fn deployment(&self, id: DeploymentId) -> PathBuf {
        self.deployments().join(id.to_string())
    }

    /// Ids of all deployments that have a folder, oldest first.
    pub(crate) fn deployment_ids(&self) -> Result<Vec<DeploymentId>, DiskError> {
        let path = self.deployments();
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(DiskError::io("list", &path, error)),
        };
        let mut ids: Vec<DeploymentId> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

/// Reads a JSON file of at most `limit` bytes.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, StateError> {
    let Some(bytes) = files::read(path, limit)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| StateError::Unreadable { path: path.to_owned(), why: error.to_string() })
}

/// Replaces a JSON file in one step.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| StateError::Unreadable { path: path.to_owned(), why: error.to_string() })?;
    Ok(files::replace(path, &bytes, 0o600)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateDir::open(folder.path()).unwrap();
        let error = StateDir::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("another agent is at work"), "{error}");
        drop(first);
        StateDir::open(folder.path()).unwrap();
    }
}
