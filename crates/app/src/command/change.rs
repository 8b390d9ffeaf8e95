//! `fettle change` and `fettle deployment`.

use super::{log, query, reasons, text};
use crate::cli::{Change, ChangeCreate, Deployment, Output};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Runs `fettle change`.
pub async fn run(command: &Change, form: Output) -> Result<(), Failure> {
    let client = Client::signed_in()?;
    match command {
        Change::Create(options) => create(&client, options, form).await,
        Change::List { page, sort, state } => {
            let answer =
                client.get("/changes", &query(page, &[("sort", sort.clone()), ("state", state.clone())])).await?;
            if form == Output::Json {
                return output::json(&answer);
            }
            let columns = [
                fixed("#", "/number"),
                flexible("TITLE", "/title"),
                fixed("STATE", "/state"),
                fixed("HOSTS", "/hosts"),
                flexible("BY", "/requester"),
                fixed("CREATED", "/created_at"),
            ];
            output::print(&output::table(
                &answer,
                &columns,
                output::width(),
                "No change fits. Ask for one: fettle change create --vulnerability CVE-… --host NAME",
            ))
        }
        Change::Show { id } => {
            let answer = client.get(&path(id, ""), &[]).await?;
            if form == Output::Json {
                return output::json(&answer);
            }
            show(&client, id, &answer).await
        }
        Change::Approve { id, digest } => approve(&client, id, digest.clone(), form).await,
        Change::Reject { id, reason } => act(&client, id, "reject", reason, form).await,
        Change::Start { id } => act(&client, id, "start", "", form).await,
        Change::Cancel { id, reason } => act(&client, id, "cancel", reason, form).await,
        Change::Undo { id, reason } => act(&client, id, "undo", reason, form).await,
        Change::Log { id, host, whole, follow, wait } => {
            let wanted = log::Wanted { whole: *whole, follow: *follow, wait: Duration::from_secs(*wait) };
            log::run(&client, id, host.as_deref(), wanted, form).await
        }
        Change::Watch { id } => watch(&client, id, form).await,
    }
}

pub(super) fn path(id: &str, rest: &str) -> String {
    format!("/changes/{}{rest}", escape(id.trim_start_matches('#')))
}

async fn create(client: &Client, options: &ChangeCreate, form: Output) -> Result<(), Failure> {
    let somewhere = !options.hosts.is_empty() || options.group.is_some();
    let body = json!({
        "title": options.title.clone().unwrap_or_default(),
        "reason": options.reason,
        "findings": options.findings,
        "vulnerabilities": options.vulnerabilities,
        "packages": options.packages,
        "hosts": options.hosts,
        "groups": options.group.iter().collect::<Vec<_>>(),
        // A vulnerability without a place means: wherever it is open.
        "all_affected": !options.vulnerabilities.is_empty() && !somewhere,
        "allow_removals": options.allow_removals,
        "success_percent": options.success,
        "reboot": if options.reboot { "if-needed" } else { "never" },
        "restart_services": !options.no_restart,
        "checks": options.checks,
    });
    let answer = client.post("/changes", &body).await?;
    if form == Output::Json {
        return output::json(&answer);
    }
    let id = text(&answer, "/summary/id");
    output::line(&format!(
        "change #{} {}: every host tries it dry now",
        text(&answer, "/summary/number"),
        text(&answer, "/summary/title")
    ))?;
    output::line(&format!("follow: fettle change watch {id}"))?;
    output::line(&format!("read:   fettle change show {id}"))
}

async fn show(client: &Client, id: &str, answer: &Value) -> Result<(), Failure> {
    let of = |pointer: &str| output::cell(answer.pointer(pointer));
    let width = output::width();
    let counts = |pointer: &str| {
        let list = answer.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        list.map(|entry| format!("{} {}", text(entry, "/count"), text(entry, "/state"))).collect::<Vec<_>>().join(", ")
    };
    let approvals: Vec<String> = answer
        .get("approvals")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|approval| format!("{} at {}", text(approval, "/by"), text(approval, "/at")))
        .collect();
    let pairs = [
        ("Change", format!("#{} {}", of("/summary/number"), of("/summary/title"))),
        ("Id", of("/summary/id")),
        ("State", of("/summary/state")),
        ("Asked by", format!("{} at {}", of("/summary/requester"), of("/summary/created_at"))),
        ("What", of("/asked_for")),
        ("Why", of("/reason")),
        ("Findings", format!("{} to close", of("/findings"))),
        ("Hosts", format!("{} of {} asked", of("/summary/hosts"), of("/summary/asked"))),
        ("Risk", of("/risk/level")),
        ("Back-out", of("/back_out")),
        (
            "Acceptance",
            format!(
                "{} % of the hosts proved by a later inventory; silent for {} s counts as failed",
                of("/acceptance/success_percent"),
                of("/acceptance/silence_seconds")
            ),
        ),
        ("Restart", format!("services: {}, reboot: {}", of("/restart_services"), of("/reboot"))),
        ("Checks", checks_asked(answer)),
        ("Digest", of("/plan_digest")),
        ("Approvals", format!("{} of {} needed {}", approvals.len(), of("/approvals_needed"), approvals.join(", "))),
        ("Dry runs", counts("/rehearsals")),
        ("Deployments", counts("/deployments")),
        ("Waiting for", of("/waiting_for")),
        ("You may", of("/may")),
    ];
    output::print(&output::pairs(&pairs, width))?;
    let report = reasons(answer, "/report", width);
    if !report.is_empty() {
        output::print(&format!("\nReport\n{report}"))?;
    }
    checks_seen(client, id, width).await?;
    let hosts = client.get(&path(id, "/hosts"), &[("limit", "20".to_owned())]).await?;
    for host in hosts.get("items").and_then(Value::as_array).into_iter().flatten() {
        output::line(&format!("\n{} ({})", text(host, "/host_name"), text(host, "/os")))?;
        let columns = [
            flexible("  PACKAGE", "/name"),
            flexible("FROM", "/from"),
            flexible("TO", "/to"),
            fixed("ASKED", "/asked"),
            fixed("BYTES", "/size"),
        ];
        let packages = json!({ "items": host.get("packages") });
        output::print(&output::table(&packages, &columns, width, "  nothing changes"))?;
        output::print(&reasons(host, "/notes", width))?;
    }
    match hosts.get("next").and_then(Value::as_str) {
        Some(_) => output::line("\nOnly the first 20 hosts are shown; all: --output json"),
        None => Ok(()),
    }
}

fn checks_asked(answer: &Value) -> String {
    let checks = answer.get("checks").and_then(Value::as_array).into_iter().flatten();
    let mut texts = vec!["what listens and runs before must do so after".to_owned()];
    texts.extend(checks.map(|check| text(check, "/text")));
    texts.join("; ")
}

/// What the health checks of the first hosts found last; the evidence of a failure stands here.
async fn checks_seen(client: &Client, id: &str, width: usize) -> Result<(), Failure> {
    let list = client.get(&path(id, "/checks"), &[("limit", "20".to_owned())]).await?;
    for host in list.get("items").and_then(Value::as_array).into_iter().flatten() {
        let results = reasons(host, "/results", width);
        if !results.is_empty() {
            let failed = host.get("failed").and_then(Value::as_bool).unwrap_or(false);
            let word = if failed { "failed" } else { "good" };
            output::print(&format!(
                "\nHealth of {}: {word} ({} of {})\n{results}",
                text(host, "/host_name"),
                text(host, "/task"),
                text(host, "/deployment")
            ))?;
        }
    }
    match list.get("next").and_then(Value::as_str) {
        Some(_) => output::line("\nThe health of the first 20 hosts is shown; more: fettle deployment show"),
        None => Ok(()),
    }
}

async fn approve(client: &Client, id: &str, digest: Option<String>, form: Output) -> Result<(), Failure> {
    let digest = match digest {
        Some(digest) => digest,
        None => text(&client.get(&path(id, ""), &[]).await?, "/plan_digest"),
    };
    if digest.is_empty() {
        return Err(Failure::new(5, "there is no proposed plan to approve yet")
            .advise(format!("See what is waited for: fettle explain {id}")));
    }
    let answer = client.post(&path(id, "/approve"), &json!({ "digest": digest })).await?;
    said(&answer, id, form)
}

async fn act(client: &Client, id: &str, verb: &str, reason: &str, form: Output) -> Result<(), Failure> {
    let answer = client.post(&path(id, &format!("/{verb}")), &json!({ "reason": reason })).await?;
    said(&answer, id, form)
}

fn said(answer: &Value, id: &str, form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(answer);
    }
    let state = text(answer, "/summary/state");
    output::line(&format!("{id} is now {}", if state.is_empty() { "changed".to_owned() } else { state }))
}

/// States in which nothing more happens unless somebody asks.
const RESTING: &[&str] = &["completed", "rolled-back", "cancelled", "halted", "rejected", "superseded", "closed"];

/// Longest time that a server may be away while a change is watched (a restart, an update).
const AWAY: Duration = Duration::from_secs(60);

async fn watch(client: &Client, id: &str, form: Output) -> Result<(), Failure> {
    let (mut state, seen) = standing(client, id).await?;
    let mut shown = 0;
    let mut away: Option<Instant> = None;
    while !RESTING.contains(&state.as_str()) {
        let followed = follow(client, id, form, seen, &mut shown).await;
        let now = match followed {
            Ok(()) => standing(client, id).await,
            Err(failure) => Err(failure),
        };
        match now {
            Ok((now, _)) => {
                state = now;
                away = None;
            }
            // The server is restarted perhaps; nothing is missed, events are asked for by number.
            Err(failure) if failure.code == 6 && away.get_or_insert_with(Instant::now).elapsed() < AWAY => {}
            Err(failure) => return Err(failure),
        }
        if !RESTING.contains(&state.as_str()) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    match state.as_str() {
        "completed" | "rolled-back" | "closed" if form == Output::Json => Ok(()),
        "completed" | "rolled-back" | "closed" => output::line(&format!("{id} is {state}")),
        _ => Err(Failure::failed(format!("{id} is {state}")).advise(format!("Why: fettle explain {id}"))),
    }
}

/// Prints events behind `shown` until the change rests or the stream ends.
async fn follow(client: &Client, id: &str, form: Output, seen: u64, shown: &mut u64) -> Result<(), Failure> {
    client
        .events(&path(id, "/events"), *shown, |_, data| {
            let event: Value =
                serde_json::from_str(data).map_err(|error| Failure::failed(format!("an event is no JSON: {error}")))?;
            if form == Output::Json {
                output::line(&event.to_string())?;
            } else {
                output::print(&event_text(&event))?;
            }
            let number = event.get("number").and_then(Value::as_u64).unwrap_or(0);
            *shown = number.max(*shown);
            // What is replayed is past: a change that was halted or completed once goes on now.
            let decides = number > seen && matches!(text(&event, "/machine").as_str(), "rollout" | "plan");
            Ok(!(decides && RESTING.contains(&text(&event, "/state").as_str())))
        })
        .await
}

/// Where a change stands, and the number of its last event.
async fn standing(client: &Client, id: &str) -> Result<(String, u64), Failure> {
    let change = client.get(&path(id, ""), &[]).await?;
    Ok((text(&change, "/summary/state"), change.get("last_event").and_then(Value::as_u64).unwrap_or(0)))
}

fn event_text(event: &Value) -> String {
    let clock = event.get("at").and_then(Value::as_str).and_then(|at| at.get(11..19)).unwrap_or_default().to_owned();
    let place = text(event, "/host_name");
    let place = if place.is_empty() { String::new() } else { format!("{place} ") };
    let mut lines = String::new();
    for line in event.get("lines").and_then(Value::as_array).into_iter().flatten() {
        lines.push_str(&format!("{clock} {place}| {}\n", output::cell(Some(line))));
    }
    if lines.is_empty() {
        lines = format!(
            "{clock} {place}{} {}: {}\n",
            text(event, "/machine"),
            text(event, "/event"),
            text(event, "/state")
        );
        lines.push_str(&reasons(event, "/reasons", output::width()));
    }
    lines
}

/// Runs `fettle deployment`.
pub async fn deployment(command: &Deployment, form: Output) -> Result<(), Failure> {
    let Deployment::Show { id } = command;
    let client = Client::signed_in()?;
    let answer = client.get(&format!("/deployments/{}", escape(id)), &[]).await?;
    if form == Output::Json {
        return output::json(&answer);
    }
    let of = |pointer: &str| output::cell(answer.pointer(pointer));
    let width = output::width();
    let pairs = [
        ("Deployment", of("/summary/id")),
        ("Change", format!("#{} {}", of("/change_number"), of("/change_title"))),
        ("Host", of("/summary/host_name")),
        ("State", of("/summary/state")),
        ("Proof", of("/summary/proof")),
        ("Last word", of("/summary/heard_at")),
    ];
    output::print(&output::pairs(&pairs, width))?;
    let tasks = json!({ "items": answer.get("tasks") });
    let columns = [fixed("#", "/number"), flexible("TASK", "/name"), fixed("STATE", "/state"), fixed("AT", "/at")];
    output::print(&format!("\n{}", output::table(&tasks, &columns, width, "No task has begun.")))?;
    for task in answer.get("tasks").and_then(Value::as_array).into_iter().flatten() {
        let said = reasons(task, "/reasons", width);
        if !said.is_empty() {
            output::print(&format!("\n{}\n{said}", text(task, "/name")))?;
        }
    }
    let why = reasons(&answer, "/reasons", width);
    if !why.is_empty() {
        output::print(&format!("\nWhy\n{why}"))?;
    }
    let log = client.get(&format!("/deployments/{}/log", escape(id)), &[]).await?;
    let lines: Vec<String> = log
        .get("lines")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|line| format!("  {}\n", output::cell(Some(line))))
        .collect();
    if lines.is_empty() { Ok(()) } else { output::print(&format!("\nLog\n{}", lines.concat())) }
}
