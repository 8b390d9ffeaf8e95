//! Hosts that do not speak any more: silence is told, never taken for health.

use crate::{AppState, clock};
use fettle_domain::Timestamp;
use fettle_domain::machine::HostEvent;
use fettle_domain::reason::Reason;
use fettle_store::systems::host;
use std::time::Duration;

/// Hosts in one write.
const BATCH: u32 = 200;

/// Looks every half minute until the server ends.
pub async fn run(state: AppState) {
    loop {
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
        }
        while let Ok(found) = once(&state).await.inspect_err(|error| tracing::warn!(host.error = %error, "cannot look for silent hosts")) {
            if found < BATCH as usize {
                break;
            }
        }
    }
}

async fn once(state: &AppState) -> fettle_store::Result<usize> {
    let settings = &state.settings.hosts;
    let limit = Duration::from_secs(settings.check_in_seconds.saturating_mul(u64::from(settings.silent_after.max(1))));
    let now = clock::now();
    let since = Timestamp::from_unix_millis(now.unix_millis().saturating_sub(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)));
    state
        .store
        .write(move |connection| {
            let quiet = host::host_quiet_since(connection, since, BATCH)?;
            for id in &quiet {
                let text = format!("no check-in for more than {} seconds", limit.as_secs());
                host::host_transition(connection, *id, HostEvent::FallSilent, "silence", &[Reason::new("host.silent", text)], now)?;
            }
            Ok(quiet.len())
        })
        .await
}
