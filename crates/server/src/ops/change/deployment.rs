//! Deployments: each host of a change with its tasks, output and explanation.

use super::super::finding::reason_views;
use super::super::{OpsError, host as host_ops, page_length};
use super::{explain, states, view};
use crate::AppState;
use crate::access::Actor;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fettle_domain::DeploymentId;
use fettle_domain::access::Permission;
use fettle_domain::machine::DeploymentState;
use fettle_domain::reason::Reason;
use fettle_store::systems::deployment::{self, DeploymentRecord, OrderRecord, ProofState};
use fettle_store::systems::{change, plan};
use fettle_wire::api::change::{DeploymentDetail, DeploymentList, DeploymentLog};
use fettle_wire::api::finding::Explanation;

/// Events of a history at most.
const HISTORY: u32 = 500;

/// A page of a change's deployments, by host name.
pub async fn deployments(
    state: &AppState,
    actor: &Actor,
    change: &str,
    wanted: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
) -> Result<DeploymentList, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let wanted: Vec<DeploymentState> = states("state", wanted.as_deref())?;
    let after = after.filter(|text| !text.is_empty()).as_deref().map(cursor_of).transpose()?;
    let limit = page_length(limit);
    let text = change.to_owned();
    let mut records = state
        .store
        .read(move |connection| {
            let record = super::resolve(connection, &text)?;
            deployment::deployment_list(connection, record.id, &wanted, after, limit + 1)
        })
        .await?;
    let next = cut(&mut records, limit);
    Ok(DeploymentList { items: records.iter().map(view::deployment).collect(), next, total: None })
}

/// Keeps a page of what was read, which is one more when there is a next; where that begins.
pub(super) fn cut(records: &mut Vec<DeploymentRecord>, limit: u32) -> Option<String> {
    let more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let last = records.last().filter(|_| more)?;
    Some(format!("{}.{}", last.id, URL_SAFE_NO_PAD.encode(&last.host_name)))
}

pub(super) fn cursor_of(text: &str) -> Result<(String, DeploymentId), OpsError> {
    text.split_once('.')
        .and_then(|(id, name)| {
            let name = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
            Some((name, id.parse().ok()?))
        })
        .ok_or_else(|| OpsError::invalid("after", "not a place in this list", "the `next` of the page before"))
}

/// The newest deployments of a host.
pub async fn deployments_of_host(
    state: &AppState,
    actor: &Actor,
    host: &str,
    limit: Option<u32>,
) -> Result<DeploymentList, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let (text, limit) = (host.to_owned(), page_length(limit));
    let records = state
        .store
        .read(move |connection| {
            let host = host_ops::resolve(connection, &text)?;
            deployment::deployments_of_host(connection, host, limit)
        })
        .await?;
    Ok(DeploymentList { items: records.iter().map(view::deployment).collect(), next: None, total: None })
}

fn parse(id: &str) -> Result<DeploymentId, OpsError> {
    id.parse().map_err(|error| OpsError::invalid("id", error, "the id that `fettle deployment list` shows"))
}

/// One deployment with its tasks.
pub async fn show_deployment(state: &AppState, actor: &Actor, id: &str) -> Result<DeploymentDetail, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let id = parse(id)?;
    let (record, change, tasks, host) = state
        .store
        .read(move |connection| {
            let record = deployment::deployment_get(connection, id)?;
            let change = change::change_get(connection, record.change)?;
            let tasks = deployment::tasks(connection, id)?;
            let host = plan::plan_host_get(connection, record.plan, record.host)?;
            Ok((record, change, tasks, host))
        })
        .await?;
    Ok(DeploymentDetail {
        summary: view::deployment(&record),
        change_number: change.number,
        change_title: change.title,
        tasks: tasks.iter().map(view::task).collect(),
        reasons: reason_views(&record.reasons),
        proof_reasons: reason_views(&record.proof_reasons),
        packages: host.manifest.steps.iter().map(view::package).collect(),
        output_bytes: record.output_bytes,
    })
}

/// A page of a deployment's output.
pub async fn log(
    state: &AppState,
    actor: &Actor,
    id: &str,
    after: Option<u64>,
    limit: Option<u32>,
) -> Result<DeploymentLog, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let (id, limit, after) = (parse(id)?, page_length(limit), after.unwrap_or(0));
    let events = state
        .store
        .read(move |connection| {
            deployment::deployment_get(connection, id)?;
            change::deployment_output(connection, id, after, limit)
        })
        .await?;
    let next = if events.len() == limit as usize { events.last().map(|last| last.number.to_string()) } else { None };
    Ok(DeploymentLog { lines: events.into_iter().flat_map(|event| event.lines).collect(), next })
}

/// Why a deployment is as it is.
pub async fn explain_deployment(state: &AppState, actor: &Actor, id: &str) -> Result<Explanation, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let id = parse(id)?;
    let (record, change, orders, history) = state
        .store
        .read(move |connection| {
            let record = deployment::deployment_get(connection, id)?;
            let change = change::change_get(connection, record.change)?;
            let orders =
                [deployment::order_get(connection, id, "deploy")?, deployment::order_get(connection, id, "undo")?];
            let history = change::deployment_events(connection, id, false, 0, HISTORY)?;
            Ok((record, change, orders, history))
        })
        .await?;
    let mut reasons = vec![Reason::from_source(
        "deployment.change",
        format!("it belongs to change {} ({}), asked for by {}", change.number, change.title, change.requester),
        change.id.to_string(),
    )];
    reasons.extend(orders.iter().flatten().map(order));
    reasons.extend(record.reasons.iter().cloned());
    reasons.extend(record.proof_reasons.iter().cloned());
    reasons.extend(record.undo_refused.iter().flatten().cloned());
    if record.anomalies > 0 {
        let text =
            format!("its host reported {} times what its state did not allow; see the history", record.anomalies);
        reasons.push(Reason::new("deployment.anomalies", text));
    }
    Ok(Explanation {
        id: id.to_string(),
        summary: format!(
            "the deployment of change {} on {} is {} (proof by inventory: {})",
            change.number,
            record.host_name,
            record.state,
            record.proof.as_str()
        ),
        reasons: reason_views(&reasons),
        waiting_for: waiting_for(&record),
        history: history.iter().map(explain::entry).collect(),
    })
}

fn order(order: &OrderRecord) -> Reason {
    let text = format!(
        "an order to {} was signed at {} as number {} for its host, good from {} to {}",
        order.action, order.issued_at, order.sequence, order.window_start, order.window_end
    );
    Reason::new("deployment.order", text)
}

fn waiting_for(record: &DeploymentRecord) -> Vec<String> {
    use DeploymentState as S;
    let host = &record.host_name;
    let text = match record.state {
        S::Offered if record.withdraw_at.is_some() => format!("{host} to give the order back, if it has it"),
        S::Offered if record.delivered_at.is_none() => format!("{host} to ask for work: is its agent running?"),
        S::Offered => format!("{host} to accept the order it was handed"),
        S::Queued => "its window to begin".to_owned(),
        S::Fetching | S::Ready | S::Applying | S::Checking => format!("{host} to go on (it is at work)"),
        S::Rebooting => format!("{host} to come up again"),
        S::Succeeded if record.undo_at.is_some() && record.undo_refused.is_none() => {
            format!("{host} to undo it, as ordered")
        }
        S::Succeeded | S::Undone if record.proof == ProofState::Awaited => {
            format!("an inventory of {host} made after its end, which has to prove it")
        }
        S::Undoing => format!("{host} to put the former versions back"),
        S::Stuck => format!("a person to look at {host}: its undo failed"),
        S::Succeeded | S::Undone | S::Failed | S::Withdrawn | S::Expired | S::NotApplicable => return Vec::new(),
    };
    vec![text]
}
