//! `fettle agent`: on the host, without the server's help where it can be.

use crate::cli::{Agent, Output};
use crate::failure::Failure;
use crate::output;
use fettle_agent::{EnrolOptions, Exit, PackageOwner, RunOptions};
use fettle_vendors::debian::provider::Owners as DebianOwners;
use std::path::Path;
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
        Agent::Run { state, root, read_only, once, check_in_seconds } => {
            let options = RunOptions {
                state_dir: state.clone(),
                root: root.clone(),
                read_only: *read_only,
                once: *once,
                check_in_seconds: *check_in_seconds,
                providers: fettle_vendors::providers(),
                owner: Some(Arc::new(Owners::default())),
            };
            match fettle_agent::run(options, crate::signals::stop()).await.map_err(Failure::failed)? {
                Exit::Revoked => Err(Failure::new(3, "the server revoked this host; the agent stops")
                    .advise("If the machine is to be managed again: fettle agent enrol --force with a fresh token.")),
                Exit::DeploymentFailed => Err(Failure::failed("a deployment failed, was undone by itself or is stuck")
                    .advise("fettle agent status tells which; the server shows its log.")),
                Exit::Stopped | Exit::Done => Ok(()),
            }
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
