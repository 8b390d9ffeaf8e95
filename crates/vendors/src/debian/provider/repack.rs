//! Puts a package file together from what is installed: dpkg's lists and scripts, and the files themselves
//! as they are now. Used for what is in no cache and no repository any more.

use super::rooted::Rooted;
use super::run::Program;
use super::session::{DPKG_DEB, Session};
use super::status::{Entry, stanza_of};
use super::{diagnose, fail, files, md5};
use fettle_plugin::{ErrorKind, PluginError};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

const INFO: &str = "/var/lib/dpkg/info";
/// More files than any package has.
const PATHS_CAP: usize = 2_000_000;
/// What dpkg adds to a package's own fields.
const NOT_THE_PACKAGES: [&str; 5] = ["Status", "Conffiles", "Config-Version", "Triggers-Pending", "Triggers-Awaited"];

/// What a repacked file lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Repacked {
    /// Listed files that are not on the host (documentation left out by configuration, removed by hand).
    pub missing: usize,
    /// Files that differ from the packaged checksum.
    pub changed: usize,
}

/// Makes the package file `to` of an installed package.
pub(super) fn repack(session: &Session<'_, '_>, entry: &Entry, to: &Path) -> Result<Repacked, PluginError> {
    let package = &entry.package;
    let cannot = |what: &str, error: io::Error| {
        fail(ErrorKind::Failed, format!("cannot repack {} {}: {what}: {error}", package.name, package.version))
    };
    let scratch = session.scratch("repack")?;
    let tree = scratch.outside.join("tree");
    files::need_space(&scratch.outside, entry.installed_kib.saturating_mul(2048), "repacking a former version")?;
    fs::create_dir(&tree)
        .and_then(|()| fs::set_permissions(&tree, Permissions::from_mode(0o755)))
        .map_err(|e| cannot("scratch folder", e))?;
    let list = control_file(&session.root, entry, "list").ok_or_else(|| {
        fail(ErrorKind::Failed, format!("cannot repack {}: dpkg has no list of its files", package.name))
            .advise("Reinstall it (`apt-get install --reinstall`), so that it can be put back later.")
    })?;
    let mut copier = Copier::new(&session.root, entry, &tree);
    copier.copy_all(&String::from_utf8_lossy(&list)).map_err(|e| cannot("its files", e))?;
    let repacked = copier.found;
    write_control(session, entry, &tree).map_err(|e| cannot("its control files", e))?;
    let (tree, deb) = (format!("{}/tree", scratch.inside), format!("{}/package.deb", scratch.inside));
    let ended = session.run(Program::query(DPKG_DEB).args(["-Zgzip", "-z1", "--nocheck", "--build", &tree, &deb]))?;
    let built = scratch.outside.join("package.deb");
    if !ended.success || !built.is_file() {
        return Err(diagnose::error_of(&format!("cannot repack {} {}", package.name, package.version), &ended));
    }
    files::bring(&built, to)?;
    Ok(repacked)
}

/// One of dpkg's files about a package: under its plain name, or with the architecture when it is `Multi-Arch: same`.
pub(super) fn control_file(root: &Rooted, entry: &Entry, kind: &str) -> Option<Vec<u8>> {
    let package = &entry.package;
    let qualified = format!("{INFO}/{}:{}.{kind}", package.name, package.architecture);
    let plain = format!("{INFO}/{}.{kind}", package.name);
    [qualified, plain].iter().find_map(|path| root.read(path, 256 << 20).ok().flatten())
}

/// Copies installed files into a tree.
struct Copier<'a> {
    root: &'a Rooted,
    tree: &'a Path,
    /// Where a file really lies when another package diverted it.
    diverted: HashMap<String, String>,
    /// Packaged checksums by absolute path.
    sums: HashMap<String, String>,
    found: Repacked,
}

impl<'a> Copier<'a> {
    fn new(root: &'a Rooted, entry: &Entry, tree: &'a Path) -> Self {
        let sums = control_file(root, entry, "md5sums").unwrap_or_default();
        let sums = String::from_utf8_lossy(&sums);
        let sums = sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(sum, path)| (format!("/{path}"), sum.to_owned()))
            .collect();
        Self { root, tree, diverted: diversions(root, entry.name()), sums, found: Repacked::default() }
    }

    fn copy_all(&mut self, list: &str) -> io::Result<()> {
        let paths: Vec<&str> = list.lines().filter(|path| is_plain(path)).take(PATHS_CAP).collect();
        let folders: HashSet<&str> =
            paths.iter().filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| folder).collect();
        for path in &paths {
            self.copy(path, folders.contains(path))?;
        }
        Ok(())
    }

    fn copy(&mut self, path: &str, is_folder: bool) -> io::Result<()> {
        let target = self.tree.join(path.trim_start_matches('/'));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let place = self.diverted.get(path).map_or(path, String::as_str);
        // A folder of the package may be a link here (merged /usr): what lies in it decides, not the link.
        let real = if is_folder { self.root.real(place) } else { self.root.real_entry(place) };
        let found = real.and_then(|real| Ok((fs::symlink_metadata(&real)?, real)));
        let (meta, real) = match found {
            Ok(found) => found,
            Err(_) if is_folder => return make_folder(&target, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.found.missing += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if meta.is_dir() {
            make_folder(&target, Some(&meta))
        } else if meta.is_symlink() {
            symlink(fs::read_link(&real)?, &target)?;
            lchown(&target, Some(meta.uid()), Some(meta.gid()))
        } else if meta.is_file() {
            self.copy_file(path, &real, &target, &meta)
        } else {
            self.found.missing += 1;
            Ok(())
        }
    }

    fn copy_file(&mut self, path: &str, real: &Path, target: &Path, meta: &fs::Metadata) -> io::Result<()> {
        fs::copy(real, target)?;
        lchown(target, Some(meta.uid()), Some(meta.gid()))?;
        fs::set_permissions(target, Permissions::from_mode(meta.mode() & 0o7777))?;
        let copied = File::options().write(true).open(target)?;
        copied.set_times(FileTimes::new().set_modified(meta.modified()?))?;
        if let Some(sum) = self.sums.get(path)
            && md5::of_reader(File::open(target)?)? != *sum
        {
            self.found.changed += 1;
        }
        Ok(())
    }
}

fn make_folder(target: &Path, meta: Option<&fs::Metadata>) -> io::Result<()> {
    fs::create_dir_all(target)?;
    lchown(target, Some(meta.map_or(0, MetadataExt::uid)), Some(meta.map_or(0, MetadataExt::gid)))?;
    fs::set_permissions(target, Permissions::from_mode(meta.map_or(0o755, |meta| meta.mode() & 0o7777)))
}

/// An absolute path without `.` and `..`, below the root.
fn is_plain(path: &str) -> bool {
    let mut parts = PathBuf::from(path)
        .components()
        .map(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        .collect::<Vec<_>>();
    path.starts_with('/') && path.len() > 1 && path != "/." && parts.drain(..).all(|plain| plain)
}

/// Diversions by other packages: three lines each, the file, where it lies instead, and who diverted it.
fn diversions(root: &Rooted, package: &str) -> HashMap<String, String> {
    let text = root.read("/var/lib/dpkg/diversions", 16 << 20).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let mut found = HashMap::new();
    while let (Some(from), Some(to), Some(by)) = (lines.next(), lines.next(), lines.next()) {
        if by != package && is_plain(from) && is_plain(to) {
            found.insert(from.to_owned(), to.to_owned());
        }
    }
    found
}

/// The folder `DEBIAN`: the package's own fields, its scripts and lists.
fn write_control(session: &Session<'_, '_>, entry: &Entry, tree: &Path) -> io::Result<()> {
    let package = &entry.package;
    let folder = tree.join("DEBIAN");
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
    let stanza = stanza_of(&session.root, &package.name, &package.architecture)?
        .filter(|stanza| stanza.text("Version") == package.version);
    let stanza = stanza.ok_or_else(|| io::Error::other("dpkg's status file has no fields of it"))?;
    let mut control = String::new();
    for (name, value) in
        stanza.fields().filter(|(name, _)| !NOT_THE_PACKAGES.iter().any(|not| name.eq_ignore_ascii_case(not)))
    {
        let gap = if value.starts_with('\n') { "" } else { " " };
        control.push_str(&format!("{name}:{gap}{value}\n"));
    }
    put(&folder.join("control"), control.as_bytes(), 0o644)?;
    let starts = [format!("{}:{}.", package.name, package.architecture), format!("{}.", package.name)];
    for name in session.root.names(INFO)? {
        let Some(kind) = starts.iter().find_map(|start| name.strip_prefix(start.as_str())) else { continue };
        if kind == "list" || !kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            continue;
        }
        let bytes = session.root.read(&format!("{INFO}/{name}"), 256 << 20)?.unwrap_or_default();
        let script = matches!(kind, "preinst" | "postinst" | "prerm" | "postrm" | "config");
        let bytes = if kind == "conffiles" { present(&bytes, tree) } else { bytes };
        put(&folder.join(kind), &bytes, if script { 0o755 } else { 0o644 })?;
    }
    Ok(())
}

/// The conffiles that are in the tree: one that the administrator removed cannot be packed.
fn present(conffiles: &[u8], tree: &Path) -> Vec<u8> {
    let text = String::from_utf8_lossy(conffiles);
    let there = |line: &&str| !line.starts_with('/') || tree.join(line.trim_start_matches('/')).is_file();
    text.lines().filter(there).flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_packed() {
        for good in ["/usr", "/usr/share/a b", "/etc/x..y"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["/.", "/", "", "usr", "/usr/../etc", "/.."] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
