//! The agent's own update. Its package is installed like any other; this room sees that the file of
//! the running program was replaced and does what no package manager can:
//!
//! 0. *kept*: before its package is installed, the running program is kept in `trial/former`: should the
//!    power go, the launcher that the service manager runs starts it again when the new one cannot;
//! 1. *verified*: the new program says its version (its package's digest was checked by the plan);
//! 2. *tried*: as a child it reads identity, journals and spool and has one check-in answered ([`prove`]);
//! 3. *on trial*: the launcher starts the new one in the old one's place and counts its starts; the
//!    former one watches it ([`watch`]);
//! 4. *proved*: the new one, running as the agent, has had a check-in answered: the trial is over.
//!
//! When it does not come to 4 the launcher starts the former program again, which fails the deployment;
//! its ordinary undo puts the former package back. Nothing that a package installed is written over.

mod program;
pub(crate) mod prove;
mod trial;
mod watch;

use crate::clock::{self, Stop};
use crate::deploy::command;
use crate::deploy::engine;
use crate::disk::StateDir;
use crate::run::RunOptions;
use crate::services::PackageOwner;
use fettle_domain::DeploymentId;
use fettle_domain::plan::Manifest;
use fettle_domain::reason::Reason;
use program::{Program, Replaced};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use trial::Trial;
pub use watch::{WatchError, watch};

/// How long a new version may take to prove itself, when the administrator says nothing.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
/// For `--version`.
const VERSION_LIMIT: Duration = Duration::from_secs(20);
/// How often is looked whether the check-in was answered.
const PAUSE: Duration = Duration::from_millis(250);

/// What started this agent, and starts it anew after its own update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The program of the service manager (`/usr/libexec/fettle/start-agent`).
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Launcher {
    /// From the arguments of this process: those after `agent run`, without `--launcher FILE`, which
    /// the launcher puts last.
    pub fn of_arguments(program: PathBuf, arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut arguments: Vec<OsString> = arguments.into_iter().skip(3).collect();
        arguments.truncate(arguments.len().saturating_sub(2));
        Self { program, arguments }
    }
}

/// What came of looking at the agent's own program while a deployment is checked.
#[derive(Debug, PartialEq)]
pub(crate) enum Own {
    /// It is as it was.
    Untouched,
    /// The new one is good; what people should know.
    Proved(Vec<Reason>),
    /// The new one is no good; the former one runs.
    Failed(Vec<Reason>),
    /// The other program has to take over first; then look again.
    HandOver,
}

/// The agent's own program and its update.
pub(crate) struct SelfUpdate {
    state: StateDir,
    root: PathBuf,
    launcher: Option<Launcher>,
    owner: Option<Arc<dyn PackageOwner>>,
    limit: Duration,
    program: Option<Program>,
    started: Instant,
    /// A check-in of this very process was answered.
    answered: AtomicBool,
    wants_hand_over: AtomicBool,
    /// Program that was tried outside a deployment and did not prove itself: not tried again.
    refused: Mutex<String>,
}

impl SelfUpdate {
    /// For the process that runs now.
    pub(crate) fn begin(state: &StateDir, options: &RunOptions, limit: Option<Duration>) -> Self {
        let state = StateDir::peek(state.path());
        let trial = Trial::load(&state);
        let program = Program::running(trial.as_ref().map(|trial| trial.program.as_path()), &trial::former(&state));
        Self {
            root: options.root.clone(),
            launcher: options.launcher.clone(),
            owner: options.owner.clone(),
            state,
            limit: limit.unwrap_or(LIMIT),
            program,
            started: Instant::now(),
            answered: AtomicBool::new(false),
            wants_hand_over: AtomicBool::new(false),
            refused: Mutex::default(),
        }
    }

    /// A check-in of this process was answered. True for the first.
    pub(crate) fn answered(&self) -> bool {
        !self.answered.swap(true, Ordering::AcqRel)
    }

    /// Whether another program is to take over: end, and begin again as the launcher.
    pub(crate) fn wants_hand_over(&self) -> bool {
        self.wants_hand_over.load(Ordering::Acquire)
    }

    fn hand_over(&self) {
        self.wants_hand_over.store(true, Ordering::Release);
    }

    /// Within a deployment, before its packages are installed: keeps the running program when its own
    /// package is among them.
    pub(crate) fn before_install(&self, deployment: DeploymentId, manifest: &Manifest) -> Result<(), String> {
        let Some(program) = &self.program else { return Ok(()) };
        if self.launcher.is_none() || program.replaced() != Replaced::No || !self.is_in(manifest, program) {
            return Ok(());
        }
        self.trial_of(program, Some(deployment), String::new(), String::new()).begin(&self.state, program)
    }

    fn is_in(&self, manifest: &Manifest, program: &Program) -> bool {
        let owner = self.owner.as_ref().and_then(|owner| owner.owner_of(Path::new("/"), program.installed_path()));
        owner.is_some_and(|owner| manifest.steps.iter().any(|step| step.name == owner))
    }

    fn trial_of(&self, program: &Program, deployment: Option<DeploymentId>, sha256: String, version: String) -> Trial {
        Trial {
            program: program.installed_path().to_owned(),
            deployment,
            former_sha256: program.sha256(),
            new_sha256: sha256,
            new_version: version,
            since: clock::now(),
            limit_seconds: self.limit.as_secs(),
        }
    }

    /// Within a deployment, after the packages were verified. May take as long as the limit.
    pub(crate) fn check(&self, deployment: DeploymentId, stop: &Stop) -> Own {
        let Some(program) = &self.program else { return Own::Untouched };
        let trial = Trial::load(&self.state);
        let of_this = trial.as_ref().filter(|trial| trial.deployment == Some(deployment));
        match (program.replaced(), of_this) {
            (Replaced::No, Some(trial)) if trial.is_of(&program.sha256()) => self.on_trial(stop),
            (Replaced::No | Replaced::SameBytes | Replaced::Gone, _) => Own::Untouched,
            (Replaced::By(sha256), Some(trial)) if program.is_kept_copy() && trial.is_of(&sha256) => {
                // The launcher started the former one although the new one is installed.
                Own::Failed(vec![Reason::new("self-update.given-up", trial.why_given_up(&self.state))])
            }
            (Replaced::By(sha256), _) => self.try_new(program, &sha256, Some(deployment)),
        }
    }

    /// Outside deployments: an administrator's own update, the return of the former package after an
    /// undo, the end of a trial.
    pub(crate) fn look(&self) {
        let Some(program) = &self.program else { return };
        let trial = Trial::load(&self.state);
        match (program.replaced(), trial) {
            (Replaced::No, Some(trial)) if trial.is_of(&program.sha256()) => self.trial_outside(&trial),
            // A trial of a program that is not installed any more.
            (Replaced::No, Some(_)) => self.end_trial(),
            (Replaced::No | Replaced::Gone, _) => {}
            // Installed anew, as after an undo: from the deleted file or the kept copy to the installed one.
            (Replaced::SameBytes, trial) => {
                if trial.is_some() {
                    self.end_trial();
                }
                if self.launcher.is_some() {
                    self.hand_over();
                }
            }
            (Replaced::By(sha256), trial) => self.replaced_outside(program, &sha256, trial),
        }
    }

    fn replaced_outside(&self, program: &Program, sha256: &str, trial: Option<Trial>) {
        if self.launcher.is_none() || *clock::lock(&self.refused) == sha256 {
            return;
        }
        if let Some(trial) = trial {
            if trial.former_sha256 == sha256 {
                // Undone by the new one: back to what was proved before.
                self.end_trial();
                self.hand_over();
                return;
            }
            if program.is_kept_copy() && trial.is_of(sha256) {
                let why = trial.why_given_up(&self.state);
                tracing::error!(error.text = why, "the former version of the agent runs: install another version");
                *clock::lock(&self.refused) = sha256.to_owned();
                return;
            }
        }
        if let Own::Failed(reasons) = self.try_new(program, sha256, None) {
            let why = reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            tracing::error!(
                error.text = why,
                "the installed version of the agent does not prove itself: this one goes on"
            );
            *clock::lock(&self.refused) = sha256.to_owned();
        }
    }

    /// Verifies and tries the new program, then puts it on trial.
    fn try_new(&self, program: &Program, sha256: &str, deployment: Option<DeploymentId>) -> Own {
        let version = match self.prove(program) {
            Ok(version) => version,
            Err(why) => return Own::Failed(vec![Reason::new("self-update.not-proved", why)]),
        };
        if self.launcher.is_none() {
            let text = format!(
                "the agent's new program ({version}) proved itself in a trial run; this agent was not started by its service, so restart it by hand"
            );
            return Own::Proved(vec![Reason::new("self-update.restart", text)]);
        }
        let trial = self.trial_of(program, deployment, sha256.to_owned(), version.clone());
        if let Err(why) = trial.begin(&self.state, program) {
            return Own::Failed(vec![Reason::new("self-update.not-kept", why)]);
        }
        tracing::info!(agent.version = version, "the agent's new program proved itself in a trial run and takes over");
        self.hand_over();
        Own::HandOver
    }

    /// Runs the new program: its version, then a check-in of its own. Returns the version.
    fn prove(&self, program: &Program) -> Result<String, String> {
        let path = program.installed_path().to_str().ok_or("the path of the agent's program is no UTF-8")?;
        let scratch = self.state.path();
        let said = command::run(&[path, "--version"], VERSION_LIMIT, scratch)
            .map_err(|why| format!("the agent's new program does not say its version: {why}"))?;
        let version = said.trim().strip_prefix("fettle ").map(str::to_owned);
        let version = version.ok_or_else(|| format!("{path} --version says `{}`: that is not Fettle", said.trim()))?;
        let mut argv = vec![path, "agent", "prove", "--state"];
        let state = self.state.path().to_str().ok_or("the path of the state folder is no UTF-8")?;
        let root = self.root.to_str().ok_or("the path of the root is no UTF-8")?;
        argv.extend([state, "--root", root]);
        let journals: Vec<String> = self.readable_journals().iter().map(ToString::to_string).collect();
        for journal in &journals {
            argv.extend(["--journal", journal]);
        }
        command::run(&argv, self.limit, scratch)
            .map_err(|why| format!("the agent's new program ({version}) does not prove itself: {why}"))?;
        Ok(version)
    }

    /// What this version can read the new one must be able to read.
    fn readable_journals(&self) -> Vec<DeploymentId> {
        let ids = self.state.deployment_ids().unwrap_or_default();
        ids.into_iter().filter(|id| matches!(engine::peek(&self.state.deployment(*id)), Ok(Some(_)))).collect()
    }

    /// This is the new program, within its deployment: waits for the answer to a check-in of its own.
    fn on_trial(&self, stop: &Stop) -> Own {
        while !self.is_answered() {
            if self.started.elapsed() >= self.limit {
                self.give_up();
                return Own::HandOver;
            }
            if stop.wait(PAUSE) {
                return Own::HandOver;
            }
        }
        self.end_trial();
        let text = format!("the agent runs as {} now and has checked in", env!("CARGO_PKG_VERSION"));
        Own::Proved(vec![Reason::new("self-update.proved", text)])
    }

    fn trial_outside(&self, trial: &Trial) {
        if self.is_answered() && trial.deployment.is_none_or(|id| !self.is_open(id)) {
            tracing::info!(agent.version = env!("CARGO_PKG_VERSION"), "the new version of the agent has proved itself");
            self.end_trial();
        } else if self.started.elapsed() >= self.limit {
            self.give_up();
        }
    }

    fn is_open(&self, id: DeploymentId) -> bool {
        let found = engine::peek(&self.state.deployment(id));
        found.is_ok_and(|found| found.is_some_and(|deployment| !deployment.state.is_settled()))
    }

    fn give_up(&self) {
        let why = format!("no check-in of it was answered within {} seconds", self.limit.as_secs());
        if let Err(error) = trial::give_up(&self.state, &why) {
            tracing::error!(error.text = %error, "it cannot be noted that this version gives up");
        }
        self.hand_over();
    }

    fn end_trial(&self) {
        if let Err(error) = trial::end(&self.state) {
            tracing::error!(error.text = %error, "the end of the trial cannot be noted: it is noted at the next start");
        }
    }

    fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }
}
