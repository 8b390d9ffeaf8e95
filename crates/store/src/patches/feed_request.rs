//! Loads of feeds that people asked for, and how far they are.

use crate::body::{json, parse};
use crate::{Connection, Result, Row, StoreError};
use fettle_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// A request, with what came of it so far.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedRequest {
    /// Its number.
    pub id: i64,
    /// Who asked.
    pub requested_by: String,
    /// When.
    pub requested_at: Timestamp,
    /// URL or directory on the server; empty: each publisher's own.
    pub source: String,
    /// Feeds; empty: all.
    pub names: Vec<String>,
    /// Whether it has ended.
    pub done: bool,
    /// One entry a feed.
    pub progress: Vec<FeedProgress>,
}

/// How far one feed of a request is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedProgress {
    /// Which feed.
    pub name: String,
    /// `fetching`, `reading`, `storing`, `loaded`, `unchanged`, `absent` or `failed`.
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
    /// Why it failed, and what to do; empty when it did not.
    pub error: String,
}

const COLUMNS: &str = "id, requested_by, requested_at, source, names, state, progress";

fn read(row: &Row) -> Result<FeedRequest> {
    Ok(FeedRequest {
        id: row.int(0)?,
        requested_by: row.text(1)?.to_owned(),
        requested_at: row.time(2)?,
        source: row.text(3)?.to_owned(),
        names: parse(row.text(4)?, "feed_request.names")?,
        done: row.text(5)? == "done",
        progress: parse(row.text(6)?, "feed_request.progress")?,
    })
}

/// Notes a request; its number.
pub fn feed_request_create(
    connection: &mut Connection,
    requested_by: &str,
    source: &str,
    names: &[String],
    now: Timestamp,
) -> Result<i64> {
    let row = connection.query_one(
        "INSERT INTO feed_request (requested_by, requested_at, source, names, state, heartbeat, progress)
         VALUES (?1, ?2, ?3, ?4, 'queued', 0, '[]') RETURNING id",
        &[requested_by.into(), now.into(), source.into(), json(names)?],
    )?;
    row.ok_or_else(|| StoreError::not_found("the new feed request"))?.int(0)
}

/// One request.
pub fn feed_request_get(connection: &mut Connection, id: i64) -> Result<FeedRequest> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM feed_request WHERE id = ?1"), &[id.into()])?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(format!("feed request {id}")))
}

/// Takes the oldest request that nobody works on (any more, since `stale`).
pub fn feed_request_claim(
    connection: &mut Connection,
    now: Timestamp,
    stale: Timestamp,
) -> Result<Option<FeedRequest>> {
    let row = connection.query_one(
        "UPDATE feed_request SET state = 'running', heartbeat = ?1 WHERE id = (
           SELECT id FROM feed_request WHERE state = 'queued' OR (state = 'running' AND heartbeat < ?2) ORDER BY id LIMIT 1
         ) AND (state = 'queued' OR (state = 'running' AND heartbeat < ?2))
         RETURNING id, requested_by, requested_at, source, names, state, progress",
        &[now.into(), stale.into()],
    )?;
    row.as_ref().map(read).transpose()
}

/// Notes how far a request is; `done` ends it.
pub fn feed_request_progress(
    connection: &mut Connection,
    id: i64,
    progress: &[FeedProgress],
    done: bool,
    now: Timestamp,
) -> Result<()> {
    connection.execute(
        "UPDATE feed_request SET progress = ?2, heartbeat = ?3, state = ?4 WHERE id = ?1",
        &[id.into(), json(progress)?, now.into(), if done { "done" } else { "running" }.into()],
    )?;
    // The last hundred are enough to look back.
    connection.execute("DELETE FROM feed_request WHERE state = 'done' AND id < ?1", &[(id - 100).into()])?;
    Ok(())
}
