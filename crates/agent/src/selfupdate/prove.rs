//! `fettle agent prove`: a new version of the agent shows that it can do the agent's work on this host,
//! while the old one still runs: reads what the agent keeps, looks at the host, and has a check-in
//! answered. Changes nothing but the server's record of the check-in. As everywhere, what talks to the
//! network is a process of its own without rights.

use crate::clock;
use crate::config::Config;
use crate::deploy::engine;
use crate::disk::StateDir;
use crate::executor::child::{self, NetworkProcess};
use crate::executor::trust::Trust;
use crate::inventory::{Acknowledged, Watch};
use crate::link::{Client, Identity};
use crate::report::Spool;
use crate::run::RunError;
use crate::services::PackageOwner;
use fettle_domain::HostId;
use fettle_plugin::Provider;
use fettle_wire::agent::CheckIn;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is to be shown.
pub struct ProveOptions {
    /// The agent's folder.
    pub state_dir: PathBuf,
    /// The host's file system.
    pub root: PathBuf,
    /// Deployments whose journals the running version can read.
    pub journals: Vec<String>,
    /// The package managers.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Says which package owns a file.
    pub owner: Option<Arc<dyn PackageOwner>>,
    /// What calls [`prove_network`] in a process of its own; `None`: in this one.
    pub network: Option<NetworkProcess>,
}

/// What was shown.
#[derive(Debug, Clone, Copy)]
pub struct Proof {
    /// This host.
    pub host: HostId,
    /// Journals that were read.
    pub journals: usize,
    /// Reports that wait for the server.
    pub reports: usize,
}

/// Shows it.
pub async fn prove(options: ProveOptions) -> Result<Proof, RunError> {
    let state = StateDir::peek(&options.state_dir);
    let config = Config::load(&state.config())?;
    let trust = Trust::load(&state)?.ok_or_else(|| RunError::NotEnrolled(options.state_dir.clone()))?;
    let reports = Spool::peek(&state.spool())?;
    for journal in &options.journals {
        let id = journal.parse().map_err(|_| RunError::Work(format!("`{journal}` is no deployment")))?;
        engine::peek(&state.deployment(id))?.ok_or_else(|| RunError::Work(format!("{journal} has no journal")))?;
    }
    let mut watch = Watch::new(&options.root, config, false, options.providers, options.owner);
    if let Some(error) = watch.look(true).trouble {
        // The running version may have the same trouble: it is told, and proves nothing.
        tracing::warn!(error.text = %error, "the packages cannot be listed");
    }
    match &options.network {
        Some(process) => child::run_to_end(process)?,
        None => check_in(&options.state_dir).await?,
    }
    Ok(Proof { host: trust.host, journals: options.journals.len(), reports })
}

/// The part that talks to the server, as a process of its own.
pub async fn prove_network(state_dir: &Path) -> Result<(), RunError> {
    child::give_up_privileges()?;
    check_in(state_dir).await
}

async fn check_in(state_dir: &Path) -> Result<(), RunError> {
    let state = StateDir::peek(state_dir);
    let identity = Identity::load(&state)?.ok_or_else(|| RunError::NotEnrolled(state_dir.to_owned()))?;
    // The server is told what it has already: the differences stay the running version's business.
    let digests = Acknowledged::load(&state).digests().clone();
    let request = CheckIn {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        time: clock::now(),
        digests,
        // No link of the chain: that stays the running version's business as well.
        chain: None,
        facts: None,
        packages: None,
        services: None,
    };
    Client::enrolled(&identity)?.check_in(&request).await?;
    Ok(())
}
