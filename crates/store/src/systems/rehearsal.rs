//! Dry runs: one for each host that a change is meant for, answered or not.

use crate::body::{json, parse, parse_or_none, positive};
use crate::{Connection, Result, Row, StoreError, Value};
use fettle_domain::host::OsRelease;
use fettle_domain::plan::{Job, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, HostId, PlanId, RehearsalId, Timestamp};

/// Where a dry run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RehearsalState {
    /// The host was left out: nothing was asked.
    LeftOut,
    /// Asked, not answered.
    Asked,
    /// Answered.
    Answered,
    /// The answer is not waited for any more.
    Dropped,
}

impl RehearsalState {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            RehearsalState::LeftOut => "left-out",
            RehearsalState::Asked => "asked",
            RehearsalState::Answered => "answered",
            RehearsalState::Dropped => "dropped",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        [Self::LeftOut, Self::Asked, Self::Answered, Self::Dropped]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StoreError::Corrupt { what: "rehearsal.state".into() })
    }
}

/// A dry run as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalRecord {
    /// Its id.
    pub id: RehearsalId,
    /// For which plan.
    pub plan: PlanId,
    /// For which change.
    pub change: ChangeId,
    /// On which host.
    pub host: HostId,
    /// Its name.
    pub host_name: String,
    /// Its release.
    pub os: OsRelease,
    /// Where it stands.
    pub state: RehearsalState,
    /// What was asked; `None` when the host was left out.
    pub job: Option<Job>,
    /// Why it was asked that, or left out.
    pub reasons: Vec<Reason>,
    /// The answer.
    pub outcome: Option<RehearsalOutcome>,
    /// When it came.
    pub answered_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, plan, change_id, host, host_name, os, state, job, reasons, outcome, answered_at";

fn read(row: &Row) -> Result<RehearsalRecord> {
    Ok(RehearsalRecord {
        id: row.id(0)?,
        plan: row.id(1)?,
        change: row.id(2)?,
        host: row.id(3)?,
        host_name: row.text(4)?.to_owned(),
        os: parse(row.text(5)?, "rehearsal.os")?,
        state: RehearsalState::parse(row.text(6)?)?,
        job: parse_or_none(row.text(7)?, "rehearsal.job")?,
        reasons: parse(row.text(8)?, "rehearsal.reasons")?,
        outcome: parse_or_none(row.text(9)?, "rehearsal.outcome")?,
        answered_at: row.time_or_null(10)?,
    })
}

/// Makes one.
pub fn rehearsal_create(connection: &mut Connection, rehearsal: &RehearsalRecord) -> Result<()> {
    let job = rehearsal.job.as_ref().map_or(Ok(Value::Text(String::new())), json)?;
    connection.execute(
        &format!("INSERT INTO rehearsal ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, '', NULL)"),
        &[
            rehearsal.id.into(),
            rehearsal.plan.into(),
            rehearsal.change.into(),
            rehearsal.host.into(),
            (&rehearsal.host_name).into(),
            json(&rehearsal.os)?,
            rehearsal.state.as_str().into(),
            job,
            json(&rehearsal.reasons)?,
        ],
    )?;
    Ok(())
}

/// One dry run.
pub fn rehearsal_get(connection: &mut Connection, id: RehearsalId) -> Result<RehearsalRecord> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM rehearsal WHERE id = ?1"), &[id.into()])?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(id))
}

/// All dry runs of a plan, by host.
pub fn rehearsals_of_plan(connection: &mut Connection, plan: PlanId) -> Result<Vec<RehearsalRecord>> {
    let rows =
        connection.query(&format!("SELECT {COLUMNS} FROM rehearsal WHERE plan = ?1 ORDER BY host"), &[plan.into()])?;
    rows.iter().map(read).collect()
}

/// Host, name and reasons of some hosts of a change that were left out, and how many there are in each state.
pub fn rehearsal_counts(connection: &mut Connection, plan: PlanId) -> Result<Vec<(RehearsalState, u64)>> {
    let rows =
        connection.query("SELECT state, COUNT(*) FROM rehearsal WHERE plan = ?1 GROUP BY state", &[plan.into()])?;
    rows.iter().map(|row| Ok((RehearsalState::parse(row.text(0)?)?, positive(row.int(1)?)))).collect()
}

/// What a host is still asked, oldest first.
pub fn rehearsals_asked_of_host(connection: &mut Connection, host: HostId, limit: u32) -> Result<Vec<RehearsalRecord>> {
    let rows = connection.query(
        &format!("SELECT {COLUMNS} FROM rehearsal WHERE host = ?1 AND state = 'asked' ORDER BY id LIMIT ?2"),
        &[host.into(), limit.into()],
    )?;
    rows.iter().map(read).collect()
}

/// Notes an answer of its host. Whether it was still waited for.
pub fn rehearsal_answer(
    connection: &mut Connection,
    id: RehearsalId,
    host: HostId,
    outcome: &RehearsalOutcome,
    now: Timestamp,
) -> Result<bool> {
    let written = connection.execute(
        "UPDATE rehearsal SET state = 'answered', outcome = ?3, answered_at = ?4 WHERE id = ?1 AND host = ?2 AND state = 'asked'",
        &[id.into(), host.into(), json(outcome)?, now.into()],
    )?;
    Ok(written > 0)
}

/// Waits for no answers of a plan any more. The hosts that were asked.
pub fn rehearsals_drop(connection: &mut Connection, plan: PlanId) -> Result<Vec<HostId>> {
    let rows = connection.query(
        "UPDATE rehearsal SET state = 'dropped' WHERE plan = ?1 AND state = 'asked' RETURNING host",
        &[plan.into()],
    )?;
    rows.iter().map(|row| row.id(0)).collect()
}
