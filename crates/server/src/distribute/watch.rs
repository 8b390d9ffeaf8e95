//! Work that another server made known in the store: its marks are looked at once a second, and the
//! agents that wait here are woken.

use crate::AppState;
use fettle_store::systems::work;
use std::time::Duration;

/// Between two looks: one small query, whatever the fleet's size.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until the server ends.
pub async fn run(state: AppState) {
    let mut seen: Option<u64> = None;
    loop {
        match once(&state, seen).await {
            Ok(highest) => seen = Some(highest),
            Err(error) => tracing::warn!(work.error = %error, "cannot look for new work; trying again"),
        }
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Wakes for everything after `seen`; the first time only notes where it stands, since every agent
/// looks into the store before it waits.
async fn once(state: &AppState, seen: Option<u64>) -> fettle_store::Result<u64> {
    let (highest, hosts) = state
        .store
        .read(move |connection| {
            let highest = work::work_highest(connection)?;
            let hosts = match seen {
                Some(seen) if highest > seen => work::work_between(connection, seen, highest)?,
                _ => Vec::new(),
            };
            Ok((highest, hosts))
        })
        .await?;
    for host in hosts {
        state.nudges.work.wake(host);
    }
    Ok(highest)
}
