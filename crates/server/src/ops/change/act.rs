//! Acts on a change: approve, reject, start, pause, resume, cancel, undo. Each is one write with its
//! audit entry, against the state it found.

use super::super::OpsError;
use super::show;
use crate::access::Actor;
use crate::live::LiveEvent;
use crate::settings::ChangeSettings;
use crate::{AppState, clock};
use fettle_domain::access::Permission;
use fettle_domain::machine::{Machine as _, PlanEvent, PlanState, RolloutEvent, RolloutState};
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, Timestamp};
use fettle_store::systems::change::{self, ChangeRecord, EventBody, NewEvent};
use fettle_store::systems::plan::{self, ApprovalRecord, PlanRecord};
use fettle_store::systems::rollout::{self, RolloutRecord};
use fettle_store::systems::{audit, rehearsal, work};
use fettle_store::{Connection, StoreError};
use fettle_wire::api::change::{ChangeApprove, ChangeDetail};

/// Bytes of a comment or reason.
const COMMENT: usize = 4_000;

/// What an act found.
struct Found {
    record: ChangeRecord,
    plan: PlanRecord,
    rollout: Option<RolloutRecord>,
}

type Done = fettle_store::Result<Result<ChangeId, OpsError>>;

/// Runs one act in one write, then wakes whoever has to look.
async fn act<F>(
    state: &AppState,
    actor: &Actor,
    change: &str,
    permission: Permission,
    run: F,
) -> Result<ChangeDetail, OpsError>
where
    F: FnOnce(&mut Connection, Found) -> fettle_store::Result<Result<(), OpsError>> + Send + 'static,
{
    actor.require(permission)?;
    let text = change.to_owned();
    let done: Done = state
        .store
        .write(move |connection| {
            let record = super::resolve(connection, &text)?;
            let id = record.id;
            let plan = plan::plan_get(connection, record.plan)?;
            let rollout = rollout::rollout_of_plan(connection, plan.id)?;
            match run(connection, Found { record, plan, rollout }) {
                Ok(answer) => Ok(answer.map(|()| id)),
                Err(StoreError::Illegal(illegal)) => Ok(Err(OpsError::Conflict { what: illegal.to_string() })),
                Err(error) => Err(error),
            }
        })
        .await;
    let id = done??;
    state.nudges.change.notify_one();
    state.nudges.installation.notify_one();
    state.nudges.audit.notify_one();
    let json = serde_json::json!({ "change": id.to_string() }).to_string();
    state.live.publish(LiveEvent { change: Some(id), kind: "change.events".to_owned(), json });
    show::detail(state, actor, id).await
}

fn said(reason: &str) -> Result<Vec<Reason>, OpsError> {
    if reason.len() > COMMENT {
        return Err(OpsError::invalid("reason", "too long", format!("at most {COMMENT} bytes")));
    }
    Ok(if reason.trim().is_empty() { Vec::new() } else { vec![Reason::new("person.said", reason.trim())] })
}

/// Whether who acts asked for the change.
pub(super) fn is_requester(record: &ChangeRecord, actor: &Actor) -> bool {
    match (record.requester_id, actor.user) {
        (Some(requester), Some(user)) => requester == user,
        _ => record.requester == actor.name,
    }
}

/// Approves exactly the plan with this digest.
pub async fn approve(
    state: &AppState,
    actor: &Actor,
    change: &str,
    request: ChangeApprove,
) -> Result<ChangeDetail, OpsError> {
    said(&request.comment)?;
    let (settings, who, now) = (state.settings.changes.clone(), actor.clone(), clock::now());
    act(state, actor, change, Permission::ChangeApprove, move |connection, found| {
        let given = plan::approvals(connection, found.plan.id)?;
        if let Err(error) = check_approval(&found, &given, &settings, &who, &request.digest) {
            return Ok(Err(error));
        }
        let approval = ApprovalRecord {
            by: who.name.clone(),
            by_id: who.user,
            digest: request.digest.clone(),
            comment: request.comment.clone(),
            at: now,
        };
        plan::approval_add(connection, found.plan.id, &approval)?;
        let count = u32::try_from(given.len() + 1).unwrap_or(u32::MAX);
        let reasons = said(&request.comment).unwrap_or_default();
        note(connection, &found, "approve", &who, &reasons, now)?;
        if count >= settings.approvals.max(1) {
            let text = format!(
                "{count} of {} approvals are given, each for digest {}",
                settings.approvals.max(1),
                request.digest
            );
            let reason = [Reason::from_source("plan.approved", text, found.plan.id.to_string())];
            plan::plan_transition(connection, &found.plan, PlanEvent::Approve, &who.name, &reason, now)?;
        }
        let detail =
            serde_json::json!({ "number": found.record.number, "digest": request.digest, "comment": request.comment });
        audit::append(connection, now, &who.record("change.approve", found.record.id, detail))?;
        Ok(Ok(()))
    })
    .await
}

fn check_approval(
    found: &Found,
    given: &[ApprovalRecord],
    settings: &ChangeSettings,
    who: &Actor,
    digest: &str,
) -> Result<(), OpsError> {
    let number = found.record.number;
    if found.plan.state != PlanState::Proposed {
        return Err(OpsError::Conflict {
            what: format!("change {number} cannot be approved: its plan is {}", found.plan.state),
        });
    }
    if !settings.requester_may_approve && is_requester(&found.record, who) {
        return Err(OpsError::Forbidden {
            why: format!("{} asked for change {number} and so may not approve it", who.name),
            advice: "Let another person with the role approver approve it (the setting changes.requester-may-approve allows it to everybody).".to_owned(),
        });
    }
    if digest != found.plan.digest {
        return Err(OpsError::Conflict {
            what: format!(
                "the plan of change {number} has digest {}, not the one you approve: look at it again (`fettle change show {number}`)",
                found.plan.digest
            ),
        });
    }
    if given.iter().any(|approval| approval.by == who.name || (approval.by_id.is_some() && approval.by_id == who.user))
    {
        return Err(OpsError::Conflict {
            what: format!("{} has approved change {number} already; another person is needed", who.name),
        });
    }
    Ok(())
}

/// An event of the change itself.
fn note(
    connection: &mut Connection,
    found: &Found,
    event: &str,
    who: &Actor,
    reasons: &[Reason],
    now: Timestamp,
) -> fettle_store::Result<()> {
    let state = found.plan.state.as_str();
    let event = NewEvent {
        machine: "change",
        deployment: None,
        host_name: "",
        event,
        state,
        actor: &who.name,
        body: EventBody::Reasons(reasons),
        anomaly: false,
    };
    change::change_event_add(connection, found.record.id, &event, now).map(|_| ())
}

fn audit_act(
    connection: &mut Connection,
    found: &Found,
    action: &'static str,
    who: &Actor,
    reason: &str,
    now: Timestamp,
) -> fettle_store::Result<()> {
    let detail = serde_json::json!({ "number": found.record.number, "reason": reason });
    audit::append(connection, now, &who.record(action, found.record.id, detail)).map(|_| ())
}

/// Waits for no dry runs any more.
fn drop_rehearsals(connection: &mut Connection, found: &Found) -> fettle_store::Result<()> {
    let asked = rehearsal::rehearsals_drop(connection, found.plan.id)?;
    work::work_touch_many(connection, &asked)
}

/// Refuses a plan.
pub async fn reject(state: &AppState, actor: &Actor, change: &str, reason: String) -> Result<ChangeDetail, OpsError> {
    let reasons = said(&reason)?;
    let (who, now) = (actor.clone(), clock::now());
    act(state, actor, change, Permission::ChangeApprove, move |connection, found| {
        plan::plan_transition(connection, &found.plan, PlanEvent::Reject, &who.name, &reasons, now)?;
        drop_rehearsals(connection, &found)?;
        audit_act(connection, &found, "change.reject", &who, &reason, now)?;
        Ok(Ok(()))
    })
    .await
}

/// Starts an approved change: now, or when its window begins.
pub async fn start(state: &AppState, actor: &Actor, change: &str, reason: String) -> Result<ChangeDetail, OpsError> {
    let reasons = said(&reason)?;
    let (who, now) = (actor.clone(), clock::now());
    act(state, actor, change, Permission::ChangeRun, move |connection, found| {
        let number = found.record.number;
        if let Some(rollout) = &found.rollout {
            return Ok(Err(OpsError::Conflict {
                what: format!("change {number} was started already: its rollout is {}", rollout.state),
            }));
        }
        if found.plan.state != PlanState::Approved {
            return Ok(Err(OpsError::Conflict {
                what: format!("change {number} cannot start: its plan is {}, not approved", found.plan.state),
            }));
        }
        if now >= found.plan.window_end {
            let what =
                format!("the window of change {number} ended at {}: ask for a new change", found.plan.window_end);
            return Ok(Err(OpsError::Conflict { what }));
        }
        let rollout = RolloutRecord {
            id: clock::fresh(),
            plan: found.plan.id,
            change: found.record.id,
            state: RolloutState::Scheduled,
            generation: 1,
            start_at: found.plan.window_start.map_or(now, |start| start.max(now)),
            window_end: found.plan.window_end,
            changed_at: now,
        };
        rollout::rollout_create(connection, &rollout, 1)?;
        note(connection, &found, "start", &who, &reasons, now)?;
        audit_act(connection, &found, "change.start", &who, &reason, now)?;
        Ok(Ok(()))
    })
    .await
}

/// Ends a change: what has not begun will not begin; what is installed stays.
pub async fn cancel(state: &AppState, actor: &Actor, change: &str, reason: String) -> Result<ChangeDetail, OpsError> {
    let reasons = said(&reason)?;
    let (who, now) = (actor.clone(), clock::now());
    act(state, actor, change, Permission::ChangeRun, move |connection, found| {
        match &found.rollout {
            Some(rollout) if rollout.state == RolloutState::Completed => {
                let what = format!(
                    "change {} is completed; `fettle change undo {0}` puts the former versions back",
                    found.record.number
                );
                return Ok(Err(OpsError::Conflict { what }));
            }
            Some(rollout) => {
                rollout::rollout_transition(connection, rollout, RolloutEvent::Cancel, &who.name, &reasons, now)?;
            }
            None => {
                plan::plan_transition(connection, &found.plan, PlanEvent::Supersede, &who.name, &reasons, now)?;
                drop_rehearsals(connection, &found)?;
            }
        }
        audit_act(connection, &found, "change.cancel", &who, &reason, now)?;
        Ok(Ok(()))
    })
    .await
}

/// Puts the former versions back on every host that was changed.
pub async fn undo(state: &AppState, actor: &Actor, change: &str, reason: String) -> Result<ChangeDetail, OpsError> {
    let reasons = said(&reason)?;
    let (who, now) = (actor.clone(), clock::now());
    act(state, actor, change, Permission::ChangeRun, move |connection, found| {
        let nothing = || OpsError::Conflict {
            what: format!("change {} was never carried out: there is nothing to undo", found.record.number),
        };
        let Some(rollout) = &found.rollout else { return Ok(Err(nothing())) };
        match found.plan.state {
            PlanState::Active => {}
            PlanState::Closed => {
                plan::plan_transition(connection, &found.plan, PlanEvent::Reopen, &who.name, &reasons, now)?;
            }
            _ => return Ok(Err(nothing())),
        }
        rollout::rollout_transition(connection, rollout, RolloutEvent::RollBack, &who.name, &reasons, now)?;
        audit_act(connection, &found, "change.undo", &who, &reason, now)?;
        Ok(Ok(()))
    })
    .await
}

/// Holds a running rollout: no further host is handed its order.
pub async fn pause(state: &AppState, actor: &Actor, change: &str, reason: String) -> Result<ChangeDetail, OpsError> {
    rollout_act(state, actor, change, reason, RolloutEvent::Pause, "change.pause").await
}

/// Goes on with a paused or halted rollout; its hosts are judged again.
pub async fn resume(state: &AppState, actor: &Actor, change: &str, reason: String) -> Result<ChangeDetail, OpsError> {
    rollout_act(state, actor, change, reason, RolloutEvent::Resume, "change.resume").await
}

async fn rollout_act(
    state: &AppState,
    actor: &Actor,
    change: &str,
    reason: String,
    event: RolloutEvent,
    action: &'static str,
) -> Result<ChangeDetail, OpsError> {
    let reasons = said(&reason)?;
    let (who, now) = (actor.clone(), clock::now());
    act(state, actor, change, Permission::ChangeRun, move |connection, found| {
        let Some(rollout) = &found.rollout else {
            return Ok(Err(OpsError::Conflict { what: format!("change {} was not started yet", found.record.number) }));
        };
        rollout::rollout_transition(connection, rollout, event, &who.name, &reasons, now)?;
        if event == RolloutEvent::Resume {
            // Hosts that were held back find their orders now.
            let hosts = fettle_store::systems::deployment::deployments_of_rollout(connection, rollout.id)?;
            let held: Vec<_> = hosts
                .iter()
                .filter(|deployment| deployment.delivered_at.is_none())
                .map(|deployment| deployment.host)
                .collect();
            work::work_touch_many(connection, &held)?;
        }
        audit_act(connection, &found, action, &who, &reason, now)?;
        Ok(Ok(()))
    })
    .await
}
