//! `fettle agent`: on the host, without the server's help where it can be.

use crate::cli::{Agent, Output};
use crate::failure::Failure;
use crate::output;
use fettle_agent::{EnrolOptions, Exit, NetworkProcess, NetworkUser, PackageOwner, RunOptions};
use fettle_vendors::debian::provider::Owners as DebianOwners;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which package a file belongs to, as the vendors know it.
#[derive(Default)]
struct Owners(DebianOwners);

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
        Agent::Run { state, root, policy, network_user, read_only, once, check_in_seconds } => {
            let run = Run {
                state: state.clone(),
                root: root.clone(),
                policy: policy.clone(),
                network_user: network_user.clone(),
                read_only: *read_only,
                once: *once,
                check_in_seconds: *check_in_seconds,
            };
            run.anew();
            run.now().await
        }
        Agent::Confirm { deployment, state } => {
            fettle_agent::confirm(state, deployment).map_err(Failure::failed)?;
            output::line(&format!("{deployment} is confirmed; the agent goes on with it within seconds"))
        }
        Agent::Status { state } => {
            let status = fettle_agent::status(state).map_err(Failure::failed)?;
            match form {
                Output::Json => output::json(&serde_json::to_value(&status).map_err(Failure::failed)?),
                Output::Table => output::print(&status_text(&serde_json::to_value(&status).map_err(Failure::failed)?)),
            }
        }
        Agent::Inventory { root } => {
            let inventory = fettle_agent::inventory(root, &fettle_vendors::providers(), Some(&Owners::default()))
                .map_err(Failure::failed)?;
            output::json(&serde_json::to_value(&inventory).map_err(Failure::failed)?)
        }
    }
}

fn ended(exit: Exit) -> Result<(), Failure> {
    match exit {
        Exit::Revoked => Err(Failure::new(3, "the server revoked this host; the agent stops")
            .advise("If the machine is to be managed again: fettle agent enrol --force with a fresh token.")),
        Exit::DeploymentFailed => Err(Failure::failed("a deployment failed, was undone by itself or is stuck")
            .advise("fettle agent status tells which; the server shows its log.")),
        Exit::Stopped | Exit::Done | Exit::NewIdentity => Ok(()),
    }
}

/// `fettle agent run` as it was told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    state: PathBuf,
    root: PathBuf,
    policy: PathBuf,
    network_user: String,
    read_only: bool,
    once: bool,
    check_in_seconds: Option<u64>,
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
        let options = RunOptions {
            state_dir: self.state.clone(),
            root: self.root.clone(),
            policy: self.policy.clone(),
            read_only: self.read_only,
            once: self.once,
            check_in_seconds: self.check_in_seconds,
            providers: fettle_vendors::providers(),
            owner: Some(Arc::new(Owners::default())),
            network: network_process(&self.state, &self.network_user, self.once)?,
        };
        ended(fettle_agent::run(options, crate::signals::stop()).await.map_err(Failure::failed)?)
    }
}

/// The network-facing half as a process of its own, where that takes rights away from it.
fn network_process(state: &Path, user: &str, once: bool) -> Result<Option<NetworkProcess>, Failure> {
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
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let mut arguments = vec![OsString::from("agent"), OsString::from(NETWORK_HALF), state.into_os_string()];
    if once {
        arguments.push(OsString::from("--once"));
    }
    let environment = crate::environment::handed_on();
    Ok(Some(NetworkProcess { program, arguments, environment, user: Some(user) }))
}

/// Argument by which the agent starts its network-facing half. No command for people: standard input
/// is a socket to the executor. It is read without the whole command line, which keeps the half small.
const NETWORK_HALF: &str = "network-half";

/// Whether this process is that half: where its state is, and whether it runs once.
pub fn network_half() -> Option<(PathBuf, bool)> {
    let mut arguments = std::env::args_os().skip(1);
    let wanted = arguments.next()? == "agent" && arguments.next()? == NETWORK_HALF;
    wanted.then_some(())?;
    Some((PathBuf::from(arguments.next()?), arguments.next().is_some_and(|one| one == "--once")))
}

/// Runs that half.
pub async fn run_network_half(state: &Path, once: bool) -> Result<(), Failure> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(Failure::failed)?;
    ended(fettle_agent::run_network(socket, state, once).await.map_err(Failure::failed)?)
}

fn status_text(status: &serde_json::Value) -> String {
    let of = |pointer: &str| output::cell(status.pointer(pointer));
    let deployments = status.get("deployments").and_then(serde_json::Value::as_array).map_or(0, Vec::len);
    output::pairs(
        &[
            ("Host", of("/host")),
            ("Server", of("/server")),
            ("Enrolled", of("/enrolled_at")),
            ("Last answer", of("/last_contact/answered_at")),
            ("Last error", of("/last_contact/error")),
            ("Reports waiting", of("/waiting_reports")),
            ("Deployments", deployments.to_string()),
        ],
        output::width(),
    )
}
