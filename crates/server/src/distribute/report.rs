//! Reports: stored before they are acknowledged, and stored once however often they come.

use super::take::{self, Taken};
use crate::extract::Body;
use crate::identity::PeerCertificate;
use crate::live::LiveEvent;
use crate::problem::Refusal;
use crate::{AppState, PeerHost, admission, clock};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use fettle_domain::HostId;
use fettle_store::systems::{agent_report, work};
use fettle_store::{Connection, Result, StoreError};
use fettle_wire::agent::{Report, ReportEntry, ReportReply};
use fettle_wire::api::problem::kind;

/// Most entries of one report.
const ENTRIES: usize = 2_000;
/// Attempts when another server changed something at the same moment.
const ATTEMPTS: usize = 3;

pub(super) async fn report(
    State(state): State<AppState>,
    Extension(peer): Extension<PeerHost>,
    Body(report): Body<Report>,
) -> std::result::Result<Json<ReportReply>, Refusal> {
    let peer = peer.require()?;
    let host = peer.host;
    if report.entries.len() > ENTRIES {
        let detail = format!("{} entries; at most {ENTRIES} are taken at once", report.entries.len());
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            kind::INVALID,
            "The report is beyond all measure",
            detail,
        )
        .about("entries"));
    }
    let mut entries = report.entries;
    entries.sort_by_key(|entry| entry.sequence);
    let (acknowledged, taken) = store(&state, peer, report.link, entries).await??;
    tell(&state, host, &taken);
    Ok(Json(ReportReply { acknowledged }))
}

type Stored = std::result::Result<(u64, Taken), Refusal>;

async fn store(state: &AppState, peer: PeerCertificate, link: String, entries: Vec<ReportEntry>) -> Result<Stored> {
    let entries = std::sync::Arc::new((link, entries));
    let mut attempt = 1;
    loop {
        let entries = entries.clone();
        let now = clock::now();
        match state.store.write(move |connection| take_all(connection, peer, &entries.0, &entries.1, now)).await {
            Err(StoreError::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            answer => return answer,
        }
    }
}

fn take_all(
    connection: &mut Connection,
    peer: PeerCertificate,
    link: &str,
    entries: &[ReportEntry],
    now: fettle_domain::Timestamp,
) -> Result<Stored> {
    let host = peer.host;
    let Some(standing) = work::work_standing(connection, host)? else { return Ok(Err(Refusal::host_revoked(host))) };
    let allowed = admission::check(peer, standing.state, &standing.keys, now)
        .and_then(|first| admission::check_link(peer, link, &standing.link).map(|()| first));
    match allowed {
        Ok(true) => admission::first_use(connection, peer, now)?,
        Ok(false) => {}
        Err(refusal) => return Ok(Err(refusal)),
    }
    let before = agent_report::agent_report_acknowledged(connection, host)?;
    let mut taken = Taken::default();
    let mut last = before;
    for entry in entries {
        if entry.sequence <= last {
            continue;
        }
        take::entry(connection, host, &standing.name, entry, now, &mut taken)?;
        last = entry.sequence;
    }
    if last > before {
        agent_report::agent_report_acknowledge(connection, host, last)?;
    }
    Ok(Ok((last, taken)))
}

/// Wakes whoever has to look.
fn tell(state: &AppState, host: HostId, taken: &Taken) {
    if taken.rehearsals {
        state.nudges.change.notify_one();
    }
    if taken.deployments {
        state.nudges.installation.notify_one();
        state.nudges.audit.notify_one();
    }
    if taken.new_work {
        state.nudges.work.wake(host);
    }
    for change in &taken.changes {
        let json = serde_json::json!({ "change": change.to_string() }).to_string();
        state.live.publish(LiveEvent { change: Some(*change), kind: "change.events".to_owned(), json });
    }
}
