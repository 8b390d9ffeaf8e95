//! `fettle agent`: on the host, without the server's help where it can be.

use super::local;
use crate::cli::{Agent, Output};
use crate::failure::Failure;
use crate::output;
use fettle_agent::{
    EnrolOptions, Exit, Launcher, NetworkProcess, NetworkUser, PackageOwner, PlanOptions, ProveOptions, RunOptions,
    UndoOptions,
};
use fettle_domain::health::HealthCheck;
use fettle_vendors::debian::provider::Owners as DebianOwners;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which package a file belongs to, as the vendors know it.
#[derive(Default)]
pub(super) struct Owners(DebianOwners);

impl PackageOwner for Owners {
    fn owner_of(&self, root: &Path, path: &Path) -> Option<String> {
        // A file whose owner cannot be told has none.
        self.0.owner_of(root, path.to_str()?).ok().flatten()
    }
}

/// Runs it.
pub async fn run(command: &Agent, form: Output) -> Result<(), Failure> {
    match command {
        Agent::Enrol { server, token, state, root, read_only, force } => {
            let options = EnrolOptions {
                server: server.clone(),
                token: token.clone(),
                state_dir: state.clone(),
                root: root.clone(),
                read_only: *read_only,
                force: *force,
            };
            let enrolled = fettle_agent::enrol(options).await.map_err(Failure::failed)?;
            output::line(&format!(
                "enrolled as {} at {}; now: fettle agent run --state {}",
                enrolled.host,
                enrolled.server,
                enrolled.state_dir.display()
            ))
        }
        Agent::Run { state, root, policy, plugins, network_user, read_only, once, check_in_seconds, launcher } => {
            let run = Run {
                state: state.clone(),
                root: root.clone(),
                policy: policy.clone(),
                plugins: plugins.clone(),
                network_user: network_user.clone(),
                read_only: *read_only,
                once: *once,
                check_in_seconds: *check_in_seconds,
                launcher: launcher.clone(),
            };
            run.anew();
            run.now().await
        }
        Agent::Confirm { deployment, state } => {
            fettle_agent::confirm(state, deployment).map_err(Failure::failed)?;
            output::line(&format!("{deployment} is confirmed; the agent goes on with it within seconds"))
        }
        Agent::Prove { state, root, network_user, journal } => {
            let options = ProveOptions {
                state_dir: state.clone(),
                root: root.clone(),
                journals: journal.clone(),
                providers: fettle_vendors::providers(),
                owner: Some(Arc::new(Owners::default())),
                network: network_process(state, network_user, Some(PROVE))?,
            };
            let proof = fettle_agent::prove(options).await.map_err(Failure::failed)?;
            output::line(&format!(
                "proved as {}: the server answered; {} journals read, {} reports wait",
                proof.host, proof.journals, proof.reports
            ))
        }
        Agent::Watch { state, pid } => {
            let (state, pid) = (state.clone(), *pid);
            tokio::task::spawn_blocking(move || fettle_agent::watch(&state, pid))
                .await
                .map_err(Failure::failed)?
                .map_err(Failure::failed)
        }
        Agent::Status { state } => local::status(state, form),
        Agent::Inventory { root, plugins } => local::inventory(root, plugins, form),
        Agent::Plan { packages, security, refresh, root, policy, plugins } => {
            let options = PlanOptions {
                root: root.clone(),
                policy: policy.clone(),
                providers: crate::plugins::providers(plugins, None)?,
                packages: packages.clone(),
                security: *security,
                refresh: *refresh,
            };
            local::plan(&options, form)
        }
        Agent::Checks { checks, root, policy } => look_at_checks(checks, root, policy, form),
        Agent::Log { deployment, state } => local::log(deployment.as_deref(), state, form),
        Agent::Undo { deployment, yes, state, root, policy, plugins } => {
            let options = UndoOptions {
                state_dir: state.clone(),
                root: root.clone(),
                policy: policy.clone(),
                deployment: local::deployment_id(deployment)?,
                providers: crate::plugins::providers(plugins, None)?,
                owner: Some(Arc::new(Owners::default())),
            };
            local::undo(&options, *yes, form)
        }
        Agent::Scan { out, root, plugins } => local::scan(out, root, plugins, form),
    }
}

fn look_at_checks(texts: &[String], root: &Path, policy: &Path, form: Output) -> Result<(), Failure> {
    let parse = |text: &String| text.parse::<HealthCheck>().map_err(Failure::usage);
    let more = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let seen = fettle_agent::look_at_checks(root, policy, &more).map_err(Failure::failed)?;
    match form {
        Output::Json => output::json(&serde_json::to_value(&seen).map_err(Failure::failed)?)?,
        Output::Table if seen.is_empty() => {
            output::line("No check is defined here. Write some into checks.toml beside the policy (docs/checks.md).")?;
        }
        Output::Table => {
            for check in &seen {
                let word = if check.holds { "holds" } else { "FAILS" };
                output::line(&format!("{word}  {}: {} [{}]", check.name, check.evidence, check.source))?;
            }
        }
    }
    match seen.iter().filter(|check| !check.holds).count() {
        0 => Ok(()),
        failed => Err(Failure::failed(format!("{failed} of {} checks do not hold", seen.len()))),
    }
}

fn ended(exit: Exit) -> Result<(), Failure> {
    match exit {
        Exit::Revoked => Err(Failure::new(3, "the server revoked this host; the agent stops")
            .advise("If the machine is to be managed again: fettle agent enrol --force with a fresh token.")),
        Exit::DeploymentFailed => Err(Failure::failed("a deployment failed, was undone by itself or is stuck")
            .advise("fettle agent status tells which; the server shows its log.")),
        Exit::Stopped | Exit::Done | Exit::HandOver | Exit::NewIdentity => Ok(()),
    }
}

/// Becomes the launcher, which starts the agent's new program. What [`Run`] carries over an exec is for
/// the same program only.
fn take_over(launcher: &Launcher) -> Result<(), Failure> {
    let error = std::process::Command::new(&launcher.program).args(&launcher.arguments).env_remove(RUN).exec();
    Err(Failure::failed(format!("cannot start {}: {error}", launcher.program.display()))
        .advise("The agent was updated: start its service."))
}

/// `fettle agent run` as it was told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    state: PathBuf,
    root: PathBuf,
    policy: PathBuf,
    plugins: PathBuf,
    network_user: String,
    read_only: bool,
    once: bool,
    check_in_seconds: Option<u64>,
    launcher: Option<PathBuf>,
}

/// Carries [`Run`] over an exec.
const RUN: &str = "FETTLE_AGENT_RUN";

impl Run {
    /// What an earlier program of this very process was told.
    pub fn told() -> Option<Self> {
        let mut arguments = std::env::args_os().skip(1);
        let runs = arguments.next()? == "agent" && arguments.next()? == "run";
        serde_json::from_str(&crate::environment::variable(RUN).filter(|_| runs)?).ok()
    }

    /// Begins again as a fresh program that need not read the command line, and gives back memory it does
    /// not use (mallopt(3)): an agent waits most of its life. Returns only when that is not possible.
    fn anew(&self) {
        if self.once {
            return;
        }
        let (Ok(program), Ok(told)) = (std::env::current_exe(), serde_json::to_string(self)) else { return };
        let mut command = std::process::Command::new(program);
        command.args(std::env::args_os().skip(1)).env(RUN, told);
        command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "65536").env("MALLOC_TOP_PAD_", "16384");
        let error = command.exec();
        tracing::debug!(error.text = %error, "the agent goes on as it was started");
    }

    /// Runs the agent.
    pub async fn now(&self) -> Result<(), Failure> {
        let launcher = self.launcher.clone().map(|program| Launcher::of_arguments(program, std::env::args_os()));
        let options = RunOptions {
            state_dir: self.state.clone(),
            root: self.root.clone(),
            policy: self.policy.clone(),
            read_only: self.read_only,
            once: self.once,
            check_in_seconds: self.check_in_seconds,
            providers: crate::plugins::providers(&self.plugins, Some(&self.state))?,
            owner: Some(Arc::new(Owners::default())),
            network: network_process(&self.state, &self.network_user, self.once.then_some(ONCE))?,
            launcher: launcher.clone(),
        };
        let exit = fettle_agent::run(options, crate::signals::stop()).await.map_err(Failure::failed)?;
        match launcher {
            Some(launcher) if exit == Exit::HandOver => take_over(&launcher),
            _ => ended(exit),
        }
    }
}

/// The network-facing half as a process of its own, where that takes rights away from it.
fn network_process(state: &Path, user: &str, how: Option<&str>) -> Result<Option<NetworkProcess>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let Some(user) = NetworkUser::find(user) else {
        tracing::warn!(
            user.name = user,
            "there is no such unprivileged user: the network-facing half of the agent runs as root too (useradd --system makes one)"
        );
        return Ok(None);
    };
    let state = std::path::absolute(state).map_err(Failure::failed)?;
    // This very program, also when an update has put another at its path meanwhile.
    let program = PathBuf::from("/proc/self/exe");
    let mut arguments = vec![OsString::from("agent"), OsString::from(NETWORK_HALF), state.into_os_string()];
    arguments.extend(how.map(OsString::from));
    let environment = crate::environment::handed_on();
    Ok(Some(NetworkProcess { program, arguments, environment, user: Some(user) }))
}

/// Argument by which the agent starts its network-facing half. No command for people: standard input
/// is a socket to the executor. It is read without the whole command line, which keeps the half small.
const NETWORK_HALF: &str = "network-half";
/// After its folder: one round.
const ONCE: &str = "--once";
/// After its folder: only one check-in, for `fettle agent prove`.
const PROVE: &str = "--prove";

/// What the network-facing half is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Its work, until told to end.
    Run,
    /// One round of it.
    Once,
    /// One check-in, to prove this version.
    Prove,
}

/// Whether this process is that half: where its state is, and what it is to do.
pub fn network_half() -> Option<(PathBuf, Half)> {
    let mut arguments = std::env::args_os().skip(1);
    let wanted = arguments.next()? == "agent" && arguments.next()? == NETWORK_HALF;
    wanted.then_some(())?;
    let state = PathBuf::from(arguments.next()?);
    let half = match arguments.next() {
        Some(how) if how == ONCE => Half::Once,
        Some(how) if how == PROVE => Half::Prove,
        _ => Half::Run,
    };
    Some((state, half))
}

/// Runs that half.
pub async fn run_network_half(state: &Path, half: Half) -> Result<(), Failure> {
    if half == Half::Prove {
        return fettle_agent::prove_network(state).await.map_err(Failure::failed);
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(Failure::failed)?;
    ended(fettle_agent::run_network(socket, state, half == Half::Once).await.map_err(Failure::failed)?)
}
