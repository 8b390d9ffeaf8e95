//! Why a change is as it is, and what it waits for.

use super::super::OpsError;
use super::super::finding::reason_views;
use super::show::{self, Picture};
use super::view;
use crate::access::Actor;
use crate::settings::ChangeSettings;
use crate::{AppState, clock};
use fettle_domain::Timestamp;
use fettle_domain::access::Permission;
use fettle_domain::machine::{PlanState, RolloutState};
use fettle_domain::reason::Reason;
use fettle_process::change::Risk;
use fettle_process::installation;
use fettle_store::systems::change::{self, ChangeEventRecord};
use fettle_store::systems::rehearsal::RehearsalState;
use fettle_wire::api::finding::{Explanation, HistoryEntry};

/// Events of a history at most.
const HISTORY: u32 = 500;

/// Explains a change.
pub async fn explain(state: &AppState, actor: &Actor, change: &str) -> Result<Explanation, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let (text, started_at) = (change.to_owned(), state.started_at);
    let (picture, history) = state
        .store
        .read(move |connection| {
            let id = super::resolve(connection, &text)?.id;
            Ok((show::picture(connection, id, started_at)?, change::change_history(connection, id, HISTORY)?))
        })
        .await?;
    let settings = &state.settings.changes;
    let record = &picture.record;
    let mut reasons = vec![Reason::new(
        "change.asked",
        format!("{} asked for it: {}", record.requester, show::asked_for(&picture.specification).join("; ")),
    )];
    reasons.push(policy(settings));
    if let Some(last) = history.iter().rev().find(|event| matches!(event.machine.as_str(), "plan" | "rollout" | "wave"))
    {
        let text = format!("last: the {} came to {} by {}", last.machine, last.state, last.actor);
        reasons.push(Reason::new("change.last", text));
        reasons.extend(last.reasons.iter().cloned());
    }
    if let Ok(risk) = serde_json::from_str::<Risk>(&picture.plan.risk) {
        reasons.push(Reason::new("change.risk", format!("its risk is {}", risk.level.as_str())));
        reasons.extend(risk.reasons);
    }
    reasons.extend(picture.plan.head.iter().flat_map(|head| head.report.iter().cloned()));
    Ok(Explanation {
        id: record.id.to_string(),
        summary: format!("change {} ({}) is {}", record.number, record.title, view::state_word(record)),
        reasons: reason_views(&reasons),
        waiting_for: waiting_for(&picture, settings, clock::now()),
        history: history.iter().map(entry).collect(),
    })
}

fn policy(settings: &ChangeSettings) -> Reason {
    let who = if settings.requester_may_approve {
        "who asked for it may approve"
    } else {
        "who asked for it may not approve"
    };
    let text = format!("policy: {} approval(s) are needed, {who}", settings.approvals.max(1));
    Reason::from_source("policy.approval", text, "settings: changes.approvals, changes.requester-may-approve")
}

pub(super) fn entry(event: &ChangeEventRecord) -> HistoryEntry {
    let subject = if event.host_name.is_empty() {
        event.machine.clone()
    } else {
        format!("{} on {}", event.machine, event.host_name)
    };
    let anomaly = if event.anomaly { " (its state did not allow it: nothing was changed)" } else { "" };
    HistoryEntry {
        at: event.at.to_string(),
        event: format!("{subject}: {} → {}{anomaly}", event.event, event.state),
        actor: event.actor.clone(),
        reasons: reason_views(&event.reasons),
    }
}

/// What a change waits for, in sentences.
pub(super) fn waiting_for(picture: &Picture, settings: &ChangeSettings, now: Timestamp) -> Vec<String> {
    let number = picture.record.number;
    if let Some(standing) = &picture.standing {
        let ended = matches!(
            standing.rollout.state,
            RolloutState::Completed | RolloutState::RolledBack | RolloutState::Cancelled
        );
        let reasons = installation::waiting_for(&standing.facts, now);
        return if ended { Vec::new() } else { reasons.into_iter().map(|reason| reason.text).collect() };
    }
    match picture.plan.state {
        PlanState::Draft => {
            let asked = picture
                .rehearsals
                .iter()
                .find(|(state, _)| *state == RehearsalState::Asked)
                .map_or(0, |(_, count)| *count);
            let text = match asked {
                0 => "all dry runs are answered: the plan is being made".to_owned(),
                _ => format!("the dry run of {asked} host(s), until {}", picture.plan.answer_until),
            };
            vec![text]
        }
        PlanState::Proposed => {
            let needed = settings.approvals.max(1) as usize;
            let who = if settings.requester_may_approve {
                String::new()
            } else {
                format!(", not {}", picture.record.requester)
            };
            let given = picture.approvals.len();
            vec![format!(
                "{} more approval(s) by somebody with the role approver{who}: fettle change approve {number}",
                needed.saturating_sub(given)
            )]
        }
        PlanState::Approved if now >= picture.plan.window_end => {
            vec![format!("nothing: its window ended at {} before somebody started it", picture.plan.window_end)]
        }
        PlanState::Approved => {
            vec![format!("somebody to start it until {}: fettle change start {number}", picture.plan.window_end)]
        }
        PlanState::Active | PlanState::Closed | PlanState::Rejected | PlanState::Superseded => Vec::new(),
    }
}
