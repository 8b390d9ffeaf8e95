//! The privileged half of the agent. It holds everything that may change the host: the desk, the
//! engine with its journals, the package managers, the spool, and what it believes in (the keys of
//! the server, this host's id, the policy of this host). It has no network of its own and obeys
//! nothing that its other half says: only orders signed by the server, inside the host's policy.

mod carry_out;
pub(crate) mod child;
mod serve;
#[cfg(test)]
mod taken_over_tests;
pub(crate) mod trust;

use crate::clock::Stop;
use crate::config::Config;
use crate::deploy::desk::{Desk, Rights};
use crate::deploy::engine::Host;
use crate::deploy::system::LocalSystem;
use crate::deploy::tasks::Limits;
use crate::disk::StateDir;
use crate::inventory::Watch;
use crate::policy::Policy;
use crate::report::Spool;
use crate::run::{RunError, RunOptions};
use crate::selfupdate::SelfUpdate;
use fettle_domain::HostId;
use fettle_domain::reason::Reason;
use fettle_plugin::Provider;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use trust::Trust;

pub(crate) use serve::Served;

/// The privileged half.
pub(crate) struct Executor {
    host_id: HostId,
    host: Arc<Host>,
    pub(crate) self_update: Arc<SelfUpdate>,
    desk: Mutex<Desk>,
    watch: Arc<Mutex<Watch>>,
    /// Of the administrator's own file.
    check_in_seconds: Option<u64>,
    /// Whether dry runs may fetch indexes.
    may_refresh: bool,
    /// Wakes the loop that carries out.
    work: Notify,
    /// The host was changed.
    changed: Notify,
    /// Everything that may not be cut off has ended, after the wish to stop.
    ended: watch::Sender<bool>,
}

impl Executor {
    /// Opens the state folder, which only one process may use at a time.
    pub(crate) fn open(options: &RunOptions) -> Result<Self, RunError> {
        let state = StateDir::open(&options.state_dir)?;
        let config = Config::load(&state.config())?;
        let trust = Trust::load(&state)?.ok_or_else(|| RunError::NotEnrolled(options.state_dir.clone()))?;
        let trust = trust.after_change(&state)?;
        let policy = Policy::load(&options.policy)?;
        let providers: Vec<Arc<dyn Provider>> = options
            .providers
            .iter()
            .filter(|provider| policy.allows_provider(&provider.manifest().name))
            .cloned()
            .collect();
        let read_only = options.read_only || config.read_only || policy.read_only;
        let why_not = why_not_change(read_only, &providers);
        let watch = Watch::new(
            &options.root,
            config.clone(),
            read_only || why_not.is_some(),
            providers.clone(),
            options.owner.clone(),
        );
        let may_refresh = why_not.is_none();
        // Checked when the file was read.
        let masks = Arc::new(config.masks().unwrap_or_default());
        let limit = config.self_update_seconds.map(Duration::from_secs);
        let self_update = Arc::new(SelfUpdate::begin(&state, options, limit));
        let host = Host {
            system: Arc::new(
                LocalSystem::new(&options.root, &etc_of(&options.policy), state.path(), options.owner.clone())
                    .with_self_update(self_update.clone()),
            ),
            spool: Arc::new(Mutex::new(Spool::open(&state.spool())?)),
            state,
            root: options.root.clone(),
            providers,
            policy,
            stop: Stop::default(),
            limits: Limits::default(),
            masks,
            running: Mutex::new(None),
        };
        let desk = Desk::open(&host, trust.host, trust.offer_keys(), Rights { why_not })?;
        tracing::info!(host.id = %trust.host, agent.read_only = read_only, "agent runs");
        Ok(Self {
            host_id: trust.host,
            host: Arc::new(host),
            self_update,
            desk: Mutex::new(desk),
            watch: Arc::new(Mutex::new(watch)),
            check_in_seconds: options.check_in_seconds.or(config.check_in_seconds),
            may_refresh,
            work: Notify::new(),
            changed: Notify::new(),
            ended: watch::channel(false).0,
        })
    }

    /// The folder that everything stands in.
    pub(crate) fn state(&self) -> &StateDir {
        &self.host.state
    }

    /// Waits until everything has ended, after the wish to stop.
    pub(crate) async fn until_ended(&self) {
        // The sender is ours: it is there.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// No new act is begun; what must not be cut off is finished.
    pub(crate) fn stop(&self) {
        self.host.stop.tell();
        self.work.notify_one();
    }
}

/// The folder of the administrator's own files: where the policy is, the host's health checks are.
pub(crate) fn etc_of(policy: &Path) -> PathBuf {
    policy.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
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
