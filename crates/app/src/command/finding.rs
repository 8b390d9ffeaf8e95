//! `fettle finding`, `fettle vulnerability` and `fettle explain`.

use super::{history, query, reasons, text};
use crate::cli::{Finding, Output, Vulnerability};
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use serde_json::Value;

/// Columns from which ids are shown too.
const WIDE: usize = 130;

/// Runs `fettle finding`.
pub async fn run(command: &Finding, form: Output) -> Result<(), Failure> {
    let client = Client::signed_in()?;
    match command {
        Finding::List {
            page,
            sort,
            state,
            verdict,
            host,
            vulnerability,
            source,
            severity,
            fixable,
            exploited,
            text,
        } => {
            let yes = |flag: bool| flag.then(|| "true".to_owned());
            let filters = [
                ("sort", sort.clone()),
                ("state", state.clone()),
                ("verdict", verdict.clone()),
                ("host", host.clone()),
                ("vulnerability", vulnerability.clone()),
                ("source", source.clone()),
                ("severity", severity.clone()),
                ("fixable", yes(*fixable)),
                ("exploited", yes(*exploited)),
                ("text", text.clone()),
            ];
            list(&client.get("/findings", &query(page, &filters)).await?, form)
        }
        Finding::Show { id } => show(&client.get(&format!("/findings/{}", escape(id)), &[]).await?, form),
    }
}

fn list(answer: &Value, form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(answer);
    }
    let mut columns = vec![
        fixed("VULNERABILITY", "/vulnerability"),
        flexible("SOURCE", "/source"),
        flexible("INSTALLED", "/source_version"),
        fixed("FIXED IN", "/fixed_version"),
        flexible("STATE", "/state"),
        flexible("HOST", "/host_name"),
    ];
    // An id has 44 characters: it is shown where there is room, never cut.
    if output::width() >= WIDE {
        columns.push(fixed("ID", "/id"));
    }
    output::print(&output::table(
        answer,
        &columns,
        output::width(),
        "No finding fits. Are feeds loaded (fettle feed list) and hosts enrolled (fettle host list)?",
    ))?;
    match answer.get("total").and_then(Value::as_u64) {
        Some(total) if total > 0 && output::width() < WIDE => {
            output::line(&format!("{total} findings in all; ids: in a window of {WIDE} columns, or --output json"))
        }
        Some(total) if total > 0 => output::line(&format!("{total} findings in all")),
        _ => Ok(()),
    }
}

fn show(answer: &Value, form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(answer);
    }
    let of = |pointer: &str| output::cell(answer.pointer(pointer));
    let width = output::width();
    let pairs = [
        ("Finding", of("/summary/id")),
        ("Vulnerability", of("/summary/vulnerability")),
        ("Host", format!("{} ({})", of("/summary/host_name"), of("/summary/host"))),
        (
            "Package",
            format!("{} {} ({})", of("/summary/source"), of("/summary/source_version"), of("/summary/packages")),
        ),
        ("State", format!("{} ({})", of("/summary/state"), of("/summary/verdict"))),
        ("Fixed in", of("/summary/fixed_version")),
        ("Severity", of("/summary/level")),
        ("Exploited", of("/summary/exploited")),
        ("First seen", of("/summary/first_seen")),
        ("Description", of("/facts/description")),
    ];
    output::print(&output::pairs(&pairs, width))?;
    output::print(&format!("\nWhy\n{}\nHistory\n{}", reasons(answer, "/reasons", width), history(answer, "/history")))
}

/// Runs `fettle vulnerability`.
pub async fn vulnerability(command: &Vulnerability, form: Output) -> Result<(), Failure> {
    let Vulnerability::Show { id } = command;
    let answer = Client::signed_in()?.get(&format!("/vulnerabilities/{}", escape(id)), &[]).await?;
    if form == Output::Json {
        return output::json(&answer);
    }
    let of = |pointer: &str| output::cell(answer.pointer(pointer));
    let pairs = [
        ("Vulnerability", of("/id")),
        ("Description", of("/facts/description")),
        ("CVSS", format!("{} {}", of("/facts/cvss_score"), of("/facts/cvss_vector"))),
        ("EPSS", of("/facts/epss_score")),
        ("Exploited since", of("/facts/kev_date_added")),
        ("Hosts", of("/hosts")),
    ];
    output::print(&output::pairs(&pairs, output::width()))?;
    let columns = [
        fixed("FEED", "/feed"),
        fixed("RELEASE", "/release"),
        flexible("SOURCE", "/source"),
        flexible("SAYS", "/statement"),
    ];
    let statements = serde_json::json!({ "items": answer.get("statements") });
    output::print(&format!("\n{}", output::table(&statements, &columns, output::width(), "No feed states it.")))
}

/// Runs `fettle explain`.
pub async fn explain(id: &str, form: Output) -> Result<(), Failure> {
    let noun = match id.split('_').next() {
        Some("finding") => "findings",
        Some("host") => "hosts",
        Some("change") => "changes",
        Some("deployment") => "deployments",
        // A change's number is taken wherever its id is.
        Some(number) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => "changes",
        _ => {
            return Err(Failure::usage(format!("`{id}` is no id that can be explained")).advise(
                "Use the id of a finding, host, change or deployment, as the lists show them with --output json.",
            ));
        }
    };
    let answer = Client::signed_in()?.get(&format!("/{noun}/{}/explain", escape(id)), &[]).await?;
    if form == Output::Json {
        return output::json(&answer);
    }
    let width = output::width();
    for line in output::wrap(&text(&answer, "/summary"), width) {
        output::line(&line)?;
    }
    output::print(&format!("\nWhy\n{}", reasons(&answer, "/reasons", width)))?;
    let waiting: Vec<String> = answer
        .get("waiting_for")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|entry| output::cell(Some(entry)))
        .collect();
    if !waiting.is_empty() {
        output::line("\nWaiting for")?;
        for entry in waiting {
            for (index, line) in output::wrap(&entry, width.saturating_sub(4)).iter().enumerate() {
                output::line(&format!("{}{line}", if index == 0 { "  - " } else { "    " }))?;
            }
        }
    }
    let past = history(&answer, "/history");
    if past.is_empty() { Ok(()) } else { output::print(&format!("\nHistory\n{past}")) }
}
