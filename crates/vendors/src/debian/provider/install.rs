//! Install: exactly the manifest, from the files in `<folder>/new`, on exactly the state it was made for.

use super::local::{LocalRun, Want};
use super::marks::{Mark, set_automatic};
use super::run::Ended;
use super::session::Session;
use super::snapshot::{self, Snapshot};
use super::status::Database;
use super::{diagnose, fail, files, keep, locks, plan, recover};
use fettle_domain::plan::{Manifest, PackageStep};
use fettle_domain::reason::Reason;
use fettle_plugin::{Applied, ErrorKind, PluginError, StepRequest};
use std::time::Duration;

/// Does it. When an earlier, interrupted try of this very deployment is found, it is carried to its end.
pub(super) fn install(session: &Session<'_, '_>, request: &StepRequest) -> Result<Applied, PluginError> {
    session.need_root()?;
    let snapshot = Snapshot::read(request)?.ok_or_else(|| {
        fail(ErrorKind::NotApplicable, "the former versions were not kept, so this could not be undone")
            .advise("Run the step that keeps them first.")
    })?;
    keep::read_back(session, &snapshot, &plan::old_folder(request))?;
    let patience = locks::wait(session.context, &session.root, &locks::DPKG)?;
    let database = session.database()?;
    let again = begun(request);
    admit(request, &snapshot, &database, again)?;
    if session.context.events.cancelled() {
        return Err(fail(ErrorKind::Unavailable, "a stop was asked for before anything was changed"));
    }
    let more = u64::try_from(request.manifest.disk_bytes).unwrap_or(0);
    files::need_space(&session.root.path.join("usr"), more, "the new versions")?;
    files::write_whole(&marker(request), plan::digest(&request.manifest).as_bytes())?;
    let outcome = carry_out(session, request, patience);
    finish(session, request, &snapshot, outcome)
}

/// Whether this world is the one the manifest was made for, or was left so by this very deployment.
fn admit(request: &StepRequest, snapshot: &Snapshot, database: &Database, again: bool) -> Result<(), PluginError> {
    if database.digest() == request.manifest.base_digest {
        return Ok(());
    }
    let changes = snapshot.changes(database, &request.manifest, again);
    if changes.is_empty() {
        return Ok(());
    }
    let mut shown = changes.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    if changes.len() > 6 {
        shown.push_str(&format!(" and {} more", changes.len() - 6));
    }
    Err(fail(ErrorKind::NotApplicable, format!("the installed packages have changed since the dry run: {shown}"))
        .advise("Nothing was changed. Make a new dry run and a new change from it."))
}

fn marker(request: &StepRequest) -> std::path::PathBuf {
    request.folder.join("install-begun")
}

fn begun(request: &StepRequest) -> bool {
    std::fs::read_to_string(marker(request)).is_ok_and(|digest| digest == plan::digest(&request.manifest))
}

fn carry_out(
    session: &Session<'_, '_>,
    request: &StepRequest,
    patience: Duration,
) -> Result<Option<Ended>, PluginError> {
    let database = session.database()?;
    let unfinished = |step: &PackageStep| {
        database
            .find(&step.name, &step.architecture)
            .is_some_and(|entry| database.unfinished().any(|other| other.package == entry.package))
    };
    if database.journal || request.manifest.steps.iter().any(unfinished) {
        for reason in recover::recover(session)? {
            session.context.events.output(&reason.text);
        }
    }
    let database = session.database()?;
    let wants = wants(request, &database)?;
    if wants.is_empty() {
        return Ok(None);
    }
    let run = LocalRun::new(session, &database, &wants, false)?;
    run.check(session)?;
    run.run(session, patience).map(Some)
}

/// What is left to do, each file checked once more: it is this very copy that is installed.
fn wants<'r>(request: &'r StepRequest, database: &Database) -> Result<Vec<Want<'r>>, PluginError> {
    let folder = plan::new_folder(request);
    let mut wants = Vec::new();
    for step in request.manifest.steps.iter().filter(|step| !plan::is_reached(database, step, &step.to)) {
        let (Some(to), Some(file)) = (&step.to, &step.file) else {
            wants.push(Want { step, file: None });
            continue;
        };
        // In place already, but its configuration fails: installing it again would change nothing.
        if database.find(&step.name, &step.architecture).is_some_and(|entry| entry.package.version == *to) {
            continue;
        }
        let path = folder.join(&file.name);
        match files::is_whole(&path, file.size, &file.sha256) {
            Ok(true) => wants.push(Want { step, file: Some((to, path)) }),
            Ok(false) => {
                let message =
                    format!("{} is missing or is not the file the plan names (sha-256 differs)", path.display());
                return Err(fail(ErrorKind::Denied, message).advise("Fetch it again; nothing was changed."));
            }
            Err(error) => return Err(fail(ErrorKind::Failed, format!("cannot read {}: {error}", path.display()))),
        }
    }
    Ok(wants)
}

/// Puts the marks right and judges by the packages themselves.
fn finish(
    session: &Session<'_, '_>,
    request: &StepRequest,
    snapshot: &Snapshot,
    outcome: Result<Option<Ended>, PluginError>,
) -> Result<Applied, PluginError> {
    let manifest = &request.manifest;
    set_automatic(session, &marks(manifest, snapshot))?;
    // dpkg may have been killed at its very end. After a failure the undo does it with time of its own.
    let taken_in = recover::take_in_journal(session);
    // Also what failed: its undo tells edited files from others by their content.
    session.sync()?;
    let database = session.database()?;
    snapshot::note_brought(request, snapshot, &database)?;
    let wrong = plan::verify(&database, manifest, false);
    if wrong.is_empty() {
        taken_in?;
        let complaint = matches!(&outcome, Ok(Some(ended)) if !ended.success);
        let mut notes = conffiles_kept(session, &database, manifest, snapshot);
        if complaint {
            notes.extend(unrelated(&database));
        }
        return Ok(Applied { data: serde_json::json!({ "installed": manifest.steps.len() }), notes });
    }
    let message = format!("not everything is installed as planned: {}", plan::shown(&wrong, false));
    Err(match outcome {
        Err(error)
            if wrong.len() == manifest.steps.len() && snapshot.changes(&database, manifest, false).is_empty() =>
        {
            error
        }
        Err(error) => {
            let mut whole = fail(error.kind, message).advise(error.advice).caused_by(error.message);
            whole.causes.extend(error.causes);
            whole
        }
        // Refused as a whole, before anything: apt's own words say what kind of refusal it is.
        Ok(Some(ended)) if snapshot.changes(&database, manifest, false).is_empty() => {
            let mut error = diagnose::error_of(&message, &ended);
            error.causes = ended.telling(20);
            error
        }
        Ok(ended) => {
            let mut error = fail(ErrorKind::Failed, message).advise("The output shows which script or file refused; the former versions are kept and are put back by the undo.");
            error.causes = ended.map(|ended| ended.telling(20)).unwrap_or_default();
            error
        }
    })
}

/// apt complains (exit code 100) although all that was asked for is installed: something else is broken.
fn unrelated(database: &Database) -> Vec<Reason> {
    let told = |entry: &super::status::Entry| {
        let text = format!(
            "apt complains about {} {}, which was broken before and is no part of this change",
            entry.name(),
            entry.package.version
        );
        Reason::new("apt.unrelated", text)
    };
    database.unfinished().map(told).collect()
}

/// What was automatic stays so; what came along is automatic, what was asked for is not.
fn marks<'m>(manifest: &'m Manifest, snapshot: &Snapshot) -> Vec<Mark<'m>> {
    let steps = manifest.steps.iter().filter(|step| step.to.is_some());
    steps
        .map(|step| Mark {
            name: &step.name,
            architecture: &step.architecture,
            automatic: snapshot.before(&step.name, &step.architecture).map_or(!step.asked, |before| before.automatic),
        })
        .collect()
}

/// The vendor's versions of configuration files that dpkg put beside the administrator's.
fn conffiles_kept(
    session: &Session<'_, '_>,
    database: &Database,
    manifest: &Manifest,
    snapshot: &Snapshot,
) -> Vec<Reason> {
    let mut notes = Vec::new();
    for step in &manifest.steps {
        let Some(entry) = database.find(&step.name, &step.architecture) else { continue };
        let paths = entry.conffiles.iter().map(|conffile| conffile.path.as_str());
        for path in snapshot::beside(&session.root, paths) {
            if let Some(kept) = path.strip_suffix(".dpkg-dist").filter(|_| !snapshot.beside.contains(&path)) {
                let text =
                    format!("{kept} of {} was edited and is kept; the vendor's new version is {path}", step.name);
                notes.push(Reason::from_source("apt.conffile-kept", text, path.clone()));
            }
        }
    }
    notes
}
