//! The file of the running program, and what stands at its path now.

use crate::disk::files::{self, DiskError};
use fettle_content::Hasher;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// The program of this process, whatever stands at its path.
const RUNNING: &str = "/proc/self/exe";
/// Longest program that is read.
const LONGEST: u64 = 1 << 30;

/// What stands where the running program stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replaced {
    /// Itself.
    No,
    /// Another file with the same bytes.
    SameBytes,
    /// Another program, with this sha-256.
    By(String),
    /// Nothing that can be read.
    Gone,
}

/// The running program.
pub(super) struct Program {
    /// Where its package has it.
    installed: PathBuf,
    identity: Mark,
    kept_copy: bool,
    own: OnceLock<String>,
    /// The file that was read last, and its digest.
    seen: Mutex<Option<(Mark, String)>>,
}

/// Tells a file from what was put in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Mark {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl Program {
    /// The program of this process. When it is the copy that was kept for a trial, `on_trial` is where
    /// the package has it.
    pub(super) fn running(on_trial: Option<&Path>, kept: &Path) -> Option<Self> {
        let link = std::fs::read_link(RUNNING).ok()?;
        let identity = Mark::of(&std::fs::metadata(RUNNING).ok()?);
        let text = link.to_str()?;
        let text = text.strip_suffix(" (deleted)").unwrap_or(text);
        // The names that dpkg gives a file for a moment.
        let text = [".dpkg-new", ".dpkg-tmp"].iter().find_map(|suffix| text.strip_suffix(suffix)).unwrap_or(text);
        let kept_copy = kept.canonicalize().is_ok_and(|kept| kept == Path::new(text));
        let installed = on_trial.filter(|_| kept_copy).map_or_else(|| PathBuf::from(text), Path::to_path_buf);
        Some(Self { installed, identity, kept_copy, own: OnceLock::new(), seen: Mutex::default() })
    }

    pub(super) fn installed_path(&self) -> &Path {
        &self.installed
    }

    /// Whether it was started from the kept copy.
    pub(super) fn is_kept_copy(&self) -> bool {
        self.kept_copy
    }

    /// Digest of the running program; empty when it cannot be read.
    pub(super) fn sha256(&self) -> String {
        self.own.get_or_init(|| digest(Path::new(RUNNING)).unwrap_or_default()).clone()
    }

    /// Whether the running program has this digest.
    pub(super) fn is(&self, sha256: &str) -> bool {
        !sha256.is_empty() && self.sha256() == sha256
    }

    /// Looks at its path.
    pub(super) fn replaced(&self) -> Replaced {
        let Ok(found) = std::fs::metadata(&self.installed) else { return Replaced::Gone };
        let mark = Mark::of(&found);
        if (mark.device, mark.inode) == (self.identity.device, self.identity.inode) {
            return Replaced::No;
        }
        let mut seen = crate::clock::lock(&self.seen);
        let known = seen.as_ref().filter(|(seen, _)| *seen == mark).map(|(_, sha256)| sha256.clone());
        let sha256 = match known {
            Some(sha256) => sha256,
            None => match digest(&self.installed) {
                Some(sha256) => seen.insert((mark, sha256)).1.clone(),
                None => return Replaced::Gone,
            },
        };
        if self.is(&sha256) { Replaced::SameBytes } else { Replaced::By(sha256) }
    }

    /// Copies the running program, durably.
    pub(super) fn keep(&self, target: &Path) -> Result<(), DiskError> {
        let io = |action, error| DiskError::io(action, target, error);
        let scratch = files::beside(target, ".new");
        let mut from = File::open(RUNNING).map_err(|error| io("read", error))?;
        let mut to = files::create(&scratch, 0o755)?;
        std::io::copy(&mut from, &mut to).and_then(|_| to.sync_all()).map_err(|error| io("write", error))?;
        std::fs::rename(&scratch, target).map_err(|error| io("replace", error))?;
        files::sync_parent(target)
    }
}

fn digest(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?.take(LONGEST);
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finish()),
            length => hasher.update(buffer.get(..length)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_program_is_known_and_a_copy_has_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("former");
        let mut program = Program::running(None, &kept).unwrap();
        assert_eq!(program.replaced(), Replaced::No);
        assert!(!program.is_kept_copy());
        program.keep(&kept).unwrap();
        program.installed.clone_from(&kept);
        assert_eq!(program.replaced(), Replaced::SameBytes);
        std::fs::write(&kept, "another").unwrap();
        assert_eq!(program.replaced(), Replaced::By(fettle_content::sha256_hex(b"another")));
        std::fs::remove_file(&kept).unwrap();
        assert_eq!(program.replaced(), Replaced::Gone);
    }
}
