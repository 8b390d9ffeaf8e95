//! Requests for change, and the numbered line of events of everything that belongs to one.

use crate::body::{json, parse, positive, signed};
use crate::page::{Listed, Page, Query, sort_columns};
use crate::{Connection, Result, Row, StoreError, Value};
use fettle_domain::machine::{Machine as _, PlanState, RolloutState};
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, DeploymentId, PlanId, RolloutId, Timestamp, UserId};

/// A change as it stands, with what a list shows of its plan and rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRecord {
    /// Its id.
    pub id: ChangeId,
    /// Its number.
    pub number: u64,
    /// What it is, in a line.
    pub title: String,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub requester: String,
    /// Who that was; `None`: the server.
    pub requester_id: Option<UserId>,
    /// JSON of what was asked for.
    pub specification: String,
    /// When.
    pub created_at: Timestamp,
    /// Number of its last event.
    pub events: u64,
    /// Its plan.
    pub plan: PlanId,
    /// Where the plan stands.
    pub plan_state: PlanState,
    /// Hosts that were asked for.
    pub asked: u64,
    /// Hosts of the plan.
    pub hosts: u64,
    /// Its rollout, once it was started.
    pub rollout: Option<RolloutId>,
    /// Where the rollout stands.
    pub rollout_state: Option<RolloutState>,
}

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChange {
    /// Its id.
    pub id: ChangeId,
    /// What it is, in a line.
    pub title: String,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub requester: String,
    /// Who that is.
    pub requester_id: Option<UserId>,
    /// JSON of what is asked for.
    pub specification: String,
}

/// What a list of changes is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeFilter {
    /// With a plan in one of these states; empty: any.
    pub plan_states: Vec<PlanState>,
    /// With a rollout in one of these states; empty: any.
    pub rollout_states: Vec<RolloutState>,
    /// Asked for by this user.
    pub requester: Option<String>,
    /// Text in the title.
    pub text: Option<String>,
}

const COLUMNS: &str = "c.id, c.number, c.title, c.reason, c.requester, c.requester_id, c.specification, c.created_at, c.events, p.id, p.state, p.asked, p.hosts, r.id, r.state";
const FROM: &str = "change_request c JOIN plan p ON p.change_id = c.id LEFT JOIN rollout r ON r.plan = p.id";

fn read(row: &Row) -> Result<ChangeRecord> {
    Ok(ChangeRecord {
        id: row.id(0)?,
        number: positive(row.int(1)?),
        title: row.text(2)?.to_owned(),
        reason: row.text(3)?.to_owned(),
        requester: row.text(4)?.to_owned(),
        requester_id: row.id_or_null(5)?,
        specification: row.text(6)?.to_owned(),
        created_at: row.time(7)?,
        events: positive(row.int(8)?),
        plan: row.id(9)?,
        plan_state: crate::body::state(row.text(10)?)?,
        asked: positive(row.int(11)?),
        hosts: positive(row.int(12)?),
        rollout: row.id_or_null(13)?,
        rollout_state: row.text_or_null(14)?.map(crate::body::state).transpose()?,
    })
}

/// Makes a change; returns its number. Two servers at once: one gets `Duplicate` and tries again.
pub fn change_create(connection: &mut Connection, change: &NewChange, now: Timestamp) -> Result<u64> {
    let row = connection.query_one("SELECT COALESCE(MAX(number), 0) + 1 FROM change_request", &[])?;
    let number = row.map_or(Ok(1), |row| row.int(0))?;
    connection.execute(
        "INSERT INTO change_request (id, number, title, reason, requester, requester_id, specification, created_at, events)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0)",
        &[
            change.id.into(),
            number.into(),
            (&change.title).into(),
            (&change.reason).into(),
            (&change.requester).into(),
            change.requester_id.map_or(Value::Null, Value::from),
            (&change.specification).into(),
            now.into(),
        ],
    )?;
    Ok(positive(number))
}

/// One change.
pub fn change_get(connection: &mut Connection, id: ChangeId) -> Result<ChangeRecord> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM {FROM} WHERE c.id = ?1"), &[id.into()])?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(id))
}

/// The id of the change with this number.
pub fn change_by_number(connection: &mut Connection, number: u64) -> Result<ChangeId> {
    connection
        .query_one("SELECT id FROM change_request WHERE number = ?1", &[signed(number).into()])?
        .ok_or_else(|| StoreError::not_found(format!("change {number}")))?
        .id(0)
}

sort_columns! {
    /// What a list of changes can be sorted by. Each has its index.
    ChangeSort {
        /// Number, which is also the order in time.
        Number = "number" [number "c.number"],
        /// Title.
        Title = "title" [text "c.title", number "c.number"],
        /// Who asked for it.
        Requester = "requester" [text "c.requester", number "c.number"],
    }
}

/// A page of changes.
pub fn change_list(
    connection: &mut Connection,
    filter: &ChangeFilter,
    page: &Page<ChangeSort>,
) -> Result<Listed<ChangeRecord>> {
    change_query(filter).page(connection, page, read)
}

pub(crate) fn change_query(filter: &ChangeFilter) -> Query {
    let mut query = Query::new(COLUMNS, FROM);
    if !filter.plan_states.is_empty() {
        let list: Vec<String> = filter.plan_states.iter().map(|state| query.bind(state.as_str())).collect();
        query.only(format!("p.state IN ({})", list.join(", ")));
    }
    if !filter.rollout_states.is_empty() {
        let list: Vec<String> = filter.rollout_states.iter().map(|state| query.bind(state.as_str())).collect();
        query.only(format!("r.state IN ({})", list.join(", ")));
    }
    if let Some(requester) = &filter.requester {
        let requester = query.bind(requester);
        query.only(format!("c.requester = {requester}"));
    }
    if let Some(text) = &filter.text {
        query.only_with(text, &["c.title"]);
    }
    query
}

/// How many changes there are with a plan in each state.
pub fn change_counts(connection: &mut Connection) -> Result<Vec<(PlanState, u64)>> {
    let rows = connection.query("SELECT state, COUNT(*) FROM plan GROUP BY state", &[])?;
    rows.iter().map(|row| Ok((crate::body::state(row.text(0)?)?, positive(row.int(1)?)))).collect()
}

/// An event to be added. `body` is kept as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent<'a> {
    /// `change`, `rehearsal`, `plan`, `rollout`, `wave`, `deployment`, `task` or `output`.
    pub machine: &'static str,
    /// About which deployment.
    pub deployment: Option<DeploymentId>,
    /// About which host; empty when about no single one.
    pub host_name: &'a str,
    /// What happened.
    pub event: &'a str,
    /// State afterwards.
    pub state: &'a str,
    /// Who or what.
    pub actor: &'a str,
    /// Why, or lines of output.
    pub body: EventBody<'a>,
    /// The state did not allow it.
    pub anomaly: bool,
}

/// What an event carries.
#[derive(Debug, Clone, PartialEq)]
pub enum EventBody<'a> {
    /// Why.
    Reasons(&'a [Reason]),
    /// Output.
    Lines(&'a [String]),
}

/// An event as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEventRecord {
    /// From 1, without gaps within its change.
    pub number: u64,
    /// When (server's clock).
    pub at: Timestamp,
    /// Of which machine, or `output`.
    pub machine: String,
    /// About which deployment.
    pub deployment: Option<DeploymentId>,
    /// About which host.
    pub host_name: String,
    /// What happened.
    pub event: String,
    /// State afterwards.
    pub state: String,
    /// Who or what.
    pub actor: String,
    /// Why; empty for output.
    pub reasons: Vec<Reason>,
    /// Output; empty for all else.
    pub lines: Vec<String>,
    /// The state did not allow it.
    pub anomaly: bool,
}

/// Adds an event; returns its number. The change's row orders the events of all servers, so that who
/// has read up to a number has missed none before it.
pub fn change_event_add(
    connection: &mut Connection,
    change: ChangeId,
    event: &NewEvent<'_>,
    now: Timestamp,
) -> Result<u64> {
    let row = connection
        .query_one("UPDATE change_request SET events = events + 1 WHERE id = ?1 RETURNING events", &[change.into()])?
        .ok_or_else(|| StoreError::not_found(change))?;
    let number = row.int(0)?;
    let body = match event.body {
        EventBody::Reasons(reasons) => json(reasons)?,
        EventBody::Lines(lines) => json(lines)?,
    };
    connection.execute(
        "INSERT INTO change_event (change_id, number, at, machine, deployment, host_name, event, state, actor, body, anomaly)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        &[
            change.into(),
            number.into(),
            now.into(),
            event.machine.into(),
            event.deployment.map_or(Value::Null, Value::from),
            event.host_name.into(),
            event.event.into(),
            event.state.into(),
            event.actor.into(),
            body,
            event.anomaly.into(),
        ],
    )?;
    Ok(positive(number))
}

const EVENT_COLUMNS: &str = "number, at, machine, deployment, host_name, event, state, actor, body, anomaly";

fn read_event(row: &Row) -> Result<ChangeEventRecord> {
    let machine = row.text(2)?.to_owned();
    let body = row.text(8)?;
    let (reasons, lines) = match machine.as_str() {
        "output" => (Vec::new(), parse(body, "change_event.body")?),
        _ => (parse(body, "change_event.body")?, Vec::new()),
    };
    Ok(ChangeEventRecord {
        number: positive(row.int(0)?),
        at: row.time(1)?,
        machine,
        deployment: row.id_or_null(3)?,
        host_name: row.text(4)?.to_owned(),
        event: row.text(5)?.to_owned(),
        state: row.text(6)?.to_owned(),
        actor: row.text(7)?.to_owned(),
        reasons,
        lines,
        anomaly: row.bool(9)?,
    })
}

/// Events after a number, oldest first.
pub fn change_events(
    connection: &mut Connection,
    change: ChangeId,
    after: u64,
    limit: u32,
) -> Result<Vec<ChangeEventRecord>> {
    let rows = connection.query(
        &format!(
            "SELECT {EVENT_COLUMNS} FROM change_event WHERE change_id = ?1 AND number > ?2 ORDER BY number LIMIT ?3"
        ),
        &[change.into(), signed(after).into(), limit.into()],
    )?;
    rows.iter().map(read_event).collect()
}

/// Events that people read as the history of a change: without output and tasks, oldest first.
pub fn change_history(connection: &mut Connection, change: ChangeId, limit: u32) -> Result<Vec<ChangeEventRecord>> {
    let rows = connection.query(
        &format!(
            "SELECT {EVENT_COLUMNS} FROM change_event WHERE change_id = ?1 AND machine IN ('change', 'plan', 'rollout', 'wave') ORDER BY number LIMIT ?2"
        ),
        &[change.into(), limit.into()],
    )?;
    rows.iter().map(read_event).collect()
}

/// Events of one deployment after a number, oldest first; with `output`, its output too.
pub fn deployment_events(
    connection: &mut Connection,
    deployment: DeploymentId,
    output: bool,
    after: u64,
    limit: u32,
) -> Result<Vec<ChangeEventRecord>> {
    let machines = if output { "" } else { "AND machine <> 'output'" };
    let rows = connection.query(
        &format!("SELECT {EVENT_COLUMNS} FROM change_event WHERE deployment = ?1 AND number > ?2 {machines} ORDER BY number LIMIT ?3"),
        &[deployment.into(), signed(after).into(), limit.into()],
    )?;
    rows.iter().map(read_event).collect()
}

/// Events of a deployment's tasks that speak of health, newest first.
pub fn health_events(
    connection: &mut Connection,
    deployment: DeploymentId,
    limit: u32,
) -> Result<Vec<ChangeEventRecord>> {
    let rows = connection.query(
        &format!(
            "SELECT {EVENT_COLUMNS} FROM change_event WHERE deployment = ?1 AND machine = 'task' AND body LIKE ?2 ORDER BY number DESC LIMIT ?3"
        ),
        &[deployment.into(), "%\"topic\":\"health.%".into(), limit.into()],
    )?;
    rows.iter().map(read_event).collect()
}

/// Output of one deployment after an event's number, oldest first.
pub fn deployment_output(
    connection: &mut Connection,
    deployment: DeploymentId,
    after: u64,
    limit: u32,
) -> Result<Vec<ChangeEventRecord>> {
    let rows = connection.query(
        &format!("SELECT {EVENT_COLUMNS} FROM change_event WHERE deployment = ?1 AND number > ?2 AND machine = 'output' ORDER BY number LIMIT ?3"),
        &[deployment.into(), signed(after).into(), limit.into()],
    )?;
    rows.iter().map(read_event).collect()
}
