//! `fettle agent run`: two halves. The executor ([`crate::executor`]) may change the host and has no
//! network; the other half ([`network`]) talks to the server and may change nothing. Where the agent
//! runs as root and the unprivileged user exists they are two processes; else both are in this one,
//! over the same socket pair, so that there is one path for both.

mod check_in;
mod log;
mod network;
mod work;

use crate::channel::{Asking, ChannelError};
use crate::clock::Backoff;
use crate::config::ConfigError;
use crate::deploy::engine::EngineError;
use crate::disk::state::StateError;
use crate::disk::{DiskError, LogError, StateDir};
use crate::executor::{Executor, Served, child};
use crate::link::{Client, ClientError, Identity};
use crate::policy::PolicyError;
use crate::selfupdate::Launcher;
use crate::services::PackageOwner;
use fettle_plugin::Provider;
use network::Network;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::UnixStream;

pub use child::{NetworkProcess, NetworkUser};

/// First wait after a failed request, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What `fettle agent run` was told.
pub struct RunOptions {
    /// The agent's folder.
    pub state_dir: PathBuf,
    /// The host's file system.
    pub root: PathBuf,
    /// The host's own policy; need not exist.
    pub policy: PathBuf,
    /// Never change the host.
    pub read_only: bool,
    /// One round: check in, report, take work, do it, report; then end.
    pub once: bool,
    /// Seconds between check-ins, in place of what configuration and server say.
    pub check_in_seconds: Option<u64>,
    /// The package managers.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Says which package owns a file.
    pub owner: Option<Arc<dyn PackageOwner>>,
    /// The network-facing half as a process of its own; `None`: in this one.
    pub network: Option<NetworkProcess>,
    /// What started this agent, if it can start it anew after an update of its own.
    pub launcher: Option<Launcher>,
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// It was told to stop.
    Stopped,
    /// `--once`: everything was done and told.
    Done,
    /// `--once`: done and told, but a deployment failed, was undone by itself or is stuck.
    DeploymentFailed,
    /// The server revoked this host.
    Revoked,
    /// The agent's program was replaced: the launcher is to take over.
    HandOver,
    /// This machine was a copy of another host and is one of its own from now on. [`run`] begins again
    /// by itself; only the network-facing half ends so.
    NewIdentity,
}

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No identity.
    #[error("this machine is not enrolled (no identity in {}): run `fettle agent enrol --server URL --token T`", .0.display())]
    NotEnrolled(PathBuf),
    /// The folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The host's policy is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The spool cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// `--once`: no good answer of the server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The other half gave no good answer.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// `--once`: the host could not be looked at, or a deployment could not go on.
    #[error("{0}")]
    Work(String),
}

impl From<EngineError> for RunError {
    fn from(error: EngineError) -> Self {
        RunError::Work(error.to_string())
    }
}

impl From<DiskError> for RunError {
    fn from(error: DiskError) -> Self {
        RunError::State(error.into())
    }
}

/// Runs the agent until `shutdown` completes (or, with `once`, for one round).
pub async fn run(options: RunOptions, shutdown: impl Future<Output = ()>) -> Result<Exit, RunError> {
    let mut shutdown = std::pin::pin!(shutdown);
    // A half that was taken over may say so again and again: that must not keep this one busy.
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        match run_as_one_host(&options, shutdown.as_mut()).await? {
            Exit::NewIdentity => tokio::time::sleep(backoff.next_wait()).await,
            exit => return Ok(exit),
        }
    }
}

async fn run_as_one_host(options: &RunOptions, shutdown: Pin<&mut impl Future<Output = ()>>) -> Result<Exit, RunError> {
    let executor = Arc::new(Executor::open(options)?);
    let once = options.once;
    let stopped = AtomicBool::new(false);
    let told = async {
        if once {
            // Ended at once by the signal itself: a cut round goes on at the next start.
            std::future::pending::<()>().await;
        }
        shutdown.await;
        stopped.store(true, Ordering::Release);
        tracing::info!("the agent stops; what is begun and must not be cut off is finished first");
        executor.stop();
        // The other half ends when it is told, which is when the last act has ended.
        std::future::pending::<()>().await;
    };
    let carrying_out = async {
        if !once {
            executor.carry_out_loop().await;
        }
        std::future::pending::<()>().await;
    };
    let halves = async {
        let exit = match &options.network {
            None => in_one_process(&executor, &options.state_dir, once).await,
            Some(process) => child::in_two_processes(&executor, process, once).await,
        };
        if matches!(exit, Ok(Exit::NewIdentity)) && !once {
            // What is under way ends before another one opens the folder.
            executor.stop();
            executor.until_ended().await;
        }
        exit
    };
    let exit = tokio::select! {
        exit = halves => exit,
        () = told => Ok(Exit::Stopped),
        () = carrying_out => Ok(Exit::Stopped),
    };
    match exit {
        Ok(Exit::Stopped | Exit::Done | Exit::DeploymentFailed)
            if executor.self_update.wants_hand_over() && !stopped.load(Ordering::Acquire) =>
        {
            Ok(Exit::HandOver)
        }
        exit => exit,
    }
}

async fn in_one_process(executor: &Arc<Executor>, state_dir: &Path, once: bool) -> Result<Exit, RunError> {
    let (ours, theirs) = UnixStream::pair().map_err(socket_failed)?;
    let serving = async {
        match executor.serve(ours).await {
            // The network half returns by itself, with an error that says more.
            Served::Goodbye(_) | Served::Gone(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        exit = network_half(theirs, state_dir, once) => exit,
        exit = serving => exit,
    }
}

/// The network-facing half as a process of its own: `socket` is what the executor handed it.
pub async fn run_network(socket: OwnedFd, state_dir: &Path, once: bool) -> Result<Exit, RunError> {
    child::give_up_privileges()?;
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).map_err(socket_failed)?;
    network_half(UnixStream::from_std(socket).map_err(socket_failed)?, state_dir, once).await
}

async fn network_half(socket: UnixStream, state_dir: &Path, once: bool) -> Result<Exit, RunError> {
    let state = StateDir::peek(state_dir);
    let identity = Identity::load(&state)?.ok_or_else(|| RunError::NotEnrolled(state_dir.to_owned()))?;
    let client = Client::enrolled(&identity)?.with_chain_of(&state);
    let (asking, answers) = Asking::over(socket);
    let network = Network::new(state, client, asking);
    let listening = async {
        network.listen(answers).await;
        // Whoever waits for an answer hears of it and ends with an error that tells why.
        std::future::pending::<()>().await;
    };
    let work = async {
        let exit = network.run(identity.about.host, once).await;
        network.say_goodbye(exit.as_ref().copied().map_err(ToString::to_string)).await;
        exit
    };
    tokio::select! {
        exit = work => exit,
        () = listening => Ok(Exit::Stopped),
    }
}

fn socket_failed(error: std::io::Error) -> RunError {
    RunError::Work(format!("cannot connect the two halves of the agent: {error}"))
}
