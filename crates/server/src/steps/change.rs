//! Step 4 at work: drafts whose dry runs are all answered, or not waited for any more, become plans
//! that people can approve, or are rejected with the reasons.

use crate::live::LiveEvent;
use crate::{AppState, clock};
use fettle_content::sha256_hex;
use fettle_domain::machine::{FindingState, PlanEvent};
use fettle_domain::plan::{HostPlan, Plan};
use fettle_domain::reason::Reason;
use fettle_domain::{FindingId, HostId, Timestamp};
use fettle_process::change::{
    Answer, Draft, HostAnswer, Proposal, Specification, assess, covers, plan_digest, propose,
};
use fettle_store::systems::plan::{self, PlanRecord};
use fettle_store::systems::rehearsal::{self, RehearsalRecord, RehearsalState};
use fettle_store::systems::{change, finding, work};
use fettle_store::{Connection, Result, StoreError};
use std::time::Duration;

/// How long without a nudge until the store is looked at again.
const PAUSE: Duration = Duration::from_secs(1);
/// Drafts looked at in one round.
const DRAFTS: u32 = 100;
/// Hosts whose findings are looked up in one write.
const HOSTS: usize = 50;

/// Serves until the server ends.
pub async fn run(state: AppState) {
    loop {
        if let Err(error) = once(&state).await {
            tracing::warn!(step = "change", error = %error, "cannot look at drafts now; trying again");
        }
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = state.nudges.change.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// One round over all drafts.
pub async fn once(state: &AppState) -> Result<()> {
    for draft in state.store.read(|connection| plan::plan_drafts(connection, DRAFTS)).await? {
        match settle(state, &draft).await {
            // Somebody else was faster, or a person cancelled it: the next round sees how it stands.
            Ok(()) | Err(StoreError::Conflict { .. } | StoreError::Illegal(_)) => {}
            Err(error) => {
                tracing::warn!(step = "change", plan.id = %draft.id, error = %error, "cannot settle a draft now")
            }
        }
    }
    Ok(())
}

async fn settle(state: &AppState, draft: &PlanRecord) -> Result<()> {
    let now = clock::now();
    let id = draft.id;
    let counts = state.store.read(move |connection| rehearsal::rehearsal_counts(connection, id)).await?;
    let awaited = counts.iter().any(|(state, hosts)| *state == RehearsalState::Asked && *hosts > 0);
    if awaited && now < draft.answer_until {
        return Ok(());
    }
    let (change, answers) = (draft.change, draft.id);
    let (record, rehearsals) = state
        .store
        .read(move |connection| {
            Ok((change::change_get(connection, change)?, rehearsal::rehearsals_of_plan(connection, answers)?))
        })
        .await?;
    let specification: Specification = serde_json::from_str(&record.specification)
        .map_err(|error| StoreError::Corrupt { what: format!("what {change} asks for: {error}") })?;
    let wanted = Draft {
        id: draft.id,
        change,
        acceptance: specification.acceptance,
        restart_services: specification.restart_services,
        reboot: specification.reboot,
        checks: specification.checks,
        answer_until: draft.answer_until,
    };
    match propose(&wanted, rehearsals.into_iter().map(answer_of).collect(), now) {
        Proposal::Wait(_) => Ok(()),
        Proposal::Reject(reasons) => reject(state, draft.clone(), reasons, now).await,
        Proposal::Propose(plan) => write(state, draft.clone(), *plan, now).await,
    }
}

fn answer_of(record: RehearsalRecord) -> HostAnswer {
    let answer = match (record.state, record.outcome) {
        (RehearsalState::LeftOut, _) => Answer::LeftOut,
        (RehearsalState::Answered, Some(outcome)) => Answer::Given(outcome),
        (RehearsalState::Answered | RehearsalState::Asked | RehearsalState::Dropped, _) => Answer::Awaited,
    };
    HostAnswer {
        host: record.host,
        host_name: record.host_name,
        os: record.os,
        job: record.job,
        reasons: record.reasons,
        answer,
    }
}

async fn reject(state: &AppState, draft: PlanRecord, reasons: Vec<Reason>, now: Timestamp) -> Result<()> {
    let change = draft.change;
    let dropped = state
        .store
        .write(move |connection| {
            let dropped = rehearsal::rehearsals_drop(connection, draft.id)?;
            work::work_touch_many(connection, &dropped)?;
            plan::plan_transition(connection, &draft, PlanEvent::Reject, "server", &reasons, now)?;
            Ok(dropped)
        })
        .await?;
    tell(state, change, &dropped);
    Ok(())
}

async fn write(state: &AppState, draft: PlanRecord, plan: Plan, now: Timestamp) -> Result<()> {
    let unwritable =
        |error: serde_json::Error| StoreError::Refused { cause: format!("cannot write the plan: {error}") };
    let digest = plan_digest(&plan, &sha256_hex).map_err(unwritable)?;
    let risk = serde_json::to_string(&assess(&plan)).map_err(unwritable)?;
    let change = draft.change;
    // Before the plan is proposed, in bounded writes: again after a crash is harmless.
    let plan = std::sync::Arc::new(plan);
    for start in (0..plan.hosts.len()).step_by(HOSTS) {
        let plan = plan.clone();
        state.store.write(move |connection| note_findings(connection, &plan, start)).await?;
    }
    let dropped = state
        .store
        .write(move |connection| {
            plan::plan_propose(connection, &draft, &plan, &digest, &risk, now)?;
            let dropped = rehearsal::rehearsals_drop(connection, draft.id)?;
            work::work_touch_many(connection, &dropped)?;
            Ok(dropped)
        })
        .await?;
    state.nudges.audit.notify_one();
    tell(state, change, &dropped);
    Ok(())
}

fn note_findings(connection: &mut Connection, plan: &Plan, start: usize) -> Result<()> {
    for host in plan.hosts.iter().skip(start).take(HOSTS) {
        let findings = covered(connection, host)?;
        plan::plan_finding_add(connection, plan.id, host.host, &findings)?;
    }
    Ok(())
}

/// Findings of a host that its manifest is to close.
fn covered(connection: &mut Connection, host: &HostPlan) -> Result<Vec<FindingId>> {
    let open = |state| {
        matches!(state, FindingState::Open | FindingState::Planned | FindingState::Mitigated | FindingState::Accepted)
    };
    let findings = finding::finding_of_host(connection, host.host)?;
    let covered = findings.into_iter().filter(|finding| {
        open(finding.state)
            && finding
                .fixed_version
                .as_ref()
                .is_some_and(|fixed| covers(&host.manifest, &finding.source, &finding.packages, fixed))
    });
    Ok(covered.map(|finding| finding.id).collect())
}

fn tell(state: &AppState, change: fettle_domain::ChangeId, hosts: &[HostId]) {
    for host in hosts {
        state.nudges.work.wake(*host);
    }
    let json = serde_json::json!({ "change": change.to_string() }).to_string();
    state.live.publish(LiveEvent { change: Some(change), kind: "change.events".to_owned(), json });
}
