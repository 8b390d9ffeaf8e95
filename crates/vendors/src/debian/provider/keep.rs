//! Keep old: the package files of all that is replaced or removed, and the state around them, in `<folder>/old`
//! before anything changes. From apt's cache, else from the repository, else repacked from the installed files.

use super::deb822::Stanzas;
use super::download::{Wanted, bring_all};
use super::fetch::check_fields;
use super::repack::{Repacked, control_file, repack};
use super::run::Program;
use super::session::{APT_CACHE, APT_GET, DPKG_DEB, Session};
use super::simulate::uris;
use super::snapshot::{self, OldFile, Snapshot, Source};
use super::status::Entry;
use super::{fail, files, plan, text};
use fettle_domain::reason::Reason;
use fettle_plugin::{Applied, ErrorKind, PluginError, StepRequest};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A mirror that does not answer must not hold up the change: the installed files are there to repack.
const IMPATIENT: [&str; 6] =
    ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"];

/// Does it; when it was done before, only checks that all can still be read back.
pub(super) fn keep_old(session: &Session<'_, '_>, request: &StepRequest) -> Result<Applied, PluginError> {
    let folder = plan::old_folder(request);
    if let Some(snapshot) = Snapshot::read(request)? {
        read_back(session, &snapshot, &folder)?;
        return Ok(applied(&snapshot, Vec::new()));
    }
    session.need_root()?;
    let database = session.database()?;
    if database.digest() != request.manifest.base_digest {
        return Err(fail(ErrorKind::NotApplicable, "the installed packages have changed since the dry run")
            .advise("Make a new dry run and a new change from it."));
    }
    files::remove_folder(&folder)?;
    files::make_folder(&folder)?;
    let replaced: Vec<&Entry> = request
        .manifest
        .steps
        .iter()
        .filter(|step| step.from.is_some())
        .filter_map(|step| database.find(&step.name, &step.architecture))
        .collect();
    let bytes = replaced.iter().map(|entry| entry.installed_kib.saturating_mul(1024)).sum();
    files::need_space(&folder, bytes, "the files of the former versions")?;
    let conffiles = snapshot::save_conffiles(&session.root, &database, &request.manifest.steps, &folder)?;
    let (kept, notes) = keep_files(session, &replaced, &folder)?;
    let named = |name: &str| request.manifest.steps.iter().any(|step| step.name == name);
    let snapshot = Snapshot {
        format: 1,
        manifest: plan::digest(&request.manifest),
        packages: snapshot::packages(&database),
        residual: database.residual().map(|entry| entry.name().to_owned()).filter(|name| named(name)).collect(),
        beside: snapshot::beside(&session.root, conffiles.iter().map(|saved| saved.path.as_str())),
        brought: snapshot::brought(session, request, &conffiles)?,
        conffiles,
        files: kept,
    };
    let sums: String = snapshot.files.iter().map(|file| format!("{}  {}\n", file.sha256, file.file)).collect();
    files::write_whole(&folder.join("SHA256SUMS"), sums.as_bytes())?;
    read_back(session, &snapshot, &folder)?;
    snapshot.write(request)?;
    session.context.events.progress(100, "former versions kept");
    Ok(applied(&snapshot, notes))
}

fn applied(snapshot: &Snapshot, notes: Vec<Reason>) -> Applied {
    let repacked: Vec<&str> = snapshot
        .files
        .iter()
        .filter(|file| file.source == Source::Repacked)
        .map(|file| file.package.as_str())
        .collect();
    Applied { data: serde_json::json!({ "files": snapshot.files.len(), "repacked": repacked }), notes }
}

/// Whether every kept file is still what was kept, and a package.
pub(super) fn read_back(session: &Session<'_, '_>, snapshot: &Snapshot, folder: &Path) -> Result<(), PluginError> {
    for file in &snapshot.files {
        let path = folder.join(&file.file);
        let damaged = |why: String| {
            fail(ErrorKind::Failed, format!("the kept file {} {why}", path.display())).advise(
                "Without it this change could not be undone: remove the deployment's folder `old` and try again.",
            )
        };
        if !text::is_file_name(&file.file) {
            return Err(damaged("has no valid name".to_owned()));
        }
        match files::is_whole(&path, file.size, &file.sha256) {
            Ok(true) => {}
            Ok(false) => return Err(damaged("is missing or damaged".to_owned())),
            Err(error) => return Err(damaged(format!("cannot be read: {error}"))),
        }
        check_fields(session, &path, &file.package, &file.version, &file.architecture)?;
    }
    for saved in snapshot.conffiles.iter().filter_map(|saved| saved.copy.as_ref()) {
        let path = folder.join("conffiles").join(&saved.name);
        if !matches!(files::is_whole(&path, saved.size, &saved.sha256), Ok(true)) {
            return Err(fail(ErrorKind::Failed, format!("the kept copy {} is missing or damaged", path.display())));
        }
    }
    Ok(())
}

/// The package file of each, by the best way that works.
fn keep_files(
    session: &Session<'_, '_>,
    replaced: &[&Entry],
    folder: &Path,
) -> Result<(Vec<OldFile>, Vec<Reason>), PluginError> {
    let offered = offered(session, replaced)?;
    let mut sources: HashMap<String, Source> = HashMap::new();
    let mut wanted = Vec::new();
    for entry in replaced {
        let name = deb_name(entry);
        let offer = offered.get(&name);
        if from_cache(session, entry, offer, folder)? {
            sources.insert(name, Source::Cache);
        } else if let Some(offer) = offer {
            wanted.push(offer.clone());
        }
    }
    let mut notes = Vec::new();
    if let Err(error) = bring_all(session, &wanted, folder, &IMPATIENT) {
        if std::time::Instant::now() >= session.context.deadline || session.context.events.cancelled() {
            return Err(error);
        }
        session
            .context
            .events
            .output(&format!("former versions cannot be fetched: {error}; they are repacked from the installed files"));
    }
    let mut kept = Vec::new();
    for (number, entry) in replaced.iter().enumerate() {
        let name = deb_name(entry);
        let path = folder.join(&name);
        let percent = (number * 100).checked_div(replaced.len()).unwrap_or(0).min(100) as u8;
        session.context.events.progress(percent, &format!("keeping {} {}", entry.name(), entry.package.version));
        let source = match sources.get(&name) {
            Some(source) => *source,
            None if path.exists() => Source::Repository,
            None => {
                notes.push(told(entry, &repack(session, entry, &path)?));
                Source::Repacked
            }
        };
        kept.push(old_file(entry, &path, name, source)?);
    }
    Ok((kept, notes))
}

fn told(entry: &Entry, repacked: &Repacked) -> Reason {
    let mut text = format!(
        "{} {} is in no cache and no repository: its file was put together from the installed files",
        entry.name(),
        entry.package.version
    );
    if repacked.missing > 0 {
        text.push_str(&format!("; {} of them are missing on this host", repacked.missing));
    }
    if repacked.changed > 0 {
        text.push_str(&format!(
            "; {} of them differ from what was packaged and are kept as they are",
            repacked.changed
        ));
    }
    Reason::new("apt.repacked", text)
}

fn old_file(entry: &Entry, path: &Path, file: String, source: Source) -> Result<OldFile, PluginError> {
    let cannot = |error: std::io::Error| fail(ErrorKind::Failed, format!("cannot read {}: {error}", path.display()));
    let opened = File::open(path).map_err(cannot)?;
    Ok(OldFile {
        package: entry.name().to_owned(),
        architecture: entry.package.architecture.clone(),
        version: entry.package.version.clone(),
        file,
        size: opened.metadata().map_err(cannot)?.len(),
        sha256: files::sha256_of(opened).map_err(cannot)?,
        source,
    })
}

fn deb_name(entry: &Entry) -> String {
    text::deb_name(entry.name(), &entry.package.version, &entry.package.architecture)
}

/// Where the repositories offer the installed versions, by file name.
fn offered(session: &Session<'_, '_>, replaced: &[&Entry]) -> Result<HashMap<String, Wanted>, PluginError> {
    let native = session.database()?.native;
    let exact = |entry: &Entry| format!("{}={}", entry.argument(&native), entry.package.version);
    let mut found = HashMap::new();
    for some in replaced.chunks(200) {
        let ended =
            session.run(Program::query(APT_CACHE).args(["show"]).args(some.iter().map(|entry| exact(entry))))?;
        // Only what stands in an index has a file name; `apt-get download` would refuse all for one that does not.
        let mut stanzas = Stanzas::new(ended.stdout.as_bytes());
        let mut listed = Vec::new();
        while let Ok(Some(stanza)) = stanzas.next() {
            if stanza.get("Filename").is_some() {
                listed.push(text::deb_name(
                    stanza.text("Package"),
                    stanza.text("Version"),
                    stanza.text("Architecture"),
                ));
            }
        }
        let names: Vec<String> =
            some.iter().filter(|entry| listed.contains(&deb_name(entry))).map(|entry| exact(entry)).collect();
        if names.is_empty() {
            continue;
        }
        let args = ["--print-uris", "-qq", "-o", "Acquire::ForceHash=SHA256", "-o", "Debug::NoLocking=1", "download"];
        let ended = session.run(Program::query(APT_GET).args(args).args(names))?;
        for uri in uris(&ended.stdout) {
            if let Some(sha256) = uri.sha256 {
                found.insert(uri.file.clone(), Wanted { uri: uri.uri, name: uri.file, size: uri.size, sha256 });
            }
        }
    }
    Ok(found)
}

/// Takes the file from apt's cache when it is there and certainly the installed version: by the digest of the
/// index, or, where no index knows it, by the checksums of its files as dpkg recorded them.
fn from_cache(
    session: &Session<'_, '_>,
    entry: &Entry,
    offer: Option<&Wanted>,
    folder: &Path,
) -> Result<bool, PluginError> {
    let name = deb_name(entry);
    let Ok(cached) = session.root.open(&format!("/var/cache/apt/archives/{name}")) else { return Ok(false) };
    if !cached.metadata().is_ok_and(|meta| meta.is_file() && meta.len() < 8 << 30) {
        return Ok(false);
    }
    let to = folder.join(&name);
    files::copy_whole(cached.take(8 << 30), &to)?;
    let right = match offer {
        Some(offer) => files::is_whole(&to, offer.size, &offer.sha256).unwrap_or(false),
        None => is_installed_one(session, entry, &to)?,
    };
    if !right {
        std::fs::remove_file(&to).map_err(|error| files::cannot_write(&to, &error))?;
    }
    Ok(right)
}

fn is_installed_one(session: &Session<'_, '_>, entry: &Entry, deb: &Path) -> Result<bool, PluginError> {
    let package = &entry.package;
    if check_fields(session, deb, &package.name, &package.version, &package.architecture).is_err() {
        return Ok(false);
    }
    let Some(recorded) = control_file(&session.root, entry, "md5sums") else { return Ok(false) };
    let info = session
        .run_outside(Program::query(DPKG_DEB).args(["--info"]).args([deb.to_string_lossy(), "md5sums".into()]))?;
    Ok(info.success && info.stdout.as_bytes() == recorded.as_slice())
}
