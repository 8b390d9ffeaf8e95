//! `fettle agent` on the host itself, with the server away.

use super::agent::Owners;
use super::{reasons, text};
use crate::cli::Output;
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use fettle_agent::{PlanError, PlanOptions, UndoError, UndoOptions};
use fettle_domain::DeploymentId;
use fettle_domain::machine::DeploymentState;
use fettle_domain::plan::{PackageStep, RehearsalOutcome};
use fettle_wire::log::{LogLine, LogStream};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

fn value(of: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(of).map_err(Failure::failed)
}

/// The id that a person named.
pub(super) fn deployment_id(text: &str) -> Result<DeploymentId, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{error}: `fettle agent status` lists the deployments")))
}

/// `fettle agent status`.
pub(super) fn status(state: &Path, form: Output) -> Result<(), Failure> {
    let status = value(&fettle_agent::status(state).map_err(Failure::failed)?)?;
    match form {
        Output::Json => output::json(&status),
        Output::Table => output::print(&status_text(&status, output::width())),
    }
}

fn status_text(status: &Value, width: usize) -> String {
    let of = |pointer: &str| output::cell(status.pointer(pointer));
    let process = status.get("process").and_then(Value::as_u64);
    let spool = match status.get("waiting_reports").and_then(Value::as_u64) {
        Some(0) => "nothing waits for the server".to_owned(),
        _ => format!("{} entries wait for the server ({} bytes)", of("/waiting_reports"), of("/spool_bytes")),
    };
    let mut pairs = vec![
        ("Host", of("/host")),
        ("Server", of("/server")),
        ("Enrolled", of("/enrolled_at")),
        ("Agent", process.map_or("does not run".to_owned(), |process| format!("runs as process {process}"))),
        ("Last contact", of("/last_contact/answered_at")),
    ];
    if !text(status, "/last_contact/error").is_empty() {
        pairs.push(("Last attempt", format!("{}: {}", of("/last_contact/tried_at"), of("/last_contact/error"))));
    }
    pairs.extend([("Spool", spool), ("Next window", of("/next_window"))]);
    let mut shown = output::pairs(&pairs, width);
    let deployments = json!({ "items": status.get("deployments") });
    let columns = [
        flexible("DEPLOYMENT", "/deployment"),
        fixed("STATE", "/state"),
        fixed("PACKAGES", "/packages"),
        fixed("UNDO", "/undoable"),
    ];
    shown.push_str(&format!("\n{}", output::table(&deployments, &columns, width, "Nothing was deployed here yet.")));
    for deployment in status.get("deployments").and_then(Value::as_array).into_iter().flatten() {
        // What went well needs no words here; all of it: --json.
        let state = text(deployment, "/state");
        if matches!(state.as_str(), "queued" | "succeeded" | "undone" | "withdrawn" | "expired") {
            continue;
        }
        shown.push_str(&format!("\n{}\n", text(deployment, "/deployment")));
        for task in deployment.get("tasks").and_then(Value::as_array).into_iter().flatten() {
            shown.push_str(&format!("  {:<20} {}\n", text(task, "/name"), text(task, "/state")));
        }
        for why in deployment.get("why").and_then(Value::as_array).into_iter().flatten() {
            let lines = output::wrap(&output::cell(Some(why)), width.saturating_sub(2));
            lines.iter().for_each(|line| shown.push_str(&format!("  {line}\n")));
        }
    }
    shown
}

/// `fettle agent inventory`.
pub(super) fn inventory(root: &Path, plugins: &Path, form: Output) -> Result<(), Failure> {
    let providers = crate::plugins::providers(plugins, None)?;
    let inventory = fettle_agent::inventory(root, &providers, Some(&Owners::default())).map_err(Failure::failed)?;
    if form == Output::Json {
        return output::json(&value(&inventory)?);
    }
    let facts = &inventory.facts;
    let outdated = inventory.services.iter().filter(|service| service.restart_pending).count();
    let pairs = [
        ("Name", if facts.fqdn.is_empty() { facts.name.clone() } else { facts.fqdn.clone() }),
        ("System", facts.os.pretty_name.clone()),
        ("Kernel", facts.kernel.running_release.clone()),
        ("Addresses", facts.addresses.join(" ")),
        ("Reboot", facts.reboot_pending.join("; ")),
        ("Packages", inventory.packages.len().to_string()),
        ("Services", format!("{} ({outdated} use replaced files)", inventory.services.len())),
    ];
    output::print(&output::pairs(&pairs, output::width()))?;
    let packages: Vec<Value> = inventory
        .packages
        .iter()
        .map(|package| json!({ "name": package.package.name, "version": package.package.version, "origin": package.origin }))
        .collect();
    let columns = [flexible("PACKAGE", "/name"), flexible("VERSION", "/version"), flexible("ORIGIN", "/origin")];
    output::print(&format!(
        "\n{}",
        output::table(&json!({ "items": packages }), &columns, output::width(), "No package is installed.")
    ))
}

/// `fettle agent plan`.
pub(super) fn plan(options: &PlanOptions, form: Output) -> Result<(), Failure> {
    let outcome = fettle_agent::plan(options).map_err(|error| match error {
        PlanError::Root => Failure::new(3, error),
        other => Failure::usage(other),
    })?;
    match form {
        Output::Json => output::json(&value(&outcome)?)?,
        Output::Table => output::print(&plan_text(&value(&outcome)?, output::width()))?,
    }
    match outcome {
        RehearsalOutcome::Impossible { .. } => Err(Failure::failed("it cannot be done; nothing was changed")),
        RehearsalOutcome::Possible { .. } | RehearsalOutcome::NothingToDo => Ok(()),
    }
}

fn plan_text(outcome: &Value, width: usize) -> String {
    let number = |pointer: &str| outcome.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    match text(outcome, "/kind").as_str() {
        "possible" => {
            let columns = [
                flexible("PACKAGE", "/name"),
                flexible("FROM", "/from"),
                flexible("TO", "/to"),
                fixed("ASKED", "/asked"),
                fixed("BYTES", "/file/size"),
            ];
            let steps = json!({ "items": outcome.pointer("/manifest/steps") });
            let disk = number("/manifest/disk_bytes");
            let disk = if disk < 0 { format!("frees {} bytes", -disk) } else { format!("takes {disk} bytes more") };
            format!(
                "{}\n{} bytes to fetch, {disk} on the disk. Nothing was changed.\n{}",
                output::table(&steps, &columns, width, "nothing changes"),
                number("/manifest/download_bytes"),
                reasons(outcome, "/notes", width)
            )
        }
        "nothing-to-do" => "Nothing is to be done: all that is wanted is installed.\n".to_owned(),
        _ => format!("It cannot be done:\n{}", reasons(outcome, "/reasons", width)),
    }
}

/// `fettle agent log`.
pub(super) fn log(deployment: Option<&str>, state: &Path, form: Output) -> Result<(), Failure> {
    let id = deployment.map(deployment_id).transpose()?;
    let mut failed = None;
    let mut print = |line: LogLine| {
        let told = match form {
            // One object a line: a log may be long.
            Output::Json => value(&line).and_then(|line| output::line(&line.to_string())),
            Output::Table => output::print(&line_text(&line)),
        };
        failed = failed.take().or(told.err());
    };
    fettle_agent::kept_log(state, id, &mut print).map_err(|error| Failure::new(4, error))?;
    failed.map_or(Ok(()), Err)
}

/// A line of a kept log for people.
pub(super) fn line_text(line: &LogLine) -> String {
    let at = line.at.to_string();
    let clock = at.get(11..19).unwrap_or_default();
    let sign = match line.stream {
        LogStream::Output => '|',
        LogStream::Error => '!',
        LogStream::Fettle => '*',
    };
    format!(
        "{clock} {}{sign} {}\n",
        if line.task.is_empty() { String::new() } else { format!("{} ", line.task) },
        line.text
    )
}

/// `fettle agent undo`.
pub(super) fn undo(options: &UndoOptions, yes: bool, form: Output) -> Result<(), Failure> {
    let id = options.deployment;
    let steps = fettle_agent::undoable(&options.state_dir, id).map_err(undo_failure)?;
    if !yes {
        confirm(&steps)?;
    }
    let mut print = |line: LogLine| {
        if form == Output::Table {
            // The undo goes on when nobody reads.
            let _ = output::print(&line_text(&line));
        }
    };
    let undone = fettle_agent::undo(options, &mut print).map_err(undo_failure)?;
    if form == Output::Json {
        output::json(&value(&undone)?)?;
    }
    if undone.state != DeploymentState::Undone {
        let why: Vec<String> = undone.why.iter().map(ToString::to_string).collect();
        return Err(Failure::failed(format!("{id} is {}: {}", undone.state, why.join("; ")))
            .advise("fettle agent log prints what was tried; a person must look at this host."));
    }
    if form == Output::Table {
        output::line(&format!("{id} is undone, by {}; the server is told when it can be reached", undone.by))?;
    }
    Ok(())
}

fn undo_failure(error: UndoError) -> Failure {
    let code = match &error {
        UndoError::Unknown(_) => 4,
        UndoError::Not { .. } | UndoError::HalfDone(_) => 5,
        UndoError::Root => 3,
        _ => 1,
    };
    Failure::new(code, error)
}

fn confirm(steps: &[PackageStep]) -> Result<(), Failure> {
    let items: Vec<Value> =
        steps.iter().map(|step| json!({ "name": step.name, "now": step.to, "then": step.from })).collect();
    let columns = [flexible("PACKAGE", "/name"), flexible("NOW", "/now"), flexible("AFTER THE UNDO", "/then")];
    let table = output::table(&json!({ "items": items }), &columns, output::width(), "No package changes.");
    let unasked = || Failure::usage("nobody can be asked here").advise("Say --yes if the undo is meant.");
    if !std::io::stdin().is_terminal() {
        return Err(unasked());
    }
    output::print(&format!("{table}\nUndo this now? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|_| unasked())?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::failed("nothing was changed")) }
}

/// `fettle agent scan`.
pub(super) fn scan(out: &Path, root: &Path, plugins: &Path, form: Output) -> Result<(), Failure> {
    let providers = crate::plugins::providers(plugins, None)?;
    let scan = fettle_agent::scan(root, &providers, Some(&Owners::default())).map_err(Failure::failed)?;
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut packed, &scan).map_err(Failure::failed)?;
    let bytes = packed.finish()?;
    if out == Path::new("-") {
        std::io::stdout().lock().write_all(&bytes)?;
        return Ok(());
    }
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot write {}: {error}", out.display()));
    let mut scratch = out.as_os_str().to_owned();
    scratch.push(".new");
    match std::fs::remove_file(&scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    // What runs on a machine is not for everybody on it; and no link that somebody put there is followed.
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch).map_err(cannot)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(cannot)?;
    std::fs::rename(&scratch, out).map_err(cannot)?;
    let (packages, services) = (scan.packages.len(), scan.services.len());
    if form == Output::Json {
        return output::json(&json!({
            "file": out.display().to_string(), "bytes": bytes.len(), "packages": packages, "services": services,
            "missing": scan.missing,
        }));
    }
    output::line(&format!(
        "{} holds {packages} packages and {services} services ({} bytes)",
        out.display(),
        bytes.len()
    ))?;
    for missing in &scan.missing {
        output::line(&format!("missing: {missing}"))?;
    }
    output::line("where the server can be reached: fettle host import FILE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_for_people() {
        let status = json!({
            "host": "host_0198f6c2-0000-7000-8000-000000000001", "server": "https://patch.example:8443",
            "enrolled_at": "2026-11-25T04:35:58Z", "process": null, "waiting_reports": 3, "spool_bytes": 1200,
            "last_contact": { "answered_at": "2026-11-25T04:40:00Z", "tried_at": "2026-11-25T05:00:00Z", "error": "connection refused" },
            "next_window": "2026-11-26T22:00:00Z",
            "deployments": [
                { "deployment": "deployment_0198f6c2-0000-7000-8000-000000000003", "state": "queued", "packages": 2, "undoable": false, "tasks": [], "why": [] },
                { "deployment": "deployment_0198f6c2-0000-7000-8000-000000000002", "state": "stuck", "packages": 4, "undoable": false,
                  "tasks": [{ "name": "install", "state": "error" }], "why": ["the former files cannot be put back"] },
                { "deployment": "deployment_0198f6c2-0000-7000-8000-000000000001", "state": "succeeded", "packages": 1, "undoable": true, "tasks": [], "why": [] },
            ],
        });
        insta::assert_snapshot!(status_text(&status, 80), @r"
        Host          host_0198f6c2-0000-7000-8000-000000000001
        Server        https://patch.example:8443
        Enrolled      2026-11-25 04:35
        Agent         does not run
        Last contact  2026-11-25 04:40
        Last attempt  2026-11-25 05:00: connection refused
        Spool         3 entries wait for the server (1200 bytes)
        Next window   2026-11-26 22:00

        DEPLOYMENT                                       STATE      PACKAGES  UNDO
        deployment_0198f6c2-0000-7000-8000-000000000003  queued     2         no
        deployment_0198f6c2-0000-7000-8000-000000000002  stuck      4         no
        deployment_0198f6c2-0000-7000-8000-000000000001  succeeded  1         yes

        deployment_0198f6c2-0000-7000-8000-000000000002
          install              error
          the former files cannot be put back
        ");
    }

    #[test]
    fn a_plan_for_people() {
        let possible = json!({ "kind": "possible", "manifest": { "steps": [
            { "name": "libssl3", "from": "3.0.11-1~deb12u1", "to": "3.0.11-1~deb12u2", "asked": true, "file": { "size": 2000 } },
            { "name": "old", "from": "1", "to": null, "asked": false, "file": null } ],
            "download_bytes": 2000, "disk_bytes": -5 }, "notes": [{ "topic": "conffile.kept", "text": "/etc/ssl/openssl.cnf was edited", "source": "" }] });
        insta::assert_snapshot!(plan_text(&possible, 80), @r"
        PACKAGE  FROM              TO                ASKED  BYTES
        libssl3  3.0.11-1~deb12u1  3.0.11-1~deb12u2  yes    2000
        old      1                 -                 no     -

        2000 bytes to fetch, frees 5 bytes on the disk. Nothing was changed.
          - /etc/ssl/openssl.cnf was edited
        ");
        insta::assert_snapshot!(plan_text(&json!({ "kind": "nothing-to-do" }), 80), @"Nothing is to be done: all that is wanted is installed.");
        let impossible =
            json!({ "kind": "impossible", "reasons": [{ "topic": "a.b", "text": "held back", "source": "" }] });
        insta::assert_snapshot!(plan_text(&impossible, 80), @r"
        It cannot be done:
          - held back
        ");
    }

    #[test]
    fn a_line_of_the_kept_log_for_people() {
        let line = LogLine {
            number: 7,
            at: fettle_domain::Timestamp::parse("2026-11-25T04:35:58Z").unwrap(),
            task: "install".into(),
            stream: LogStream::Error,
            text: "dpkg: warning".into(),
        };
        assert_eq!(line_text(&line), "04:35:58 install ! dpkg: warning\n");
    }
}
