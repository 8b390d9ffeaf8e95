//! `fettle change log`: what one host said, live or as it keeps it.

use super::change::path;
use super::text;
use crate::cli::Output;
use crate::client::{Client, escape};
use crate::failure::Failure;
use crate::output;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two looks whether more has come.
const LOOK: Duration = Duration::from_millis(700);
/// Lines asked for at once.
const LINES: &str = "1000";
/// States in which a deployment says nothing more.
const SETTLED: &[&str] = &["succeeded", "undone", "stuck", "failed", "withdrawn", "expired", "not-applicable"];

/// What of the log.
pub(super) struct Wanted {
    pub(super) whole: bool,
    pub(super) follow: bool,
    pub(super) wait: Duration,
}

/// Runs it.
pub(super) async fn run(
    client: &Client,
    change: &str,
    host: Option<&str>,
    wanted: Wanted,
    form: Output,
) -> Result<(), Failure> {
    let deployment = find(client, change, host).await?;
    // Before the log is read: what is said meanwhile comes behind it, and twice rather than not.
    let seen = client.get(&path(change, ""), &[]).await?.get("last_event").and_then(Value::as_u64).unwrap_or(0);
    if wanted.whole {
        whole(client, &deployment, wanted.wait, form).await?;
    } else {
        live(client, &deployment, form).await?;
    }
    if !wanted.follow || SETTLED.contains(&text(&deployment, "/state").as_str()) {
        return Ok(());
    }
    follow(client, change, &text(&deployment, "/id"), seen, form).await
}

/// The deployment of a change on a host.
async fn find(client: &Client, change: &str, host: Option<&str>) -> Result<Value, Failure> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = vec![("limit", "1000".to_owned())];
        query.extend(after.take().map(|after| ("after", after)));
        let page = client.get(&path(change, "/deployments"), &query).await?;
        let items = page.get("items").and_then(Value::as_array).into_iter().flatten();
        let fits =
            |item: &&Value| host.is_none_or(|host| text(item, "/host") == host || text(item, "/host_name") == host);
        found.extend(items.filter(fits).take(2).cloned());
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() || found.len() > 1 {
            break;
        }
    }
    match (found.as_slice(), host) {
        ([one], _) => Ok(one.clone()),
        ([], Some(host)) => Err(Failure::new(4, format!("change {change} has no deployment on `{host}`"))
            .advise(format!("Its hosts: fettle change show {change}"))),
        ([], None) => Err(Failure::new(5, format!("change {change} has no deployment yet"))
            .advise(format!("What is waited for: fettle explain {change}"))),
        (_, Some(host)) => Err(Failure::usage(format!("`{host}` means several hosts: name one by its id"))),
        (_, None) => {
            Err(Failure::usage(format!("change {change} is for several hosts")).advise("Name one: --host NAME"))
        }
    }
}

/// The live lines that the server has.
async fn live(client: &Client, deployment: &Value, form: Output) -> Result<(), Failure> {
    let path = format!("/deployments/{}/log", escape(&text(deployment, "/id")));
    let mut after = "0".to_owned();
    loop {
        let page = client.get(&path, &[("after", after.clone()), ("limit", LINES.to_owned())]).await?;
        for line in page.get("lines").and_then(Value::as_array).into_iter().flatten() {
            said(&json!({ "text": line }), form)?;
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = next.to_owned(),
            None => return Ok(()),
        }
    }
}

fn said(line: &Value, form: Output) -> Result<(), Failure> {
    match form {
        Output::Json => output::line(&line.to_string()),
        Output::Table => output::print(&line_text(line)),
    }
}

/// A line for people, with its time and task where they are known.
fn line_text(line: &Value) -> String {
    let at = line.get("at").and_then(Value::as_str).and_then(|at| at.get(11..19));
    let Some(clock) = at else { return format!("{}\n", text(line, "/text")) };
    let sign = match text(line, "/stream").as_str() {
        "error" => '!',
        "fettle" => '*',
        _ => '|',
    };
    let task = text(line, "/task");
    let task = if task.is_empty() { task } else { format!("{task} ") };
    format!("{clock} {task}{sign} {}\n", text(line, "/text"))
}

/// Asks the host for all, and prints as it comes.
async fn whole(client: &Client, deployment: &Value, wait: Duration, form: Output) -> Result<(), Failure> {
    let path = format!("/deployments/{}/whole-log", escape(&text(deployment, "/id")));
    client.post(&path, &Value::Null).await?;
    let (mut after, mut heard) = ("0".to_owned(), Instant::now());
    loop {
        let page = client.get(&path, &[("after", after.clone()), ("limit", LINES.to_owned())]).await?;
        let lines = page.get("lines").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for line in lines {
            said(line, form)?;
        }
        if let Some(last) = lines.last().and_then(|line| line.get("number")) {
            after = last.to_string();
            heard = Instant::now();
        }
        if page.get("next").and_then(Value::as_str).is_some() {
            continue;
        }
        match text(&page, "/state").as_str() {
            "complete" => return Ok(()),
            "missing" => return Err(Failure::new(4, text(&page, "/waiting_for"))),
            _ if heard.elapsed() < wait => tokio::time::sleep(LOOK).await,
            _ => {
                let host = text(&page, "/host_name");
                return Err(Failure::failed(format!(
                    "{host} has not answered for {} s: it was asked at {} by {} and last spoke at {}",
                    wait.as_secs(),
                    text(&page, "/asked_at"),
                    text(&page, "/asked_by"),
                    text(&page, "/host_last_seen")
                ))
                .advise("The request stays until tomorrow: run this again when the host is back."));
            }
        }
    }
}

/// Prints what the host says from an event on, until its deployment is settled.
async fn follow(client: &Client, change: &str, deployment: &str, mut after: u64, form: Output) -> Result<(), Failure> {
    let mut settled = false;
    while !settled {
        client
            .events(&path(change, "/events"), after, |_, data| {
                let event: Value = serde_json::from_str(data)
                    .map_err(|error| Failure::failed(format!("an event is no JSON: {error}")))?;
                after = event.get("number").and_then(Value::as_u64).unwrap_or(0).max(after);
                if text(&event, "/deployment") != deployment {
                    return Ok(true);
                }
                for line in event.get("lines").and_then(Value::as_array).into_iter().flatten() {
                    said(&json!({ "at": event.get("at"), "text": line }), form)?;
                }
                let ended =
                    text(&event, "/machine") == "deployment" && SETTLED.contains(&text(&event, "/state").as_str());
                settled |= ended;
                Ok(!ended)
            })
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people() {
        let kept = json!({ "number": 1, "at": "2026-11-25T04:35:58Z", "task": "install", "stream": "error", "text": "boom\u{1b}[31m" });
        assert_eq!(line_text(&kept), "04:35:58 install ! boom [31m\n");
        assert_eq!(line_text(&json!({ "text": "live" })), "live\n");
    }
}
