//! The scratch folder: where bytes travel between host and plug-in, in files named by their digest.

use crate::digest::{Hasher, is_sha256, sha256_hex};
use crate::protocol::FileMessage;
use rustix::fs::{Mode, OFlags, openat, renameat};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Why a file cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The name is none.
    #[error("`{0}` is no sha-256, so it names no file")]
    Name(String),
    /// It says it is larger than is read.
    #[error("the file {0} has {1} bytes, more than the {2} that are read")]
    Large(String, u64, u64),
    /// It is no plain file, or not what it says.
    #[error("the file {0} {1}")]
    Wrong(String, String),
}

/// Puts bytes there, readable for everybody, and says how they are found.
///
/// The folder may belong to the very plug-in, which may have put links where the file will be: so the file is made
/// anew under a name nobody can guess, never opened through a link, and takes its place by renaming.
pub fn put(folder: &Path, bytes: &[u8]) -> io::Result<FileMessage> {
    let sha256 = sha256_hex(bytes);
    let folder = File::open(folder)?;
    let part = format!("{}.part", random_hex()?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&folder, part.as_str(), flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(0o444))?;
    renameat(&folder, part.as_str(), &folder, sha256.as_str())?;
    Ok(FileMessage { sha256, size: bytes.len() as u64 })
}

fn random_hex() -> io::Result<String> {
    let mut random = [0u8; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Takes the bytes of a file: a plain one, opened without following links, of just the size and digest it is said
/// to have. Whoever changes it afterwards changes nothing of what was taken.
pub fn take(folder: &Path, file: &FileMessage, limit: u64) -> Result<Vec<u8>, ScratchError> {
    let FileMessage { sha256, size } = file;
    if !is_sha256(sha256) {
        return Err(ScratchError::Name(sha256.chars().filter(|c| !c.is_control()).take(80).collect()));
    }
    if *size > limit {
        return Err(ScratchError::Large(sha256.clone(), *size, limit));
    }
    let wrong = |what: String| ScratchError::Wrong(sha256.clone(), what);
    let cannot = |error: io::Error| wrong(format!("cannot be read: {error}"));
    let folder = File::open(folder).map_err(cannot)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(&folder, sha256.as_str(), flags, Mode::empty()).map_err(|error| cannot(error.into()))?;
    let opened = File::from(opened);
    let meta = opened.metadata().map_err(cannot)?;
    if !meta.is_file() {
        return Err(wrong("is no plain file".to_owned()));
    }
    if meta.len() != *size {
        return Err(wrong(format!("has {} bytes and is said to have {size}", meta.len())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(*size).unwrap_or(0));
    opened.take(*size + 1).read_to_end(&mut bytes).map_err(cannot)?;
    let mut hasher = Hasher::default();
    hasher.update(&bytes);
    if bytes.len() as u64 != *size || hasher.finish() != *sha256 {
        return Err(wrong("has another sha-256 than its name".to_owned()));
    }
    Ok(bytes)
}

/// A folder of its own for one run of a plug-in, removed with this value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `base`, which is made too.
    pub fn new(base: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(base)?;
        let path = base.join(format!("call-{}", random_hex()?));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes what runs left that ended without their last word. For a base that is this host's alone, never for a
    /// folder like /tmp, where others' runs are under way.
    pub fn sweep(base: &Path) {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("call-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_file_of_its_own_name_is_taken() {
        let base = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(base.path()).unwrap();
        let folder = scratch.path();
        let file = put(folder, b"bytes").unwrap();
        assert_eq!(take(folder, &file, 100).unwrap(), b"bytes");
        let complaint = |file: &FileMessage, limit| take(folder, file, limit).unwrap_err().to_string();
        let named = |name: &str| FileMessage { sha256: name.into(), size: 5 };
        assert_eq!(complaint(&named("../../etc/passwd"), 100), "`../../etc/passwd` is no sha-256, so it names no file");
        assert!(complaint(&file, 4).ends_with("has 5 bytes, more than the 4 that are read"));
        assert!(complaint(&FileMessage { size: 6, ..file.clone() }, 100).contains("is said to have 6"));
        let other = "0".repeat(64);
        fs::write(folder.join(&other), b"wrong").unwrap();
        assert!(complaint(&named(&other), 100).ends_with("has another sha-256 than its name"));
        let link = "1".repeat(64);
        std::os::unix::fs::symlink(folder.join(&file.sha256), folder.join(&link)).unwrap();
        assert!(complaint(&named(&link), 100).contains("cannot be read"));
        let inner = "2".repeat(64);
        fs::create_dir(folder.join(&inner)).unwrap();
        assert!(complaint(&named(&inner), 100).ends_with("is no plain file"));
        let path = folder.to_owned();
        drop(scratch);
        assert!(!path.exists());
    }
}
