//! Why there is no identity.

use std::path::PathBuf;

/// Told to who starts the server.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system refused.
    #[error("cannot {act} {path}: {cause}", path = .path.display())]
    Disk {
        /// What was tried (`write`).
        act: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        cause: std::io::Error,
    },
    /// A file is there and is not what it should be.
    #[error("{path} is not usable ({why}): restore it from a back-up. Removing it makes a new one, which the enrolled hosts will not trust", path = .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Of a pair only one file is there.
    #[error("{present} is there but {missing} is not: restore it from a back-up, or remove both to make a new authority, which the enrolled hosts will not trust", present = .present.display(), missing = .missing.display())]
    Half {
        /// Which is there.
        present: PathBuf,
        /// Which is not.
        missing: PathBuf,
    },
    /// Somebody else may read or change the folder.
    #[error("the data directory {path} may be used by others (mode {mode:o}): chmod 700 it", path = .path.display())]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A key or certificate could not be made.
    #[error("cannot make the {what}: {why}")]
    Make {
        /// Which.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A host's certificate request is not usable.
    #[error("the certificate request cannot be used: {why}")]
    Request {
        /// Why.
        why: String,
    },
}
