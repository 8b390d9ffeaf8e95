//! `fettle host` and `fettle group`.

use super::{import, query, text};
use crate::cli::{Group, Host, HostToken, Output};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use serde_json::{Value, json};

/// Runs `fettle host`.
pub async fn run(command: &Host, form: Output) -> Result<(), Failure> {
    let client = Client::signed_in()?;
    match command {
        Host::Token(command) => token(&client, command, form).await,
        Host::List { page, sort, state, group, codename, restart_needed, text } => {
            let filters = [
                ("sort", sort.clone()),
                ("state", state.clone()),
                ("group", group.clone()),
                ("codename", codename.clone()),
                ("restart_needed", restart_needed.then(|| "true".to_owned())),
                ("text", text.clone()),
            ];
            let answer = client.get("/hosts", &query(page, &filters)).await?;
            let columns = [
                flexible("HOST", "/name"),
                fixed("STATE", "/state"),
                flexible("OPERATING SYSTEM", "/os"),
                fixed("REBOOT", "/reboot_pending"),
                fixed("LAST SEEN", "/last_seen"),
                flexible("SEE TO", "/notices"),
            ];
            answer_table(
                &answer,
                &columns,
                form,
                "No host fits. Enrol one: fettle host token create prints the line to paste on it.",
            )
        }
        Host::Show { host } => show(&client.get(&format!("/hosts/{}", escape(host)), &[]).await?, form),
        Host::Packages { host, page, text } => {
            let answer = client
                .get(&format!("/hosts/{}/packages", escape(host)), &query(page, &[("text", text.clone())]))
                .await?;
            let columns = [
                flexible("PACKAGE", "/name"),
                flexible("VERSION", "/version"),
                fixed("ARCH", "/architecture"),
                flexible("SOURCE", "/source"),
                fixed("HELD", "/held"),
                flexible("STATE", "/state"),
            ];
            answer_table(&answer, &columns, form, "No package fits.")
        }
        Host::Import { files } => import::run(&client, files, form).await,
        Host::Accept { host } => {
            client.post(&format!("/hosts/{}/accept", escape(host)), &json!({})).await?;
            output::line(&format!("{host} is accepted: a host of its own from its next check-in on"))
        }
        Host::Merge { host, with } => {
            client.post(&format!("/hosts/{}/merge", escape(host)), &json!({ "with": with })).await?;
            output::line(&format!("{host} goes on as {with}, with its groups and history; {with} itself is revoked"))
        }
        Host::Dismiss { host } => {
            client.post(&format!("/hosts/{}/dismiss", escape(host)), &json!({})).await?;
            output::line(&format!("{host} is another machine than those it resembles"))
        }
        Host::Revoke { host, reason } => {
            client.post(&format!("/hosts/{}/revoke", escape(host)), &json!({ "reason": reason })).await?;
            output::line(&format!("{host} is revoked: its certificate is refused from now on"))
        }
    }
}

fn answer_table(answer: &Value, columns: &[output::Column], form: Output, empty: &str) -> Result<(), Failure> {
    match form {
        Output::Json => output::json(answer),
        Output::Table => output::print(&output::table(answer, columns, output::width(), empty)),
    }
}

async fn token(client: &Client, command: &HostToken, form: Output) -> Result<(), Failure> {
    match command {
        HostToken::Create { group, uses, expires, address } => {
            let body = json!({ "group": group, "uses": uses, "expires_seconds": expires, "server": address });
            let answer = client.post("/enrolment-tokens", &body).await?;
            match form {
                Output::Json => output::json(&answer),
                // Only the line itself, so that it can be piped.
                Output::Table => output::line(&output::cell(answer.get("command"))),
            }
        }
        HostToken::List => {
            let answer = client.get("/enrolment-tokens", &[]).await?;
            let columns = [
                fixed("TOKEN", "/id"),
                fixed("USES", "/uses_left"),
                fixed("EXPIRES", "/expires_at"),
                flexible("BY", "/created_by"),
            ];
            answer_table(&answer, &columns, form, "No token works any more. Make one: fettle host token create")
        }
        HostToken::Revoke { id } => {
            client.delete(&format!("/enrolment-tokens/{}", escape(id))).await?;
            output::line(&format!("{id} is taken back"))
        }
    }
}

fn show(answer: &Value, form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(answer);
    }
    let of = |pointer: &str| output::cell(answer.pointer(pointer));
    let findings: Vec<String> = answer
        .get("findings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .rev()
        .filter(|level| level.get("findings").and_then(Value::as_u64).unwrap_or(0) > 0)
        .map(|level| format!("{} {}", output::cell(level.get("findings")), output::cell(level.get("level"))))
        .collect();
    let pairs = [
        ("Host", format!("{} ({})", of("/summary/name"), of("/summary/id"))),
        ("State", of("/summary/state")),
        (
            if answer.get("imported").is_some_and(Value::is_object) { "As of" } else { "Last seen" },
            of("/summary/last_seen"),
        ),
        (
            "Management",
            match text(answer, "/imported/imported_by") {
                by if by.is_empty() => of("/summary/management"),
                by => format!(
                    "agentless: imported by {by} at {}, made there by {}",
                    of("/imported/imported_at"),
                    of("/imported/made_for")
                ),
            },
        ),
        ("System", format!("{} {}", of("/summary/os"), of("/architecture"))),
        (
            "Kernel",
            format!(
                "{} {} runs, newest installed {} {}",
                of("/kernel_running"),
                of("/kernel_running_version"),
                of("/kernel_newest"),
                of("/kernel_newest_version")
            ),
        ),
        ("Virtualisation", of("/virtualisation")),
        ("Addresses", of("/addresses")),
        ("Groups", of("/groups")),
        ("Tags", of("/tags")),
        (
            "Agent",
            format!("{}{}", of("/summary/agent_version"), if of("/read_only") == "yes" { ", read-only" } else { "" }),
        ),
        ("Packages", of("/packages")),
        ("Reboot needed", of("/reboot_reasons")),
        ("Certificate until", of("/identity/certificate_expires_at")),
        ("See to", see_to(answer)),
        ("Findings", if findings.is_empty() { "none".to_owned() } else { findings.join(", ") }),
    ];
    output::print(&output::pairs(&pairs, output::width()))?;
    let columns = [
        flexible("SERVICE", "/unit"),
        flexible("EXECUTABLE", "/executable"),
        flexible("PACKAGE", "/package"),
        flexible("LISTENS", "/listens"),
        fixed("RESTART", "/restart_pending"),
    ];
    let services = json!({ "items": answer.get("services") });
    output::print(&format!("\n{}", output::table(&services, &columns, output::width(), "No service was seen.")))
}

/// What is doubtful about which machine it is, with the command that answers.
fn see_to(answer: &Value) -> String {
    let of = |pointer: &str| output::cell(answer.pointer(pointer));
    let list = |pointer: &str| answer.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut lines = Vec::new();
    if answer.pointer("/identity/copy_of/id").is_some() && of("/summary/state") == "discovered" {
        let (origin, id) = (of("/identity/copy_of/name"), of("/summary/id"));
        lines.push(format!("a copy of {origin} waits: fettle host accept {id}, or fettle host revoke {id}"));
    }
    if of("/identity/cloned_at") != "-" {
        lines.push(format!("two machines with its identity, last noticed {}", of("/identity/cloned_at")));
    }
    if of("/identity/clock") != "-" {
        lines.push(format!("its clock is {}: set it there", of("/identity/clock")));
    }
    for one in list("/identity/may_be") {
        let cell = |pointer: &str| output::cell(one.pointer(pointer));
        lines.push(format!(
            "may be {} ({}), installed anew: fettle host merge {} --with {}, or fettle host dismiss",
            cell("/host/name"),
            cell("/state"),
            of("/summary/id"),
            cell("/host/id")
        ));
    }
    if lines.is_empty() { "nothing".to_owned() } else { lines.join("; ") }
}

/// Runs `fettle group`.
pub async fn group(command: &Group, form: Output) -> Result<(), Failure> {
    let client = Client::signed_in()?;
    match command {
        Group::Create { name } => {
            client.post("/groups", &json!({ "name": name })).await?;
            output::line(&format!("group {name} is made"))
        }
        Group::List => {
            let answer = client.get("/groups", &[]).await?;
            answer_table(
                &answer,
                &[flexible("GROUP", "/name"), fixed("HOSTS", "/hosts")],
                form,
                "No group yet. Make one: fettle group create NAME",
            )
        }
        Group::Add { name, hosts } => members(&client, name, &json!({ "add": hosts })).await,
        Group::Remove { name, hosts } => members(&client, name, &json!({ "remove": hosts })).await,
    }
}

async fn members(client: &Client, name: &str, body: &Value) -> Result<(), Failure> {
    client.post(&format!("/groups/{}/hosts", escape(name)), body).await?;
    output::line(&format!("group {name} is changed"))
}
