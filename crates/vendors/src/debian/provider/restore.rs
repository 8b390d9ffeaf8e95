//! Puts configuration files back exactly as they were: content, owner, mode, and nothing beside them.

use super::rooted::Rooted;
use super::snapshot::{Copy, Saved, Snapshot, beside};
use super::status::Database;
use super::{files, md5};
use fettle_domain::reason::Reason;
use fettle_plugin::PluginError;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Does it for the packages that are back in their former version (`is_back`).
pub(super) fn conffiles(
    root: &Rooted,
    database: &Database,
    snapshot: &Snapshot,
    old: &Path,
    is_back: &dyn Fn(&str) -> bool,
) -> Result<Vec<Reason>, PluginError> {
    let mut notes = Vec::new();
    let back = || snapshot.conffiles.iter().filter(|saved| is_back(&saved.package));
    for saved in back() {
        let changed = match &saved.copy {
            Some(copy) => put_back(root, saved, copy, &old.join("conffiles")),
            None => remove(root, &saved.path),
        };
        if changed.map_err(|error| files::cannot_write(Path::new(&saved.path), &error))? {
            notes.push(Reason::new(
                "apt.conffile-restored",
                format!("{} of {} is as it was before", saved.path, saved.package),
            ));
        }
    }
    for path in beside(root, back().map(|saved| saved.path.as_str())) {
        if !snapshot.beside.contains(&path) {
            remove(root, &path).map_err(|error| files::cannot_write(Path::new(&path), &error))?;
        }
    }
    notes.extend(brought(root, database, snapshot, is_back)?);
    Ok(notes)
}

/// Writes the kept copy back unless the file is the same. True when it wrote.
fn put_back(root: &Rooted, saved: &Saved, copy: &Copy, copies: &Path) -> io::Result<bool> {
    let place = place(root, &saved.path)?;
    if let Ok(meta) = fs::metadata(&place)
        && (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.len()) == (copy.mode, copy.uid, copy.gid, copy.size)
        && File::open(&place).and_then(files::sha256_of)? == copy.sha256
    {
        return Ok(false);
    }
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".fettle-part");
    let part = place.with_file_name(name);
    let _ = fs::remove_file(&part);
    io::copy(&mut File::open(copies.join(&copy.name))?, &mut File::create_new(&part)?)?;
    chown(&part, Some(copy.uid), Some(copy.gid))?;
    fs::set_permissions(&part, Permissions::from_mode(copy.mode))?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, &place)?;
    Ok(true)
}

/// The real file; an administrator's link to elsewhere is followed, as dpkg follows it. Its folder is made anew
/// when the removal of a package took it away.
fn place(root: &Rooted, path: &str) -> io::Result<PathBuf> {
    if let Ok(real) = root.real(path) {
        return Ok(real);
    }
    let mut above: Vec<&str> = Vec::new();
    let mut folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    while root.real(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let Some((parent, name)) = folder.rsplit_once('/') else { break };
        above.push(name);
        folder = parent;
    }
    let mut real = root.real(folder)?;
    for name in above.iter().rev() {
        real.push(name);
        fs::create_dir(&real)?;
    }
    root.real_entry(path)
}

fn remove(root: &Rooted, path: &str) -> io::Result<bool> {
    match root.real_entry(path).and_then(fs::remove_file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Configuration files that only the newer version had, and what dpkg put beside them: dpkg leaves them and calls
/// them obsolete, or forgets them when it was cut off. Removed when nobody edited them; one that is empty lost its
/// content in a power cut, for dpkg does not sync it.
fn brought(
    root: &Rooted,
    database: &Database,
    snapshot: &Snapshot,
    is_back: &dyn Fn(&str) -> bool,
) -> Result<Vec<Reason>, PluginError> {
    let mut notes = Vec::new();
    let cannot = |path: &str, error: io::Error| files::cannot_write(Path::new(path), &error);
    for brought in snapshot.brought.iter().filter(|brought| is_back(&brought.package)) {
        let path = brought.path.as_str();
        for beside in beside(root, std::iter::once(path)) {
            remove(root, &beside).map_err(|error| cannot(&beside, error))?;
        }
        let recorded = database.named(&brought.package).flat_map(|entry| &entry.conffiles);
        let mut recorded = recorded.filter(|conffile| conffile.path == path).map(|conffile| &conffile.md5);
        let Ok(file) = root.open(path) else { continue };
        let Ok(meta) = file.metadata() else { continue };
        let Ok(found) = md5::of_reader(file) else { continue };
        // Without a record the install did not come to its end, and nobody had the time to edit it.
        let edited =
            meta.len() > 0 && !brought.md5.is_empty() && found != brought.md5 && recorded.all(|md5| *md5 != found);
        if !edited {
            remove(root, path).map_err(|error| cannot(path, error))?;
        } else {
            let text =
                format!("{path} came with the newer version of {} and was edited since: it stays", brought.package);
            notes.push(Reason::new("apt.conffile-left", text));
        }
    }
    Ok(notes)
}
