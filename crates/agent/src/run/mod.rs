//! `fettle agent run`: four loops over one connection. One checks in, one waits for work, one reports
//! what the spool holds, one carries out what is due. They share nothing but what is on disk and a
//! few nudges, so that none waits for another.

mod check_in;
mod work;

use crate::clock::{self, Backoff, Stop};
use crate::config::{Config, ConfigError};
use crate::deploy::desk::{Desk, Rights};
use crate::deploy::engine::{EngineError, Host};
use crate::deploy::system::LocalSystem;
use crate::deploy::tasks::Limits;
use crate::disk::state::StateError;
use crate::disk::{LogError, StateDir};
use crate::inventory::{Acknowledged, Watch};
use crate::link::{Client, ClientError, Identity};
use crate::report::Spool;
use crate::services::PackageOwner;
use check_in::CheckIns;
use fettle_domain::reason::Reason;
use fettle_plugin::Provider;
use fettle_wire::agent::Report;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// First wait after a failed request, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// While a deployment runs, its output goes out at least so often.
const LIVE: Duration = Duration::from_millis(700);

/// For the last report when the agent ends; what is not told then is told at the next start.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What `fettle agent run` was told.
pub struct RunOptions {
    /// The agent's folder.
    pub state_dir: PathBuf,
    /// The host's file system.
    pub root: PathBuf,
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
}

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was told to stop.
    Stopped,
    /// `--once`: everything was done and told.
    Done,
    /// `--once`: done and told, but a deployment failed, was undone by itself or is stuck.
    DeploymentFailed,
    /// The server revoked this host.
    Revoked,
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
    /// The spool cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// `--once`: no good answer of the server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// `--once`: the host could not be looked at, or a deployment could not go on.
    #[error("{0}")]
    Work(String),
}

impl From<EngineError> for RunError {
    fn from(error: EngineError) -> Self {
        RunError::Work(error.to_string())
    }
}

/// The running agent, as its loops share it.
struct Agent {
    client: Client,
    host: Arc<Host>,
    desk: Mutex<Desk>,
    /// Whether dry runs may fetch indexes.
    may_refresh: bool,
    check_ins: CheckIns,
    /// Wakes the loop that carries out.
    work: Notify,
    /// Wakes the loop that checks in.
    changed: Notify,
    end: watch::Sender<Option<Exit>>,
}

/// Runs the agent until `shutdown` completes (or, with `once`, for one round).
pub async fn run(options: RunOptions, shutdown: impl Future<Output = ()>) -> Result<Exit, RunError> {
    let once = options.once;
    let agent = Agent::start(options)?;
    if once {
        return agent.once().await;
    }
    let mut ended = agent.end.subscribe();
    let told = async {
        tokio::select! {
            () = shutdown => Exit::Stopped,
            exit = ended.wait_for(Option::is_some) => exit.ok().and_then(|exit| *exit).unwrap_or(Exit::Stopped),
        }
    };
    let stopping = async {
        let exit = told.await;
        tracing::info!("the agent stops; what is begun and must not be cut off is finished first");
        agent.host.stop.tell();
        agent.end.send_replace(Some(exit));
        exit
    };
    let (exit, (), (), (), ()) =
        tokio::join!(stopping, agent.check_in_loop(), agent.work_loop(), agent.report_loop(), agent.carry_out_loop());
    if exit == Exit::Stopped {
        let _ = tokio::time::timeout(LAST_WORDS, agent.report_all()).await;
    }
    Ok(exit)
}

impl Agent {
    fn start(options: RunOptions) -> Result<Self, RunError> {
        let state = StateDir::open(&options.state_dir)?;
        let config = Config::load(&state.config())?;
        let identity = Identity::load(&state)?.ok_or_else(|| RunError::NotEnrolled(options.state_dir.clone()))?;
        let client = Client::enrolled(&identity)?;
        let read_only = options.read_only || config.read_only;
        let why_not = why_not_change(read_only, &options.providers);
        let interval = options.check_in_seconds.or(config.check_in_seconds).map(Duration::from_secs);
        let watch =
            Watch::new(&options.root, config, read_only || why_not.is_some(), options.providers.clone(), options.owner);
        let check_ins = CheckIns::new(watch, Acknowledged::load(&state), interval);
        let host = Host {
            system: Arc::new(LocalSystem::new(&options.root, state.path())),
            spool: Arc::new(Mutex::new(Spool::open(&state.spool())?)),
            state,
            root: options.root,
            providers: options.providers,
            stop: Stop::default(),
            limits: Limits::default(),
            running: Mutex::new(None),
        };
        let may_refresh = why_not.is_none();
        let desk = Desk::open(&host, identity.about.host, identity.offer_keys(), Rights { why_not })?;
        tracing::info!(host.id = %identity.about.host, server.address = client.server(), agent.read_only = read_only, "agent runs");
        Ok(Self {
            client,
            host: Arc::new(host),
            desk: Mutex::new(desk),
            may_refresh,
            check_ins,
            work: Notify::new(),
            changed: Notify::new(),
            end: watch::channel(None).0,
        })
    }

    fn is_ending(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits at most so long; ends at once when the agent ends or `nudge` is told.
    async fn pause(&self, limit: Duration, nudge: Option<&Notify>) {
        let mut end = self.end.subscribe();
        let nudged = async {
            match nudge {
                Some(nudge) => nudge.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(limit) => {}
            () = nudged => {}
            _ = end.wait_for(Option::is_some) => {}
        }
    }

    /// A request that is given up when the agent ends; `None` then.
    async fn unless_ending<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        let mut end = self.end.subscribe();
        tokio::select! {
            answer = request => Some(answer),
            _ = end.wait_for(Option::is_some) => None,
        }
    }

    /// A request that may end when the agent does, but not take long then.
    async fn finish_soon<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        let mut end = self.end.subscribe();
        let ended = async {
            let _ = end.wait_for(Option::is_some).await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            answer = request => Some(answer),
            () = ended => None,
        }
    }

    /// Notes a failed request once; a revoked host ends here.
    fn failed(&self, what: &'static str, error: &ClientError, wait: Duration) {
        if error.is_revoked() {
            tracing::error!(
                "the server has revoked this host: the agent ends; nothing on this machine is changed any more"
            );
            self.end.send_replace(Some(Exit::Revoked));
            return;
        }
        tracing::warn!(request.name = what, error.text = %error, wait.seconds = wait.as_secs(), "no good answer from the server");
    }

    /// Reports what the spool holds, as it comes.
    async fn report_loop(&self) {
        let nudge = clock::lock(&self.host.spool).nudge();
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while !self.is_ending() {
            let live = self.host.flush_output();
            match self.finish_soon(self.report_batch()).await {
                None => return,
                Some(Ok(true)) => backoff.reset(),
                Some(Ok(false)) => self.pause(if live { LIVE } else { LONGEST_WAIT }, Some(&nudge)).await,
                Some(Err(error)) => {
                    let wait = backoff.next_wait();
                    match &error {
                        RunError::Client(error) => self.failed("report", error, wait),
                        other => tracing::error!(error.text = %other, "the spool cannot be reported"),
                    }
                    self.pause(wait, None).await;
                }
            }
        }
    }

    /// Reports one batch; false when there is none, or the server did not take it.
    async fn report_batch(&self) -> Result<bool, RunError> {
        let entries = clock::lock(&self.host.spool).batch()?;
        let Some(first) = entries.first().map(|entry| entry.sequence) else { return Ok(false) };
        let reply = self.client.report(&Report { entries }).await?;
        clock::lock(&self.host.spool).acknowledge(reply.acknowledged)?;
        Ok(reply.acknowledged >= first)
    }

    async fn report_all(&self) -> Result<(), RunError> {
        while self.report_batch().await? {}
        Ok(())
    }

    /// `--once`. What is half done is carried on even when the server cannot be reached.
    async fn once(&self) -> Result<Exit, RunError> {
        let mut failed = false;
        let result = self.once_round(&mut failed).await;
        match result {
            Err(RunError::Client(error)) if error.is_revoked() => {
                self.failed("once", &error, Duration::ZERO);
                Ok(Exit::Revoked)
            }
            Err(error) => Err(error),
            Ok(()) if failed => Ok(Exit::DeploymentFailed),
            Ok(()) => Ok(Exit::Done),
        }
    }

    async fn once_round(&self, failed: &mut bool) -> Result<(), RunError> {
        let first = self.first_contact().await;
        if let Err(RunError::Client(error)) = &first
            && error.is_revoked()
        {
            return first;
        }
        let ran = self.carry_out_due(failed).await;
        first?;
        ran?;
        self.report_all().await?;
        // What was done is proved by a new inventory.
        self.check_in().await.map(drop)
    }

    async fn first_contact(&self) -> Result<(), RunError> {
        self.check_in().await?;
        self.report_all().await?;
        let work = self.client.work(0, Duration::ZERO).await?;
        clock::lock(&self.desk).take(&self.host, work.items)?;
        self.report_all().await
    }
}

/// Why this agent may not change its host, if so.
fn why_not_change(read_only: bool, providers: &[Arc<dyn Provider>]) -> Option<Reason> {
    if read_only {
        return Some(Reason::new("order.read-only", "the agent of this host is read-only: it never changes anything"));
    }
    let needs_root = providers.iter().any(|provider| provider.manifest().root);
    let is_root = rustix::process::geteuid().is_root();
    (needs_root && !is_root).then(|| {
        Reason::new("order.not-root", "the agent of this host does not run as root: it cannot change packages")
    })
}
