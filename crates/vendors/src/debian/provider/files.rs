//! Digests and careful writes of the files this provider keeps.

use super::fail;
use fettle_plugin::{ErrorKind, PluginError};
use ring::digest::{Context, SHA256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Lowercase hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lowercase hex sha-256 of everything the reader gives.
pub(super) fn sha256_of(mut reader: impl Read) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex(context.finish().as_ref())),
            Ok(count) => context.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether the file is there with exactly this size and digest.
pub(super) fn is_whole(path: &Path, size: u64, sha256: &str) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(file.metadata()?.len() == size && sha256_of(file)? == sha256)
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PluginError> {
    let write = || {
        let part = part_of(path);
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)?;
        sync_folder(path)
    };
    write().map_err(|error| cannot_write(path, &error))
}

/// Puts a file in its place, moved where both are on one file system, else copied; whole or not at all.
pub(super) fn bring(from: &Path, to: &Path) -> Result<(), PluginError> {
    let bring = || {
        let part = part_of(to);
        if fs::rename(from, &part).is_err() {
            fs::copy(from, &part)?;
            fs::remove_file(from)?;
        }
        File::open(&part)?.sync_all()?;
        fs::rename(&part, to)?;
        sync_folder(to)
    };
    bring().map_err(|error| cannot_write(to, &error))
}

/// Copies what the reader gives; whole or not at all.
pub(super) fn copy_whole(mut from: impl Read, to: &Path) -> Result<(), PluginError> {
    let mut copy = || {
        let part = part_of(to);
        let mut file = File::create(&part)?;
        io::copy(&mut from, &mut file)?;
        file.sync_all()?;
        fs::rename(&part, to)?;
        sync_folder(to)
    };
    copy().map_err(|error| cannot_write(to, &error))
}

/// Makes a folder only its owner reads, with its parents.
pub(super) fn make_folder(path: &Path) -> Result<(), PluginError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| cannot_write(path, &error))
}

/// Removes a folder with all in it; nothing to do when it is not there.
pub(super) fn remove_folder(path: &Path) -> Result<(), PluginError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_write(path, &error)),
        _ => Ok(()),
    }
}

/// Refuses when fewer than `needed` bytes (and a reserve) are free for files under `path`.
pub(super) fn need_space(path: &Path, needed: u64, what: &str) -> Result<(), PluginError> {
    /// Left free besides, so that logs and dpkg's own database can still be written.
    const RESERVE: u64 = 16 << 20;
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(path);
    let Ok(space) = rustix::fs::statvfs(there) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= needed.saturating_add(RESERVE) {
        return Ok(());
    }
    let message = format!(
        "not enough disk space for {what}: {} are needed at {}, {} are free",
        super::text::bytes(needed.saturating_add(RESERVE)),
        path.display(),
        super::text::bytes(free)
    );
    Err(fail(ErrorKind::Unavailable, message)
        .advise("Free some space there (`apt-get clean` empties apt's cache) and try again."))
}

fn part_of(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// An error of writing, told apart by whether the disk is full.
pub(super) fn cannot_write(path: &Path, error: &io::Error) -> PluginError {
    let message = format!("cannot write {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            fail(ErrorKind::Unavailable, message).advise("The disk is full: free some space and try again.")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            fail(ErrorKind::Denied, message).advise("The agent must run as root and the file system must be writable.")
        }
        _ => fail(ErrorKind::Failed, message),
    }
}
