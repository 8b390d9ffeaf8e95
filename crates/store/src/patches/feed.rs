//! Feeds: where their last good data came from, how old it is, and what went wrong last.

use crate::{Connection, Result, Row};
use fettle_domain::Timestamp;
use fettle_domain::advisory::FeedName;

/// The state of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedRecord {
    /// Which.
    pub name: FeedName,
    /// URL or directory of the last good data.
    pub source: String,
    /// `ETag` of the last good answer; empty when none.
    pub etag: String,
    /// `Last-Modified` of the last good answer; empty when none.
    pub last_modified: String,
    /// Last attempt.
    pub checked_at: Timestamp,
    /// Last good data.
    pub loaded_at: Option<Timestamp>,
    /// Statements in use.
    pub advisories: u64,
    /// Facts in use.
    pub facts: u64,
    /// JSON array of the first records that could not be read.
    pub problems: String,
    /// Why the last attempt failed; empty when it did not.
    pub last_error: String,
    /// Grows with each change of the data.
    pub generation: i64,
}

const COLUMNS: &str =
    "name, source, etag, last_modified, checked_at, loaded_at, advisories, facts, problems, last_error, generation";

fn read(row: &Row) -> Result<FeedRecord> {
    Ok(FeedRecord {
        name: FeedName(row.text(0)?.to_owned()),
        source: row.text(1)?.to_owned(),
        etag: row.text(2)?.to_owned(),
        last_modified: row.text(3)?.to_owned(),
        checked_at: row.time(4)?,
        loaded_at: row.time_or_null(5)?,
        advisories: u64::try_from(row.int(6)?).unwrap_or(0),
        facts: u64::try_from(row.int(7)?).unwrap_or(0),
        problems: row.text(8)?.to_owned(),
        last_error: row.text(9)?.to_owned(),
        generation: row.int(10)?,
    })
}

/// All feeds that were ever tried, by name.
pub fn feed_list(connection: &mut Connection) -> Result<Vec<FeedRecord>> {
    let rows = connection.query(&format!("SELECT {COLUMNS} FROM feed ORDER BY name"), &[])?;
    rows.iter().map(read).collect()
}

/// One feed.
pub fn feed_get(connection: &mut Connection, name: &FeedName) -> Result<Option<FeedRecord>> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM feed WHERE name = ?1"), &[(&name.0).into()])?;
    row.as_ref().map(read).transpose()
}

/// Notes good data (`changed` when it differs from what was there).
pub fn feed_loaded(connection: &mut Connection, feed: &FeedRecord, changed: bool) -> Result<()> {
    connection.execute(
        "INSERT INTO feed (name, source, etag, last_modified, checked_at, loaded_at, advisories, facts, problems, last_error, generation)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, '', 1)
         ON CONFLICT (name) DO UPDATE SET source = excluded.source, etag = excluded.etag, last_modified = excluded.last_modified,
           checked_at = excluded.checked_at, loaded_at = excluded.loaded_at, advisories = excluded.advisories,
           facts = excluded.facts, problems = excluded.problems, last_error = '', generation = feed.generation + ?9",
        &[
            (&feed.name.0).into(),
            (&feed.source).into(),
            (&feed.etag).into(),
            (&feed.last_modified).into(),
            feed.checked_at.into(),
            count(feed.advisories).into(),
            count(feed.facts).into(),
            (&feed.problems).into(),
            changed.into(),
        ],
    )?;
    Ok(())
}

/// Notes that the publisher has nothing newer.
pub fn feed_unchanged(connection: &mut Connection, name: &FeedName, now: Timestamp) -> Result<()> {
    connection.execute(
        "UPDATE feed SET checked_at = ?2, loaded_at = ?2, last_error = '' WHERE name = ?1",
        &[(&name.0).into(), now.into()],
    )?;
    Ok(())
}

/// Notes a failed attempt; the last good data stays in use.
pub fn feed_failed(connection: &mut Connection, name: &FeedName, now: Timestamp, error: &str) -> Result<()> {
    connection.execute(
        "INSERT INTO feed (name, source, etag, last_modified, checked_at, loaded_at, advisories, facts, problems, last_error, generation)
         VALUES (?1, '', '', '', ?2, NULL, 0, 0, '[]', ?3, 0)
         ON CONFLICT (name) DO UPDATE SET checked_at = excluded.checked_at, last_error = excluded.last_error",
        &[(&name.0).into(), now.into(), error.into()],
    )?;
    Ok(())
}

/// A number that grows whenever any feed's data changes.
pub fn feed_generation(connection: &mut Connection) -> Result<i64> {
    let row = connection.query_one("SELECT CAST(COALESCE(SUM(generation), 0) AS BIGINT) FROM feed", &[])?;
    row.map_or(Ok(0), |row| row.int(0))
}

pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
