//! `fettle agent undo`: a deployment is undone on the host, without the server, through the same
//! engine and journal. Where an agent runs it is asked, since only one process may carry out.

use super::{holder, who};
use crate::clock::Stop;
use crate::config::{Config, ConfigError};
use crate::deploy::desk;
use crate::deploy::engine::{self, Ended, Engine, EngineError, Host};
use crate::deploy::local_order;
use crate::deploy::record::Deployment;
use crate::deploy::system::LocalSystem;
use crate::deploy::tasks::Limits;
use crate::disk::state::StateError;
use crate::disk::{LogError, StateDir};
use crate::executor::etc_of;
use crate::policy::{Policy, PolicyError};
use crate::report::{Spool, keep};
use crate::services::PackageOwner;
use fettle_domain::DeploymentId;
use fettle_domain::machine::DeploymentState;
use fettle_domain::plan::PackageStep;
use fettle_domain::reason::Reason;
use fettle_plugin::Provider;
use fettle_wire::log::LogLine;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running agent looks every few seconds; one that has not begun after so long will not.
const TAKEN_UP: Duration = Duration::from_secs(40);
/// How often is looked how far it is.
const LOOK: Duration = Duration::from_millis(300);
/// Bytes of new log lines read at once.
const PART: u64 = 256 << 10;

/// What `fettle agent undo` was told.
pub struct UndoOptions {
    /// The agent's folder.
    pub state_dir: PathBuf,
    /// The host's file system.
    pub root: PathBuf,
    /// The host's own policy; need not exist.
    pub policy: PathBuf,
    /// Which deployment.
    pub deployment: DeploymentId,
    /// The package managers.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Says which package owns a file.
    pub owner: Option<Arc<dyn PackageOwner>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Undone {
    /// Which deployment.
    pub deployment: DeploymentId,
    /// Where it stands now.
    pub state: DeploymentState,
    /// Who asked, as the server will be told.
    pub by: String,
    /// Process of the agent that did it; absent when it was done here.
    pub agent_process: Option<u32>,
    /// Why it failed, if it did.
    pub why: Vec<Reason>,
}

/// Why it was not undone.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// No such deployment.
    #[error("nothing is kept of {0} here: `fettle agent status` lists what can be undone")]
    Unknown(DeploymentId),
    /// It cannot be.
    #[error("{deployment} cannot be undone here: {why}")]
    Not {
        /// Which.
        deployment: DeploymentId,
        /// Why.
        why: String,
    },
    /// Not root.
    #[error("packages are changed only as root: run it with sudo")]
    Root,
    /// Something else is half done.
    #[error("{0}: let the agent finish it first (`fettle agent run --once`)")]
    HalfDone(String),
    /// The running agent did not take it up; the request is taken back.
    #[error(
        "the running agent (process {0}) has not taken the request up: is it read-only? Stop it and ask again, then it is done without it"
    )]
    NotTakenUp(u32),
    /// The folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host's policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The spool.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The deployment.
    #[error("{0}")]
    Engine(String),
}

impl From<EngineError> for UndoError {
    fn from(error: EngineError) -> Self {
        UndoError::Engine(error.to_string())
    }
}

/// What would be put back: the steps of the deployment, `from` after the undo.
pub fn undoable(state_dir: &Path, deployment: DeploymentId) -> Result<Vec<PackageStep>, UndoError> {
    let (_, found) = look(state_dir, deployment)?;
    Ok(found.offer.manifest.steps.clone())
}

/// Undoes it. `line` is told each line of output as it comes.
pub fn undo(options: &UndoOptions, line: &mut dyn FnMut(LogLine)) -> Result<Undone, UndoError> {
    let (folder, before) = look(&options.state_dir, options.deployment)?;
    let ecosystem = before.offer.manifest.ecosystem;
    let provider = options.providers.iter().find(|provider| provider.ecosystem() == ecosystem);
    if provider.is_none_or(|provider| provider.manifest().root) && !rustix::process::geteuid().is_root() {
        return Err(UndoError::Root);
    }
    let by = who::who();
    let from = log_end(&folder);
    let agent_process = match StateDir::open(&options.state_dir) {
        Ok(state) => {
            here(options, state, &by, &folder, from, line)?;
            None
        }
        Err(StateError::Busy(_)) => {
            let process = holder(&options.state_dir).unwrap_or(0);
            by_agent(options, &by, &folder, process, from, line)?;
            Some(process)
        }
        Err(error) => return Err(error.into()),
    };
    let after = engine::peek(&folder)?.ok_or(UndoError::Unknown(options.deployment))?;
    Ok(Undone { deployment: options.deployment, state: after.state, by, agent_process, why: after.failure })
}

/// The folder and standing of a deployment that can be undone.
fn look(state_dir: &Path, id: DeploymentId) -> Result<(PathBuf, Deployment), UndoError> {
    let folder = StateDir::peek(state_dir).deployment(id);
    let found = engine::peek(&folder)?.ok_or(UndoError::Unknown(id))?;
    match local_order::why_not(&found, &folder) {
        Some(why) => Err(UndoError::Not { deployment: id, why }),
        None => Ok((folder, found)),
    }
}

/// No agent runs: this process is the one that may carry out.
fn here(
    options: &UndoOptions,
    state: StateDir,
    by: &str,
    folder: &Path,
    from: u64,
    line: &mut dyn FnMut(LogLine),
) -> Result<(), UndoError> {
    if let Some(text) = desk::unfinished(&state) {
        return Err(UndoError::HalfDone(text));
    }
    let masks = Arc::new(Config::load(&state.config())?.masks().unwrap_or_default());
    let policy = Policy::load(&options.policy)?;
    local_order::ask(&state, options.deployment, by)?;
    let host = Host {
        system: Arc::new(LocalSystem::new(
            &options.root,
            &etc_of(&options.policy),
            state.path(),
            options.owner.clone(),
        )),
        spool: Arc::new(Mutex::new(Spool::open(&state.spool())?)),
        state,
        root: options.root.clone(),
        providers: options.providers.clone(),
        policy,
        stop: Stop::default(),
        limits: Limits::default(),
        masks,
        running: Mutex::new(None),
    };
    let mut next = from;
    let ended = std::thread::scope(|scope| {
        let worker = scope.spawn(|| -> Result<Ended, EngineError> {
            match Engine::open(&host, options.deployment)? {
                Some(mut engine) => engine.run(),
                None => Ok(Ended::Settled(DeploymentState::Failed)),
            }
        });
        while !worker.is_finished() {
            next = tell_new(folder, next, line);
            host.stop.wait(LOOK);
        }
        tell_new(folder, next, line);
        worker.join().unwrap_or(Err(EngineError::Stopped))
    })?;
    match ended {
        Ended::Settled(_) => Ok(()),
        Ended::Waiting(until) => Err(UndoError::Engine(format!("it waits until {until}"))),
        Ended::Rebooting => Err(UndoError::Engine("it waits for a reboot".to_owned())),
    }
}

/// An agent runs: it takes the request up by itself.
fn by_agent(
    options: &UndoOptions,
    by: &str,
    folder: &Path,
    process: u32,
    from: u64,
    line: &mut dyn FnMut(LogLine),
) -> Result<(), UndoError> {
    let state = StateDir::peek(&options.state_dir);
    local_order::ask(&state, options.deployment, by)?;
    let (asked, mut next, pause) = (Instant::now(), from, Stop::default());
    loop {
        pause.wait(LOOK);
        next = tell_new(folder, next, line);
        let now = engine::peek(folder)?.ok_or(UndoError::Unknown(options.deployment))?;
        match now.state {
            DeploymentState::Succeeded if asked.elapsed() < TAKEN_UP => {}
            // Taken up, but not begun: another deployment is under way.
            DeploymentState::Succeeded if now.local_undo.is_some() => {}
            DeploymentState::Succeeded if local_order::take_back(&state, options.deployment)? => {
                return Err(UndoError::NotTakenUp(process));
            }
            DeploymentState::Succeeded => {}
            other if other.is_settled() => {
                tell_new(folder, next, line);
                return Ok(());
            }
            // Where the agent ends in the middle, its next start goes on.
            _ if holder(&options.state_dir).is_none() => {
                return Err(UndoError::Engine(
                    "the agent ended before the undo did: it goes on with it at its next start".to_owned(),
                ));
            }
            _ => {}
        }
    }
}

/// Number of the line behind the last one that is there.
fn log_end(folder: &Path) -> u64 {
    let mut next = 1;
    while let Ok(part) = keep::read(folder, next, PART) {
        next = part.lines.last().map_or(next, |line| line.number + 1);
        if part.last {
            break;
        }
    }
    next
}

fn tell_new(folder: &Path, from: u64, line: &mut dyn FnMut(LogLine)) -> u64 {
    let mut next = from;
    // What cannot be read now is read at the next look.
    for kept in keep::read(folder, from, PART).unwrap_or_default().lines {
        next = kept.number + 1;
        line(kept);
    }
    next
}
