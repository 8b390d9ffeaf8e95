//! Deployments: where each host stands, its tasks, its output, and the orders that were signed for it.

use super::change::{EventBody, NewEvent, change_event_add};
use crate::body::{json, parse, parse_or_none, positive, signed, state};
use crate::page::{Listed, Page, Query, sort_columns};
use crate::{Connection, Result, Row, StoreError};
use fettle_domain::machine::{DeploymentEvent, DeploymentState, Machine as _, TaskState};
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, DeploymentId, HostId, PlanId, RolloutId, Timestamp};

/// What inventories say of a deployment's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProofState {
    /// None that could is here yet.
    Awaited,
    /// They show exactly the manifest (after an undo: the former versions).
    Proved,
    /// They show something else.
    Differs,
}

impl ProofState {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            ProofState::Awaited => "awaited",
            ProofState::Proved => "proved",
            ProofState::Differs => "differs",
        }
    }

    fn parse(text: &str) -> Result<Self> {
        [Self::Awaited, Self::Proved, Self::Differs]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| StoreError::Corrupt { what: "deployment.proof".into() })
    }
}

/// A deployment as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// Its id.
    pub id: DeploymentId,
    /// Its rollout.
    pub rollout: RolloutId,
    /// Its plan.
    pub plan: PlanId,
    /// Its change.
    pub change: ChangeId,
    /// Its wave.
    pub wave: u32,
    /// Its host.
    pub host: HostId,
    /// Its host's name.
    pub host_name: String,
    /// Where it stands.
    pub state: DeploymentState,
    /// Grows with each write of its state.
    pub generation: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it came into its state.
    pub changed_at: Timestamp,
    /// Last word of its host about it.
    pub heard_at: Timestamp,
    /// When its order was first handed out.
    pub delivered_at: Option<Timestamp>,
    /// When it was asked back.
    pub withdraw_at: Option<Timestamp>,
    /// When its undo was ordered.
    pub undo_at: Option<Timestamp>,
    /// Why the host refused the undo.
    pub undo_refused: Option<Vec<Reason>>,
    /// Why the last event happened.
    pub reasons: Vec<Reason>,
    /// What inventories say.
    pub proof: ProofState,
    /// In words.
    pub proof_reasons: Vec<Reason>,
    /// Bytes of output that are kept.
    pub output_bytes: u64,
    /// Reports that its state did not allow.
    pub anomalies: u64,
}

const COLUMNS: &str = "id, rollout, plan, change_id, wave, host, host_name, state, generation, created_at, changed_at, heard_at, delivered_at, withdraw_at, undo_at, undo_refused, reasons, proof, proof_reasons, output_bytes, anomalies";

fn read(row: &Row) -> Result<DeploymentRecord> {
    Ok(DeploymentRecord {
        id: row.id(0)?,
        rollout: row.id(1)?,
        plan: row.id(2)?,
        change: row.id(3)?,
        wave: u32::try_from(positive(row.int(4)?)).unwrap_or(u32::MAX),
        host: row.id(5)?,
        host_name: row.text(6)?.to_owned(),
        state: state(row.text(7)?)?,
        generation: row.int(8)?,
        created_at: row.time(9)?,
        changed_at: row.time(10)?,
        heard_at: row.time(11)?,
        delivered_at: row.time_or_null(12)?,
        withdraw_at: row.time_or_null(13)?,
        undo_at: row.time_or_null(14)?,
        undo_refused: parse_or_none(row.text(15)?, "deployment.undo_refused")?,
        reasons: parse(row.text(16)?, "deployment.reasons")?,
        proof: ProofState::parse(row.text(17)?)?,
        proof_reasons: parse(row.text(18)?, "deployment.proof_reasons")?,
        output_bytes: positive(row.int(19)?),
        anomalies: positive(row.int(20)?),
    })
}

/// A deployment to be made, in state Offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeployment {
    /// Its id.
    pub id: DeploymentId,
    /// Its rollout.
    pub rollout: RolloutId,
    /// Its plan.
    pub plan: PlanId,
    /// Its change.
    pub change: ChangeId,
    /// Its wave.
    pub wave: u32,
    /// Its host.
    pub host: HostId,
    /// Its host's name.
    pub host_name: String,
}

/// Makes one.
pub fn deployment_create(connection: &mut Connection, new: &NewDeployment, now: Timestamp) -> Result<()> {
    connection.execute(
        &format!(
            "INSERT INTO deployment ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1, ?9, ?9, ?9, NULL, NULL, NULL, '', '[]', 'awaited', '[]', 0, 0)"
        ),
        &[
            new.id.into(),
            new.rollout.into(),
            new.plan.into(),
            new.change.into(),
            new.wave.into(),
            new.host.into(),
            (&new.host_name).into(),
            DeploymentState::Offered.as_str().into(),
            now.into(),
        ],
    )?;
    due(connection, new.plan, new.host)?;
    let event = NewEvent {
        machine: "deployment",
        deployment: Some(new.id),
        host_name: &new.host_name,
        event: "offer",
        state: DeploymentState::Offered.as_str(),
        actor: "server",
        body: EventBody::Reasons(&[]),
        anomaly: false,
    };
    change_event_add(connection, new.change, &event, now)?;
    Ok(())
}

/// The findings of this host are to be looked at again.
fn due(connection: &mut Connection, plan: PlanId, host: HostId) -> Result<()> {
    connection
        .execute("UPDATE plan_host SET due = due + 1 WHERE plan = ?1 AND host = ?2", &[plan.into(), host.into()])?;
    Ok(())
}

/// One deployment.
pub fn deployment_get(connection: &mut Connection, id: DeploymentId) -> Result<DeploymentRecord> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM deployment WHERE id = ?1"), &[id.into()])?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(id))
}

/// All deployments of a rollout.
pub fn deployments_of_rollout(connection: &mut Connection, rollout: RolloutId) -> Result<Vec<DeploymentRecord>> {
    let rows = connection
        .query(&format!("SELECT {COLUMNS} FROM deployment WHERE rollout = ?1 ORDER BY host"), &[rollout.into()])?;
    rows.iter().map(read).collect()
}

/// How many deployments of a rollout are in each state, with each proof.
pub fn deployment_counts(
    connection: &mut Connection,
    rollout: RolloutId,
) -> Result<Vec<(DeploymentState, ProofState, u64)>> {
    let rows = connection.query(
        "SELECT state, proof, COUNT(*) FROM deployment WHERE rollout = ?1 GROUP BY state, proof",
        &[rollout.into()],
    )?;
    rows.iter().map(|row| Ok((state(row.text(0)?)?, ProofState::parse(row.text(1)?)?, positive(row.int(2)?)))).collect()
}

sort_columns! {
    /// What the deployments of a change can be sorted by. Each has its index.
    DeploymentSort {
        /// Name of the host.
        HostName = "host_name" [text "host_name", id "id"],
        /// State, then name of the host.
        State = "state" [text "state", text "host_name", id "id"],
    }
}

/// A page of a change's deployments; in these states, none named: in any.
pub fn deployment_list(
    connection: &mut Connection,
    change: ChangeId,
    states: &[DeploymentState],
    page: &Page<DeploymentSort>,
) -> Result<Listed<DeploymentRecord>> {
    deployment_query(change, states).page(connection, page, read)
}

pub(crate) fn deployment_query(change: ChangeId, states: &[DeploymentState]) -> Query {
    let mut query = Query::new(COLUMNS, "deployment");
    let change = query.bind(change);
    query.only(format!("change_id = {change}"));
    let wanted = DeploymentState::STATES.iter().filter(|state| states.contains(state));
    query.each("state", wanted.map(|state| state.as_str()));
    query
}

/// Deployments of a host, newest first.
pub fn deployments_of_host(connection: &mut Connection, host: HostId, limit: u32) -> Result<Vec<DeploymentRecord>> {
    let rows = connection.query(
        &format!("SELECT {COLUMNS} FROM deployment WHERE host = ?1 ORDER BY id DESC LIMIT ?2"),
        &[host.into(), limit.into()],
    )?;
    rows.iter().map(read).collect()
}

/// Deployments of a host about which it may have to be told something, oldest first.
pub fn deployments_outstanding(connection: &mut Connection, host: HostId) -> Result<Vec<DeploymentRecord>> {
    let rows = connection.query(
        &format!(
            "SELECT {COLUMNS} FROM deployment WHERE host = ?1
               AND state IN ('offered', 'queued', 'fetching', 'ready', 'applying', 'rebooting', 'checking', 'succeeded')
               AND (state = 'offered' OR withdraw_at IS NOT NULL OR undo_at IS NOT NULL) ORDER BY id"
        ),
        &[host.into()],
    )?;
    rows.iter().map(read).collect()
}

/// Moves a deployment by an event of its machine, with its place in the change's line of events.
pub fn deployment_transition(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    by: DeploymentEvent,
    actor: &str,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<DeploymentRecord> {
    let fresh = deployment.state.next(by)?;
    // Each end is to be proved anew: what was installed, then what was put back.
    let proof = if by == DeploymentEvent::Undo { ProofState::Awaited } else { deployment.proof };
    let proof_reasons = if by == DeploymentEvent::Undo { Vec::new() } else { deployment.proof_reasons.clone() };
    let written = connection.execute(
        "UPDATE deployment SET state = ?3, generation = generation + 1, changed_at = ?4, reasons = ?5, proof = ?6, proof_reasons = ?7
         WHERE id = ?1 AND generation = ?2",
        &[
            deployment.id.into(),
            deployment.generation.into(),
            fresh.as_str().into(),
            now.into(),
            json(reasons)?,
            proof.as_str().into(),
            json(&proof_reasons)?,
        ],
    )?;
    if written == 0 {
        return Err(StoreError::conflict(deployment.id));
    }
    due(connection, deployment.plan, deployment.host)?;
    log(connection, deployment, DeploymentState::event_str(by), fresh.as_str(), actor, reasons, false, now)?;
    Ok(DeploymentRecord {
        state: fresh,
        generation: deployment.generation + 1,
        changed_at: now,
        reasons: reasons.to_vec(),
        proof,
        proof_reasons,
        ..deployment.clone()
    })
}

#[allow(clippy::too_many_arguments)]
fn log(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    event: &str,
    state: &str,
    actor: &str,
    reasons: &[Reason],
    anomaly: bool,
    now: Timestamp,
) -> Result<()> {
    let event = NewEvent {
        machine: "deployment",
        deployment: Some(deployment.id),
        host_name: &deployment.host_name,
        event,
        state,
        actor,
        body: EventBody::Reasons(reasons),
        anomaly,
    };
    change_event_add(connection, deployment.change, &event, now).map(|_| ())
}

/// Keeps a report that the state did not allow: it is told, and changes nothing.
pub fn deployment_anomaly(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    event: &str,
    actor: &str,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<()> {
    connection.execute("UPDATE deployment SET anomalies = anomalies + 1 WHERE id = ?1", &[deployment.id.into()])?;
    log(connection, deployment, event, deployment.state.as_str(), actor, reasons, true, now)
}

/// Notes that the host said something about it.
pub fn deployment_heard(connection: &mut Connection, id: DeploymentId, now: Timestamp) -> Result<()> {
    connection
        .execute("UPDATE deployment SET heard_at = ?2 WHERE id = ?1 AND heard_at < ?2", &[id.into(), now.into()])?;
    Ok(())
}

/// Notes that its order is handed out, if it still may be: from then on only the host knows.
pub fn deployment_deliver(connection: &mut Connection, id: DeploymentId, now: Timestamp) -> Result<bool> {
    let written = connection.execute(
        "UPDATE deployment SET delivered_at = COALESCE(delivered_at, ?2), generation = generation + 1
         WHERE id = ?1 AND state = 'offered' AND withdraw_at IS NULL",
        &[id.into(), now.into()],
    )?;
    Ok(written > 0)
}

/// Asks an order back. `false` when it was asked back already.
pub fn deployment_ask_back(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    actor: &str,
    now: Timestamp,
) -> Result<bool> {
    let written = connection.execute(
        "UPDATE deployment SET withdraw_at = ?3, generation = generation + 1, heard_at = ?3 WHERE id = ?1 AND generation = ?2 AND withdraw_at IS NULL",
        &[deployment.id.into(), deployment.generation.into(), now.into()],
    )?;
    if written > 0 {
        log(connection, deployment, "ask-back", deployment.state.as_str(), actor, &[], false, now)?;
    }
    Ok(written > 0)
}

/// Orders the undo. `false` when it was ordered already.
pub fn deployment_order_undo(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    actor: &str,
    now: Timestamp,
) -> Result<bool> {
    let written = connection.execute(
        "UPDATE deployment SET undo_at = ?3, generation = generation + 1, heard_at = ?3 WHERE id = ?1 AND generation = ?2 AND undo_at IS NULL",
        &[deployment.id.into(), deployment.generation.into(), now.into()],
    )?;
    if written > 0 {
        log(connection, deployment, "order-undo", deployment.state.as_str(), actor, &[], false, now)?;
    }
    Ok(written > 0)
}

/// Notes that the host refused the undo.
pub fn deployment_undo_refused(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    actor: &str,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<()> {
    connection.execute(
        "UPDATE deployment SET undo_refused = ?2, generation = generation + 1 WHERE id = ?1",
        &[deployment.id.into(), json(reasons)?],
    )?;
    log(connection, deployment, "refuse-undo", deployment.state.as_str(), actor, reasons, false, now)
}

/// Deployments that ended, whose end no inventory has proved or disproved, and whose host reported since.
pub fn deployments_to_prove(connection: &mut Connection, limit: u32) -> Result<Vec<DeploymentRecord>> {
    let columns: Vec<String> = COLUMNS.split(", ").map(|column| format!("d.{column}")).collect();
    let rows = connection.query(
        &format!(
            "SELECT {} FROM deployment d JOIN host h ON h.id = d.host
             WHERE d.proof = 'awaited' AND d.state IN ('succeeded', 'undone') AND h.last_seen > d.changed_at ORDER BY d.id LIMIT ?1",
            columns.join(", ")
        ),
        &[limit.into()],
    )?;
    rows.iter().map(read).collect()
}

/// Notes what inventories say.
pub fn deployment_set_proof(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    proof: ProofState,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<()> {
    let written = connection.execute(
        "UPDATE deployment SET proof = ?3, proof_reasons = ?4, generation = generation + 1 WHERE id = ?1 AND generation = ?2",
        &[deployment.id.into(), deployment.generation.into(), proof.as_str().into(), json(reasons)?],
    )?;
    if written == 0 {
        return Err(StoreError::conflict(deployment.id));
    }
    log(connection, deployment, proof.as_str(), deployment.state.as_str(), "audit", reasons, false, now)
}

/// One task of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// From 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: TaskState,
    /// Why, when it failed.
    pub reasons: Vec<Reason>,
    /// When it came into its state, by the host's clock.
    pub at: Timestamp,
}

/// Reasons of a task that are kept.
const TASK_REASONS: usize = 300;

/// Notes where a task stands, as its host says. A task that is undone keeps why it failed, behind what is
/// newer.
pub fn task_set(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    task: &TaskRecord,
    actor: &str,
    now: Timestamp,
) -> Result<()> {
    use TaskState as S;
    let mut reasons = task.reasons.clone();
    if matches!(task.state, S::Undo | S::Undoing | S::Undone | S::Error) {
        let row = connection.query_one(
            "SELECT reasons FROM task WHERE deployment = ?1 AND number = ?2",
            &[deployment.id.into(), task.number.into()],
        )?;
        let former: Vec<Reason> = row.map_or(Ok(Vec::new()), |row| parse(row.text(0)?, "task.reasons"))?;
        for reason in former {
            if reasons.len() < TASK_REASONS && !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    }
    connection.execute(
        "INSERT INTO task (deployment, number, name, state, reasons, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (deployment, number) DO UPDATE SET name = excluded.name, state = excluded.state, reasons = excluded.reasons, at = excluded.at",
        &[
            deployment.id.into(),
            task.number.into(),
            (&task.name).into(),
            task.state.as_str().into(),
            json(&reasons)?,
            task.at.into(),
        ],
    )?;
    let event = NewEvent {
        machine: "task",
        deployment: Some(deployment.id),
        host_name: &deployment.host_name,
        event: &task.name,
        state: task.state.as_str(),
        actor,
        body: EventBody::Reasons(&task.reasons),
        anomaly: false,
    };
    change_event_add(connection, deployment.change, &event, now).map(|_| ())
}

/// Tasks of a deployment, in order.
pub fn tasks(connection: &mut Connection, deployment: DeploymentId) -> Result<Vec<TaskRecord>> {
    let rows = connection.query(
        "SELECT number, name, state, reasons, at FROM task WHERE deployment = ?1 ORDER BY number",
        &[deployment.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(TaskRecord {
                number: u32::try_from(positive(row.int(0)?)).unwrap_or(u32::MAX),
                name: row.text(1)?.to_owned(),
                state: state(row.text(2)?)?,
                reasons: parse(row.text(3)?, "task.reasons")?,
                at: row.time(4)?,
            })
        })
        .collect()
}

/// Adds output that its host sent; the caller has bounded the lines, which count as so many bytes.
pub fn output_add(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    lines: &[String],
    bytes: u64,
    now: Timestamp,
) -> Result<()> {
    connection.execute(
        "UPDATE deployment SET output_bytes = output_bytes + ?2 WHERE id = ?1",
        &[deployment.id.into(), signed(bytes).into()],
    )?;
    let event = NewEvent {
        machine: "output",
        deployment: Some(deployment.id),
        host_name: &deployment.host_name,
        event: "output",
        state: deployment.state.as_str(),
        actor: "",
        body: EventBody::Lines(lines),
        anomaly: false,
    };
    change_event_add(connection, deployment.change, &event, now).map(|_| ())
}

/// A signed order's values, from which the document is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRecord {
    /// For which deployment.
    pub deployment: DeploymentId,
    /// `deploy` or `undo`.
    pub action: String,
    /// Grows with every order of this host.
    pub sequence: u64,
    /// When it was signed first.
    pub issued_at: Timestamp,
    /// Begin no earlier.
    pub window_start: Timestamp,
    /// Begin no later.
    pub window_end: Timestamp,
}

/// The order of a deployment, if it was signed.
pub fn order_get(connection: &mut Connection, deployment: DeploymentId, action: &str) -> Result<Option<OrderRecord>> {
    let row = connection.query_one(
        "SELECT sequence, issued_at, window_start, window_end FROM host_order WHERE deployment = ?1 AND action = ?2",
        &[deployment.into(), action.into()],
    )?;
    row.map(|row| {
        Ok(OrderRecord {
            deployment,
            action: action.to_owned(),
            sequence: positive(row.int(0)?),
            issued_at: row.time(1)?,
            window_start: row.time(2)?,
            window_end: row.time(3)?,
        })
    })
    .transpose()
}

/// Keeps an order's values; a later one of the same kind takes the place of the former.
pub fn order_put(connection: &mut Connection, host: HostId, order: &OrderRecord) -> Result<()> {
    connection.execute(
        "INSERT INTO host_order (deployment, action, host, sequence, issued_at, window_start, window_end) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (deployment, action) DO UPDATE SET sequence = excluded.sequence, issued_at = excluded.issued_at,
           window_start = excluded.window_start, window_end = excluded.window_end",
        &[
            order.deployment.into(),
            (&order.action).into(),
            host.into(),
            signed(order.sequence).into(),
            order.issued_at.into(),
            order.window_start.into(),
            order.window_end.into(),
        ],
    )?;
    Ok(())
}

/// Forgets an order whose time is over on the host, so that a new one is signed.
pub fn order_forget(connection: &mut Connection, deployment: DeploymentId, action: &str) -> Result<()> {
    connection
        .execute("DELETE FROM host_order WHERE deployment = ?1 AND action = ?2", &[deployment.into(), action.into()])?;
    Ok(())
}

/// Open deployments of a host that were handed to it and not yet answered.
pub fn deployments_unanswered(connection: &mut Connection, host: HostId) -> Result<Vec<DeploymentRecord>> {
    let rows = connection.query(
        &format!("SELECT {COLUMNS} FROM deployment WHERE host = ?1 AND state = 'offered' AND delivered_at IS NOT NULL ORDER BY id LIMIT 20"),
        &[host.into()],
    )?;
    rows.iter().map(read).collect()
}
