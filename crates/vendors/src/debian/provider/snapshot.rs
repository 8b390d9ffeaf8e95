//! The state before an act, kept in `<folder>/old/state.json`: all that undo needs, and by which a repeated,
//! interrupted install is told from a world that others changed.

use super::rooted::Rooted;
use super::run::Program;
use super::session::{DPKG_DEB, Session};
use super::status::{Database, Entry, state_word};
use super::{fail, files, plan};
use fettle_domain::package::InstallState;
use fettle_domain::plan::{Manifest, PackageStep};
use fettle_plugin::{ErrorKind, PluginError, StepRequest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Biggest configuration file that is kept.
const CONFFILE_CAP: u64 = 16 << 20;
/// Biggest snapshot that is read back.
const SNAPSHOT_CAP: u64 = 64 << 20;

/// All that is known of before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// Form of this file.
    pub format: u32,
    /// Digest of the manifest it belongs to.
    pub manifest: String,
    /// Everything that was installed.
    pub packages: Vec<Before>,
    /// Packages of the manifest that were removed before, with configuration files left.
    pub residual: Vec<String>,
    /// Configuration files of what is replaced.
    pub conffiles: Vec<Saved>,
    /// `.dpkg-*` files beside them that were there before.
    pub beside: Vec<String>,
    /// Configuration files that the newer versions bring, which were not there before.
    #[serde(default)]
    pub brought: Vec<Brought>,
    /// The kept package files.
    pub files: Vec<OldFile>,
}

/// One package as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    /// Name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Version.
    pub version: String,
    /// State.
    pub state: InstallState,
    /// On hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Came as a dependency.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
}

/// One configuration file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Its package.
    pub package: String,
    /// Absolute path inside the root.
    pub path: String,
    /// Its copy under `<folder>/old`; absent when the file was not there.
    pub copy: Option<Copy>,
}

/// A configuration file that comes with a newer version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Brought {
    /// Its package.
    pub package: String,
    /// Absolute path inside the root.
    pub path: String,
    /// Lowercase hex md5 that dpkg recorded; empty until the install has ended.
    #[serde(default)]
    pub md5: String,
}

/// A kept copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copy {
    /// File name in `<folder>/old/conffiles`.
    pub name: String,
    /// Lowercase hex sha-256.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How a former package file was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Source {
    /// apt's cache.
    Cache,
    /// The repository still offers it.
    Repository,
    /// Put together from the installed files.
    Repacked,
}

/// One kept package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OldFile {
    /// Package.
    pub package: String,
    /// Architecture.
    pub architecture: String,
    /// Version.
    pub version: String,
    /// File name in `<folder>/old`.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Lowercase hex sha-256.
    pub sha256: String,
    /// How it was got.
    pub source: Source,
}

impl Snapshot {
    /// Reads the one of this very deployment; `None` when there is none.
    pub fn read(request: &StepRequest) -> Result<Option<Self>, PluginError> {
        let path = file(request);
        let cannot = |error: String| {
            fail(ErrorKind::Failed, format!("cannot read {}: {error}", path.display())).advise(
                "What this deployment kept is damaged: put the former versions back from the repository by hand.",
            )
        };
        let opened = match std::fs::File::open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(cannot(error.to_string())),
        };
        let mut bytes = Vec::new();
        opened.take(SNAPSHOT_CAP).read_to_end(&mut bytes).map_err(|error| cannot(error.to_string()))?;
        let snapshot: Self = serde_json::from_slice(&bytes).map_err(|error| cannot(error.to_string()))?;
        if snapshot.format != 1 || snapshot.manifest != plan::digest(&request.manifest) {
            return Err(cannot("it belongs to another deployment".to_owned()));
        }
        Ok(Some(snapshot))
    }

    /// Writes it; the last act of keeping, so that a snapshot that is there is complete.
    pub fn write(&self, request: &StepRequest) -> Result<(), PluginError> {
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| fail(ErrorKind::Failed, format!("cannot write the snapshot: {error}")))?;
        files::write_whole(&file(request), &bytes)
    }

    /// The package as it was.
    pub fn before(&self, name: &str, architecture: &str) -> Option<&Before> {
        let named = || self.packages.iter().filter(|before| before.name == name);
        named().find(|before| before.architecture == architecture).or_else(|| {
            let mut all = named();
            all.next().filter(|_| all.next().is_none())
        })
    }

    /// What differs from now, apart from steps of the manifest that are on their way (when `underway`);
    /// a package that was unfinished and is whole now does not count.
    pub fn changes(&self, database: &Database, manifest: &Manifest, underway: bool) -> Vec<String> {
        let mut before: BTreeMap<(&str, &str), &Before> = BTreeMap::new();
        before.extend(
            self.packages.iter().map(|package| ((package.name.as_str(), package.architecture.as_str()), package)),
        );
        let mut changes = Vec::new();
        for entry in database.installed() {
            let package = &entry.package;
            match before.remove(&(package.name.as_str(), package.architecture.as_str())) {
                Some(was)
                    if was.version == package.version
                        && (Some(was.state) == entry.state || entry.state == Some(InstallState::Installed)) => {}
                _ if underway && is_underway(manifest, entry) => {
                    // Also under the architecture it had before (a package may change to `all`).
                    before.retain(|(name, _), _| *name != package.name);
                }
                Some(was) => changes.push(format!(
                    "{} was {} and is {} ({})",
                    was.name,
                    was.version,
                    package.version,
                    state_word(entry.state)
                )),
                None => changes.push(format!("{} {} is new", package.name, package.version)),
            }
        }
        let removal = |was: &Before| {
            manifest
                .steps
                .iter()
                .any(|step| step.name == was.name && (step.to.is_none() || step.architecture != was.architecture))
        };
        changes.extend(
            before
                .into_values()
                .filter(|was| !(underway && removal(was)))
                .map(|was| format!("{} {} is gone", was.name, was.version)),
        );
        changes
    }
}

fn is_underway(manifest: &Manifest, entry: &Entry) -> bool {
    let package = &entry.package;
    manifest.steps.iter().any(|step| {
        step.name == package.name
            && [&step.from, &step.to].into_iter().flatten().any(|version| *version == package.version)
    })
}

fn file(request: &StepRequest) -> PathBuf {
    plan::old_folder(request).join("state.json")
}

/// Everything installed now.
pub(super) fn packages(database: &Database) -> Vec<Before> {
    let one = |entry: &Entry| Before {
        name: entry.package.name.clone(),
        architecture: entry.package.architecture.clone(),
        version: entry.package.version.clone(),
        state: entry.state.unwrap_or_default(),
        held: entry.held,
        automatic: entry.automatic,
    };
    database.installed().map(one).collect()
}

/// Copies every configuration file of what the manifest replaces or removes.
pub(super) fn save_conffiles(
    root: &Rooted,
    database: &Database,
    steps: &[PackageStep],
    folder: &Path,
) -> Result<Vec<Saved>, PluginError> {
    let copies = folder.join("conffiles");
    files::make_folder(&copies)?;
    let mut saved = Vec::new();
    for step in steps.iter().filter(|step| step.from.is_some()) {
        let Some(entry) = database.find(&step.name, &step.architecture) else { continue };
        for conffile in &entry.conffiles {
            let name = saved.len().to_string();
            let copy = save_one(root, &conffile.path, &copies, &name)?;
            saved.push(Saved { package: step.name.clone(), path: conffile.path.clone(), copy });
        }
    }
    Ok(saved)
}

/// What the newer versions bring and is not there yet.
pub(super) fn brought(
    session: &Session<'_, '_>,
    request: &StepRequest,
    conffiles: &[Saved],
) -> Result<Vec<Brought>, PluginError> {
    let mut brought = Vec::new();
    for step in &request.manifest.steps {
        let Some(file) = &step.file else { continue };
        let path = plan::new_folder(request).join(&file.name);
        let show = Program::query(DPKG_DEB).args(["--info"]).args([path.to_string_lossy(), "conffiles".into()]);
        let shown = session.run_outside(show)?;
        let listed = if shown.success { shown.stdout } else { String::new() };
        let is_there = |path: &str| session.root.real_entry(path).is_ok_and(|real| real.symlink_metadata().is_ok());
        let is_new = |path: &&str| conffiles.iter().all(|saved| saved.path != **path) && !is_there(path);
        let new = listed.lines().map(str::trim).filter(|line| line.starts_with('/')).filter(is_new);
        brought.extend(new.map(|path| Brought {
            package: step.name.clone(),
            path: path.to_owned(),
            md5: String::new(),
        }));
    }
    Ok(brought)
}

/// Notes what dpkg recorded of them, by which an undo tells edited ones from others.
pub(super) fn note_brought(request: &StepRequest, snapshot: &Snapshot, database: &Database) -> Result<(), PluginError> {
    if snapshot.brought.is_empty() {
        return Ok(());
    }
    let mut noted = snapshot.clone();
    for brought in &mut noted.brought {
        let conffiles = database.named(&brought.package).flat_map(|entry| &entry.conffiles);
        let recorded = conffiles.filter(|conffile| conffile.path == brought.path).map(|conffile| &conffile.md5);
        // Until it is configured dpkg has a word in its place.
        if let Some(md5) = recorded.filter(|md5| md5.len() == 32).last() {
            brought.md5.clone_from(md5);
        }
    }
    noted.write(request)
}

fn save_one(root: &Rooted, path: &str, copies: &Path, name: &str) -> Result<Option<Copy>, PluginError> {
    let cannot = |error: std::io::Error| fail(ErrorKind::Failed, format!("cannot keep a copy of {path}: {error}"));
    let file = match root.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    let meta = file.metadata().map_err(cannot)?;
    if !meta.is_file() || meta.len() > CONFFILE_CAP {
        let message = format!("cannot keep a copy of {path}: it is no plain file of at most {CONFFILE_CAP} bytes");
        return Err(fail(ErrorKind::Failed, message)
            .advise("Put it aside and make it a plain file, or leave its package out of the change."));
    }
    let to = copies.join(name);
    files::copy_whole(file.take(CONFFILE_CAP), &to)?;
    let sha256 = std::fs::File::open(&to).and_then(files::sha256_of).map_err(cannot)?;
    let size = std::fs::metadata(&to).map_err(cannot)?.len();
    Ok(Some(Copy { name: name.to_owned(), sha256, size, mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() }))
}

/// Suffixes of what dpkg puts beside a configuration file.
const BESIDE: [&str; 3] = [".dpkg-dist", ".dpkg-new", ".dpkg-old"];

/// The `.dpkg-*` files beside these configuration files.
pub(super) fn beside<'p>(root: &Rooted, paths: impl Iterator<Item = &'p str>) -> Vec<String> {
    let forms = paths.flat_map(|path| BESIDE.map(|suffix| format!("{path}{suffix}")));
    forms.filter(|path| root.real_entry(path).is_ok_and(|real| real.symlink_metadata().is_ok())).collect()
}
