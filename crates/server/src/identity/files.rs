//! Private files: mode 0600 from the first byte, whole or not at all.

use super::IdentityError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Longest file that is read here; real ones have a few kilobytes.
const LONGEST: u64 = 1 << 20;

fn disk(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> IdentityError {
    let path = path.to_owned();
    move |cause| IdentityError::Disk { act, path, cause }
}

/// Makes the data directory with mode 0700, or checks that nobody else may use the one that is there.
pub fn prepare_data_dir(path: &Path) -> Result<(), IdentityError> {
    if !path.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(disk("make the data directory", path))?;
    }
    let metadata = fs::metadata(path).map_err(disk("look at", path))?;
    if !metadata.is_dir() {
        return Err(disk("use", path)(std::io::Error::from(std::io::ErrorKind::NotADirectory)));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    // A folder that somebody made with `mkdir` and nothing in it yet is simply closed.
    let empty = fs::read_dir(path).map_err(disk("read", path))?.next().is_none();
    if !empty {
        return Err(IdentityError::Open { path: path.to_owned(), mode });
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(disk("close", path))
}

/// The bytes of a file, or `None` when it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).map_err(disk("read", path))?;
    Ok(Some(bytes))
}

/// The text of a file, or `None` when it is not there.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, IdentityError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| IdentityError::Unreadable { path: path.to_owned(), why: "it is not text".into() })
}

/// Writes beside, syncs, renames: after a crash the old or the new content is there.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let scratch = path.with_extension("new");
    match fs::remove_file(&scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(disk("remove", &scratch)(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch).map_err(disk("write", &scratch))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(disk("write", &scratch))?;
    fs::rename(&scratch, path).map_err(disk("write", path))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folder_belong_to_the_server_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a/data");
        prepare_data_dir(&data).unwrap();
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        let path = data.join("x.key");
        write_private(&path, b"one").unwrap();
        fs::write(data.join("x.new"), b"left by a crash").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(prepare_data_dir(&data), Err(IdentityError::Open { mode: 0o755, .. })));
    }
}
