//! The long poll: an agent that waits costs one seat and nothing in the store.

use super::outstanding;
use crate::extract::Params;
use crate::identity::PeerCertificate;
use crate::problem::Refusal;
use crate::{AppState, PeerHost, admission};
use axum::extract::State;
use axum::{Extension, Json};
use fettle_domain::HostId;
use fettle_store::systems::work::{self, WorkStanding};
use fettle_wire::agent::Work;
use serde::Deserialize;
use std::time::{Duration, Instant};

/// Longest wait: below the minute after which middle-boxes forget a silent connection.
const LONGEST: Duration = Duration::from_secs(55);

#[derive(Debug, Deserialize)]
pub(super) struct WorkQuery {
    /// Cursor of the former answer.
    #[serde(default)]
    after: u64,
    /// Seconds to wait when there is nothing new.
    #[serde(default)]
    wait: u64,
    /// Link of the host's last check-in.
    #[serde(default)]
    link: String,
}

pub(super) async fn work(
    State(state): State<AppState>,
    Extension(peer): Extension<PeerHost>,
    Params(query): Params<WorkQuery>,
) -> Result<Json<Work>, Refusal> {
    let peer = peer.require()?;
    let host = peer.host;
    let end = Instant::now() + Duration::from_secs(query.wait).min(LONGEST);
    let mut first = true;
    loop {
        // Before the look into the store: what comes in between wakes at once.
        let version = state.nudges.work.version(host);
        let standing = standing(&state, peer).await?;
        if std::mem::take(&mut first) {
            // Later the host's own check-ins may go on while this waits.
            admission::check_link(peer, &query.link, &standing.link)?;
        }
        let left = end.saturating_duration_since(Instant::now());
        if standing.mark > query.after || left.is_zero() || state.shutdown.is_requested() {
            return answer(&state, host, &standing).await.map(Json);
        }
        state.nudges.work.wait(host, version, left).await;
    }
}

async fn standing(state: &AppState, peer: PeerCertificate) -> Result<WorkStanding, Refusal> {
    let standing = state.store.read(move |connection| work::work_standing(connection, peer.host)).await?;
    let standing = standing.ok_or_else(|| Refusal::host_revoked(peer.host))?;
    admission::admit(state, peer, standing.state, &standing.keys).await?;
    Ok(standing)
}

/// Everything outstanding, also when the wait ended without news: what got lost on the way comes again.
async fn answer(state: &AppState, host: HostId, standing: &WorkStanding) -> Result<Work, Refusal> {
    if standing.mark == 0 {
        return Ok(Work { cursor: 0, items: Vec::new() });
    }
    let items = outstanding::items(state, host).await?;
    Ok(Work { cursor: standing.mark, items })
}
