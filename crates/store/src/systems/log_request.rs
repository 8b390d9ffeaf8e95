//! Logs that people asked of hosts, and what came of them. Bounded in number and bytes, and for a time:
//! the log itself stays on its host.

use crate::body::{positive, signed};
use crate::{Connection, Result, Row, StoreError, Value};
use fettle_domain::{DeploymentId, HostId, LogRequestId, Timestamp};

/// A request as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// Its id.
    pub id: LogRequestId,
    /// Whose log.
    pub deployment: DeploymentId,
    /// Which host has it.
    pub host: HostId,
    /// Who asked: user name.
    pub asked_by: String,
    /// When.
    pub asked_at: Timestamp,
    /// When it is forgotten with all that came.
    pub expires_at: Timestamp,
    /// Nothing follows.
    pub done: bool,
    /// Why the host has none; empty when it has.
    pub missing: String,
    /// Bytes that are taken.
    pub most_bytes: u64,
    /// Bytes that are here.
    pub bytes: u64,
    /// Number of the first line that is not here.
    pub next_line: u64,
    /// When the last part came.
    pub heard_at: Option<Timestamp>,
}

const COLUMNS: &str =
    "id, deployment, host, asked_by, asked_at, expires_at, done, missing, most_bytes, bytes, next_line, heard_at";

fn read(row: &Row) -> Result<LogRequest> {
    Ok(LogRequest {
        id: row.id(0)?,
        deployment: row.id(1)?,
        host: row.id(2)?,
        asked_by: row.text(3)?.to_owned(),
        asked_at: row.time(4)?,
        expires_at: row.time(5)?,
        done: row.bool(6)?,
        missing: row.text(7)?.to_owned(),
        most_bytes: positive(row.int(8)?),
        bytes: positive(row.int(9)?),
        next_line: positive(row.int(10)?),
        heard_at: row.time_or_null(11)?,
    })
}

/// Keeps a new request in place of a former one of the same deployment.
pub fn log_request_put(connection: &mut Connection, request: &LogRequest) -> Result<()> {
    if let Some(former) = log_request_of(connection, request.deployment)? {
        log_request_remove(connection, former.id)?;
    }
    connection.execute(
        &format!("INSERT INTO log_request ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"),
        &[
            request.id.into(),
            request.deployment.into(),
            request.host.into(),
            (&request.asked_by).into(),
            request.asked_at.into(),
            request.expires_at.into(),
            request.done.into(),
            (&request.missing).into(),
            signed(request.most_bytes).into(),
            signed(request.bytes).into(),
            signed(request.next_line).into(),
            request.heard_at.map_or(Value::Null, Value::from),
        ],
    )?;
    Ok(())
}

/// One request; `None` when it is forgotten.
pub fn log_request_get(connection: &mut Connection, id: LogRequestId) -> Result<Option<LogRequest>> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM log_request WHERE id = ?1"), &[id.into()])?;
    row.as_ref().map(read).transpose()
}

/// The request for a deployment's log, if there is one.
pub fn log_request_of(connection: &mut Connection, deployment: DeploymentId) -> Result<Option<LogRequest>> {
    let row = connection
        .query_one(&format!("SELECT {COLUMNS} FROM log_request WHERE deployment = ?1"), &[deployment.into()])?;
    row.as_ref().map(read).transpose()
}

/// Requests that a host has not answered to their end and whose time is not over, oldest first.
pub fn log_requests_of_host(
    connection: &mut Connection,
    host: HostId,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<LogRequest>> {
    let rows = connection.query(
        &format!(
            "SELECT {COLUMNS} FROM log_request WHERE host = ?1 AND done = 0 AND expires_at > ?2 ORDER BY id LIMIT ?3"
        ),
        &[host.into(), now.into(), limit.into()],
    )?;
    rows.iter().map(read).collect()
}

/// Takes a part: `lines` is the JSON of its lines, which count as so many bytes. Only the part that
/// begins where the one before ended is taken; `false` for every other.
pub fn log_part_add(
    connection: &mut Connection,
    request: &LogRequest,
    lines: &str,
    after: &LogRequest,
    now: Timestamp,
) -> Result<bool> {
    let written = connection.execute(
        "UPDATE log_request SET done = ?3, missing = ?4, bytes = ?5, next_line = ?6, heard_at = ?7
         WHERE id = ?1 AND next_line = ?2 AND done = 0",
        &[
            request.id.into(),
            signed(request.next_line).into(),
            after.done.into(),
            (&after.missing).into(),
            signed(after.bytes).into(),
            signed(after.next_line).into(),
            now.into(),
        ],
    )?;
    if written > 0 && after.next_line > request.next_line {
        connection.execute(
            "INSERT INTO log_part (request, from_line, lines) VALUES (?1, ?2, ?3)",
            &[request.id.into(), signed(request.next_line).into(), lines.into()],
        )?;
    }
    Ok(written > 0)
}

/// Parts that hold lines from a number on, in order: JSON of their lines.
pub fn log_parts(connection: &mut Connection, request: LogRequestId, from: u64, limit: u32) -> Result<Vec<String>> {
    // The part that begins last at or before the number, and those behind it.
    let rows = connection.query(
        "SELECT lines FROM log_part WHERE request = ?1 AND from_line >= COALESCE(
           (SELECT MAX(from_line) FROM log_part WHERE request = ?1 AND from_line <= ?2), 0)
         ORDER BY from_line LIMIT ?3",
        &[request.into(), signed(from).into(), limit.into()],
    )?;
    rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
}

/// Forgets a request with all that came.
pub fn log_request_remove(connection: &mut Connection, id: LogRequestId) -> Result<()> {
    connection.execute("DELETE FROM log_part WHERE request = ?1", &[id.into()])?;
    connection.execute("DELETE FROM log_request WHERE id = ?1", &[id.into()])?;
    Ok(())
}

/// Makes room: forgets what is over, and of what was answered the oldest, until at most `most` are
/// left. Returns how many are left, which is more only when none of them was answered yet.
pub fn log_requests_tidy(connection: &mut Connection, now: Timestamp, most: u64) -> Result<u64> {
    let over = connection.query("SELECT id FROM log_request WHERE expires_at <= ?1", &[now.into()])?;
    for row in &over {
        log_request_remove(connection, row.id(0)?)?;
    }
    let left = connection.query_one("SELECT COUNT(*) FROM log_request", &[])?;
    let left = positive(left.ok_or_else(|| StoreError::Corrupt { what: "log_request".into() })?.int(0)?);
    let excess = u32::try_from(left.saturating_sub(most)).unwrap_or(u32::MAX);
    let oldest =
        connection.query("SELECT id FROM log_request WHERE done = 1 ORDER BY id LIMIT ?1", &[excess.into()])?;
    for row in &oldest {
        log_request_remove(connection, row.id(0)?)?;
    }
    Ok(left.saturating_sub(oldest.len() as u64))
}
