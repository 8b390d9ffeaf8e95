//! Dry runs: what exactly would happen, asked of the package manager, changing nothing but indexes.

use super::engine::{Host, has_commands};
use super::tasks::told;
use crate::clock::Stop;
use crate::policy::Policy;
use crate::report::mask::Masker;
use fettle_domain::plan::{Job, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_plugin::{Provider, ProviderContext, ProviderEvents};
use std::path::Path;
use std::sync::Arc;
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
    let outcome = dry_run(&host.root, &host.providers, &host.policy, &host.stop, job, refresh);
    masked(outcome, &mut Masker::new(host.masks.clone()))
}

/// Reasons quote what the package manager said.
fn masked(mut outcome: RehearsalOutcome, masker: &mut Masker) -> RehearsalOutcome {
    match &mut outcome {
        RehearsalOutcome::Possible { notes: reasons, .. } | RehearsalOutcome::Impossible { reasons } => {
            for reason in reasons {
                reason.text = masker.mask_text(&reason.text);
            }
        }
        RehearsalOutcome::NothingToDo => {}
    }
    outcome
}

/// The same without an agent around it.
pub(crate) fn dry_run(
    root: &Path,
    providers: &[Arc<dyn Provider>],
    policy: &Policy,
    stop: &Stop,
    job: &Job,
    refresh: bool,
) -> RehearsalOutcome {
    let Some(provider) = providers.iter().find(|provider| provider.ecosystem() == job.ecosystem) else {
        let text = format!("this host has no package manager for {}", job.ecosystem);
        return RehearsalOutcome::Impossible { reasons: vec![Reason::new("rehearsal.no-provider", text)] };
    };
    if let Err(reason) = has_commands(root, provider.as_ref()) {
        return RehearsalOutcome::Impossible { reasons: vec![reason] };
    }
    let context = ProviderContext {
        root: root.to_owned(),
        events: &Stoppable(stop),
        deadline: Instant::now() + LIMIT,
        lock_patience: LOCK_PATIENCE,
        limits: policy.limits,
    };
    match provider.rehearse(&context, job, refresh) {
        Ok(RehearsalOutcome::Possible { manifest, mut notes }) => {
            if let Err(reason) = policy.judge_manifest(&manifest) {
                return RehearsalOutcome::Impossible { reasons: vec![reason] };
            }
            if let Some(note) = policy.note(&manifest) {
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
