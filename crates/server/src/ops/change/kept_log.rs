//! The whole log of a deployment: asked of its host, kept here for a while, shown.

use super::super::{OpsError, page_length};
use crate::access::Actor;
use crate::{AppState, clock};
use fettle_domain::access::Permission;
use fettle_domain::machine::HostState;
use fettle_domain::{DeploymentId, Timestamp};
use fettle_store::systems::change::{self, EventBody, NewEvent};
use fettle_store::systems::deployment::{self, DeploymentRecord};
use fettle_store::systems::host::{self, HostRecord};
use fettle_store::systems::log_request::{self, LogRequest};
use fettle_store::systems::{audit, work};
use fettle_store::{Connection, StoreError};
use fettle_wire::api::log::{WholeLog, WholeLogLine};
use fettle_wire::log::{LogLine, LogStream};
use std::time::Duration;

/// How long a fetched log is kept here.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Bytes of one log: all that a host keeps of one (9 MiB), with what counts around its lines.
const MOST_BYTES: u64 = 32 << 20;
/// Logs that are kept here at once.
const MOST_KEPT: u64 = 32;
/// Parts read for one page.
const PARTS: u32 = 3;

fn parse(id: &str) -> Result<DeploymentId, OpsError> {
    id.parse().map_err(|error| OpsError::invalid("id", error, "the id that `fettle deployment list` shows"))
}

/// Asks the host for the whole log. A request that is not answered yet is not made twice; one that was
/// answered is made anew.
pub async fn ask_log(state: &AppState, actor: &Actor, id: &str) -> Result<WholeLog, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let (id, who, now) = (parse(id)?, actor.clone(), clock::now());
    let fresh = clock::fresh();
    let request = LogRequest {
        id: fresh,
        deployment: id,
        host: clock::fresh(),
        asked_by: who.name.clone(),
        asked_at: now,
        expires_at: now.after(KEPT_FOR),
        done: false,
        missing: String::new(),
        most_bytes: MOST_BYTES,
        bytes: 0,
        next_line: 1,
        heard_at: None,
    };
    let host = state.store.write(move |connection| Ok(ask(connection, request, &who, now))).await??;
    if let Some(host) = host {
        state.nudges.work.wake(host);
    }
    whole_log(state, actor, &id.to_string(), None, Some(1)).await
}

/// The host that is asked; `None` when it was asked already.
fn ask(
    connection: &mut Connection,
    mut request: LogRequest,
    who: &Actor,
    now: Timestamp,
) -> Result<Option<fettle_domain::HostId>, OpsError> {
    let deployment = deployment::deployment_get(connection, request.deployment)?;
    let host = host::host_get(connection, deployment.host)?;
    if host.state == HostState::Retired {
        let what = format!("{} was revoked: it sends nothing any more", host.name);
        return Err(OpsError::Conflict { what });
    }
    if deployment.delivered_at.is_none() {
        let what = format!("{} was never handed this order: it has no log of it", host.name);
        return Err(OpsError::Conflict { what });
    }
    let left = log_request::log_requests_tidy(connection, now, MOST_KEPT - 1)?;
    if log_request::log_request_of(connection, deployment.id)?.is_some_and(|former| !former.done) {
        return Ok(None);
    }
    if left >= MOST_KEPT {
        let what = format!("{left} logs are asked for and not answered yet: wait for one of them");
        return Err(OpsError::Conflict { what });
    }
    request.host = deployment.host;
    log_request::log_request_put(connection, &request)?;
    work::work_touch(connection, deployment.host)?;
    let event = NewEvent {
        machine: "log",
        deployment: Some(deployment.id),
        host_name: &deployment.host_name,
        event: "ask",
        state: "asked",
        actor: &who.name,
        body: EventBody::Reasons(&[]),
        anomaly: false,
    };
    change::change_event_add(connection, deployment.change, &event, now)?;
    let detail = serde_json::json!({ "host": host.name, "change": deployment.change.to_string() });
    audit::append(connection, now, &who.record("deployment.ask-log", deployment.id, detail))?;
    Ok(Some(deployment.host))
}

/// Where the request stands, with the lines behind one that are here.
pub async fn whole_log(
    state: &AppState,
    actor: &Actor,
    id: &str,
    after: Option<u64>,
    limit: Option<u32>,
) -> Result<WholeLog, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let (id, limit, after, now) = (parse(id)?, page_length(limit), after.unwrap_or(0), clock::now());
    let (deployment, host, request, parts) = state
        .store
        .read(move |connection| {
            let deployment = deployment::deployment_get(connection, id)?;
            let host = host::host_get(connection, deployment.host)?;
            let request = log_request::log_request_of(connection, id)?.filter(|request| request.expires_at > now);
            let parts = match &request {
                Some(request) => log_request::log_parts(connection, request.id, after.saturating_add(1), PARTS)?,
                None => Vec::new(),
            };
            Ok((deployment, host, request, parts))
        })
        .await?;
    let mut lines = Vec::new();
    for part in parts {
        let part: Vec<LogLine> = serde_json::from_str(&part)
            .map_err(|error| StoreError::Corrupt { what: format!("log_part.lines: {error}") })?;
        lines.extend(part.into_iter().filter(|line| line.number > after));
    }
    lines.truncate(limit as usize);
    let last = lines.last().map(|line| line.number);
    let more = last.zip(request.as_ref()).is_some_and(|(last, request)| last + 1 < request.next_line);
    Ok(WholeLog {
        next: last.filter(|_| more).map(|last| last.to_string()),
        lines: with_gaps(after, lines),
        ..standing(&deployment, &host, request)
    })
}

fn standing(deployment: &DeploymentRecord, host: &HostRecord, request: Option<LogRequest>) -> WholeLog {
    let state = request.as_ref().map_or("not-asked", word);
    WholeLog {
        deployment: deployment.id.to_string(),
        host: host.id.to_string(),
        host_name: host.name.clone(),
        state: state.to_owned(),
        asked_by: request.as_ref().map(|request| request.asked_by.clone()).unwrap_or_default(),
        asked_at: request.as_ref().map(|request| request.asked_at.to_string()),
        heard_at: request.as_ref().and_then(|request| request.heard_at).map(|at| at.to_string()),
        expires_at: request.as_ref().map(|request| request.expires_at.to_string()),
        host_last_seen: host.last_seen.to_string(),
        waiting_for: request.as_ref().map(|request| waiting_for(request, host)).unwrap_or_default(),
        bytes: request.map_or(0, |request| request.bytes),
        lines: Vec::new(),
        next: None,
    }
}

fn word(request: &LogRequest) -> &'static str {
    match (request.done, request.missing.is_empty(), request.heard_at) {
        (true, false, _) => "missing",
        (true, true, _) => "complete",
        (false, _, Some(_)) => "arriving",
        (false, _, None) => "asked",
    }
}

fn waiting_for(request: &LogRequest, host: &HostRecord) -> String {
    match word(request) {
        "missing" => request.missing.clone(),
        "arriving" => format!("the rest of it from {}", host.name),
        "asked" if host.state == HostState::Silent => format!(
            "{} to speak again: it was asked at {} and is silent since {}",
            host.name, request.asked_at, host.last_seen
        ),
        "asked" => format!("{} to answer: it was asked at {}", host.name, request.asked_at),
        _ => String::new(),
    }
}

/// The lines with a note in place of what the host had to cut.
fn with_gaps(after: u64, lines: Vec<LogLine>) -> Vec<WholeLogLine> {
    let mut expected = after + 1;
    let mut shown = Vec::with_capacity(lines.len());
    for line in lines {
        if line.number > expected {
            let text = format!(
                "[lines {expected} to {} were cut: of a long log the beginning and the end are kept]",
                line.number - 1
            );
            let at = line.at.to_string();
            shown.push(WholeLogLine { number: expected, at, task: String::new(), stream: "fettle".to_owned(), text });
        }
        expected = line.number + 1;
        shown.push(view(line));
    }
    shown
}

fn view(line: LogLine) -> WholeLogLine {
    WholeLogLine {
        number: line.number,
        at: line.at.to_string(),
        task: line.task,
        stream: match line.stream {
            LogStream::Output => "output",
            LogStream::Error => "error",
            LogStream::Fettle => "fettle",
        }
        .to_owned(),
        text: line.text,
    }
}

/// Forgets fetched logs whose time is over.
pub(crate) async fn forget_ended(state: &AppState) -> fettle_store::Result<()> {
    let now = clock::now();
    state.store.write(move |connection| log_request::log_requests_tidy(connection, now, MOST_KEPT).map(drop)).await
}
