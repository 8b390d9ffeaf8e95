//! Hosts: who they are, where they stand, when they last spoke.

use super::inventory::{digest_text, digest_value};
use crate::body::json;
use crate::page::{Listed, Page, Query, sort_columns};
use crate::{Connection, Result, Row, StoreError, Value};
use fettle_domain::machine::{HostEvent, HostState, Machine};
use fettle_domain::reason::Reason;
use fettle_domain::{GroupId, HostId, Timestamp};
use std::collections::HashMap;

/// A host as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: HostState,
    /// Grows with each transition.
    pub generation: i64,
    /// Agent version.
    pub agent_version: String,
    /// Operating system (`debian`).
    pub os_id: String,
    /// Release codename.
    pub os_codename: String,
    /// Operating system for people.
    pub os_name: String,
    /// A reboot is needed.
    pub reboot_pending: bool,
    /// Services that use replaced files.
    pub restart_pending: i64,
    /// JSON of the facts; empty in lists.
    pub facts: String,
    /// Digest of the facts.
    pub facts_digest: String,
    /// JSON of the services; empty in lists.
    pub services: String,
    /// Digest of the services.
    pub services_digest: String,
    /// Digest of the packages; empty: none reported yet.
    pub packages_digest: String,
    /// When its inventory last changed (Unix milliseconds).
    pub inventory_mark: i64,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// When it last spoke.
    pub last_seen: Timestamp,
    /// Milliseconds its clock is ahead (negative: behind); 0 within bounds.
    pub clock_apart: i64,
    /// When a second machine with its identity last spoke.
    pub cloned_at: Option<Timestamp>,
    /// Hosts it may be the same machine as, not answered yet.
    pub likenesses: i64,
}

const COLUMNS: &str = "id, name, state, generation, agent_version, os_id, os_codename, os_name, reboot_pending, restart_pending, facts_digest, services_digest, packages_digest, inventory_mark, enrolled_at, last_seen, clock_apart, cloned_at, likenesses";

fn read(row: &Row) -> Result<HostRecord> {
    Ok(HostRecord {
        id: row.id(0)?,
        name: row.text(1)?.to_owned(),
        state: HostState::parse(row.text(2)?).ok_or_else(|| StoreError::Corrupt { what: "host.state".into() })?,
        generation: row.int(3)?,
        agent_version: row.text(4)?.to_owned(),
        os_id: row.text(5)?.to_owned(),
        os_codename: row.text(6)?.to_owned(),
        os_name: row.text(7)?.to_owned(),
        reboot_pending: row.bool(8)?,
        restart_pending: row.int(9)?,
        facts_digest: digest_text(row, 10)?,
        services_digest: digest_text(row, 11)?,
        packages_digest: digest_text(row, 12)?,
        inventory_mark: row.int(13)?,
        enrolled_at: row.time(14)?,
        last_seen: row.time(15)?,
        clock_apart: row.int(16)?,
        cloned_at: Some(row.time(17)?).filter(|at| at.unix_millis() > 0),
        likenesses: row.int(18)?,
        facts: String::new(),
        services: String::new(),
    })
}

/// Facts of a host with what lists filter on beside them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFactsColumns {
    /// Name.
    pub name: String,
    /// Operating system id.
    pub os_id: String,
    /// Release codename.
    pub os_codename: String,
    /// Operating system for people.
    pub os_name: String,
    /// A reboot is needed.
    pub reboot_pending: bool,
    /// JSON of all facts.
    pub json: String,
    /// Digest as the agent has it.
    pub digest: String,
}

/// Makes a host that just got its certificate.
pub fn host_create(
    connection: &mut Connection,
    id: HostId,
    facts: &HostFactsColumns,
    agent_version: &str,
    now: Timestamp,
) -> Result<()> {
    host_insert(connection, id, HostState::Enrolling, facts, agent_version, now)?;
    host_note(connection, id, now, HostState::event_str(HostEvent::Enrol), "enrolment", &[])
}

/// Makes a host that a person imported from a file.
pub fn host_create_imported(
    connection: &mut Connection,
    id: HostId,
    facts: &HostFactsColumns,
    by: &str,
    now: Timestamp,
) -> Result<()> {
    host_insert(connection, id, HostState::Imported, facts, "", now)?;
    host_note(connection, id, now, HostState::event_str(HostEvent::Import), by, &[])
}

/// Makes a host that waits for a person to accept it.
pub fn host_discover(
    connection: &mut Connection,
    id: HostId,
    facts: &HostFactsColumns,
    agent_version: &str,
    now: Timestamp,
) -> Result<()> {
    host_insert(connection, id, HostState::Discovered, facts, agent_version, now)
}

fn host_insert(
    connection: &mut Connection,
    id: HostId,
    state: HostState,
    facts: &HostFactsColumns,
    agent_version: &str,
    now: Timestamp,
) -> Result<()> {
    connection.execute(
        &format!(
            "INSERT INTO host ({COLUMNS}, offer_sequence, key_current, key_next, key_former, key_former_until, link, link_before)
             VALUES (?1, ?2, ?10, 1, ?3, ?4, ?5, ?6, ?7, 0, ?9, ?9, ?9, 0, ?8, ?8, 0, 0, 0, 0, ?9, ?9, ?9, 0, ?9, ?9)"
        ),
        &[
            id.into(),
            (&facts.name).into(),
            agent_version.into(),
            (&facts.os_id).into(),
            (&facts.os_codename).into(),
            (&facts.os_name).into(),
            facts.reboot_pending.into(),
            now.into(),
            Value::Blob(Vec::new()),
            state.as_str().into(),
        ],
    )?;
    connection.execute(
        "INSERT INTO host_report (host, facts, services) VALUES (?1, ?2, '[]')",
        &[id.into(), (&facts.json).into()],
    )?;
    count(connection, state, 1)
}

/// One host.
pub fn host_get(connection: &mut Connection, id: HostId) -> Result<HostRecord> {
    let row = connection.query_one(
        &format!(
            "SELECT {COLUMNS}, r.facts, r.services FROM host JOIN host_report r ON r.host = host.id WHERE id = ?1"
        ),
        &[id.into()],
    )?;
    let row = row.ok_or_else(|| StoreError::not_found(id))?;
    Ok(HostRecord { facts: row.text(19)?.to_owned(), services: row.text(20)?.to_owned(), ..read(&row)? })
}

/// Hosts of this name (names are not unique).
pub fn host_by_name(connection: &mut Connection, name: &str) -> Result<Vec<HostRecord>> {
    let rows = connection
        .query(&format!("SELECT {COLUMNS} FROM host WHERE name = ?1 ORDER BY id LIMIT 20"), &[name.into()])?;
    rows.iter().map(read).collect()
}

/// Names of some hosts.
pub fn host_names(connection: &mut Connection, hosts: &[HostId]) -> Result<HashMap<HostId, String>> {
    let mut names = HashMap::new();
    for chunk in hosts.chunks(500) {
        let marks: Vec<String> = (1..=chunk.len()).map(|number| format!("?{number}")).collect();
        let values: Vec<Value> = chunk.iter().map(Value::from).collect();
        for row in
            connection.query(&format!("SELECT id, name FROM host WHERE id IN ({})", marks.join(", ")), &values)?
        {
            names.insert(row.id(0)?, row.text(1)?.to_owned());
        }
    }
    Ok(names)
}

/// What a list of hosts is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFilter {
    /// In this state; `None`: all but the retired.
    pub state: Option<HostState>,
    /// In this group.
    pub group: Option<GroupId>,
    /// With this release codename.
    pub codename: Option<String>,
    /// Needs a reboot or a restart of services.
    pub restart_needed: bool,
    /// Text in the name.
    pub text: Option<String>,
}

sort_columns! {
    /// What a list of hosts can be sorted by. Each has its index, a state at a time.
    HostSort {
        /// Name.
        Name = "name" [text "name", id "id"],
        /// State, then name.
        State = "state" [text "state", text "name", id "id"],
        /// Operating system, then name.
        OperatingSystem = "os" [text "os_name", text "name", id "id"],
        /// Last sign of life.
        LastSeen = "last_seen" [number "last_seen", id "id"],
    }
}

/// `few`: the group that it is narrowed to is small.
pub(crate) fn host_query(filter: &HostFilter, few: bool) -> Query {
    let mut query = Query::new(COLUMNS, "host");
    let listed = |state: &&HostState| filter.state.map_or(**state != HostState::Retired, |wanted| wanted == **state);
    let states = HostState::STATES.iter().filter(listed).map(|state| state.as_str());
    if few {
        // Not by an index of states either: the members of the group are read by their ids.
        query.few();
        let words: Vec<String> = states.map(|state| format!("'{state}'")).collect();
        query.only(format!("state || '' IN ({})", words.join(", ")));
    } else {
        query.each("state", states);
    }
    if let Some(group) = filter.group {
        let group = query.bind(group);
        query.only(format!("id IN (SELECT host FROM host_group_member WHERE group_id = {group})"));
    }
    if let Some(codename) = &filter.codename {
        let codename = query.bind(codename);
        query.only(format!("os_codename = {codename}"));
    }
    if filter.restart_needed {
        query.only("(reboot_pending = 1 OR restart_pending > 0)");
    }
    if let Some(text) = &filter.text {
        query.only_with(text, &["name"]);
    }
    query
}

/// Members of a group that are read one by one and sorted. A larger group is a fair part of any fleet, so
/// that its members are soon found along the order.
const SMALL_GROUP: i64 = 2_000;

/// A page of hosts.
pub fn host_list(
    connection: &mut Connection,
    filter: &HostFilter,
    page: &Page<HostSort>,
) -> Result<Listed<HostRecord>> {
    let mut few = false;
    if let Some(group) = filter.group {
        let members = connection.query_one(
            "SELECT COUNT(*) FROM (SELECT 1 FROM host_group_member WHERE group_id = ?1 LIMIT ?2) AS members",
            &[group.into(), (SMALL_GROUP + 1).into()],
        )?;
        few = members.map_or(Ok(0), |row| row.int(0))? <= SMALL_GROUP;
    }
    host_query(filter, few).page(connection, page, read)
}

/// How many hosts are in each state; kept as they change.
pub fn host_counts(connection: &mut Connection) -> Result<HashMap<HostState, u64>> {
    let mut counts = HashMap::new();
    for row in connection.query("SELECT state, hosts FROM host_count", &[])? {
        if let Some(state) = HostState::parse(row.text(0)?) {
            counts.insert(state, u64::try_from(row.int(1)?).unwrap_or(0));
        }
    }
    Ok(counts)
}

fn count(connection: &mut Connection, state: HostState, by: i64) -> Result<()> {
    connection.execute(
        "INSERT INTO host_count (state, hosts) VALUES (?1, ?2) ON CONFLICT (state) DO UPDATE SET hosts = host_count.hosts + excluded.hosts",
        &[state.as_str().into(), by.into()],
    )?;
    Ok(())
}

/// Moves a host by an event of its machine.
pub fn host_transition(
    connection: &mut Connection,
    id: HostId,
    by: HostEvent,
    actor: &str,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<HostState> {
    let row = connection
        .query_one("SELECT state, generation FROM host WHERE id = ?1", &[id.into()])?
        .ok_or_else(|| StoreError::not_found(id))?;
    let old = HostState::parse(row.text(0)?).ok_or_else(|| StoreError::Corrupt { what: "host.state".into() })?;
    let state = old.next(by)?;
    if state == old {
        return Ok(state);
    }
    let written = connection.execute(
        "UPDATE host SET state = ?3, generation = generation + 1 WHERE id = ?1 AND generation = ?2",
        &[id.into(), row.int(1)?.into(), state.as_str().into()],
    )?;
    if written == 0 {
        return Err(StoreError::conflict(id));
    }
    count(connection, old, -1)?;
    count(connection, state, 1)?;
    host_note(connection, id, now, HostState::event_str(by), actor, reasons)?;
    Ok(state)
}

/// Notes in the history of a host what changed its identity and not its state, or both.
pub fn host_note(
    connection: &mut Connection,
    id: HostId,
    at: Timestamp,
    event: &str,
    actor: &str,
    reasons: &[Reason],
) -> Result<()> {
    connection.execute(
        "INSERT INTO host_event (host, at, event, actor, reasons) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[id.into(), at.into(), event.into(), actor.into(), json(reasons)?],
    )?;
    Ok(())
}

/// One event of a host's history: when, what, who, JSON of the reasons.
pub type HostHistory = (Timestamp, String, String, String);

/// The history of a host, newest first.
pub fn host_events(connection: &mut Connection, id: HostId) -> Result<Vec<HostHistory>> {
    let rows = connection.query(
        "SELECT at, event, actor, reasons FROM host_event WHERE host = ?1 ORDER BY sequence DESC LIMIT 100",
        &[id.into()],
    )?;
    rows.iter()
        .map(|row| Ok((row.time(0)?, row.text(1)?.to_owned(), row.text(2)?.to_owned(), row.text(3)?.to_owned())))
        .collect()
}

/// Notes the agent's version.
pub fn host_set_agent_version(connection: &mut Connection, id: HostId, version: &str) -> Result<()> {
    connection.execute("UPDATE host SET agent_version = ?2 WHERE id = ?1", &[id.into(), version.into()])?;
    Ok(())
}

/// Replaces the facts.
pub fn host_set_facts(connection: &mut Connection, id: HostId, facts: &HostFactsColumns) -> Result<()> {
    connection.execute(
        "UPDATE host SET name = ?2, os_id = ?3, os_codename = ?4, os_name = ?5, reboot_pending = ?6, facts_digest = ?7 WHERE id = ?1",
        &[
            id.into(),
            (&facts.name).into(),
            (&facts.os_id).into(),
            (&facts.os_codename).into(),
            (&facts.os_name).into(),
            facts.reboot_pending.into(),
            digest_value(&facts.digest)?,
        ],
    )?;
    connection.execute("UPDATE host_report SET facts = ?2 WHERE host = ?1", &[id.into(), (&facts.json).into()])?;
    Ok(())
}

/// Replaces the services.
pub fn host_set_services(
    connection: &mut Connection,
    id: HostId,
    json: &str,
    digest: &str,
    restart_pending: i64,
) -> Result<()> {
    connection.execute(
        "UPDATE host SET services_digest = ?2, restart_pending = ?3 WHERE id = ?1",
        &[id.into(), digest_value(digest)?, restart_pending.into()],
    )?;
    connection.execute("UPDATE host_report SET services = ?2 WHERE host = ?1", &[id.into(), json.into()])?;
    Ok(())
}

/// Names the package set a host has.
pub fn host_set_packages(connection: &mut Connection, id: HostId, digest: &str) -> Result<()> {
    connection.execute("UPDATE host SET packages_digest = ?2 WHERE id = ?1", &[id.into(), digest_value(digest)?])?;
    Ok(())
}

/// Marks a host to be judged anew.
pub fn host_mark_changed(connection: &mut Connection, id: HostId, now: Timestamp) -> Result<()> {
    connection.execute(
        "UPDATE host SET inventory_mark = CASE WHEN inventory_mark < ?2 THEN ?2 ELSE inventory_mark + 1 END WHERE id = ?1",
        &[id.into(), now.into()],
    )?;
    connection.execute(
        "INSERT INTO host_changed (host, mark) SELECT id, inventory_mark FROM host WHERE id = ?1
         ON CONFLICT (host) DO UPDATE SET mark = excluded.mark",
        &[id.into()],
    )?;
    Ok(())
}

/// Marks hosts that were last judged by other feeds to be judged anew, in bounded steps: hosts with an
/// id above `after`, at most `limit` of them; the last id when there may be more.
pub fn host_mark_stale(
    connection: &mut Connection,
    feed_generation: i64,
    after: Option<HostId>,
    limit: u32,
) -> Result<Option<HostId>> {
    let after: Value = after.map_or_else(|| Value::Blob(Vec::new()), Value::from);
    let rows = connection.query(
        "SELECT id FROM host WHERE id > ?1 AND LENGTH(packages_digest) > 0 ORDER BY id LIMIT ?2",
        &[after.clone(), limit.into()],
    )?;
    let Some(last) = rows.last() else { return Ok(None) };
    let last: HostId = last.id(0)?;
    connection.execute(
        "INSERT INTO host_changed (host, mark)
         SELECT id, inventory_mark FROM host WHERE id > ?1 AND id <= ?2 AND LENGTH(packages_digest) > 0 AND NOT EXISTS (
           SELECT 1 FROM host_evaluation e WHERE e.host = host.id AND e.feed_generation = ?3)
         ON CONFLICT (host) DO UPDATE SET mark = excluded.mark",
        &[after, last.into(), feed_generation.into()],
    )?;
    Ok(if rows.len() < limit as usize { None } else { Some(last) })
}

/// Release codenames that hosts have.
pub fn host_releases(connection: &mut Connection) -> Result<Vec<String>> {
    let rows = connection
        .query("SELECT DISTINCT os_codename FROM host WHERE state <> 'retired' ORDER BY os_codename LIMIT 1000", &[])?;
    rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
}

/// Hosts to be judged anew, with the mark they were marked by.
pub fn host_changed(connection: &mut Connection, limit: u32) -> Result<Vec<(HostId, i64)>> {
    let rows = connection.query("SELECT host, mark FROM host_changed ORDER BY mark, host LIMIT ?1", &[limit.into()])?;
    rows.iter().map(|row| Ok((row.id(0)?, row.int(1)?))).collect()
}

/// Notes that a host was judged by this mark; a later mark stays.
pub fn host_judged(connection: &mut Connection, id: HostId, mark: i64) -> Result<()> {
    connection.execute("DELETE FROM host_changed WHERE host = ?1 AND mark <= ?2", &[id.into(), mark.into()])?;
    Ok(())
}

/// Hosts that have not spoken since `since`, by their states `enrolling` and `managed`.
pub fn host_quiet_since(connection: &mut Connection, since: Timestamp, limit: u32) -> Result<Vec<HostId>> {
    let rows = connection.query(
        "SELECT id FROM host WHERE state IN ('enrolling', 'managed') AND last_seen < ?1 ORDER BY last_seen LIMIT ?2",
        &[since.into(), limit.into()],
    )?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// The next sequence of a signed offer for this host.
pub fn host_next_offer_sequence(connection: &mut Connection, id: HostId) -> Result<u64> {
    let row = connection.query_one(
        "UPDATE host SET offer_sequence = offer_sequence + 1 WHERE id = ?1 RETURNING offer_sequence",
        &[id.into()],
    )?;
    let sequence = row.ok_or_else(|| StoreError::not_found(id))?.int(0)?;
    Ok(u64::try_from(sequence).unwrap_or(0))
}
