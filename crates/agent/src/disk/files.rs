//! Whole files: read with a cap, written so that a reader sees the old or the new and never half.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Something on disk refused.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system refused.
    #[error("cannot {action} {}{}", .path.display(), hint(.source))]
    Io {
        /// What was tried (`write`).
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Longer than such a file can be.
    #[error("{} is longer than {limit} bytes: it is not what the agent wrote; remove it or restore it", .path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// The cap in bytes.
        limit: u64,
    },
}

/// What to do about the causes that an administrator can mend.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the disk is full; free some space, the agent goes on by itself"
        }
        io::ErrorKind::PermissionDenied => ": run the agent as the user who owns its state folder",
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only; choose another folder with --state",
        _ => "",
    }
}

impl DiskError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::io("open", path, error)),
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| DiskError::io("read", path, error))?;
    if bytes.len() as u64 > limit {
        return Err(DiskError::TooLong { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

/// Replaces a file in one step; durable when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
    let scratch = beside(path, ".new");
    let mut file = create(&scratch, mode)?;
    file.write_all(bytes).map_err(|error| DiskError::io("write", &scratch, error))?;
    file.sync_all().map_err(|error| DiskError::io("write", &scratch, error))?;
    fs::rename(&scratch, path).map_err(|error| DiskError::io("replace", path, error))?;
    sync_parent(path)
}

/// A new empty file of this mode, in place of what stood there.
pub(crate) fn create(path: &Path, mode: u32) -> Result<File, DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(DiskError::io("remove", path, error));
        }
        _ => {}
    }
    // create_new: a link that somebody put there meanwhile is not followed.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| DiskError::io("create", path, error))
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), DiskError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| DiskError::io("create folder", path, error))
}

/// Removes a file or folder; one that is not there is as good.
pub(crate) fn remove(path: &Path) -> Result<(), DiskError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Makes a rename or a new name in the parent folder durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), DiskError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| DiskError::io("write", parent, error))
}

/// The path with something appended to its last name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Text of a small file of the system such as those in `/proc`; empty when it cannot be read.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(4 << 20).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
