//! `fettle feed`.

use super::text;
use crate::cli::{Feed, Output};
use crate::client::Client;
use crate::duration;
use crate::failure::Failure;
use crate::output::{self, fixed, flexible};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::time::Duration;

/// Runs it.
pub async fn run(command: &Feed, form: Output) -> Result<(), Failure> {
    let client = Client::signed_in()?;
    match command {
        Feed::List => list(&client, form).await,
        Feed::Sync { from, names } => {
            // A relative directory is meant as seen from here; the server wants it whole.
            let from = from.as_ref().map(|from| {
                if from.contains("://") {
                    from.clone()
                } else {
                    std::path::absolute(from).map_or_else(|_| from.clone(), |path| path.display().to_string())
                }
            });
            sync(&client, form, from, names).await
        }
    }
}

async fn list(client: &Client, form: Output) -> Result<(), Failure> {
    let mut answer = client.get("/feeds", &[]).await?;
    if form == Output::Json {
        return output::json(&answer);
    }
    for item in answer.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        let age =
            item.get("age_seconds").and_then(Value::as_u64).map_or_else(|| "never loaded".to_owned(), duration::words);
        let state = if text(item, "/last_error").is_empty() { "ok".to_owned() } else { text(item, "/last_error") };
        if let Some(object) = item.as_object_mut() {
            object.insert("age".into(), Value::String(age));
            object.insert("state".into(), Value::String(state));
        }
    }
    let columns = [
        fixed("FEED", "/name"),
        fixed("AGE", "/age"),
        fixed("STATEMENTS", "/advisories"),
        fixed("FACTS", "/facts"),
        flexible("LAST ATTEMPT", "/state"),
    ];
    output::print(&output::table(&answer, &columns, output::width(), "This server knows no feed."))
}

async fn sync(client: &Client, form: Output, from: Option<String>, names: &[String]) -> Result<(), Failure> {
    let mut answer = client.post("/feeds/sync", &json!({ "from": from, "names": names })).await?;
    let id = answer.get("id").and_then(Value::as_i64).ok_or_else(|| Failure::failed("the server named no load"))?;
    let bar = if output::is_terminal() && form == Output::Table { progress_bar() } else { ProgressBar::hidden() };
    while answer.get("done").and_then(Value::as_bool) != Some(true) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        answer = client.get(&format!("/feeds/sync/{id}"), &[]).await?;
        show(&bar, &answer);
    }
    bar.finish_and_clear();
    if form == Output::Json {
        output::json(&answer)?;
    }
    finish(&answer, form)
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{msg:30} {bar:30} {bytes}/{total_bytes}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, answer: &Value) {
    let mut feeds = answer.get("feeds").and_then(Value::as_array).into_iter().flatten();
    let busy = feeds.rfind(|feed| matches!(text(feed, "/phase").as_str(), "fetching" | "reading" | "storing"));
    if let Some(feed) = busy {
        let bytes = feed.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        bar.set_length(feed.get("total").and_then(Value::as_u64).unwrap_or(bytes));
        bar.set_position(bytes);
        bar.set_message(format!("{} {}", text(feed, "/name"), text(feed, "/phase")));
    }
}

fn finish(answer: &Value, form: Output) -> Result<(), Failure> {
    let mut failed = Vec::new();
    for feed in answer.get("feeds").and_then(Value::as_array).into_iter().flatten() {
        let (name, phase) = (text(feed, "/name"), text(feed, "/phase"));
        if form == Output::Table {
            let detail = match phase.as_str() {
                "loaded" => format!(
                    "{} statements, {} facts, {} unreadable records",
                    text(feed, "/advisories"),
                    text(feed, "/facts"),
                    text(feed, "/problems")
                ),
                _ => text(feed, "/error"),
            };
            output::line(format!("{name}: {phase}  {detail}").trim_end())?;
        }
        if phase == "failed" {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!("not loaded: {}", failed.join(", ")))
        .advise("Their last good data stays in use. The messages above say why."))
}
