//! What a provider promises: a dry run changes nothing, each act may run twice, and an undone act leaves the host
//! as it was, with or without what the act had handed back.

use super::{Report, told};
use crate::host::Silent;
use crate::scratch::Scratch;
use crate::{
    Applied, ConffilePolicy, ErrorKind, PluginError, Provider, ProviderContext, ResourceLimits, Step, StepRequest,
};
use fettle_domain::package::InstalledPackage;
use fettle_domain::plan::{Job, Manifest, RehearsalOutcome, WantedPackage, WantedVersion};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For one call.
const CALL: Duration = Duration::from_secs(300);

/// A root and a job that is possible there.
#[derive(Debug, Clone)]
pub struct ProviderCase {
    /// The root to act on.
    pub root: PathBuf,
    /// Folder of the deployment, outside the root.
    pub folder: PathBuf,
    /// What is wanted; it must be possible, and change something.
    pub job: Job,
    /// The scratch folder they lie in, where it is this suite's own.
    pub kept: Option<Arc<Scratch>>,
}

/// A provider on the root of a case.
pub(super) struct Trial<'a> {
    pub provider: &'a dyn Provider,
    pub case: &'a ProviderCase,
}

type Failing<T> = Result<T, String>;

impl Trial<'_> {
    fn context(&self) -> ProviderContext<'static> {
        ProviderContext {
            root: self.case.root.clone(),
            events: &Silent,
            deadline: Instant::now() + CALL,
            lock_patience: Duration::from_secs(5),
            limits: ResourceLimits::default(),
        }
    }

    pub fn inventory(&self) -> Failing<Vec<InstalledPackage>> {
        let mut packages = self.provider.inventory(&self.context()).map_err(of("the inventory"))?;
        packages.sort();
        Ok(packages)
    }

    pub fn digest(&self) -> Failing<String> {
        self.provider.state_digest(&self.context()).map_err(of("the digest of the state"))
    }

    pub fn request(&self, step: Step, manifest: &Manifest) -> StepRequest {
        let folder = self.case.folder.clone();
        StepRequest { step, manifest: manifest.clone(), folder, conffiles: ConffilePolicy::Keep }
    }

    pub fn rehearse(&self, job: &Job) -> Result<RehearsalOutcome, PluginError> {
        self.provider.rehearse(&self.context(), job, false)
    }

    /// The manifest of the case's job.
    pub fn manifest(&self) -> Failing<Manifest> {
        match self.rehearse(&self.case.job).map_err(of("the dry run"))? {
            RehearsalOutcome::Possible { manifest, .. } if manifest.steps.is_empty() => {
                Err("the dry run promises a manifest without steps".to_owned())
            }
            RehearsalOutcome::Possible { manifest, .. } => Ok(manifest),
            RehearsalOutcome::NothingToDo => Err("the dry run finds nothing to do".to_owned()),
            RehearsalOutcome::Impossible { reasons } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                Err(format!("the dry run says it cannot be done: {}", reasons.join("; ")))
            }
        }
    }

    /// Does an act twice, as an agent does that was killed before it noted the first time.
    pub fn apply_twice(&self, step: Step, manifest: &Manifest) -> Failing<Applied> {
        let request = self.request(step, manifest);
        self.provider.apply(&self.context(), &request).map_err(of("the first apply"))?;
        self.provider.apply(&self.context(), &request).map_err(of("the same apply again"))
    }

    pub fn undo(&self, step: Step, manifest: &Manifest, applied: Option<&Applied>) -> Failing<()> {
        let request = self.request(step, manifest);
        self.provider.undo(&self.context(), &request, applied).map(drop).map_err(of("the undo"))
    }

    pub fn recover(&self) -> Failing<()> {
        self.provider.recover(&self.context()).map(drop).map_err(of("to recover"))
    }

    pub fn proved(&self, manifest: &Manifest, reverted: bool) -> Failing<()> {
        let unreached =
            self.provider.verify(&self.context(), manifest, reverted).map_err(of("to verify the manifest"))?;
        match unreached.first() {
            None => Ok(()),
            Some((step, found)) => Err(format!("{} is {found}", step.name)),
        }
    }

    /// The host is as it was.
    pub fn same(&self, before: &[InstalledPackage], digest: &str) -> Failing<()> {
        let now = self.inventory()?;
        if let Some(other) = now.iter().find(|it| !before.contains(it)) {
            return Err(format!("afterwards there is {:?}", other));
        }
        if let Some(gone) = before.iter().find(|it| !now.contains(it)) {
            return Err(format!("afterwards {:?} is gone", gone));
        }
        let found = self.digest()?;
        if found == digest { Ok(()) } else { Err(format!("the inventory is the same, its digest is not: {found}")) }
    }
}

fn of(what: &'static str) -> impl Fn(PluginError) -> String {
    move |error| format!("{what}: {}", told(&error))
}

/// Tries a provider.
pub fn check_provider(provider: &dyn Provider, case: Option<&ProviderCase>, report: &mut Report) {
    let Some(case) = case else {
        return report
            .leave_out("provider: dry run, acts and undo", "no root was given: --fixtures DIR with case.json");
    };
    let trial = Trial { provider, case };
    let (before, digest) = match trial.inventory().and_then(|list| Ok((list, trial.digest()?))) {
        Ok(found) => found,
        Err(why) => return report.note("provider: inventory and digest", Err(why)),
    };
    report.note("provider: the inventory is of its ecosystem, nothing twice", sound(provider, &before));
    report.note("provider: the same host has the same inventory and digest", trial.same(&before, &digest));
    report.note("provider: a package nobody has is not possible", nobody_has(&trial));
    report.note("provider: a manifest of another ecosystem or with a path as a name is refused", hostile(&trial));
    report.note("provider: newer versions are newer than what is there", candidates(&trial, &before));
    let manifest = match trial.manifest() {
        Ok(manifest) => manifest,
        Err(why) => return report.note("provider: the job of the case is possible", Err(why)),
    };
    report.note("provider: the job of the case is possible", based_on(&manifest, &digest));
    report.note("provider: the dry run changes nothing", trial.same(&before, &digest));
    let applied = prepare(&trial, &manifest, report);
    let Some(applied) = applied else { return };
    report.note("provider: what was installed is proved", trial.proved(&manifest, false));
    report.note("provider: what was installed is not the state before", changed(&trial, &digest));
    report.note("provider: once done, there is nothing to do", nothing_to_do(&trial));
    let undone = trial.undo(Step::Install, &manifest, Some(&applied));
    report.note(
        "provider: apply, undo: the inventory is as before",
        undone.and_then(|()| trial.same(&before, &digest)).and_then(|()| trial.proved(&manifest, true)),
    );
    let again = trial.undo(Step::Install, &manifest, Some(&applied));
    report.note("provider: the same undo again changes nothing", again.and_then(|()| trial.same(&before, &digest)));
    report.note(
        "provider: undo from the files of `old` alone, without what the act left",
        without_applied(&trial, &manifest, &before, &digest),
    );
    report.note(
        "provider: to recover a whole host harms nothing",
        trial.recover().and_then(|()| trial.same(&before, &digest)),
    );
    report.note("provider: the undo of keep-old and fetch leaves no files", cleared(&trial, &manifest));
}

/// Fetch, keep, install, each twice; what the install left.
fn prepare(trial: &Trial<'_>, manifest: &Manifest, report: &mut Report) -> Option<Applied> {
    let mut last = None;
    for (name, step) in [("fetch", Step::Fetch), ("keep-old", Step::KeepOld), ("install", Step::Install)] {
        let applied = trial.apply_twice(step, manifest);
        let stop = applied.is_err();
        report.note(format!("provider: {name}, twice the same apply"), applied.map(|applied| last = Some(applied)));
        if stop {
            return None;
        }
    }
    last
}

fn sound(provider: &dyn Provider, packages: &[InstalledPackage]) -> Failing<()> {
    if packages.is_empty() {
        return Err("it is empty".to_owned());
    }
    for (one, next) in packages.iter().zip(packages.iter().skip(1)) {
        if one == next {
            return Err(format!("{} is there twice", one.package.name));
        }
    }
    match packages.iter().find(|it| it.package.ecosystem != provider.ecosystem()) {
        Some(other) => Err(format!("{} is of {}", other.package.name, other.package.ecosystem)),
        None => Ok(()),
    }
}

fn nobody_has(trial: &Trial<'_>) -> Failing<()> {
    let wanted = vec![WantedPackage { name: "no-such-package-in-any-world".into(), version: WantedVersion::Candidate }];
    let job = Job { wanted, ..trial.case.job.clone() };
    match trial.rehearse(&job) {
        Ok(RehearsalOutcome::Impossible { reasons }) if reasons.is_empty() => Err("it does not say why".to_owned()),
        Ok(RehearsalOutcome::Impossible { .. }) => Ok(()),
        Ok(RehearsalOutcome::Possible { .. }) => Err("it promises to install it".to_owned()),
        Ok(RehearsalOutcome::NothingToDo) => Err("it says it is there".to_owned()),
        Err(error) => Err(format!("an error in place of the answer: {}", told(&error))),
    }
}

/// A manifest as a hostile server would send it.
fn hostile(trial: &Trial<'_>) -> Failing<()> {
    let good = trial.manifest()?;
    let mut path = good.clone();
    for step in &mut path.steps {
        step.name = "../../etc/passwd".to_owned();
    }
    let mut file = good.clone();
    for file in file.steps.iter_mut().filter_map(|step| step.file.as_mut()) {
        file.name = "../../../outside".to_owned();
    }
    let mut other = good;
    other.ecosystem =
        fettle_domain::package::Ecosystem::ALL.into_iter().find(|it| *it != other.ecosystem).unwrap_or(other.ecosystem);
    for (what, manifest) in [("a path as a name", path), ("a path as a file", file), ("another ecosystem", other)] {
        for step in [Step::Fetch, Step::KeepOld, Step::Install] {
            match trial.provider.apply(&trial.context(), &trial.request(step, &manifest)) {
                Err(error) if matches!(error.kind, ErrorKind::InvalidInput | ErrorKind::Denied) => {}
                Err(error) => return Err(format!("{what}: an error of kind {:?}, not invalid_input", error.kind)),
                Ok(_) => return Err(format!("{what}: {step:?} is carried out")),
            }
        }
    }
    Ok(())
}

fn candidates(trial: &Trial<'_>, installed: &[InstalledPackage]) -> Failing<()> {
    let offers = trial.provider.candidates(&trial.context(), false).map_err(of("newer versions"))?;
    let scheme = fettle_domain::version::Scheme::of(trial.provider.ecosystem());
    for offer in offers {
        let newer = installed.iter().any(|it| {
            it.package.name == offer.name
                && scheme.compare(&offer.version, &it.package.version).is_ok_and(std::cmp::Ordering::is_gt)
        });
        if !newer {
            return Err(format!("{} {} is not newer than what is installed", offer.name, offer.version));
        }
    }
    Ok(())
}

fn based_on(manifest: &Manifest, digest: &str) -> Failing<()> {
    if manifest.base_digest == digest {
        return Ok(());
    }
    Err(format!("the manifest is based on {}, the state is {digest}", manifest.base_digest))
}

fn changed(trial: &Trial<'_>, before: &str) -> Failing<()> {
    if trial.digest()? == before { Err("the digest is the same".to_owned()) } else { Ok(()) }
}

fn nothing_to_do(trial: &Trial<'_>) -> Failing<()> {
    match trial.rehearse(&trial.case.job).map_err(of("the dry run"))? {
        RehearsalOutcome::NothingToDo => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn without_applied(trial: &Trial<'_>, manifest: &Manifest, before: &[InstalledPackage], digest: &str) -> Failing<()> {
    let request = trial.request(Step::Install, manifest);
    trial.provider.apply(&trial.context(), &request).map_err(of("to install again"))?;
    // Once a deployment succeeded, the new files make room; the undo may be asked for days later.
    std::fs::remove_dir_all(trial.case.folder.join("new")).map_err(|error| error.to_string())?;
    trial.undo(Step::Install, manifest, None)?;
    trial.same(before, digest)
}

fn cleared(trial: &Trial<'_>, manifest: &Manifest) -> Failing<()> {
    for (step, folder) in [(Step::KeepOld, "old"), (Step::Fetch, "new")] {
        trial.undo(step, manifest, None)?;
        trial.undo(step, manifest, None).map_err(|why| format!("again: {why}"))?;
        let path = trial.case.folder.join(folder);
        if path.exists() {
            return Err(format!("{} is still there", path.display()));
        }
    }
    Ok(())
}
