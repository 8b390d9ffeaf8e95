//! What a person may ask of feeds: their state, and loading them.

use super::OpsError;
use crate::access::Actor;
use crate::{AppState, clock};
use fettle_domain::access::Permission;
use fettle_store::patches::feed::{self, FeedRecord};
use fettle_store::patches::feed_request::{self, FeedRequest};
use fettle_store::systems::audit;
use fettle_wire::api::feed::{FeedList, FeedProblemView, FeedProgressView, FeedSyncRequest, FeedSyncView, FeedView};

/// All feeds with their age.
pub async fn list(state: &AppState, actor: &Actor) -> Result<FeedList, OpsError> {
    actor.require(Permission::FeedRead)?;
    let records = state.store.read(feed::feed_list).await?;
    let now = clock::now();
    let items = state
        .feeds
        .iter()
        .map(|publisher| {
            let name = publisher.name();
            let record = records.iter().find(|record| record.name == name);
            FeedView {
                name: name.0.clone(),
                title: publisher.manifest().title,
                url: publisher.url().to_owned(),
                source: record.map(|record| record.source.clone()).unwrap_or_default(),
                checked_at: record.map(|record| record.checked_at.to_string()),
                loaded_at: record.and_then(|record| record.loaded_at).map(|at| at.to_string()),
                age_seconds: record.and_then(|record| record.loaded_at).map(|at| at.until(now).as_secs()),
                advisories: record.map_or(0, |record| record.advisories),
                facts: record.map_or(0, |record| record.facts),
                problems: record.map(problems).unwrap_or_default(),
                last_error: record.map(|record| record.last_error.clone()).unwrap_or_default(),
            }
        })
        .collect();
    Ok(FeedList { items })
}

fn problems(record: &FeedRecord) -> Vec<FeedProblemView> {
    serde_json::from_str(&record.problems).unwrap_or_default()
}

/// Asks for a load; `notify` does it. The answer's number tells how far it is.
pub async fn sync(state: &AppState, actor: &Actor, request: FeedSyncRequest) -> Result<FeedSyncView, OpsError> {
    actor.require(Permission::FeedSync)?;
    for name in &request.names {
        if !state.feeds.iter().any(|feed| feed.name().0 == *name) {
            let known: Vec<String> = state.feeds.iter().map(|feed| feed.name().0).collect();
            return Err(OpsError::invalid(
                "names",
                format!("there is no feed `{name}`"),
                format!("one of {}", known.join(", ")),
            ));
        }
    }
    let source = request.from.unwrap_or_default();
    check_source(&source)?;
    let now = clock::now();
    let record = actor.record(
        "feed.sync",
        if source.is_empty() { "publishers" } else { &source },
        serde_json::json!({ "names": request.names }),
    );
    let by = actor.name.clone();
    let id = state
        .store
        .write(move |connection| {
            let id = feed_request::feed_request_create(connection, &by, &source, &request.names, now)?;
            audit::append(connection, now, &record)?;
            Ok(id)
        })
        .await?;
    state.nudges.feeds.notify_one();
    progress(state, actor, id).await
}

fn check_source(source: &str) -> Result<(), OpsError> {
    let right = "an https:// URL, or the absolute path of a directory on the server";
    if source.is_empty() || source.starts_with("https://") || source.starts_with("http://") {
        return Ok(());
    }
    if source.contains("://") {
        return Err(OpsError::invalid("from", format!("`{source}` is no HTTP URL"), right));
    }
    let path = std::path::Path::new(source);
    if !path.is_absolute() {
        return Err(OpsError::invalid("from", format!("`{source}` is not absolute"), right));
    }
    if !path.is_dir() {
        return Err(OpsError::invalid("from", format!("`{source}` is no directory on the server"), right));
    }
    Ok(())
}

/// How far a load is.
pub async fn progress(state: &AppState, actor: &Actor, id: i64) -> Result<FeedSyncView, OpsError> {
    actor.require(Permission::FeedRead)?;
    let request = state.store.read(move |connection| feed_request::feed_request_get(connection, id)).await?;
    Ok(view(request))
}

fn view(request: FeedRequest) -> FeedSyncView {
    FeedSyncView {
        id: request.id,
        done: request.done,
        feeds: request
            .progress
            .into_iter()
            .map(|entry| FeedProgressView {
                name: entry.name,
                phase: entry.phase,
                bytes: entry.bytes,
                total: entry.total,
                advisories: entry.advisories,
                facts: entry.facts,
                problems: entry.problems,
                error: entry.error,
            })
            .collect(),
    }
}
