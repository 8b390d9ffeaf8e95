//! Changes in lists and whole.

use super::super::finding::reason_views;
use super::super::page::{page_of, place_text};
use super::super::{OpsError, Part, page_length};
use super::{explain, states, view};
use crate::access::Actor;
use crate::standing::{self, Standing};
use crate::{AppState, clock};
use fettle_domain::access::Permission;
use fettle_domain::machine::{Machine as _, PlanEvent, PlanState, RolloutEvent, RolloutState};
use fettle_domain::plan::RebootPolicy;
use fettle_domain::{ChangeId, HostId};
use fettle_process::change::{Risk, Specification};
use fettle_store::page::Order;
use fettle_store::systems::change::{self, ChangeFilter, ChangeRecord, ChangeSort};
use fettle_store::systems::deployment::ProofState;
use fettle_store::systems::plan::{self, ApprovalRecord, PlanRecord};
use fettle_store::systems::rehearsal::{self, RehearsalState};
use fettle_store::systems::rollout;
use fettle_store::{Connection, StoreError};
use fettle_wire::api::change::{
    AcceptanceView, ApprovalView, ChangeDetail, ChangeHostList, ChangeList, CountView, RiskView, WaveView, WindowView,
};
use std::collections::BTreeMap;

/// What a list is narrowed to, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeQuery {
    /// Comma-separated states of plans or rollouts; empty: any.
    pub state: Option<String>,
    /// Asked for by this user.
    pub requester: Option<String>,
    /// Text in the title.
    pub text: Option<String>,
    /// `COLUMN` or `-COLUMN`; empty: the newest first.
    pub sort: Option<String>,
    /// The former page's `next`.
    pub after: Option<String>,
    /// Items a page.
    pub limit: Option<u32>,
}

/// A page of changes.
pub async fn list(state: &AppState, actor: &Actor, query: ChangeQuery) -> Result<ChangeList, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let nonempty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (plan_states, rollout_states) = state_filter(query.state.as_deref())?;
    let filter = ChangeFilter {
        plan_states,
        rollout_states,
        requester: nonempty(&query.requester),
        text: nonempty(&query.text),
    };
    let part = Part { sort: query.sort.clone(), after: query.after.clone(), limit: query.limit };
    let page = page_of(&part, Order::descending(ChangeSort::Number))?;
    let order = page.order;
    let plain = filter == ChangeFilter::default();
    let (listed, total) = state
        .store
        .read(move |connection| {
            let listed = change::change_list(connection, &filter, &page)?;
            let total = if plain {
                Some(change::change_counts(connection)?.iter().map(|(_, count)| count).sum())
            } else {
                None
            };
            Ok((listed, total))
        })
        .await?;
    let next = listed.next.as_ref().map(|place| place_text(order, place));
    Ok(ChangeList { items: listed.items.iter().map(view::summary).collect(), next, total })
}

/// Words may be of a plan or of a rollout; both machines have their own, except `cancelled`.
fn state_filter(list: Option<&str>) -> Result<(Vec<PlanState>, Vec<RolloutState>), OpsError> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok((Vec::new(), Vec::new())) };
    let (plan, rollout): (Vec<&str>, Vec<&str>) =
        list.split(',').partition(|word| PlanState::parse(word.trim()).is_some());
    if !plan.is_empty() && !rollout.is_empty() {
        return Err(OpsError::invalid("state", "states of plans and of rollouts at once", "only one of both kinds"));
    }
    Ok((states("state", Some(&plan.join(",")))?, states("state", Some(&rollout.join(",")))?))
}

/// One change, by id or number.
pub async fn show(state: &AppState, actor: &Actor, change: &str) -> Result<ChangeDetail, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let text = change.to_owned();
    let id = state.store.read(move |connection| super::resolve(connection, &text).map(|record| record.id)).await?;
    detail(state, actor, id).await
}

/// Everything that belongs to a change, as read at one moment.
pub(super) struct Picture {
    pub(super) record: ChangeRecord,
    pub(super) plan: PlanRecord,
    pub(super) specification: Specification,
    pub(super) approvals: Vec<ApprovalRecord>,
    pub(super) rehearsals: Vec<(RehearsalState, u64)>,
    pub(super) standing: Option<Standing>,
    findings: u64,
}

pub(super) fn picture(
    connection: &mut Connection,
    id: ChangeId,
    started_at: fettle_domain::Timestamp,
) -> fettle_store::Result<Picture> {
    let record = change::change_get(connection, id)?;
    let plan = plan::plan_get(connection, record.plan)?;
    let specification = serde_json::from_str(&record.specification)
        .map_err(|error| StoreError::Corrupt { what: format!("what {id} asks for: {error}") })?;
    let standing = match rollout::rollout_of_plan(connection, plan.id)? {
        Some(rollout) => Some(standing::load(connection, rollout.id, started_at)?),
        None => None,
    };
    Ok(Picture {
        approvals: plan::approvals(connection, plan.id)?,
        rehearsals: rehearsal::rehearsal_counts(connection, plan.id)?,
        findings: plan::plan_finding_page(connection, plan.id, 0)?.0,
        record,
        plan,
        specification,
        standing,
    })
}

pub(super) async fn detail(state: &AppState, actor: &Actor, id: ChangeId) -> Result<ChangeDetail, OpsError> {
    let started_at = state.started_at;
    let picture = state.store.read(move |connection| picture(connection, id, started_at)).await?;
    let needed = state.settings.changes.approvals.max(1);
    let head = picture.plan.head.as_ref();
    let risk = if picture.plan.risk.is_empty() { None } else { serde_json::from_str::<Risk>(&picture.plan.risk).ok() };
    let specification = &picture.specification;
    let mut report = head.map_or_else(Vec::new, |head| reason_views(&head.report));
    if head.is_none() && picture.plan.state == PlanState::Rejected {
        report = rejected(state, id).await?;
    }
    let (deployments, proved) = tally(picture.standing.as_ref());
    Ok(ChangeDetail {
        reason: picture.record.reason.clone(),
        asked_for: asked_for(specification),
        window: WindowView {
            start: picture.plan.window_start.map(|at| at.to_string()),
            end: picture.plan.window_end.to_string(),
        },
        acceptance: AcceptanceView {
            success_percent: specification.acceptance.success_percent,
            silence_seconds: specification.acceptance.silence_seconds,
        },
        reboot: reboot_word(specification.reboot).to_owned(),
        restart_services: specification.restart_services,
        checks: specification.checks.iter().map(view::check).collect(),
        plan: picture.plan.id.to_string(),
        plan_digest: picture.plan.digest.clone(),
        back_out: head.map_or_else(String::new, |head| head.back_out.clone()),
        risk: risk.map(|risk| RiskView { level: risk.level.as_str().to_owned(), reasons: reason_views(&risk.reasons) }),
        approvals: picture.approvals.iter().map(approval).collect(),
        approvals_needed: needed,
        findings: picture.findings,
        rehearsals: picture
            .rehearsals
            .iter()
            .map(|(state, count)| CountView { state: state.as_str().to_owned(), count: *count })
            .collect(),
        deployments,
        proved,
        waves: picture.standing.iter().flat_map(|standing| &standing.waves).map(wave).collect(),
        report,
        waiting_for: explain::waiting_for(&picture, &state.settings.changes, clock::now()),
        may: may(&picture, actor, &state.settings.changes),
        last_event: picture.record.events,
        summary: view::summary(&picture.record),
    })
}

/// Why a draft became no plan: the reasons of its last event.
async fn rejected(state: &AppState, id: ChangeId) -> Result<Vec<fettle_wire::api::finding::ReasonView>, OpsError> {
    let history = state.store.read(move |connection| change::change_history(connection, id, 100)).await?;
    let last = history.iter().rev().find(|event| event.machine == "plan");
    Ok(last.map_or_else(Vec::new, |event| reason_views(&event.reasons)))
}

fn tally(standing: Option<&Standing>) -> (Vec<CountView>, u64) {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut proved = 0;
    for deployment in standing.iter().flat_map(|standing| &standing.deployments) {
        *counts.entry(deployment.state.as_str()).or_default() += 1;
        let succeeded = deployment.state == fettle_domain::machine::DeploymentState::Succeeded;
        proved += u64::from(succeeded && deployment.proof == ProofState::Proved);
    }
    (counts.into_iter().map(|(state, count)| CountView { state: state.to_owned(), count }).collect(), proved)
}

fn approval(record: &ApprovalRecord) -> ApprovalView {
    ApprovalView { by: record.by.clone(), at: record.at.to_string(), comment: record.comment.clone() }
}

fn wave(record: &rollout::WaveRecord) -> WaveView {
    WaveView { number: record.number, state: record.state.to_string(), since: record.since.to_string() }
}

fn reboot_word(policy: RebootPolicy) -> &'static str {
    match policy {
        RebootPolicy::Never => "never",
        RebootPolicy::IfNeeded => "if-needed",
    }
}

/// What was asked for, in sentences.
pub(super) fn asked_for(specification: &Specification) -> Vec<String> {
    let some = |list: &[String]| {
        let more = if list.len() > 20 { format!(" and {} more", list.len() - 20) } else { String::new() };
        format!("{}{more}", list.iter().take(20).cloned().collect::<Vec<_>>().join(", "))
    };
    let mut sentences = Vec::new();
    let mut say = |what: &str, list: &[String]| {
        if !list.is_empty() {
            sentences.push(format!("{what} {}", some(list)));
        }
    };
    say("close the vulnerabilities", &specification.vulnerabilities);
    say("close the findings", &specification.findings);
    say("update the packages", &specification.packages);
    say("on the hosts", &specification.hosts);
    say("on the hosts of the groups", &specification.groups);
    if specification.all_affected {
        sentences.push("on all hosts that are affected".to_owned());
    }
    if specification.allow_removals {
        sentences.push("other packages may be removed to get there".to_owned());
    }
    sentences
}

/// What who asks may do now.
fn may(picture: &Picture, actor: &Actor, settings: &crate::settings::ChangeSettings) -> Vec<String> {
    let plan = picture.plan.state;
    let rollout = picture.standing.as_ref().map(|standing| standing.rollout.state);
    let rollout_may = |event: RolloutEvent| rollout.is_some_and(|state| state.next(event).is_ok());
    let mut may = Vec::new();
    let mut add = |word: &str, permission: Permission, allowed: bool| {
        if allowed && actor.may(permission) {
            may.push(word.to_owned());
        }
    };
    let own = !settings.requester_may_approve && super::act::is_requester(&picture.record, actor);
    let approved = picture.approvals.iter().any(|approval| approval.by == actor.name);
    add("approve", Permission::ChangeApprove, plan.next(PlanEvent::Approve).is_ok() && !own && !approved);
    add("reject", Permission::ChangeApprove, plan.next(PlanEvent::Reject).is_ok());
    add("start", Permission::ChangeRun, plan == PlanState::Approved && rollout.is_none());
    add("pause", Permission::ChangeRun, rollout_may(RolloutEvent::Pause));
    add("resume", Permission::ChangeRun, rollout_may(RolloutEvent::Resume));
    let open = rollout.is_none() && plan.next(PlanEvent::Supersede).is_ok();
    add("cancel", Permission::ChangeRun, open || rollout_may(RolloutEvent::Cancel));
    add(
        "undo",
        Permission::ChangeRun,
        rollout_may(RolloutEvent::RollBack) && matches!(plan, PlanState::Active | PlanState::Closed),
    );
    may
}

/// What exactly happens on each host of a plan, by host.
pub async fn hosts(
    state: &AppState,
    actor: &Actor,
    change: &str,
    after: Option<String>,
    limit: Option<u32>,
) -> Result<ChangeHostList, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let after = after
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse::<HostId>().map_err(|error| OpsError::invalid("after", error, "the `next` of the page before"))
        })
        .transpose()?;
    // Manifests are long: pages are shorter than elsewhere.
    let limit = page_length(limit).min(200);
    let text = change.to_owned();
    let (mut hosts, total) = state
        .store
        .read(move |connection| {
            let record = super::resolve(connection, &text)?;
            Ok((plan::plan_hosts(connection, record.plan, after, limit + 1)?, record.hosts))
        })
        .await?;
    let more = hosts.len() > limit as usize;
    hosts.truncate(limit as usize);
    let next = if more { hosts.last().map(|last| last.host.to_string()) } else { None };
    Ok(ChangeHostList { items: hosts.iter().map(view::host).collect(), next, total: Some(total) })
}
