//! Small questions about the packages of a host: who owns a file, which kernel is newest, what was edited.

use super::rooted::Rooted;
use super::status::{Database, Entry};
use super::{fail, is_newer, md5};
use fettle_plugin::{ErrorKind, PluginError};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const INFO: &str = "/var/lib/dpkg/info";
/// Most answers kept; beyond it, all are forgotten and asked anew.
const ANSWERS_CAP: usize = 4096;

/// A configuration file that differs from the packaged form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedConffile {
    /// Its package.
    pub package: String,
    /// Absolute path inside the root.
    pub path: String,
    /// The administrator removed it.
    pub removed: bool,
}

/// Configuration files of these packages that an administrator edited or removed, in the root directory
/// `root`. With no names, of all installed packages.
pub fn edited_conffiles(root: &Path, names: &[String]) -> Result<Vec<EditedConffile>, PluginError> {
    let root = Rooted::new(root)?;
    let database = Database::read(&root)?;
    let wanted = database.installed().filter(|entry| names.is_empty() || names.iter().any(|name| name == entry.name()));
    Ok(wanted.flat_map(|entry| edited_conffiles_of(&root, entry)).collect())
}

pub(super) fn edited_conffiles_of(root: &Rooted, entry: &Entry) -> Vec<EditedConffile> {
    let mut edited = Vec::new();
    for conffile in entry.conffiles.iter().filter(|conffile| !conffile.obsolete && conffile.md5.len() == 32) {
        let found = root.open(&conffile.path).and_then(md5::of_reader);
        let removed = matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
        // A file that cannot be read (no root) says nothing.
        if removed || found.is_ok_and(|found| found != conffile.md5) {
            edited.push(EditedConffile { package: entry.name().to_owned(), path: conffile.path.clone(), removed });
        }
    }
    edited
}

/// A kernel image that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledKernel {
    /// What `uname -r` says when it runs, such as `6.1.0-40-amd64`.
    pub release: String,
    /// Version of its package.
    pub version: String,
    /// Its package.
    pub package: String,
}

/// The newest installed kernel image in the root directory `root`; `None` where there is none (containers).
pub fn newest_kernel(root: &Path) -> Result<Option<InstalledKernel>, PluginError> {
    let database = Database::read(&Rooted::new(root)?)?;
    let mut newest: Option<InstalledKernel> = None;
    for entry in database.installed() {
        let Some(release) = kernel_release(entry.name()) else { continue };
        let kernel = InstalledKernel {
            release: release.to_owned(),
            version: entry.package.version.clone(),
            package: entry.name().to_owned(),
        };
        let later = |best: &InstalledKernel| {
            is_newer(&kernel.version, &best.version)
                || (kernel.version == best.version && is_newer(&kernel.release, &best.release))
        };
        if newest.as_ref().is_none_or(later) {
            newest = Some(kernel);
        }
    }
    Ok(newest)
}

/// The release of a kernel image package; `None` for meta packages (`linux-image-amd64`) and debug symbols.
pub(super) fn kernel_release(name: &str) -> Option<&str> {
    let release = name.strip_prefix("linux-image-")?;
    let release = release.strip_suffix("-unsigned").unwrap_or(release);
    (release.starts_with(|c: char| c.is_ascii_digit()) && !release.ends_with("-dbg") && !release.ends_with("-dbgsym"))
        .then_some(release)
}

/// Answers which package owns a file. Keeps its answers until packages change, not an index of all files:
/// that would be megabytes of memory for the few executables a host runs.
#[derive(Debug, Default)]
pub struct Owners {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    root: PathBuf,
    stamp: (i64, i64),
    answers: HashMap<String, Option<String>>,
}

impl Owners {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The package that owns this absolute path (as seen inside `root`).
    pub fn owner_of(&self, root: &Path, path: &str) -> Result<Option<String>, PluginError> {
        Ok(self.owners_of(root, &[path])?.remove(path).flatten())
    }

    /// The packages that own these paths; one pass over dpkg's lists however many they are.
    pub fn owners_of(&self, root: &Path, paths: &[&str]) -> Result<HashMap<String, Option<String>>, PluginError> {
        use std::os::unix::fs::MetadataExt;
        let root = Rooted::new(root)?;
        let cannot =
            |error: io::Error| fail(ErrorKind::Failed, format!("cannot read {}{INFO}: {error}", root.path.display()));
        let meta = root.real(INFO).and_then(std::fs::metadata).map_err(cannot)?;
        let stamp = (meta.mtime(), meta.mtime_nsec());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.root != root.path || known.stamp != stamp || known.answers.len() > ANSWERS_CAP {
            *known = Known { root: root.path.clone(), stamp, answers: HashMap::new() };
        }
        let new: HashSet<&str> = paths.iter().copied().filter(|path| !known.answers.contains_key(*path)).collect();
        if !new.is_empty() {
            let found = look_up(&root, &new).map_err(cannot)?;
            known.answers.extend(new.iter().map(|path| ((*path).to_owned(), found.get(*path).cloned())));
        }
        Ok(paths.iter().map(|path| ((*path).to_owned(), known.answers.get(*path).cloned().flatten())).collect())
    }
}

/// Reads `info/*.list` until every path is found. A package may list `/bin/x` where the file is
/// `/usr/bin/x` now (merged /usr), so both forms are looked for.
fn look_up<'p>(root: &Rooted, paths: &HashSet<&'p str>) -> io::Result<HashMap<&'p str, String>> {
    let mut forms: HashMap<String, &str> = HashMap::new();
    for path in paths {
        forms.insert((*path).to_owned(), path);
        match path.strip_prefix("/usr/") {
            Some(rest) if ["bin/", "sbin/", "lib"].iter().any(|start| rest.starts_with(start)) => {
                forms.insert(format!("/{rest}"), path)
            }
            Some(_) => None,
            None => forms.insert(format!("/usr{path}"), path),
        };
    }
    let mut found = HashMap::new();
    let folder = root.real(INFO)?;
    for name in root.names(INFO)? {
        let Some(package) = name.strip_suffix(".list") else { continue };
        let package = package.split(':').next().unwrap_or(package);
        let Ok(file) = std::fs::File::open(folder.join(&name)) else { continue };
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 0 {
            if let Some(path) = forms.get(line.trim_end_matches('\n')) {
                found.entry(*path).or_insert_with(|| package.to_owned());
            }
            line.clear();
        }
        if found.len() == paths.len() {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(status: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("var/lib/dpkg/info")).unwrap();
        std::fs::create_dir_all(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("var/lib/dpkg/status"), status).unwrap();
        folder
    }

    #[test]
    fn finds_owners_also_under_the_other_name() {
        let folder = root("");
        let info = folder.path().join("var/lib/dpkg/info");
        std::fs::write(info.join("cron.list"), "/.\n/usr/sbin\n/usr/sbin/cron\n").unwrap();
        std::fs::write(info.join("libc6:amd64.list"), "/lib/x86_64-linux-gnu/libc.so.6\n").unwrap();
        let owners = Owners::new();
        let of = |path: &str| owners.owner_of(folder.path(), path).unwrap();
        assert_eq!(of("/usr/sbin/cron").as_deref(), Some("cron"));
        assert_eq!(of("/sbin/cron").as_deref(), Some("cron"));
        assert_eq!(of("/usr/lib/x86_64-linux-gnu/libc.so.6").as_deref(), Some("libc6"));
        assert_eq!(of("/opt/own"), None);
        std::fs::write(info.join("own.list"), "/opt/own\n").unwrap();
        assert_eq!(of("/opt/own").as_deref(), Some("own"), "a changed folder is read again");
    }

    #[test]
    fn finds_the_newest_kernel() {
        let stanza = |name: &str, version: &str| {
            format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
        };
        let folder = root(
            &(stanza("linux-image-amd64", "6.1.200-1")
                + &stanza("linux-image-6.1.0-9-amd64", "6.1.27-1")
                + &stanza("linux-image-6.1.0-18-amd64", "6.1.76-1")
                + &stanza("linux-image-6.1.0-99-amd64-dbg", "6.1.99-1")),
        );
        let kernel = newest_kernel(folder.path()).unwrap().unwrap();
        assert_eq!((kernel.release.as_str(), kernel.version.as_str()), ("6.1.0-18-amd64", "6.1.76-1"));
        assert_eq!(
            newest_kernel(root("Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n").path())
                .unwrap(),
            None
        );
    }

    #[test]
    fn tells_edited_conffiles() {
        let folder = root(
            "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nConffiles:\n /etc/same 900150983cd24fb0d6963f7d28e17f72\n /etc/edited 900150983cd24fb0d6963f7d28e17f72\n /etc/gone 900150983cd24fb0d6963f7d28e17f72\n /etc/old 900150983cd24fb0d6963f7d28e17f72 obsolete\n",
        );
        std::fs::write(folder.path().join("etc/same"), "abc").unwrap();
        std::fs::write(folder.path().join("etc/edited"), "abcd").unwrap();
        let edited = edited_conffiles(folder.path(), &[]).unwrap();
        let seen: Vec<_> = edited.iter().map(|edited| (edited.path.as_str(), edited.removed)).collect();
        assert_eq!(seen, [("/etc/edited", false), ("/etc/gone", true)]);
        assert!(edited_conffiles(folder.path(), &["b".into()]).unwrap().is_empty());
    }
}
