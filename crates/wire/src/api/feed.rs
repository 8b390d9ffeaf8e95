//! Vulnerability feeds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedView {
    /// Its name.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Where the publisher serves it.
    pub url: String,
    /// Where the last good data came from; empty: never loaded.
    pub source: String,
    /// Last attempt.
    pub checked_at: Option<String>,
    /// Last good data.
    pub loaded_at: Option<String>,
    /// Age of the last good data in seconds.
    pub age_seconds: Option<u64>,
    /// Statements in use.
    pub advisories: u64,
    /// Facts in use.
    pub facts: u64,
    /// First records that could not be read.
    pub problems: Vec<FeedProblemView>,
    /// Why the last attempt failed; empty when it did not.
    pub last_error: String,
}

/// A record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedProblemView {
    /// Document and place in it.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

/// All feeds this server knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedList {
    /// By name.
    pub items: Vec<FeedView>,
}

/// `POST /api/v1/feeds/sync`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedSyncRequest {
    /// URL, or a directory on the server; the publishers' own addresses when absent.
    #[serde(default)]
    pub from: Option<String>,
    /// Feeds; all when empty.
    #[serde(default)]
    pub names: Vec<String>,
}

/// A load under way or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedSyncView {
    /// Its number: `GET /api/v1/feeds/sync/{id}`.
    pub id: i64,
    /// Whether it ended.
    pub done: bool,
    /// One entry a feed.
    pub feeds: Vec<FeedProgressView>,
}

/// How far one feed is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeedProgressView {
    /// Which.
    pub name: String,
    /// waiting, fetching, reading, storing, loaded, unchanged, absent, failed.
    pub phase: String,
    /// Bytes so far.
    pub bytes: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
    /// Statements read.
    pub advisories: u64,
    /// Facts read.
    pub facts: u64,
    /// Records that could not be read.
    pub problems: u64,
    /// Why it failed; empty when it did not.
    pub error: String,
}
