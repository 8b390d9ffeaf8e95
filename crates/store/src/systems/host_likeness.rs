//! Machines that are known again: marks of hardware, hosts that may be one machine, and hosts that
//! go on as another one.

use super::host::HostHistory;
use crate::body::json;
use crate::{Connection, Result, StoreError, Value};
use fettle_domain::machine::{HostState, Machine as _};
use fettle_domain::reason::Reason;
use fettle_domain::{HostId, Timestamp};

/// Marks kept of a host.
const MARKS: usize = 64;
/// Hosts looked at for one machine.
const FOUND: usize = 20;
/// Of those with one of its marks, and of those with its name, the newest.
const SEEN: usize = 100;

/// Replaces the marks of a host.
pub fn host_marks_set(connection: &mut Connection, host: HostId, marks: &[String]) -> Result<()> {
    connection.execute("DELETE FROM host_mark WHERE host = ?1", &[host.into()])?;
    for mark in marks.iter().take(MARKS) {
        connection.execute(
            "INSERT INTO host_mark (mark, host) VALUES (?1, ?2) ON CONFLICT (mark, host) DO NOTHING",
            &[mark.into(), host.into()],
        )?;
    }
    Ok(())
}

/// A host that has a mark or the name of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeHost {
    /// Its id.
    pub id: HostId,
    /// Where it stands.
    pub state: HostState,
    /// JSON of its facts.
    pub facts: String,
}

/// Hosts with one of these marks or this name, newest first, without `host` itself, without those
/// that already go on as another one.
pub fn hosts_alike(connection: &mut Connection, host: HostId, marks: &[String], name: &str) -> Result<Vec<LikeHost>> {
    let mut found = Vec::new();
    let mut values: Vec<Value> = marks.iter().take(MARKS).map(Value::from).collect();
    let places: Vec<String> = (1..=values.len()).map(|number| format!("?{number}")).collect();
    // Each way by its own index, and bounded: half a fleet may be called localhost.
    let by_mark = if places.is_empty() {
        String::new()
    } else {
        let marks = places.join(", ");
        format!(
            "SELECT id FROM (SELECT host AS id FROM host_mark WHERE mark IN ({marks}) ORDER BY host DESC LIMIT {SEEN}) m UNION "
        )
    };
    values.push(name.into());
    values.push(host.into());
    let (name, host) = (values.len() - 1, values.len());
    let rows = connection.query(
        &format!(
            "SELECT h.id, h.state, r.facts FROM host h JOIN host_report r ON r.host = h.id
             WHERE h.id IN ({by_mark}SELECT id FROM (SELECT id FROM host WHERE name = ?{name} ORDER BY id DESC LIMIT {SEEN}) n) AND h.id <> ?{host} AND h.state <> 'discovered'
               AND NOT EXISTS (SELECT 1 FROM host_predecessor p WHERE p.former = h.id)
             ORDER BY h.id DESC LIMIT {FOUND}"
        ),
        &values,
    )?;
    for row in &rows {
        found.push(LikeHost {
            id: row.id(0)?,
            state: HostState::parse(row.text(1)?).ok_or_else(|| StoreError::Corrupt { what: "host.state".into() })?,
            facts: row.text(2)?.to_owned(),
        });
    }
    Ok(found)
}

/// A host that another one may be the same machine as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Likeness {
    /// The older host.
    pub other: HostId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: HostState,
    /// JSON array of the reasons.
    pub reasons: String,
}

/// Notes that a host may be the same machine as another one.
pub fn host_likeness_add(
    connection: &mut Connection,
    host: HostId,
    other: HostId,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<()> {
    connection.execute(
        "INSERT INTO host_likeness (host, other, at, reasons) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (host, other) DO UPDATE SET reasons = excluded.reasons",
        &[host.into(), other.into(), now.into(), json(reasons)?],
    )?;
    recount(connection, host)
}

/// The hosts that a host may be the same machine as, likeliest first as they were found.
pub fn host_likenesses(connection: &mut Connection, host: HostId) -> Result<Vec<Likeness>> {
    let rows = connection.query(
        "SELECT l.other, h.name, h.state, l.reasons FROM host_likeness l JOIN host h ON h.id = l.other
         WHERE l.host = ?1 ORDER BY l.other DESC LIMIT 20",
        &[host.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Likeness {
                other: row.id(0)?,
                name: row.text(1)?.to_owned(),
                state: crate::body::state(row.text(2)?)?,
                reasons: row.text(3)?.to_owned(),
            })
        })
        .collect()
}

/// A person answered: the question is not asked any more. How many there were.
pub fn host_likeness_answered(connection: &mut Connection, host: HostId) -> Result<u64> {
    let answered = connection.execute("DELETE FROM host_likeness WHERE host = ?1", &[host.into()])?;
    recount(connection, host)?;
    Ok(answered)
}

fn recount(connection: &mut Connection, host: HostId) -> Result<()> {
    connection.execute(
        "UPDATE host SET likenesses = (SELECT COUNT(*) FROM host_likeness l WHERE l.host = host.id) WHERE id = ?1",
        &[host.into()],
    )?;
    Ok(())
}

/// A host goes on as another one: its groups go over, and nobody is asked about it any more.
pub fn host_succeed(connection: &mut Connection, former: HostId, host: HostId, now: Timestamp) -> Result<()> {
    connection.execute(
        "INSERT INTO host_predecessor (former, host, at) VALUES (?1, ?2, ?3)",
        &[former.into(), host.into(), now.into()],
    )?;
    connection.execute(
        "INSERT INTO host_group_member (group_id, host) SELECT group_id, ?2 FROM host_group_member WHERE host = ?1
         ON CONFLICT (group_id, host) DO NOTHING",
        &[former.into(), host.into()],
    )?;
    connection.execute("DELETE FROM host_group_member WHERE host = ?1", &[former.into()])?;
    let asked = connection.query("SELECT host FROM host_likeness WHERE other = ?1", &[former.into()])?;
    connection.execute("DELETE FROM host_likeness WHERE other = ?1", &[former.into()])?;
    for row in &asked {
        recount(connection, row.id(0)?)?;
    }
    Ok(())
}

/// The hosts that went on as this one, oldest first, with their names.
pub fn host_predecessors(connection: &mut Connection, host: HostId) -> Result<Vec<(HostId, String)>> {
    let rows = connection.query(
        "SELECT p.former, h.name FROM host_predecessor p JOIN host h ON h.id = p.former WHERE p.host = ?1 ORDER BY p.at LIMIT 20",
        &[host.into()],
    )?;
    rows.iter().map(|row| Ok((row.id(0)?, row.text(1)?.to_owned()))).collect()
}

/// The host that this one goes on as, if any.
pub fn host_successor(connection: &mut Connection, host: HostId) -> Result<Option<HostId>> {
    let row = connection.query_one("SELECT host FROM host_predecessor WHERE former = ?1", &[host.into()])?;
    row.map(|row| row.id(0)).transpose()
}

/// The history of a host and of those that went on as it, newest first.
pub fn host_events_whole(connection: &mut Connection, host: HostId) -> Result<Vec<HostHistory>> {
    let mut events = super::host::host_events(connection, host)?;
    for (former, _) in host_predecessors(connection, host)?.into_iter().rev() {
        events.extend(super::host::host_events(connection, former)?);
    }
    Ok(events)
}
