//! Parts of the log that a host keeps of a deployment, sent because a person asked for it.

use super::take::clean;
use crate::extract::Body;
use crate::identity::PeerCertificate;
use crate::live::LiveEvent;
use crate::problem::Refusal;
use crate::{AppState, PeerHost, admission, clock};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use fettle_domain::{ChangeId, HostId, Timestamp};
use fettle_store::systems::change::{EventBody, NewEvent, change_event_add};
use fettle_store::systems::log_request::{self, LogRequest};
use fettle_store::systems::{deployment, work};
use fettle_store::{Connection, Result, StoreError};
use fettle_wire::agent::WorkItem;
use fettle_wire::api::problem::kind;
use fettle_wire::log::{LogLine, LogPart, LogReply};

/// Lines of one part.
const LINES: usize = 20_000;
/// Bytes of a line, a task's name and a reason.
const TEXT: usize = 8 << 10;
const NAME: usize = 100;
const WHY: usize = 1_000;
/// Bytes that count for what stands around the text of a line, as the agent counts.
const AROUND: u64 = 100;
/// Requests that one host is told at once.
const AT_ONCE: u32 = 4;

/// What a host is asked to send.
pub(super) fn wanted(connection: &mut Connection, host: HostId, now: Timestamp) -> Result<Vec<WorkItem>> {
    let requests = log_request::log_requests_of_host(connection, host, now, AT_ONCE)?;
    Ok(requests
        .into_iter()
        .map(|request| WorkItem::SendLog {
            request: request.id,
            deployment: request.deployment,
            from: request.next_line,
            most_bytes: request.most_bytes.saturating_sub(request.bytes),
        })
        .collect())
}

/// `POST /agent/v1/log`.
pub(super) async fn log(
    State(state): State<AppState>,
    Extension(peer): Extension<PeerHost>,
    Body(part): Body<LogPart>,
) -> std::result::Result<Json<LogReply>, Refusal> {
    let peer = peer.require()?;
    check(&part)?;
    let now = clock::now();
    let (reply, change) = state.store.write(move |connection| take(connection, peer, &part, now)).await??;
    if let Some(change) = change {
        let json = serde_json::json!({ "change": change.to_string() }).to_string();
        state.live.publish(LiveEvent { change: Some(change), kind: "change.events".to_owned(), json });
    }
    Ok(Json(reply))
}

fn check(part: &LogPart) -> std::result::Result<(), Refusal> {
    let wrong = |field: &str, what: String| {
        Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, kind::INVALID, "The part of the log is wrong", what)
            .about(field))
    };
    if part.lines.len() > LINES {
        return wrong("lines", format!("{} lines; at most {LINES} are taken at once", part.lines.len()));
    }
    let mut least = part.from;
    for (index, line) in part.lines.iter().enumerate() {
        if line.number < least || line.number >= u64::MAX >> 1 {
            return wrong(&format!("lines[{index}].number"), format!("{} is not {least} or later", line.number));
        }
        least = line.number + 1;
        if line.text.len() > TEXT || line.task.len() > NAME {
            return wrong(
                &format!("lines[{index}]"),
                format!("longer than {TEXT} bytes, or a name longer than {NAME}"),
            );
        }
    }
    Ok(())
}

type Taken = std::result::Result<(LogReply, Option<ChangeId>), Refusal>;

/// A part that is not wanted (any more) changes nothing.
fn take(connection: &mut Connection, peer: PeerCertificate, part: &LogPart, now: Timestamp) -> Result<Taken> {
    let host = peer.host;
    let Some(standing) = work::work_standing(connection, host)? else { return Ok(Err(Refusal::host_revoked(host))) };
    match admission::check(peer, standing.state, &standing.keys, now) {
        Ok(true) => admission::first_use(connection, peer, now)?,
        Ok(false) => {}
        Err(refusal) => return Ok(Err(refusal)),
    }
    let found = log_request::log_request_get(connection, part.request)?;
    let unwanted = LogReply { next: part.from, wanted: false, most_bytes: 0 };
    let Some(request) = found.filter(|request| request.host == host && request.expires_at > now) else {
        return Ok(Ok((unwanted, None)));
    };
    if request.done || request.next_line != part.from {
        // The answer to an earlier part got lost: the host goes on where this server is.
        return Ok(Ok((reply(&request), None)));
    }
    let after = after(&request, part);
    let lines: Vec<LogLine> = part.lines.iter().filter(|line| line.number < after.next_line).map(cleaned).collect();
    let json = serde_json::to_string(&lines)
        .map_err(|error| StoreError::Refused { cause: format!("cannot write as JSON: {error}") })?;
    if !log_request::log_part_add(connection, &request, &json, &after, now)? {
        return Err(StoreError::conflict(request.id));
    }
    if !after.done {
        return Ok(Ok((reply(&after), None)));
    }
    let deployment = deployment::deployment_get(connection, request.deployment)?;
    let event = NewEvent {
        machine: "log",
        deployment: Some(deployment.id),
        host_name: &deployment.host_name,
        event: "arrive",
        state: if after.missing.is_empty() { "complete" } else { "missing" },
        actor: &format!("host {}", deployment.host_name),
        body: EventBody::Reasons(&[]),
        anomaly: false,
    };
    change_event_add(connection, deployment.change, &event, now)?;
    Ok(Ok((reply(&after), Some(deployment.change))))
}

fn reply(request: &LogRequest) -> LogReply {
    LogReply {
        next: request.next_line,
        wanted: !request.done,
        most_bytes: request.most_bytes.saturating_sub(request.bytes),
    }
}

/// The request with this part: lines as long as there is room.
fn after(request: &LogRequest, part: &LogPart) -> LogRequest {
    let mut after = request.clone();
    for line in &part.lines {
        let bytes = line.text.len() as u64 + AROUND;
        if after.bytes + bytes > request.most_bytes {
            after.done = true;
            break;
        }
        after.bytes += bytes;
        after.next_line = line.number + 1;
    }
    // A host that sends nothing and promises more would be asked for ever.
    after.done |= part.last || part.lines.is_empty();
    if after.next_line == 1 {
        after.missing = clean(&part.missing).chars().take(WHY).collect();
        if after.missing.is_empty() {
            after.missing = "the host sent no line of it".to_owned();
        }
    }
    after
}

fn cleaned(line: &LogLine) -> LogLine {
    LogLine { task: clean(&line.task), text: shown(&line.text), ..line.clone() }
}

/// Whole lines, in distinction from live ones; no control characters that a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
