//! Fetching from a publisher: conditional, within limits of size and time.

use reqwest::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use std::time::Duration;

/// Largest answer.
const BODY: u64 = 512 << 20;
/// Longest silence of a publisher.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest fetch.
const WHOLE: Duration = Duration::from_secs(1800);

/// What came of a fetch.
pub enum Fetched {
    /// The publisher has nothing newer.
    Unchanged,
    /// A document.
    Document {
        /// Its bytes.
        bytes: Vec<u8>,
        /// `ETag`; empty when none.
        etag: String,
        /// `Last-Modified`; empty when none.
        last_modified: String,
    },
}

/// A client with the system's certificate authorities.
pub fn client() -> Result<reqwest::Client, String> {
    // reqwest takes the provider of the process; a second installation changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("fettle/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(20))
        .read_timeout(SILENCE)
        .timeout(WHOLE)
        .redirect(reqwest::redirect::Policy::limited(5))
        .build()
        .map_err(|error| {
            format!(
                "cannot set up the HTTP client: {} (are certificate authorities installed? on Debian: ca-certificates)",
                chain(&error)
            )
        })
}

/// Fetches `url` unless it is still what `etag` and `last_modified` name. `progress` is told bytes so far and in all.
pub async fn fetch(
    client: &reqwest::Client,
    url: &str,
    etag: &str,
    last_modified: &str,
    progress: &mut (dyn FnMut(u64, Option<u64>) + Send),
) -> Result<Fetched, String> {
    let mut request = client.get(url);
    if !etag.is_empty() {
        request = request.header(IF_NONE_MATCH, etag);
    }
    if !last_modified.is_empty() {
        request = request.header(IF_MODIFIED_SINCE, last_modified);
    }
    let mut answer =
        request.send().await.map_err(|error| format!("cannot fetch {url}: {}", chain(&error.without_url())))?;
    if answer.status() == reqwest::StatusCode::NOT_MODIFIED {
        return Ok(Fetched::Unchanged);
    }
    if !answer.status().is_success() {
        return Err(format!("{url} answered {}", answer.status()));
    }
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (etag, last_modified) = (header(ETAG), header(LAST_MODIFIED));
    let total = answer.content_length();
    if total.is_some_and(|total| total > BODY) {
        return Err(format!(
            "{url} has {} MB, more than the {} MB that are read",
            total.unwrap_or(0) >> 20,
            BODY >> 20
        ));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| format!("{url} broke off: {}", chain(&error.without_url())))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > BODY {
            return Err(format!("{url} sends more than the {} MB that are read", BODY >> 20));
        }
        progress(bytes.len() as u64, total);
    }
    if total.is_some_and(|total| total != bytes.len() as u64) {
        return Err(format!("{url} broke off after {} of {} bytes", bytes.len(), total.unwrap_or(0)));
    }
    Ok(Fetched::Document { bytes, etag, last_modified })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
