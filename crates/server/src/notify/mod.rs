//! Vulnerability notification (paper 5.1): brings publishers' documents in and keeps what they say.
//! A document that is cut or malformed changes nothing: the last good data stays in use.
//!
//! Finds its work in `feed_request`, leaves its result in `advisory_set`, `vulnerability` and `feed`.

mod fetch;
mod folder;
mod load;
mod unpack;

use crate::{AppState, clock};
use fettle_store::StoreError;
use fettle_store::patches::feed_request::{self, FeedRequest};
use std::time::Duration;

/// Without a sign of life for this long, another server takes a request over.
const STALE: i64 = 120_000;

/// Serves requests until the server ends.
pub async fn run(state: AppState) {
    // Without one, directories can still be read: the error is told where a URL is asked for.
    let client = fetch::client();
    loop {
        match next(&state).await {
            Ok(Some(request)) => {
                load::serve(&state, &client, request).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(feed.error = %error, "cannot look for feed requests"),
        }
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = state.nudges.feeds.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(30)) => periodic(&state).await,
        }
    }
}

async fn next(state: &AppState) -> Result<Option<FeedRequest>, StoreError> {
    let now = clock::now();
    let stale = fettle_domain::Timestamp::from_unix_millis(now.unix_millis() - STALE);
    state.store.write(move |connection| feed_request::feed_request_claim(connection, now, stale)).await
}

/// Asks for the configured feeds when they are older than agreed.
async fn periodic(state: &AppState) {
    let names = state.settings.feeds.sync.clone();
    if names.is_empty() {
        return;
    }
    let limit = Duration::from_secs(state.settings.feeds.sync_hours.max(1) * 3600);
    let now = clock::now();
    let asked = state
        .store
        .write(move |connection| {
            let feeds = fettle_store::patches::feed::feed_list(connection)?;
            let due: Vec<String> = names
                .into_iter()
                .filter(|name| {
                    feeds
                        .iter()
                        .find(|feed| feed.name.0 == *name)
                        .is_none_or(|feed| feed.checked_at.until(now) >= limit)
                })
                .collect();
            if due.is_empty() {
                return Ok(());
            }
            feed_request::feed_request_create(connection, "schedule", "", &due, now).map(|_| ())
        })
        .await;
    if let Err(error) = asked {
        tracing::warn!(feed.error = %error, "cannot ask for the scheduled feeds");
    }
}
