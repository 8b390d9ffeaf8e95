//! Dry runs: what exactly would happen, asked of the package manager, changing nothing but indexes.

use super::engine::Host;
use super::tasks::told;
use crate::clock::Stop;
use fettle_domain::plan::{Job, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_plugin::{ProviderContext, ProviderEvents};
use std::time::{Duration, Instant};

/// Time for one dry run with its refresh of indexes.
const LIMIT: Duration = Duration::from_secs(900);
/// A dry run does not wait long for a lock: it can be asked for again.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// A dry run may be given up at any time: it is asked for again.
struct Stoppable<'a>(&'a Stop);

impl ProviderEvents for Stoppable<'_> {
    fn output(&self, line: &str) {
        tracing::debug!(provider.output = line, "dry run");
    }

    fn progress(&self, _percent: u8, _what: &str) {}

    fn cancelled(&self) -> bool {
        self.0.told()
    }
}

/// Makes a dry run. `refresh`: the indexes may be fetched (needs root).
pub(crate) fn rehearse(host: &Host, job: &Job, refresh: bool) -> RehearsalOutcome {
    let Some(provider) = host.provider(job.ecosystem) else {
        let text = format!("this host has no package manager for {}", job.ecosystem);
        return RehearsalOutcome::Impossible { reasons: vec![Reason::new("rehearsal.no-provider", text)] };
    };
    if let Err(reason) = host.has_commands(provider.as_ref()) {
        return RehearsalOutcome::Impossible { reasons: vec![reason] };
    }
    let context = ProviderContext {
        root: host.root.clone(),
        events: &Stoppable(&host.stop),
        deadline: Instant::now() + LIMIT,
        lock_patience: LOCK_PATIENCE,
        limits: host.policy.limits,
    };
    match provider.rehearse(&context, job, refresh) {
        Ok(RehearsalOutcome::Possible { manifest, mut notes }) => {
            if let Err(reason) = host.policy.judge_manifest(&manifest) {
                return RehearsalOutcome::Impossible { reasons: vec![reason] };
            }
            if let Some(note) = host.policy.note(&manifest) {
                notes.push(note);
            }
            if !refresh {
                notes.push(Reason::new(
                    "rehearsal.indexes-as-they-are",
                    "the package indexes were not refreshed: the agent is read-only or not root",
                ));
            }
            RehearsalOutcome::Possible { manifest, notes }
        }
        Ok(outcome) => outcome,
        Err(error) => RehearsalOutcome::Impossible { reasons: told(&error) },
    }
}
