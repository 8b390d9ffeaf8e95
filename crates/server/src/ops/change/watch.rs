//! The events of a change as they come. What is stored is read; the loudspeaker only says when to
//! look, and a timer looks for what other servers did.

use super::super::{OpsError, page_length};
use super::view;
use crate::AppState;
use crate::access::Actor;
use fettle_domain::ChangeId;
use fettle_domain::access::Permission;
use fettle_store::systems::change;
use fettle_wire::api::change::{ChangeEvent, ChangeEventList};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;

/// Between two looks without a nudge.
const PAUSE: Duration = Duration::from_secs(1);
/// Events read at once.
const PAGE: u32 = 200;
/// A watch ends then; who watches comes again behind its last event, and proves again who it is.
const LONGEST: Duration = Duration::from_secs(1800);

/// A page of events, oldest first.
pub async fn events(
    state: &AppState,
    actor: &Actor,
    change: &str,
    after: Option<u64>,
    limit: Option<u32>,
) -> Result<ChangeEventList, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let (text, limit, after) = (change.to_owned(), page_length(limit), after.unwrap_or(0));
    let records = state
        .store
        .read(move |connection| {
            let id = super::resolve(connection, &text)?.id;
            change::change_events(connection, id, after, limit)
        })
        .await?;
    let next = if records.len() == limit as usize { records.last().map(|last| last.number.to_string()) } else { None };
    Ok(ChangeEventList { items: records.into_iter().map(view::event).collect(), next })
}

/// One watcher.
pub struct Watch {
    state: AppState,
    change: ChangeId,
    after: u64,
    end: Instant,
}

/// Watches a change from behind an event; 0 replays all.
pub async fn watch(state: &AppState, actor: &Actor, change: &str, after: u64) -> Result<Watch, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let text = change.to_owned();
    let id = state.store.read(move |connection| super::resolve(connection, &text).map(|record| record.id)).await?;
    Ok(Watch { state: state.clone(), change: id, after, end: Instant::now() + LONGEST })
}

impl Watch {
    /// The next events, once there are some. `None`: the watch is over (server ends, or its time is up).
    pub async fn next(&mut self) -> Option<Vec<ChangeEvent>> {
        let mut live = self.state.live.subscribe()?;
        loop {
            let (change, after) = (self.change, self.after);
            let records =
                self.state.store.read(move |connection| change::change_events(connection, change, after, PAGE)).await;
            match records {
                Ok(records) if records.is_empty() => {}
                Ok(records) => {
                    self.after = records.last().map_or(self.after, |last| last.number);
                    return Some(records.into_iter().map(view::event).collect());
                }
                Err(error) => {
                    tracing::warn!(change.id = %self.change, error = %error, "cannot read events for a watcher now")
                }
            }
            if Instant::now() >= self.end {
                return None;
            }
            tokio::select! {
                () = self.state.shutdown.requested() => return None,
                () = tokio::time::sleep(PAUSE) => {}
                open = heard(&mut live, self.change) => if !open { return None },
            }
        }
    }
}

/// Ends when something about this change is said; `false` when nobody will say anything any more.
async fn heard(
    live: &mut tokio::sync::broadcast::Receiver<std::sync::Arc<crate::live::LiveEvent>>,
    change: ChangeId,
) -> bool {
    loop {
        match live.recv().await {
            Ok(event) if event.change == Some(change) => return true,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return true,
            Err(RecvError::Closed) => return false,
        }
    }
}
