//! Hosts that do not speak any more: silence is told, never taken for health.

use crate::{AppState, clock};
use fettle_domain::Timestamp;
use fettle_domain::machine::HostEvent;
use fettle_domain::reason::Reason;
use fettle_store::systems::host;
use std::time::Duration;

/// Hosts in one write.
const BATCH: u32 = 200;

/// Looks every half minute until the server ends. It first listens itself for as long as a host may
/// be silent: after a pause of the server nobody had anybody to speak to.
pub async fn run(state: AppState) {
    let settings = &state.settings.hosts;
    let limit = Duration::from_secs(settings.check_in_seconds.saturating_mul(u64::from(settings.silent_after.max(1))));
    let mut pause = limit;
    loop {
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = Duration::from_secs(30).min(limit);
        while let Ok(found) = once(&state, limit)
            .await
            .inspect_err(|error| tracing::warn!(host.error = %error, "cannot look for silent hosts"))
        {
            if found < BATCH as usize || state.shutdown.is_requested() {
                break;
            }
        }
    }
}

async fn once(state: &AppState, limit: Duration) -> fettle_store::Result<usize> {
    let now = clock::now();
    let since = Timestamp::from_unix_millis(
        now.unix_millis().saturating_sub(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)),
    );
    let quiet = state.store.read(move |connection| host::host_quiet_since(connection, since, BATCH)).await?;
    if quiet.is_empty() {
        return Ok(0);
    }
    state
        .store
        .write(move |connection| {
            // Read again: it may have spoken meanwhile.
            let quiet = host::host_quiet_since(connection, since, BATCH)?;
            for id in &quiet {
                let text = format!("no check-in for more than {} seconds", limit.as_secs());
                host::host_transition(
                    connection,
                    *id,
                    HostEvent::FallSilent,
                    "silence",
                    &[Reason::new("host.silent", text)],
                    now,
                )?;
            }
            Ok(quiet.len())
        })
        .await
}
