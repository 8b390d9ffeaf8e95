//! The tasks before anything is changed: fetch, verify, pre-check, keep old.

use super::health;
use super::{Failure, Outcome, Task, TaskContext};
use crate::deploy::record::{Left, TaskName};
use crate::deploy::system::System;
use fettle_content::Hasher;
use fettle_domain::plan::{Manifest, PackageFile};
use fettle_domain::reason::Reason;
use fettle_plugin::{Applied, ErrorKind, ProviderEvents as _, Step};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Disk space that must be left over after the install: logs and databases go on growing.
const SPARE_BYTES: u64 = 64 << 20;

/// Replaced files in use before the change that are remembered.
const MOST_REPLACED: usize = 5_000;

/// How often fetching and keeping are tried, and how many pauses lie between.
const ATTEMPTS: u32 = 4;
const PATIENCE: u32 = 20;

/// Brings the package files of the plan here.
pub(super) struct Fetch;

impl Task for Fetch {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        enough_space(context.system, context.folder, context.manifest().download_bytes, "the package files")?;
        let applied = patiently(context, Step::Fetch)?;
        let notes = applied.notes.clone();
        Ok(Outcome::left(Left::Applied { applied }, notes))
    }

    /// Removes the files; files that stay do no harm.
    fn undo(&self, context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(remove_files(context, Step::Fetch, TaskName::Fetch))
    }
}

/// Does an act, and once more when a mirror or a lock is in the way for now. Nothing is changed yet,
/// so that trying again costs only time.
fn patiently(context: &TaskContext<'_>, step: Step) -> Result<Applied, Failure> {
    let request = context.request(step);
    for _ in 1..ATTEMPTS {
        match context.provider.apply(&context.acting(), &request) {
            Err(error) if error.kind == ErrorKind::Unavailable => {
                context.output.output(&format!("{error}: tried again in a moment"));
                if context.stop.wait(context.limits.pause.saturating_mul(PATIENCE)) {
                    return Err(error.into());
                }
            }
            ended => return Ok(ended?),
        }
    }
    Ok(context.provider.apply(&context.acting(), &request)?)
}

fn remove_files(context: &TaskContext<'_>, step: Step, task: TaskName) -> Vec<Reason> {
    match context.provider.undo(&context.acting(), &context.request(step), context.applied(task)) {
        Ok(applied) => applied.notes,
        Err(error) => super::told(&error),
    }
}

fn enough_space(system: &dyn System, path: &Path, bytes: u64, what: &str) -> Result<(), Failure> {
    match system.free_bytes(path) {
        Some(free) if free < bytes.saturating_add(SPARE_BYTES) => Err(Failure::new(
            "disk.full",
            format!(
                "{what} need {bytes} bytes and {SPARE_BYTES} should stay free, but {} has only {free}: free some space",
                path.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Checks every file against the signed order, without the package manager's word.
pub(super) struct Verify;

impl Task for Verify {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        let wrong = wrong_files(&context.folder.join("new"), context.manifest());
        if wrong.is_empty() { Ok(Outcome::default()) } else { Err(Failure::because(wrong)) }
    }

    /// Looking leaves nothing.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}

fn wrong_files(folder: &Path, manifest: &Manifest) -> Vec<Reason> {
    let files = manifest.steps.iter().filter_map(|step| step.file.as_ref());
    files
        .filter_map(|file| {
            let why = wrong_file(folder, file)?;
            Some(Reason::new("verify.file", format!("{}: {why}", file.name)))
        })
        .collect()
}

fn wrong_file(folder: &Path, file: &PackageFile) -> Option<String> {
    if file.name.contains('/') || file.name.starts_with('.') {
        return Some("that is no plain file name".to_owned());
    }
    let path = folder.join(&file.name);
    match std::fs::symlink_metadata(&path) {
        Ok(found) if !found.is_file() => return Some("it is no regular file".to_owned()),
        Ok(found) if found.len() != file.size => {
            return Some(format!("it has {} bytes, the order says {}", found.len(), file.size));
        }
        Ok(_) => {}
        Err(error) => return Some(error.to_string()),
    }
    match digest(&path, file.size) {
        Ok(found) if found == file.sha256 => None,
        Ok(found) => Some(format!("its sha-256 is {found}, the order says {}", file.sha256)),
        Err(error) => Some(error.to_string()),
    }
}

fn digest(path: &Path, size: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?.take(size.saturating_add(1));
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
}

/// Refuses when the host is not the one that was planned for, or has it already; notes how it is now.
pub(super) struct PreCheck;

impl Task for PreCheck {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        if context.unproved(false)?.is_empty() {
            let reason = Reason::new("pre-check.already", "the host has all of this installed already");
            return Err(Failure { reasons: vec![reason], not_applicable: true });
        }
        let found = context.provider.state_digest(&context.reading())?;
        if found != context.manifest().base_digest {
            let changed = Reason::new(
                "pre-check.changed",
                "the installed packages have changed since the dry run: make the change again",
            );
            let reasons = std::iter::once(changed).chain(context.unproved(true)?).collect();
            return Err(Failure { reasons, not_applicable: true });
        }
        if context.policy.limits_origins() {
            let offered = context.provider.candidates(&context.reading(), false)?;
            let judged = context.policy.judge_origins(context.manifest(), &offered);
            judged.map_err(|reason| Failure::because(vec![reason]))?;
        }
        let grows = u64::try_from(context.manifest().disk_bytes).unwrap_or(0);
        enough_space(context.system, context.root, grows, "the new versions")?;
        let services = context.system.services();
        let (checks, notes) = health::before(context)?;
        let uses = context.system.uses_replaced();
        let replaced =
            uses.iter().flat_map(|used| used.files.iter().map(|file| (used.name().to_owned(), file.path.clone())));
        let replaced = replaced.take(MOST_REPLACED).collect();
        let needrestart =
            context.system.needrestart().map(|said| said.services.into_iter().collect()).unwrap_or_default();
        Ok(Outcome::left(Left::Before { services, checks, replaced, needrestart }, notes))
    }

    /// Looking leaves nothing.
    fn undo(&self, _context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(Vec::new())
    }
}

/// Keeps the package files of what will be replaced, so that undo needs no network.
pub(super) struct KeepOld;

impl Task for KeepOld {
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure> {
        match patiently(context, Step::KeepOld) {
            Ok(applied) => {
                let notes = applied.notes.clone();
                Ok(Outcome::left(Left::Applied { applied }, notes))
            }
            Err(failure) if context.policy.allows_change_without_back_out() && !failure.not_applicable => {
                let text = "the former package files cannot be kept; this host's policy lets the change begin without a way back";
                let mut notes = vec![Reason::new("keep-old.no-back-out", text)];
                notes.extend(failure.reasons);
                Ok(Outcome::noted(notes))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Removes them; by now the former versions are installed again, or nothing was changed.
    fn undo(&self, context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure> {
        Ok(remove_files(context, Step::KeepOld, TaskName::KeepOld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &[u8]) -> PackageFile {
        PackageFile {
            name: name.to_owned(),
            uri: String::new(),
            size: bytes.len() as u64,
            sha256: fettle_content::sha256_hex(bytes),
        }
    }

    #[test]
    fn only_the_very_file_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.deb"), "right").unwrap();
        std::os::unix::fs::symlink(at("a.deb"), at("link.deb")).unwrap();
        let why = |file: PackageFile| wrong_file(folder.path(), &file);
        assert_eq!(why(file("a.deb", b"right")), None);
        assert!(why(file("a.deb", b"wrong")).unwrap().contains("sha-256"));
        assert!(why(file("a.deb", b"longer one")).unwrap().contains("5 bytes"));
        assert!(why(file("b.deb", b"right")).unwrap().contains("No such file"));
        assert!(why(file("link.deb", b"right")).unwrap().contains("regular"));
        assert!(why(file("../a.deb", b"right")).unwrap().contains("plain"));
    }
}
