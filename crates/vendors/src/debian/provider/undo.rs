//! Undo of an install: exactly the former versions, files and marks, from what was kept, without network.
//!
//! apt does it as long as it would do exactly that; where it would not (a dependency broken by others), or a
//! package's own script refuses, dpkg does the rest package by package, so that one that cannot go back
//! keeps no other from going back.

use super::local::{LocalRun, Want};
use super::marks::{Mark, set_automatic, set_hold};
use super::recover::{CONFFILES, take_in_journal};
use super::run::{Ended, Program};
use super::session::{DPKG, Session};
use super::snapshot::Snapshot;
use super::status::{Database, Entry, argument};
use super::{fail, keep, locks, plan, restore};
use fettle_domain::package::InstallState;
use fettle_domain::plan::{Manifest, PackageStep};
use fettle_domain::reason::Reason;
use fettle_plugin::{Applied, ErrorKind, PluginError, StepRequest};
use std::time::Duration;

/// Does it; may run twice.
pub(super) fn undo(session: &Session<'_, '_>, request: &StepRequest) -> Result<Applied, PluginError> {
    session.need_root()?;
    let manifest = &request.manifest;
    let Some(snapshot) = Snapshot::read(request)? else {
        // Cut off before the former versions were kept: then nothing was installed either.
        let wrong = plan::verify(&session.database()?, manifest, true);
        if wrong.is_empty() {
            return Ok(Applied::default());
        }
        let message =
            format!("the former versions were not kept, so they cannot be put back: {}", plan::shown(&wrong, true));
        return Err(fail(ErrorKind::Failed, message).advise("Put them back from the repository by hand."));
    };
    let patience = locks::wait(session.context, &session.root, &locks::DPKG)?;
    refuse_what_others_changed(&session.database()?, manifest)?;
    session.context.events.progress(0, "putting the former versions back");
    let mut said = Vec::new();
    if !plan::verify(&session.database()?, manifest, true).is_empty() {
        keep::read_back(session, &snapshot, &plan::old_folder(request))?;
        said = put_back(session, request, &snapshot, patience)?;
    }
    purge_new(session, manifest, &snapshot)?;
    let notes = restore_rest(session, request, &snapshot)?;
    take_in_journal(session)?;
    let wrong = plan::verify(&session.database()?, manifest, true);
    if wrong.is_empty() {
        session.sync()?;
        let _ = std::fs::remove_file(request.folder.join("install-begun"));
        session.context.events.progress(100, "former versions are back");
        return Ok(Applied { data: serde_json::json!({ "restored": manifest.steps.len() }), notes });
    }
    let mut error = fail(ErrorKind::Failed, format!("the undo is not complete: {}", plan::shown(&wrong, true)))
        .advise("A script of the package refuses, as its output says. All others are back; this one needs a person.");
    error.causes = said;
    Err(error)
}

/// A package that somebody brought to a third version since is no longer this deployment's to undo.
fn refuse_what_others_changed(database: &Database, manifest: &Manifest) -> Result<(), PluginError> {
    let third = |step: &PackageStep| {
        let version = &database.find(&step.name, &step.architecture)?.package.version;
        let known = [&step.from, &step.to].into_iter().flatten().any(|known| known == version);
        (!known).then(|| format!("{} is {version}", step.name))
    };
    let changed: Vec<String> = manifest.steps.iter().filter_map(third).take(8).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let message = format!("somebody changed packages of this deployment since: {}", changed.join(", "));
    Err(fail(ErrorKind::NotApplicable, message)
        .advise("Nothing was changed. Undo the later change first, or decide by hand."))
}

/// First all together by apt, then what is left by dpkg. Returns what was said about what did not work.
fn put_back(
    session: &Session<'_, '_>,
    request: &StepRequest,
    snapshot: &Snapshot,
    patience: Duration,
) -> Result<Vec<String>, PluginError> {
    let mut said = Vec::new();
    // Above all without running a script that will be replaced.
    take_in_journal(session)?;
    let database = session.database()?;
    let wants = wants(request, snapshot, &database);
    if !wants.is_empty() {
        let run = LocalRun::new(session, &database, &wants, true)?;
        match run.check(session).and_then(|()| run.run(session, patience)) {
            Ok(ended) => remember(&mut said, &ended),
            Err(error) => {
                session
                    .context
                    .events
                    .output(&format!("apt does not put all back ({error}); dpkg is asked package by package"));
                said.push(error.message);
            }
        }
    }
    configure(session, request, &mut said)?;
    by_dpkg(session, request, snapshot, &mut said)?;
    Ok(said)
}

/// What is left to put back: former files, and removals of what was new.
fn wants<'r>(request: &'r StepRequest, snapshot: &Snapshot, database: &Database) -> Vec<Want<'r>> {
    let old = plan::old_folder(request);
    let mut wants = Vec::new();
    for step in request.manifest.steps.iter().filter(|step| !plan::is_reached(database, step, &step.from)) {
        let Some(from) = &step.from else {
            wants.push(Want { step, file: None });
            continue;
        };
        let unfinished_only = database
            .find(&step.name, &step.architecture)
            .is_some_and(|entry| entry.package.version == *from && entry.state != Some(InstallState::HalfInstalled));
        let kept = snapshot.files.iter().find(|file| file.package == step.name && file.version == *from);
        if let Some(kept) = kept.filter(|_| !unfinished_only) {
            wants.push(Want { step, file: Some((from, old.join(&kept.file))) });
        }
    }
    wants
}

/// Finishes what is unpacked in its former version; nothing else, for other scripts are no part of this.
fn configure(session: &Session<'_, '_>, request: &StepRequest, said: &mut Vec<String>) -> Result<(), PluginError> {
    let database = session.database()?;
    let ours = |entry: &&Entry| {
        let mut steps = request.manifest.steps.iter();
        steps.any(|step| entry.name() == step.name && step.from.as_ref() == Some(&entry.package.version))
    };
    let names: Vec<String> = database.unfinished().filter(ours).map(|entry| entry.argument(&database.native)).collect();
    if !names.is_empty() {
        let ended = dpkg(session, &["--configure"], &names)?;
        remember(said, &ended);
    }
    Ok(())
}

fn dpkg(session: &Session<'_, '_>, verb: &[&str], what: &[String]) -> Result<Ended, PluginError> {
    locks::wait(session.context, &session.root, &locks::DPKG)?;
    let args = CONFFILES.iter().copied().chain(["--force-downgrade"]).chain(verb.iter().copied());
    session.run(Program::change(DPKG).args(args).args(what.iter().cloned()))
}

/// dpkg on what is left: all at once (it sorts out the order), then one by one, then removals of what was new.
fn by_dpkg(
    session: &Session<'_, '_>,
    request: &StepRequest,
    snapshot: &Snapshot,
    said: &mut Vec<String>,
) -> Result<(), PluginError> {
    for together in [true, false] {
        let database = session.database()?;
        let wants = wants(request, snapshot, &database);
        let files: Vec<Want<'_>> = wants.into_iter().filter(|want| want.file.is_some()).collect();
        if files.is_empty() || (!together && files.len() == 1) {
            break;
        }
        let run = LocalRun::new(session, &database, &files, true)?;
        let groups = if together {
            vec![run.files().to_vec()]
        } else {
            run.files().iter().map(|file| vec![file.clone()]).collect()
        };
        for group in groups {
            let ended = dpkg(session, &["--auto-deconfigure", "--install"], &group)?;
            remember(said, &ended);
        }
        configure(session, request, said)?;
    }
    unpack_half_new(session, request, said)?;
    let database = session.database()?;
    let new: Vec<String> = request
        .manifest
        .steps
        .iter()
        .filter(|step| step.from.is_none() && !plan::is_reached(&database, step, &None))
        .map(|step| argument(&step.name, &step.architecture, &database.native))
        .collect();
    if !new.is_empty() {
        let ended = dpkg(session, &["--remove"], &new)?;
        remember(said, &ended);
    }
    Ok(())
}

/// dpkg does not remove a new package whose unpacking was cut off (it "should be reinstalled before"): it is
/// unpacked once more, to be removed whole.
fn unpack_half_new(
    session: &Session<'_, '_>,
    request: &StepRequest,
    said: &mut Vec<String>,
) -> Result<(), PluginError> {
    let database = session.database()?;
    let half = |step: &PackageStep| {
        let entry = database.find(&step.name, &step.architecture);
        step.from.is_none() && entry.is_some_and(|entry| entry.state == Some(InstallState::HalfInstalled))
    };
    let mut wants = Vec::new();
    for step in request.manifest.steps.iter().filter(|step| half(step)) {
        if let (Some(to), Some(file)) = (&step.to, &step.file) {
            wants.push(Want { step, file: Some((to, plan::new_folder(request).join(&file.name))) });
        }
    }
    if !wants.is_empty() {
        let run = LocalRun::new(session, &database, &wants, true)?;
        let ended = dpkg(session, &["--unpack"], run.files())?;
        remember(said, &ended);
    }
    Ok(())
}

/// Keeps the most telling lines of a run, not too many of them.
fn remember(said: &mut Vec<String>, ended: &Ended) {
    if !ended.success {
        for line in ended.telling(12) {
            if said.len() < 40 && !said.contains(&line) {
                said.push(line);
            }
        }
    }
}

/// What was new and is removed again leaves nothing, unless its configuration files were there before.
fn purge_new(session: &Session<'_, '_>, manifest: &Manifest, snapshot: &Snapshot) -> Result<(), PluginError> {
    let database = session.database()?;
    let left = |step: &&PackageStep| {
        step.from.is_none()
            && !snapshot.residual.contains(&step.name)
            && database.residual().any(|entry| entry.name() == step.name)
    };
    let names: Vec<String> = manifest
        .steps
        .iter()
        .filter(left)
        .map(|step| argument(&step.name, &step.architecture, &database.native))
        .collect();
    if !names.is_empty() {
        dpkg(session, &["--purge"], &names)?;
    }
    Ok(())
}

/// Configuration files, holds and automatic marks.
fn restore_rest(
    session: &Session<'_, '_>,
    request: &StepRequest,
    snapshot: &Snapshot,
) -> Result<Vec<Reason>, PluginError> {
    let manifest = &request.manifest;
    let database = session.database()?;
    let is_back = |name: &str| {
        let mut steps = manifest.steps.iter().filter(|step| step.name == name).peekable();
        steps.peek().is_some() && steps.all(|step| plan::is_reached(&database, step, &step.from))
    };
    let notes = restore::conffiles(&session.root, &database, snapshot, &plan::old_folder(request), &is_back)?;
    let replaced =
        || manifest.steps.iter().filter_map(|step| Some((step, snapshot.before(&step.name, &step.architecture)?)));
    let marks: Vec<Mark<'_>> = replaced()
        .map(|(step, before)| Mark { name: &step.name, architecture: &step.architecture, automatic: before.automatic })
        .collect();
    set_automatic(session, &marks)?;
    let held: Vec<String> = replaced()
        .filter(|(step, before)| before.held && database.find(&step.name, &step.architecture).is_some())
        .map(|(step, before)| argument(&step.name, &before.architecture, &database.native))
        .collect();
    set_hold(session, &held, true)?;
    Ok(notes)
}
