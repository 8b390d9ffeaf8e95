//! The audit log: append-only, each entry's digest covers the one before, no gaps in the sequence.
//! Changing, removing or inserting an entry breaks the chain at that place; cutting entries off the
//! end is told by the head, and by a digest that somebody wrote down elsewhere.

use crate::page::{Listed, Page, Query, SortColumn as _, sort_columns};
use crate::{Connection, Result, Row, StoreError};
use fettle_domain::Timestamp;
use ring::digest::{Context, SHA256};

/// What an act leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    /// Who: a user name, `host …` or `server`.
    pub actor: String,
    /// What: stable dotted name, such as `host.revoke`.
    pub action: &'static str,
    /// To what: id or name.
    pub object: String,
    /// Particulars. Never a secret.
    pub detail: serde_json::Value,
}

/// An entry as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Position, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub object: String,
    /// JSON text.
    pub detail: String,
    /// sha-256.
    pub digest: Vec<u8>,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only of this actor.
    pub actor: Option<String>,
    /// Only this action, or with a trailing dot all that begin so.
    pub action: Option<String>,
    /// Only about this object.
    pub object: Option<String>,
}

/// What a walk over the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Entries that hold.
    pub checked: u64,
    /// Digest of the last one that holds.
    pub head: Vec<u8>,
    /// The first that does not hold, and why.
    pub broken: Option<(u64, String)>,
}

/// Entries read at once by [`verify_part`].
const PART: i64 = 2_000;

/// Digest before the first entry.
fn genesis() -> Vec<u8> {
    ring::digest::digest(&SHA256, b"fettle audit chain v1").as_ref().to_vec()
}

/// Appends an entry, in the caller's write. Returns its sequence.
pub fn append(connection: &mut Connection, now: Timestamp, record: &AuditRecord) -> Result<u64> {
    let detail = record.detail.to_string();
    connection.execute(
        "INSERT INTO audit_head (id, sequence, digest) VALUES (1, 0, ?1) ON CONFLICT (id) DO NOTHING",
        &[genesis().into()],
    )?;
    // Locks the row until the commit: another server's append waits here and then reads on.
    let head = connection
        .query_one("UPDATE audit_head SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence, digest", &[])?
        .ok_or_else(|| StoreError::Corrupt { what: "the head of the audit log is missing".into() })?;
    let sequence = head.int(0)?;
    let fields = [record.actor.as_str(), record.action, record.object.as_str(), detail.as_str()].map(clean);
    let digest = digest(head.blob(1)?, sequence, now, &fields);
    let [actor, action, object, detail] = fields;
    connection.execute(
        "INSERT INTO audit_entry (sequence, at, actor, action, object, detail, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[sequence.into(), now.into(), actor.into(), action.into(), object.into(), detail.into(), digest.clone().into()],
    )?;
    connection.execute("UPDATE audit_head SET digest = ?1 WHERE id = 1", &[digest.into()])?;
    u64::try_from(sequence).map_err(|_| StoreError::Corrupt { what: "the audit sequence is negative".into() })
}

/// One entry.
pub fn get(connection: &mut Connection, sequence: u64) -> Result<Option<AuditEntry>> {
    let row = connection
        .query_one(&format!("SELECT {COLUMNS} FROM audit_entry WHERE sequence = ?1"), &[position(sequence).into()])?;
    row.map(|row| entry(&row)).transpose()
}

sort_columns! {
    /// What the audit log can be sorted by. Each has its index.
    AuditSort {
        /// Position, which is also the order in time.
        Sequence = "sequence" [number "sequence"],
        /// Who.
        Actor = "actor" [text "actor", number "sequence"],
        /// What.
        Action = "action" [text "action", number "sequence"],
        /// To what.
        Object = "object" [text "object", number "sequence"],
    }
}

impl AuditFilter {
    /// What a log that is narrowed like this can be sorted by: each column's index is in the order of the
    /// entries, and of no other column.
    pub fn columns(&self) -> Vec<AuditSort> {
        let served = |by: &AuditSort| match by {
            AuditSort::Sequence => true,
            AuditSort::Actor => self.actor.is_some(),
            AuditSort::Action => self.action.is_some(),
            AuditSort::Object => self.object.is_some(),
        };
        let whole = *self == Self::default();
        AuditSort::ALL.iter().filter(|by| whole || served(by)).copied().collect()
    }
}

/// A page of entries; the order is one of [`AuditFilter::columns`].
pub fn list(connection: &mut Connection, filter: &AuditFilter, page: &Page<AuditSort>) -> Result<Listed<AuditEntry>> {
    query(filter).page(connection, page, entry)
}

pub(crate) fn query(filter: &AuditFilter) -> Query {
    let mut query = Query::new(COLUMNS, "audit_entry");
    if let Some(actor) = &filter.actor {
        let actor = query.bind(actor);
        query.only(format!("actor = {actor}"));
    }
    match &filter.action {
        Some(action) if action.ends_with('.') => {
            // `/` follows `.` in ASCII: together a prefix search that an index serves.
            let (from, to) = (query.bind(action), query.bind(format!("{}/", action.trim_end_matches('.'))));
            query.only(format!("action >= {from} AND action < {to}"));
        }
        Some(action) => {
            let action = query.bind(action);
            query.only(format!("action = {action}"));
        }
        None => {}
    }
    if let Some(object) = &filter.object {
        let object = query.bind(object);
        query.only(format!("object = {object}"));
    }
    query
}

/// How many there are, by the head.
pub fn count(connection: &mut Connection) -> Result<u64> {
    Ok(head(connection)?.0)
}

/// The head: last sequence and its digest.
fn head(connection: &mut Connection) -> Result<(u64, Vec<u8>)> {
    match connection.query_one("SELECT sequence, digest FROM audit_head WHERE id = 1", &[])? {
        Some(row) => Ok((u64::try_from(row.int(0)?).unwrap_or(0), row.blob(1)?.to_vec())),
        None => Ok((0, genesis())),
    }
}

/// Where a walk begins.
pub fn verify_start() -> AuditVerdict {
    AuditVerdict { checked: 0, head: genesis(), broken: None }
}

/// Walks on by a bounded number of entries; `true` when the end is reached or a break was found. A
/// caller gives the connection back between parts, so that the longest log holds up nobody.
pub fn verify_part(connection: &mut Connection, verdict: &mut AuditVerdict) -> Result<bool> {
    let sql = format!("SELECT {COLUMNS} FROM audit_entry WHERE sequence > ?1 ORDER BY sequence LIMIT ?2");
    // The head first: entries appended meanwhile are then only more than it says.
    let (last, last_digest) = head(connection)?;
    let rows = connection.query(&sql, &[position(verdict.checked).into(), PART.into()])?;
    for row in &rows {
        let found = entry(row)?;
        let expected = verdict.checked + 1;
        if let Some(why) = complaint(&found, expected, &verdict.head) {
            verdict.broken = Some((expected, why));
            return Ok(true);
        }
        verdict.checked = expected;
        verdict.head.clone_from(&found.digest);
        if expected == last && found.digest != last_digest {
            verdict.broken = Some((expected, "its digest is not the one the head of the log names".into()));
            return Ok(true);
        }
    }
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) == PART {
        return Ok(false);
    }
    if verdict.checked < last {
        verdict.broken =
            Some((verdict.checked + 1, format!("it is missing: the head of the log names {last} entries")));
    }
    Ok(true)
}

fn complaint(found: &AuditEntry, expected: u64, former: &[u8]) -> Option<String> {
    if found.sequence != expected {
        return Some(format!("it is missing: the next entry is {}", found.sequence));
    }
    let fields = [&found.actor, &found.action, &found.object, &found.detail].map(Clone::clone);
    let digest = digest(former, position(found.sequence), found.at, &fields);
    (digest != found.digest).then(|| "its content or its predecessor was changed: the digest does not fit".to_owned())
}

const COLUMNS: &str = "sequence, at, actor, action, object, detail, digest";

fn entry(row: &Row) -> Result<AuditEntry> {
    Ok(AuditEntry {
        sequence: u64::try_from(row.int(0)?).unwrap_or(0),
        at: row.time(1)?,
        actor: row.text(2)?.to_owned(),
        action: row.text(3)?.to_owned(),
        object: row.text(4)?.to_owned(),
        detail: row.text(5)?.to_owned(),
        digest: row.blob(6)?.to_vec(),
    })
}

/// PostgreSQL cannot keep NUL: what is digested must be what is read back.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn position(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// sha-256 over former digest, sequence, time, and each field after its length, so that no field can
/// be taken for a part of another.
fn digest(former: &[u8], sequence: i64, at: Timestamp, fields: &[String; 4]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(former);
    context.update(&sequence.to_be_bytes());
    context.update(&at.unix_millis().to_be_bytes());
    for field in fields {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field.as_bytes());
    }
    context.finish().as_ref().to_vec()
}
