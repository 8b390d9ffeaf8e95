//! Findings: this vulnerability is present on this host. Every transition is written against the
//! generation it read, with its event; counts are kept as findings change.

use crate::body::{json, parse};
use crate::page::{Listed, Order, Page, Query, SortColumn as _, sort_columns};
use crate::{Connection, Result, Row, StoreError};
use fettle_domain::advisory::VulnId;
use fettle_domain::finding::{Priority, Verdict, VerdictState};
use fettle_domain::machine::{FindingEvent, FindingState, Machine};
use fettle_domain::reason::Reason;
use fettle_domain::{FindingId, HostId, Timestamp};

/// A finding as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingRecord {
    /// Its id.
    pub id: FindingId,
    /// On which host.
    pub host: HostId,
    /// Source package.
    pub source: String,
    /// The flaw.
    pub vulnerability: VulnId,
    /// Where it stands.
    pub state: FindingState,
    /// Grows with each write.
    pub generation: i64,
    /// What matching says.
    pub verdict: VerdictState,
    /// Source version that was compared.
    pub source_version: String,
    /// First fixed version, where one is published.
    pub fixed_version: Option<String>,
    /// Binary packages.
    pub packages: Vec<String>,
    /// The publisher's severity word.
    pub severity: String,
    /// Order of work.
    pub priority: Priority,
    /// Why.
    pub reasons: Vec<Reason>,
    /// When we first saw it.
    pub first_seen: Timestamp,
    /// When it last changed.
    pub changed_at: Timestamp,
}

/// One event of a finding's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingEventRecord {
    /// When.
    pub at: Timestamp,
    /// Event of the machine, or `open`, `update`.
    pub event: String,
    /// Who or what.
    pub actor: String,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// What a list of findings is narrowed to; `None` narrows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingFilter {
    /// In one of these states; empty: all but those proved gone or dismissed.
    pub states: Vec<FindingState>,
    /// With one of these verdicts; empty: any.
    pub verdicts: Vec<VerdictState>,
    /// On this host.
    pub host: Option<HostId>,
    /// Of this flaw.
    pub vulnerability: Option<VulnId>,
    /// In this source package.
    pub source: Option<String>,
    /// At least this severity level (0 to 5).
    pub least_level: Option<u8>,
    /// With (or without) a published fix.
    pub fixable: Option<bool>,
    /// Exploited in the wild.
    pub exploited: bool,
    /// Text in the flaw's name or the source package's.
    pub text: Option<String>,
}

sort_columns! {
    /// What a list of findings can be sorted by. Each has its index, a state at a time.
    FindingSort {
        /// Order of work: severity level, then exploit level.
        Priority = "priority" [number "priority", id "id"],
        /// Name of the flaw, then priority.
        Vulnerability = "vulnerability" [text "vulnerability", number "priority", id "id"],
        /// Source package, then priority.
        Source = "source" [text "source", number "priority", id "id"],
        /// When we first saw it.
        FirstSeen = "first_seen" [number "first_seen", id "id"],
    }
}

/// The order in which work is done.
pub const MOST_URGENT_FIRST: Order<FindingSort> = Order::descending(FindingSort::Priority);

/// How many findings there are of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingCount {
    /// State.
    pub state: FindingState,
    /// Verdict.
    pub verdict: VerdictState,
    /// Severity level, 0 to 5.
    pub level: u8,
    /// Whether a fix is published.
    pub fixable: bool,
    /// Exploited in the wild.
    pub exploited: bool,
    /// How many.
    pub findings: u64,
}

const COLUMNS: &str = "id, host, source, vulnerability, state, generation, verdict, source_version, fixed_version, packages, severity, priority, reasons, first_seen, changed_at";

/// States of findings that still mean work.
pub const OPEN_STATES: [FindingState; 5] = [
    FindingState::Open,
    FindingState::Planned,
    FindingState::Remediated,
    FindingState::Mitigated,
    FindingState::Accepted,
];

/// Those states as SQL.
fn open_states() -> String {
    OPEN_STATES.iter().map(|state| format!("'{state}'")).collect::<Vec<_>>().join(", ")
}

fn read(row: &Row) -> Result<FindingRecord> {
    let corrupt = |what: &str| StoreError::Corrupt { what: format!("finding.{what}") };
    Ok(FindingRecord {
        id: row.id(0)?,
        host: row.id(1)?,
        source: row.text(2)?.to_owned(),
        vulnerability: VulnId(row.text(3)?.to_owned()),
        state: FindingState::parse(row.text(4)?).ok_or_else(|| corrupt("state"))?,
        generation: row.int(5)?,
        verdict: VerdictState::parse(row.text(6)?).ok_or_else(|| corrupt("verdict"))?,
        source_version: row.text(7)?.to_owned(),
        fixed_version: row.text_or_null(8)?.map(str::to_owned),
        packages: parse(row.text(9)?, "finding.packages")?,
        severity: row.text(10)?.to_owned(),
        priority: priority_of(row.int(11)?),
        reasons: parse(row.text(12)?, "finding.reasons")?,
        first_seen: row.time(13)?,
        changed_at: row.time(14)?,
    })
}

fn priority_of(number: i64) -> Priority {
    Priority { severity: u8::try_from(number / 10).unwrap_or(0), exploit: u8::try_from(number % 10).unwrap_or(0) }
}

fn priority_number(priority: Priority) -> i64 {
    i64::from(priority.severity) * 10 + i64::from(priority.exploit)
}

/// One finding.
pub fn finding_get(connection: &mut Connection, id: FindingId) -> Result<FindingRecord> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM finding WHERE id = ?1"), &[id.into()])?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(id))
}

/// All findings of a host, closed ones too.
pub fn finding_of_host(connection: &mut Connection, host: HostId) -> Result<Vec<FindingRecord>> {
    let rows = connection.query(
        &format!("SELECT {COLUMNS} FROM finding WHERE host = ?1 ORDER BY source, vulnerability"),
        &[host.into()],
    )?;
    rows.iter().map(read).collect()
}

/// What a finding rests on, without its words: enough to tell whether anything changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingEvidence {
    /// Its id.
    pub id: FindingId,
    /// Source package.
    pub source: String,
    /// The flaw.
    pub vulnerability: VulnId,
    /// Where it stands.
    pub state: FindingState,
    /// What matching says.
    pub verdict: VerdictState,
    /// Source version that was compared.
    pub source_version: String,
    /// First fixed version, where one is published.
    pub fixed_version: Option<String>,
    /// Order of work.
    pub priority: Priority,
}

/// What all findings of a host rest on, closed ones too.
pub fn finding_evidence_of_host(connection: &mut Connection, host: HostId) -> Result<Vec<FindingEvidence>> {
    let rows = connection.query(
        "SELECT id, source, vulnerability, state, verdict, source_version, fixed_version, priority FROM finding WHERE host = ?1",
        &[host.into()],
    )?;
    let corrupt = |what: &str| StoreError::Corrupt { what: format!("finding.{what}") };
    rows.iter()
        .map(|row| {
            Ok(FindingEvidence {
                id: row.id(0)?,
                source: row.text(1)?.to_owned(),
                vulnerability: VulnId(row.text(2)?.to_owned()),
                state: FindingState::parse(row.text(3)?).ok_or_else(|| corrupt("state"))?,
                verdict: VerdictState::parse(row.text(4)?).ok_or_else(|| corrupt("verdict"))?,
                source_version: row.text(5)?.to_owned(),
                fixed_version: row.text_or_null(6)?.map(str::to_owned),
                priority: priority_of(row.int(7)?),
            })
        })
        .collect()
}

impl FindingFilter {
    /// What a list that is narrowed like this can be sorted by. One flaw or one source package may be on
    /// every host: such a list is read along the index of that column, which is in the order of priority.
    /// A text is in no index at all: rows that have it are looked for along the shortest one.
    pub fn columns(&self) -> Vec<FindingSort> {
        let narrowed = self.vulnerability.is_some() || self.source.is_some() || self.text.is_some();
        let served = |by: &FindingSort| match by {
            FindingSort::Priority => true,
            FindingSort::Vulnerability => self.vulnerability.is_some(),
            FindingSort::Source => self.source.is_some(),
            FindingSort::FirstSeen => false,
        };
        FindingSort::ALL.iter().filter(|by| self.host.is_some() || !narrowed || served(by)).copied().collect()
    }
}

/// A page of findings; the order is one of [`FindingFilter::columns`].
pub fn finding_list(
    connection: &mut Connection,
    filter: &FindingFilter,
    page: &Page<FindingSort>,
) -> Result<Listed<FindingRecord>> {
    finding_query(filter, page.order.by).page(connection, page, read)
}

pub(crate) fn finding_query(filter: &FindingFilter, by: FindingSort) -> Query {
    let mut query = Query::new(COLUMNS, "finding");
    let states = if filter.states.is_empty() { OPEN_STATES.as_slice() } else { filter.states.as_slice() };
    // Through all there are, so that a state that was named twice is read once.
    let wanted = FindingState::STATES.iter().filter(|state| states.contains(state));
    query.each("state", wanted.map(|state| state.as_str()));
    if !filter.verdicts.is_empty() {
        let list: Vec<String> = filter.verdicts.iter().map(|verdict| query.bind(verdict.as_str())).collect();
        query.only(format!("verdict IN ({})", list.join(", ")));
    }
    if let Some(host) = filter.host {
        let host = query.bind(host);
        query.only(format!("host = {host}"));
        if by != FindingSort::Priority {
            query.few();
        }
    }
    if let Some(vulnerability) = &filter.vulnerability {
        let vulnerability = query.bind(&vulnerability.0);
        query.only(format!("vulnerability = {vulnerability}"));
    }
    if let Some(source) = &filter.source {
        let source = query.bind(source);
        query.only(format!("source = {source}"));
    }
    if let Some(level) = filter.least_level {
        let least = query.bind(i64::from(level) * 10);
        // In another order than its own this only picks rows: with `+` no index is chosen for its sake,
        // which would read and sort every finding of that level (0.5 s of a million on SQLite).
        let sign = if by == FindingSort::Priority { "" } else { "+" };
        query.only(format!("{sign}priority >= {least}"));
    }
    match filter.fixable {
        Some(true) => query.only("fixed_version IS NOT NULL"),
        Some(false) => query.only("fixed_version IS NULL"),
        None => {}
    }
    if filter.exploited {
        query.only("priority % 10 = 3");
    }
    if let Some(text) = &filter.text {
        query.only_with(text, &["vulnerability", "source"]);
    }
    query
}

/// How many hosts have a flaw open, and some of them: for the page of one vulnerability.
pub fn finding_hosts_of_vulnerability(connection: &mut Connection, vulnerability: &VulnId) -> Result<u64> {
    let row = connection.query_one(
        &format!("SELECT COUNT(DISTINCT host) FROM finding WHERE vulnerability = ?1 AND state IN ({})", open_states()),
        &[(&vulnerability.0).into()],
    )?;
    row.map_or(Ok(0), |row| row.int(0)).map(|count| u64::try_from(count).unwrap_or(0))
}

/// Counts of all findings by kind; kept as they change.
pub fn finding_counts(connection: &mut Connection) -> Result<Vec<FindingCount>> {
    let rows = connection.query(
        "SELECT state, verdict, level, fixable, exploited, findings FROM finding_count WHERE findings > 0",
        &[],
    )?;
    rows.iter()
        .map(|row| {
            let corrupt = || StoreError::Corrupt { what: "finding_count".into() };
            Ok(FindingCount {
                state: FindingState::parse(row.text(0)?).ok_or_else(corrupt)?,
                verdict: VerdictState::parse(row.text(1)?).ok_or_else(corrupt)?,
                level: u8::try_from(row.int(2)?).unwrap_or(0),
                fixable: row.bool(3)?,
                exploited: row.bool(4)?,
                findings: u64::try_from(row.int(5)?).unwrap_or(0),
            })
        })
        .collect()
}

fn count(connection: &mut Connection, finding: &FindingRecord, by: i64) -> Result<()> {
    connection.execute(
        "INSERT INTO finding_count (state, verdict, level, fixable, exploited, findings) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (state, verdict, level, fixable, exploited) DO UPDATE SET findings = finding_count.findings + excluded.findings",
        &[
            finding.state.as_str().into(),
            finding.verdict.as_str().into(),
            i64::from(finding.priority.severity).into(),
            finding.fixed_version.is_some().into(),
            (finding.priority.exploit == 3).into(),
            by.into(),
        ],
    )?;
    Ok(())
}

/// Opens a finding.
pub fn finding_open(
    connection: &mut Connection,
    id: FindingId,
    host: HostId,
    verdict: &Verdict,
    priority: Priority,
    now: Timestamp,
) -> Result<()> {
    let record = FindingRecord {
        id,
        host,
        source: verdict.source.clone(),
        vulnerability: verdict.vulnerability.clone(),
        state: FindingState::Open,
        generation: 1,
        verdict: verdict.state,
        source_version: verdict.source_version.clone(),
        fixed_version: verdict.fixed_version.clone(),
        packages: verdict.packages.clone(),
        severity: verdict.severity.clone(),
        priority,
        reasons: verdict.reasons.clone(),
        first_seen: now,
        changed_at: now,
    };
    connection.execute(
        &format!(
            "INSERT INTO finding ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)"
        ),
        &[
            id.into(),
            host.into(),
            (&record.source).into(),
            (&record.vulnerability.0).into(),
            record.state.as_str().into(),
            record.verdict.as_str().into(),
            (&record.source_version).into(),
            record.fixed_version.clone().into(),
            json(&record.packages)?,
            (&record.severity).into(),
            priority_number(priority).into(),
            json(&record.reasons)?,
            now.into(),
        ],
    )?;
    count(connection, &record, 1)?;
    event(connection, id, now, "open", "gathering", &record.reasons)
}

/// Writes new evidence for a finding that stays in its state.
pub fn finding_update(
    connection: &mut Connection,
    id: FindingId,
    verdict: &Verdict,
    priority: Priority,
    now: Timestamp,
) -> Result<()> {
    let old = finding_get(connection, id)?;
    let fresh = with_evidence(&old, verdict, priority);
    write(connection, &old, &fresh, now)?;
    event(connection, id, now, "update", "gathering", &fresh.reasons)
}

/// Moves a finding by an event of its machine. With a verdict, its evidence is replaced too.
pub fn finding_transition(
    connection: &mut Connection,
    id: FindingId,
    by: FindingEvent,
    evidence: Option<(&Verdict, Priority)>,
    actor: &str,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<FindingState> {
    let old = finding_get(connection, id)?;
    let mut fresh = match evidence {
        Some((verdict, priority)) => with_evidence(&old, verdict, priority),
        None => FindingRecord { reasons: reasons.to_vec(), ..old.clone() },
    };
    fresh.state = old.state.next(by)?;
    write(connection, &old, &fresh, now)?;
    event(connection, id, now, FindingState::event_str(by), actor, reasons)?;
    Ok(fresh.state)
}

fn with_evidence(old: &FindingRecord, verdict: &Verdict, priority: Priority) -> FindingRecord {
    FindingRecord {
        verdict: verdict.state,
        source_version: verdict.source_version.clone(),
        fixed_version: verdict.fixed_version.clone(),
        packages: verdict.packages.clone(),
        severity: verdict.severity.clone(),
        priority,
        reasons: verdict.reasons.clone(),
        ..old.clone()
    }
}

fn write(connection: &mut Connection, old: &FindingRecord, fresh: &FindingRecord, now: Timestamp) -> Result<()> {
    let written = connection.execute(
        "UPDATE finding SET state = ?3, generation = generation + 1, verdict = ?4, source_version = ?5, fixed_version = ?6,
           packages = ?7, severity = ?8, priority = ?9, reasons = ?10, changed_at = ?11
         WHERE id = ?1 AND generation = ?2",
        &[
            old.id.into(),
            old.generation.into(),
            fresh.state.as_str().into(),
            fresh.verdict.as_str().into(),
            (&fresh.source_version).into(),
            fresh.fixed_version.clone().into(),
            json(&fresh.packages)?,
            (&fresh.severity).into(),
            priority_number(fresh.priority).into(),
            json(&fresh.reasons)?,
            now.into(),
        ],
    )?;
    if written == 0 {
        return Err(StoreError::conflict(old.id));
    }
    count(connection, old, -1)?;
    count(connection, fresh, 1)
}

fn event(
    connection: &mut Connection,
    id: FindingId,
    at: Timestamp,
    event: &str,
    actor: &str,
    reasons: &[Reason],
) -> Result<()> {
    connection.execute(
        "INSERT INTO finding_event (finding, at, event, actor, reasons) VALUES (?1, ?2, ?3, ?4, ?5)",
        &[id.into(), at.into(), event.into(), actor.into(), json(&reasons)?],
    )?;
    Ok(())
}

/// The history of a finding, oldest first, at most 500 events.
pub fn finding_events(connection: &mut Connection, id: FindingId) -> Result<Vec<FindingEventRecord>> {
    let rows = connection.query(
        "SELECT at, event, actor, reasons FROM finding_event WHERE finding = ?1 ORDER BY sequence LIMIT 500",
        &[id.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(FindingEventRecord {
                at: row.time(0)?,
                event: row.text(1)?.to_owned(),
                actor: row.text(2)?.to_owned(),
                reasons: parse(row.text(3)?, "finding_event.reasons")?,
            })
        })
        .collect()
}

/// Notes by what a host was judged.
pub fn evaluation_set(
    connection: &mut Connection,
    host: HostId,
    inventory_mark: i64,
    feed_generation: i64,
    now: Timestamp,
) -> Result<()> {
    connection.execute(
        "INSERT INTO host_evaluation (host, inventory_mark, feed_generation, evaluated_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (host) DO UPDATE SET inventory_mark = excluded.inventory_mark,
           feed_generation = excluded.feed_generation, evaluated_at = excluded.evaluated_at",
        &[host.into(), inventory_mark.into(), feed_generation.into(), now.into()],
    )?;
    Ok(())
}

/// By what a host was last judged: inventory mark, feed generation, when.
pub fn evaluation_get(connection: &mut Connection, host: HostId) -> Result<Option<(i64, i64, Timestamp)>> {
    let row = connection.query_one(
        "SELECT inventory_mark, feed_generation, evaluated_at FROM host_evaluation WHERE host = ?1",
        &[host.into()],
    )?;
    row.map(|row| Ok((row.int(0)?, row.int(1)?, row.time(2)?))).transpose()
}

/// Hosts that were judged by other feed data than `feed_generation`, with their inventory's mark, at
/// most `limit`; the retired are left alone.
pub fn evaluation_outdated(
    connection: &mut Connection,
    feed_generation: i64,
    limit: u32,
) -> Result<Vec<(HostId, i64)>> {
    let rows = connection.query(
        "SELECT e.host, h.inventory_mark FROM host_evaluation e JOIN host h ON h.id = e.host
         WHERE e.feed_generation < ?1 AND h.state <> 'retired' ORDER BY e.feed_generation LIMIT ?2",
        &[feed_generation.into(), limit.into()],
    )?;
    rows.iter().map(|row| Ok((row.id(0)?, row.int(1)?))).collect()
}
