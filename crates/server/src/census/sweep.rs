//! Package sets that no host has any more are removed, a bounded step at a time.

use crate::{AppState, clock};
use fettle_domain::Timestamp;
use fettle_store::systems::inventory::{self, Sweep};
use std::time::Duration;

/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(3600);
/// Sets looked at in one write.
const STEP: u32 = 500;
/// A set unused for this long is removed. Longer than any write takes that wants it again.
const UNUSED: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn run(state: AppState) {
    loop {
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        match once(&state).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(inventory.sets = removed, "removed package sets that no host has any more"),
            Err(error) => tracing::warn!(store.error = %error, "cannot sweep package sets"),
        }
    }
}

async fn once(state: &AppState) -> fettle_store::Result<u64> {
    let now = clock::now();
    let limit = i64::try_from(UNUSED.as_millis()).unwrap_or(i64::MAX);
    let noted_before = Timestamp::from_unix_millis(now.unix_millis().saturating_sub(limit));
    let mut sweep = Sweep::default();
    loop {
        let (next, end) = state
            .store
            .write(move |connection| {
                let end = inventory::package_set_sweep(connection, &mut sweep, STEP, now, noted_before)?;
                Ok((sweep, end))
            })
            .await?;
        if end || state.shutdown.is_requested() {
            return Ok(next.removed);
        }
        sweep = next;
    }
}
