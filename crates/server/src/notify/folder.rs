//! Feed documents in a directory of the server: every file is looked at, its content tells whose it is.

use std::fs;
use std::path::{Path, PathBuf};

/// Most files that are looked at.
const FILES: usize = 20_000;
/// Largest file, packed or not.
const FILE: u64 = 512 << 20;
/// Deepest nesting of folders.
const DEPTH: usize = 8;

/// All files below a directory, sorted. Symbolic links are not followed.
pub fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .map_err(|error| format!("cannot read the directory {}: {error}", folder.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("cannot read the directory {}: {error}", folder.display()))?;
            let kind =
                entry.file_type().map_err(|error| format!("cannot look at {}: {error}", entry.path().display()))?;
            if kind.is_dir() && depth < DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if kind.is_file() {
                found.push(entry.path());
            }
            if found.len() > FILES {
                return Err(format!("{} holds more than {FILES} files: name a folder with feeds only", root.display()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The bytes of a file within the limit.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?.len();
    if length > FILE {
        return Err(format!(
            "{} has {} MB, more than the {} MB that are read",
            path.display(),
            length >> 20,
            FILE >> 20
        ));
    }
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
