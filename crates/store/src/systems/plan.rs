//! Plans: immutable once proposed; only their state goes on. With their approvals and the findings
//! they are to close.

use super::change::{EventBody, NewEvent, change_event_add};
use crate::body::{json, parse, parse_or_none, positive, signed, state};
use crate::{Connection, Result, Row, StoreError, Value};
use fettle_domain::machine::{DeploymentState, Machine as _, PlanEvent, PlanState};
use fettle_domain::plan::{HostPlan, Plan};
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, FindingId, HostId, PlanId, Timestamp, UserId};

/// A plan as it stands, without its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanRecord {
    /// Its id.
    pub id: PlanId,
    /// Its change.
    pub change: ChangeId,
    /// Where it stands.
    pub state: PlanState,
    /// Grows with each transition.
    pub generation: i64,
    /// Dry runs without an answer then count as failed.
    pub answer_until: Timestamp,
    /// Begin no earlier; `None`: as soon as it is started.
    pub window_start: Option<Timestamp>,
    /// Begin no later.
    pub window_end: Timestamp,
    /// The plan without its hosts; `None` before it is proposed.
    pub head: Option<Plan>,
    /// What people approve; empty before it is proposed.
    pub digest: String,
    /// JSON of the risk; empty before it is proposed.
    pub risk: String,
    /// Hosts of the plan.
    pub hosts: u64,
    /// Hosts of the change.
    pub asked: u64,
    /// When it came into its state.
    pub changed_at: Timestamp,
}

const COLUMNS: &str = "id, change_id, state, generation, answer_until, window_start, window_end, head, digest, risk, hosts, asked, changed_at";

fn read(row: &Row) -> Result<PlanRecord> {
    Ok(PlanRecord {
        id: row.id(0)?,
        change: row.id(1)?,
        state: state(row.text(2)?)?,
        generation: row.int(3)?,
        answer_until: row.time(4)?,
        window_start: row.time_or_null(5)?,
        window_end: row.time(6)?,
        head: parse_or_none(row.text(7)?, "plan.head")?,
        digest: row.text(8)?.to_owned(),
        risk: row.text(9)?.to_owned(),
        hosts: positive(row.int(10)?),
        asked: positive(row.int(11)?),
        changed_at: row.time(12)?,
    })
}

/// A draft to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlan {
    /// Its id.
    pub id: PlanId,
    /// Its change.
    pub change: ChangeId,
    /// Dry runs without an answer then count as failed.
    pub answer_until: Timestamp,
    /// Begin no earlier.
    pub window_start: Option<Timestamp>,
    /// Begin no later.
    pub window_end: Timestamp,
    /// Hosts of the change.
    pub asked: u64,
}

/// Makes a draft.
pub fn plan_create(connection: &mut Connection, plan: &NewPlan, now: Timestamp) -> Result<()> {
    connection.execute(
        &format!("INSERT INTO plan ({COLUMNS}) VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, '', '', '', 0, ?7, ?8)"),
        &[
            plan.id.into(),
            plan.change.into(),
            PlanState::Draft.as_str().into(),
            plan.answer_until.into(),
            plan.window_start.into(),
            plan.window_end.into(),
            signed(plan.asked).into(),
            now.into(),
        ],
    )?;
    Ok(())
}

/// One plan.
pub fn plan_get(connection: &mut Connection, id: PlanId) -> Result<PlanRecord> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM plan WHERE id = ?1"), &[id.into()])?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(id))
}

/// Drafts, oldest first.
pub fn plan_drafts(connection: &mut Connection, limit: u32) -> Result<Vec<PlanRecord>> {
    let rows = connection
        .query(&format!("SELECT {COLUMNS} FROM plan WHERE state = 'draft' ORDER BY id LIMIT ?1"), &[limit.into()])?;
    rows.iter().map(read).collect()
}

/// Moves a plan by an event of its machine, with its place in the change's line of events.
pub fn plan_transition(
    connection: &mut Connection,
    plan: &PlanRecord,
    by: PlanEvent,
    actor: &str,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<PlanState> {
    let fresh = plan.state.next(by)?;
    let written = connection.execute(
        "UPDATE plan SET state = ?3, generation = generation + 1, changed_at = ?4 WHERE id = ?1 AND generation = ?2",
        &[plan.id.into(), plan.generation.into(), fresh.as_str().into(), now.into()],
    )?;
    if written == 0 {
        return Err(StoreError::conflict(plan.id));
    }
    let event = NewEvent {
        machine: "plan",
        deployment: None,
        host_name: "",
        event: PlanState::event_str(by),
        state: fresh.as_str(),
        actor,
        body: EventBody::Reasons(reasons),
        anomaly: false,
    };
    change_event_add(connection, plan.change, &event, now)?;
    connection.execute("UPDATE plan_host SET due = due + 1 WHERE plan = ?1", &[plan.id.into()])?;
    Ok(fresh)
}

/// Writes what a draft became, and proposes it.
pub fn plan_propose(
    connection: &mut Connection,
    draft: &PlanRecord,
    plan: &Plan,
    digest: &str,
    risk: &str,
    now: Timestamp,
) -> Result<PlanState> {
    let head = Plan { hosts: Vec::new(), ..plan.clone() };
    let hosts = i64::try_from(plan.hosts.len()).unwrap_or(i64::MAX);
    let written = connection.execute(
        "UPDATE plan SET head = ?3, digest = ?4, risk = ?5, hosts = ?6 WHERE id = ?1 AND generation = ?2 AND state = 'draft'",
        &[draft.id.into(), draft.generation.into(), json(&head)?, digest.into(), risk.into(), hosts.into()],
    )?;
    if written == 0 {
        return Err(StoreError::conflict(draft.id));
    }
    for host in &plan.hosts {
        connection.execute(
            "INSERT INTO plan_host (plan, host, host_name, os, manifest, notes, packages, findings, due) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'untouched', 0)",
            &[
                plan.id.into(),
                host.host.into(),
                (&host.host_name).into(),
                json(&host.os)?,
                json(&host.manifest)?,
                json(&host.notes)?,
                i64::try_from(host.manifest.steps.len()).unwrap_or(i64::MAX).into(),
            ],
        )?;
    }
    let reasons: Vec<Reason> = plan.report.first().cloned().into_iter().collect();
    plan_transition(connection, draft, PlanEvent::Propose, "server", &reasons, now)
}

fn read_host(row: &Row) -> Result<HostPlan> {
    Ok(HostPlan {
        host: row.id(0)?,
        host_name: row.text(1)?.to_owned(),
        os: parse(row.text(2)?, "plan_host.os")?,
        manifest: parse(row.text(3)?, "plan_host.manifest")?,
        notes: parse(row.text(4)?, "plan_host.notes")?,
    })
}

/// One host of a plan.
pub fn plan_host_get(connection: &mut Connection, plan: PlanId, host: HostId) -> Result<HostPlan> {
    let row = connection.query_one(
        "SELECT host, host_name, os, manifest, notes FROM plan_host WHERE plan = ?1 AND host = ?2",
        &[plan.into(), host.into()],
    )?;
    row.as_ref().map(read_host).transpose()?.ok_or_else(|| StoreError::not_found(format!("{host} in {plan}")))
}

/// Hosts of a plan, in the plan's order.
pub fn plan_hosts(
    connection: &mut Connection,
    plan: PlanId,
    after: Option<HostId>,
    limit: u32,
) -> Result<Vec<HostPlan>> {
    let after: Value = after.map_or_else(|| Value::Blob(Vec::new()), Value::from);
    let rows = connection.query(
        "SELECT host, host_name, os, manifest, notes FROM plan_host WHERE plan = ?1 AND host > ?2 ORDER BY host LIMIT ?3",
        &[plan.into(), after, limit.into()],
    )?;
    rows.iter().map(read_host).collect()
}

/// Id and name of every host of a plan, in the plan's order.
pub fn plan_host_names(connection: &mut Connection, plan: PlanId) -> Result<Vec<(HostId, String)>> {
    let rows =
        connection.query("SELECT host, host_name FROM plan_host WHERE plan = ?1 ORDER BY host", &[plan.into()])?;
    rows.iter().map(|row| Ok((row.id(0)?, row.text(1)?.to_owned()))).collect()
}

/// Notes that the plan is to close these findings of a host.
pub fn plan_finding_add(connection: &mut Connection, plan: PlanId, host: HostId, findings: &[FindingId]) -> Result<()> {
    for finding in findings {
        connection.execute(
            "INSERT INTO plan_finding (plan, host, finding) VALUES (?1, ?2, ?3) ON CONFLICT (plan, host, finding) DO NOTHING",
            &[plan.into(), host.into(), finding.into()],
        )?;
    }
    Ok(())
}

/// The findings of a host that a plan is to close.
pub fn plan_findings(connection: &mut Connection, plan: PlanId, host: HostId) -> Result<Vec<FindingId>> {
    let rows = connection.query(
        "SELECT finding FROM plan_finding WHERE plan = ?1 AND host = ?2 ORDER BY finding",
        &[plan.into(), host.into()],
    )?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// How many findings a plan is to close, and a page of them.
pub fn plan_finding_page(connection: &mut Connection, plan: PlanId, limit: u32) -> Result<(u64, Vec<FindingId>)> {
    let count = connection.query_one("SELECT COUNT(*) FROM plan_finding WHERE plan = ?1", &[plan.into()])?;
    let count = count.map_or(Ok(0), |row| row.int(0)).map(positive)?;
    let rows = connection.query(
        "SELECT finding FROM plan_finding WHERE plan = ?1 ORDER BY host, finding LIMIT ?2",
        &[plan.into(), limit.into()],
    )?;
    Ok((count, rows.iter().map(|row| row.id(0)).collect::<Result<_>>()?))
}

/// Changes whose plan is to close a finding, newest first.
pub fn plan_of_finding(connection: &mut Connection, finding: FindingId, limit: u32) -> Result<Vec<PlanId>> {
    let rows = connection.query(
        "SELECT plan FROM plan_finding WHERE finding = ?1 ORDER BY plan DESC LIMIT ?2",
        &[finding.into(), limit.into()],
    )?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// A host of a plan whose findings may be behind: how far they are, and what decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingsRow {
    /// The plan.
    pub plan: PlanId,
    /// Its change.
    pub change: ChangeId,
    /// The host.
    pub host: HostId,
    /// How far its findings are (`untouched`, …).
    pub findings: String,
    /// Transitions since they were looked at.
    pub due: i64,
    /// Where the plan stands.
    pub plan_state: PlanState,
    /// Where the deployment stands, once there is one.
    pub deployment_state: Option<DeploymentState>,
}

/// Hosts of plans whose findings are to be looked at, since something went on.
pub fn plan_findings_due(connection: &mut Connection, limit: u32) -> Result<Vec<FindingsRow>> {
    let rows = connection.query(
        "SELECT h.plan, p.change_id, h.host, h.findings, h.due, p.state, d.state FROM plan_host h JOIN plan p ON p.id = h.plan
         LEFT JOIN deployment d ON d.plan = h.plan AND d.host = h.host WHERE h.due > 0 ORDER BY h.plan, h.host LIMIT ?1",
        &[limit.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(FindingsRow {
                plan: row.id(0)?,
                change: row.id(1)?,
                host: row.id(2)?,
                findings: row.text(3)?.to_owned(),
                due: row.int(4)?,
                plan_state: state(row.text(5)?)?,
                deployment_state: row.text_or_null(6)?.map(state).transpose()?,
            })
        })
        .collect()
}

/// Notes how far a host's findings are now. What went on meanwhile stays due.
pub fn plan_findings_looked_at(connection: &mut Connection, row: &FindingsRow, findings: &str) -> Result<()> {
    let written = connection.execute(
        "UPDATE plan_host SET findings = ?4, due = due - ?5 WHERE plan = ?1 AND host = ?2 AND findings = ?3 AND due >= ?5",
        &[row.plan.into(), row.host.into(), (&row.findings).into(), findings.into(), row.due.into()],
    )?;
    if written == 0 {
        Err(StoreError::conflict(format!("the findings of {} in {}", row.host, row.plan)))
    } else {
        Ok(())
    }
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRecord {
    /// User name.
    pub by: String,
    /// User.
    pub by_id: Option<UserId>,
    /// Digest of the plan.
    pub digest: String,
    /// What the approver says to it.
    pub comment: String,
    /// When.
    pub at: Timestamp,
}

/// Adds an approval. The same person twice is a `Duplicate`.
pub fn approval_add(connection: &mut Connection, plan: PlanId, approval: &ApprovalRecord) -> Result<()> {
    connection.execute(
        "INSERT INTO approval (plan, by_name, by_id, digest, comment, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[
            plan.into(),
            (&approval.by).into(),
            approval.by_id.map_or(Value::Null, Value::from),
            (&approval.digest).into(),
            (&approval.comment).into(),
            approval.at.into(),
        ],
    )?;
    Ok(())
}

/// Approvals of a plan, oldest first.
pub fn approvals(connection: &mut Connection, plan: PlanId) -> Result<Vec<ApprovalRecord>> {
    let rows = connection.query(
        "SELECT by_name, by_id, digest, comment, at FROM approval WHERE plan = ?1 ORDER BY at, by_name",
        &[plan.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(ApprovalRecord {
                by: row.text(0)?.to_owned(),
                by_id: row.id_or_null(1)?,
                digest: row.text(2)?.to_owned(),
                comment: row.text(3)?.to_owned(),
                at: row.time(4)?,
            })
        })
        .collect()
}

/// How far the findings of a host of a plan are; `None`: the host is not in the plan.
pub fn plan_findings_standing(connection: &mut Connection, plan: PlanId, host: HostId) -> Result<Option<String>> {
    let row = connection
        .query_one("SELECT findings FROM plan_host WHERE plan = ?1 AND host = ?2", &[plan.into(), host.into()])?;
    row.map(|row| row.text(0).map(str::to_owned)).transpose()
}
