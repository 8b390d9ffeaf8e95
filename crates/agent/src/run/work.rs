//! Waiting for work, and carrying out what is due.

use super::{Agent, FIRST_WAIT, LONGEST_WAIT, RunError};
use crate::clock::{self, Backoff};
use crate::deploy::desk::Due;
use crate::deploy::engine::{Ended, Engine, EngineError};
use crate::deploy::rehearse::rehearse;
use fettle_domain::machine::DeploymentState;
use fettle_domain::plan::{Job, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, RehearsalId};
use fettle_wire::agent::ReportBody;
use std::time::{Duration, Instant};

/// How long one long poll waits: shorter than the minute after which some middle-boxes forget it.
const LONG_POLL: Duration = Duration::from_secs(50);
/// After an answer that brought nothing new at once: no server may make us ask in a circle.
const NOTHING_NEW: Duration = Duration::from_secs(5);
/// Longest wait for a due moment: clocks are set, machines sleep.
const LONGEST_DOZE: Duration = Duration::from_secs(60);

impl Agent {
    /// Waits for work with one long request after another.
    pub(super) async fn work_loop(&self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut cursor = 0;
        while !self.is_ending() {
            let asked = Instant::now();
            match self.unless_ending(self.client.work(cursor, LONG_POLL)).await {
                None => return,
                Some(Ok(work)) => {
                    let new = work.cursor != cursor;
                    if !work.items.is_empty() && !self.take(work.items) {
                        self.pause(backoff.next_wait(), None).await;
                        continue;
                    }
                    backoff.reset();
                    cursor = work.cursor;
                    if !new && asked.elapsed() < NOTHING_NEW {
                        self.pause(NOTHING_NEW, None).await;
                    }
                }
                Some(Err(error)) => {
                    let wait = backoff.next_wait();
                    self.failed("work", &error, wait);
                    self.pause(wait, None).await;
                }
            }
        }
    }

    /// False when something could not be taken: ask again later, with the same cursor.
    fn take(&self, items: Vec<fettle_wire::agent::WorkItem>) -> bool {
        let taken = clock::lock(&self.desk).take(&self.host, items);
        self.work.notify_one();
        match taken {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(error.text = %error, "work from the server cannot be written down");
                false
            }
        }
    }

    /// Carries out what is due, one thing at a time.
    pub(super) async fn carry_out_loop(&self) {
        while !self.is_ending() {
            let due = clock::lock(&self.desk).due(clock::now());
            match due {
                Due::Nothing(until) => {
                    let wait = until.map_or(LONGEST_DOZE, |until| clock::now().until(until)).min(LONGEST_DOZE);
                    self.pause(wait, Some(&self.work)).await;
                }
                // An error is in the log and the next attempt is noted at the desk.
                due => drop(self.carry_out(due).await),
            }
        }
    }

    /// For `--once`: everything that is due now.
    pub(super) async fn carry_out_due(&self, failed: &mut bool) -> Result<(), RunError> {
        loop {
            let due = clock::lock(&self.desk).due(clock::now());
            let id = match &due {
                Due::Nothing(_) => return Ok(()),
                Due::Deployment(id) => Some(*id),
                Due::Rehearsal(..) => None,
            };
            self.carry_out(due).await?;
            *failed |= id.is_some_and(|id| clock::lock(&self.desk).has_failed(id));
        }
    }

    async fn carry_out(&self, due: Due) -> Result<(), RunError> {
        match due {
            Due::Nothing(_) => Ok(()),
            Due::Rehearsal(id, job) => self.carry_out_rehearsal(id, job).await,
            Due::Deployment(id) => self.carry_out_deployment(id).await,
        }
    }

    async fn carry_out_rehearsal(&self, id: RehearsalId, job: Job) -> Result<(), RunError> {
        let (host, refresh) = (self.host.clone(), self.may_refresh);
        let tried = tokio::task::spawn_blocking(move || rehearse(&host, &job, refresh)).await;
        let outcome = tried.unwrap_or_else(|error| RehearsalOutcome::Impossible {
            reasons: vec![Reason::new("rehearsal.broke", format!("the dry run broke: {error}"))],
        });
        let body = ReportBody::Rehearsal { rehearsal: id, outcome };
        clock::lock(&self.host.spool).add(body, None).map_err(|error| {
            tracing::error!(error.text = %error, "the answer to a dry run cannot be written down");
            error.into()
        })
    }

    async fn carry_out_deployment(&self, id: DeploymentId) -> Result<(), RunError> {
        let host = self.host.clone();
        let ran = tokio::task::spawn_blocking(move || -> (Result<Ended, EngineError>, Option<DeploymentState>) {
            match Engine::open(&host, id) {
                Ok(Some(mut engine)) => {
                    let result = engine.run();
                    (result, Some(engine.deployment.state))
                }
                Ok(None) => (Ok(Ended::Settled(DeploymentState::Failed)), None),
                Err(error) => (Err(error), None),
            }
        });
        let (result, state) = ran.await.unwrap_or_else(|error| {
            // A bug in a package manager's driver: the journal tells what was begun, the retry is bounded.
            tracing::error!(deployment.id = %id, error.text = %error, "a deployment broke");
            (Err(EngineError::Stopped), None)
        });
        clock::lock(&self.desk).ran(&self.host, id, &result, state);
        self.changed.notify_one();
        match result {
            Ok(_) | Err(EngineError::Stopped) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
