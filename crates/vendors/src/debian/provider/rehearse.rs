//! The dry run: from a job to the exact manifest, with files and digests, or to the reasons why not.

use super::deb822::Stanzas;
use super::facts::edited_conffiles_of;
use super::lists::Index;
use super::resolve::{Resolved, resolve};
use super::run::Program;
use super::session::{APT_CACHE, APT_GET, ONLY_WHAT_IS_ASKED, SIGNED_ONLY, Session};
use super::simulate::{Simulated, Uri, uris};
use super::solve::{Solution, Solver};
use super::status::{Database, argument, state_word};
use super::{diagnose, fail, text};
use fettle_domain::package::Ecosystem;
use fettle_domain::plan::{Job, Manifest, PackageFile, PackageStep, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_plugin::{ErrorKind, PluginError};
use std::collections::HashMap;

/// Most packages one job may want.
const WANTED_CAP: usize = 5_000;

/// Answers a job.
pub(super) fn rehearse(
    session: &Session<'_, '_>,
    database: &Database,
    index: &Index,
    job: &Job,
) -> Result<RehearsalOutcome, PluginError> {
    if job.ecosystem != Ecosystem::Debian || job.wanted.len() > WANTED_CAP {
        let message = format!("this is no job for apt: ecosystem {}, {} packages", job.ecosystem, job.wanted.len());
        return Err(fail(ErrorKind::InvalidInput, message));
    }
    session.context.events.progress(0, "asking apt for a plan");
    let Resolved { wishes, mut obstacles, satisfied } = resolve(session, database, index, &job.wanted)?;
    let solver = Solver { session, database, index, allow_removals: job.allow_removals };
    let (solution, more) = solver.solve(&wishes)?;
    obstacles.extend(more);
    if solution.steps.is_empty() {
        return Ok(match obstacles.is_empty() {
            true => RehearsalOutcome::NothingToDo,
            false => {
                obstacles.extend(satisfied);
                RehearsalOutcome::Impossible { reasons: obstacles }
            }
        });
    }
    let manifest = manifest(session, database, &solution)?;
    // The simulation reads dpkg's database itself: was it the same one?
    if session.database()?.digest() != manifest.base_digest {
        return Err(fail(ErrorKind::Unavailable, "the installed packages changed during the dry run")
            .advise("Try again when no other package manager runs."));
    }
    let mut notes = obstacles;
    notes.extend(notes_for(session, database, &manifest)?);
    session.context.events.progress(100, "plan made");
    Ok(RehearsalOutcome::Possible { manifest, notes })
}

fn manifest(session: &Session<'_, '_>, database: &Database, solution: &Solution) -> Result<Manifest, PluginError> {
    let mut steps: Vec<PackageStep> = solution.steps.iter().map(|step| bare_step(database, solution, step)).collect();
    steps.sort();
    let exact: Vec<String> = steps.iter().filter_map(|step| exact(database, step)).collect();
    let records = records(session, &exact)?;
    let uris = addresses(session, database, &steps, solution)?;
    let mut disk: i64 = 0;
    for step in &mut steps {
        let old = database.find(&step.name, &step.architecture).map_or(0, |entry| entry.installed_kib);
        let record =
            step.to.as_ref().and_then(|to| records.get(&(step.name.clone(), to.clone(), step.architecture.clone())));
        let new = record.map_or(0, |record| record.installed_kib);
        let kib = i64::try_from(new).unwrap_or(0).saturating_sub(i64::try_from(old).unwrap_or(0));
        disk = disk.saturating_add(kib.saturating_mul(1024));
        if let Some(to) = &step.to {
            step.file = Some(file(step, to, &uris, record)?);
        }
    }
    Ok(Manifest {
        ecosystem: Ecosystem::Debian,
        base_digest: database.digest(),
        download_bytes: steps.iter().filter_map(|step| step.file.as_ref()).map(|file| file.size).sum(),
        disk_bytes: disk,
        steps,
    })
}

/// A step without its file. dpkg's database, not apt's output, says what is installed.
fn bare_step(database: &Database, solution: &Solution, step: &Simulated) -> PackageStep {
    let architecture = step.architecture.as_deref().unwrap_or(&database.native);
    let installed = database.find(&step.name, architecture).map(|entry| &entry.package);
    PackageStep {
        name: step.name.clone(),
        architecture: match (&step.to, installed) {
            (None, Some(installed)) => installed.architecture.clone(),
            _ => architecture.to_owned(),
        },
        from: installed.map(|installed| installed.version.clone()),
        to: step.to.clone(),
        asked: solution.wishes.iter().any(|wish| wish.name == step.name),
        file: None,
    }
}

fn exact(database: &Database, step: &PackageStep) -> Option<String> {
    let to = step.to.as_ref()?;
    Some(format!("{}={to}", argument(&step.name, &step.architecture, &database.native)))
}

/// What the index says of one package version.
struct Record {
    installed_kib: u64,
    size: Option<u64>,
    sha256: Option<String>,
}

fn records(
    session: &Session<'_, '_>,
    exact: &[String],
) -> Result<HashMap<(String, String, String), Record>, PluginError> {
    let mut records = HashMap::new();
    for some in exact.chunks(200) {
        let ended = session.run(Program::query(APT_CACHE).args(["show"]).args(some.iter().cloned()))?;
        let mut stanzas = Stanzas::new(ended.stdout.as_bytes());
        // A stanza that cannot be read costs only the estimate of disk space.
        while let Ok(Some(stanza)) = stanzas.next() {
            let key = (
                stanza.text("Package").to_owned(),
                stanza.text("Version").to_owned(),
                stanza.text("Architecture").to_owned(),
            );
            let record = Record {
                installed_kib: stanza.text("Installed-Size").parse().unwrap_or(0),
                size: stanza.text("Size").parse().ok(),
                sha256: stanza.get("SHA256").map(str::to_ascii_lowercase),
            };
            records.entry(key).or_insert(record);
        }
    }
    Ok(records)
}

/// Where apt would fetch each file from. Every step is named exactly, so that nothing is solved anew.
fn addresses(
    session: &Session<'_, '_>,
    database: &Database,
    steps: &[PackageStep],
    solution: &Solution,
) -> Result<Vec<Uri>, PluginError> {
    let mut args: Vec<String> =
        ["--print-uris", "-y", "-qq", "--allow-downgrades", "-o", "Debug::NoLocking=1"].map(str::to_owned).to_vec();
    // An empty cache folder: a file that is in the real one would not be listed.
    let options = ["-o", "Acquire::ForceHash=SHA256", "-o", "Dir::Cache::Archives=/nonexistent/"];
    args.extend(options.map(str::to_owned));
    args.extend(ONLY_WHAT_IS_ASKED.map(str::to_owned));
    args.extend(SIGNED_ONLY.map(str::to_owned));
    args.push("install".to_owned());
    args.extend(steps.iter().filter_map(|step| exact(database, step)));
    args.extend(
        steps
            .iter()
            .filter(|step| step.to.is_none())
            .map(|step| format!("{}-", argument(&step.name, &step.architecture, &database.native))),
    );
    let ended = session.run(Program::query(APT_GET).args(args))?;
    if !ended.success {
        let what = format!(
            "apt does not say where the files of {} come from",
            solution.wishes.iter().map(|w| w.shown()).collect::<Vec<_>>().join(", ")
        );
        return Err(diagnose::error_of(&what, &ended));
    }
    Ok(uris(&ended.stdout))
}

fn file(step: &PackageStep, to: &str, uris: &[Uri], record: Option<&Record>) -> Result<PackageFile, PluginError> {
    let name = text::deb_name(&step.name, to, &step.architecture);
    let without = |what: &str| {
        fail(ErrorKind::Denied, format!("the signed index has no {what} for {} {to}", step.name)).advise(
            "Only files with a sha-256 in a signed index are installed; ask the repository's operator to publish one.",
        )
    };
    let uri = uris.iter().find(|uri| uri.file == name).ok_or_else(|| without("address"))?;
    let sha256 = uri
        .sha256
        .clone()
        .or_else(|| record.and_then(|record| record.sha256.clone()))
        .ok_or_else(|| without("sha-256"))?;
    let size = if uri.size > 0 { uri.size } else { record.and_then(|record| record.size).unwrap_or(0) };
    Ok(PackageFile { name, uri: uri.uri.clone(), size, sha256 })
}

fn notes_for(session: &Session<'_, '_>, database: &Database, manifest: &Manifest) -> Result<Vec<Reason>, PluginError> {
    let mut notes = Vec::new();
    if database.journal {
        notes.push(Reason::new(
            "apt.interrupted",
            "an earlier run of dpkg was interrupted; it is finished first (`dpkg --configure -a`)",
        ));
    }
    for entry in database.unfinished().take(20) {
        let text = format!(
            "{} {} is {} from before: every run of apt tries to finish it again",
            entry.name(),
            entry.package.version,
            state_word(entry.state)
        );
        notes.push(Reason::new("apt.unfinished", text));
    }
    for step in manifest.steps.iter().filter(|step| step.to.is_none()) {
        notes.push(Reason::new(
            "apt.removes",
            format!("{} {} is removed", step.name, step.from.as_deref().unwrap_or_default()),
        ));
    }
    for step in &manifest.steps {
        let Some(entry) = database.find(&step.name, &step.architecture).filter(|_| step.to.is_some()) else { continue };
        for edited in edited_conffiles_of(&session.root, entry) {
            let text = format!(
                "{} of {} was {} by the administrator and stays so; a changed vendor's version is put beside it as .dpkg-dist",
                edited.path,
                step.name,
                if edited.removed { "removed" } else { "edited" }
            );
            notes.push(Reason::from_source("apt.conffile-edited", text, edited.path));
        }
    }
    Ok(notes)
}
