//! Carrying out what is due, one thing at a time.

use super::Executor;
use crate::channel::Answer;
use crate::clock;
use crate::deploy::desk::Due;
use crate::deploy::engine::{Ended, Engine, EngineError};
use crate::deploy::rehearse::rehearse;
use crate::disk::LogError;
use fettle_domain::machine::DeploymentState;
use fettle_domain::plan::{Job, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, RehearsalId};
use fettle_wire::agent::ReportBody;
use std::time::Duration;

/// Longest wait for a due moment: clocks are set, machines sleep, and whoever sits at the host and
/// asks for an undo does not want to wait long.
const LONGEST_DOZE: Duration = Duration::from_secs(5);

impl Executor {
    /// Carries out what is due until told to stop.
    pub(crate) async fn carry_out_loop(&self) {
        while !self.host.stop.told() {
            let due = {
                let mut desk = clock::lock(&self.desk);
                desk.take_local_orders(&self.host);
                desk.due(clock::now())
            };
            match due {
                Due::Nothing(until) => {
                    self.look_at_own_program().await;
                    let wait = until.map_or(LONGEST_DOZE, |until| clock::now().until(until)).min(LONGEST_DOZE);
                    if self.host.stop.told() {
                        break;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.work.notified() => {}
                    }
                }
                // An error is in the log and the next attempt is noted at the desk.
                due => drop(self.carry_out(due).await),
            }
        }
        self.ended.send_replace(true);
    }

    /// For `--once`: everything that is due now.
    pub(super) async fn carry_out_due(&self) -> Answer {
        let mut failed = false;
        loop {
            let due = clock::lock(&self.desk).due(clock::now());
            let id = match &due {
                Due::Nothing(_) => {
                    self.look_at_own_program().await;
                    return Answer::CarriedOut { failed, problem: None };
                }
                Due::Deployment(id) => Some(*id),
                Due::Rehearsal(..) => None,
            };
            if let Err(error) = self.carry_out(due).await {
                return Answer::CarriedOut { failed, problem: Some(error.to_string()) };
            }
            if self.self_update.wants_hand_over() {
                return Answer::CarriedOut { failed, problem: None };
            }
            failed |= id.is_some_and(|id| clock::lock(&self.desk).has_failed(id));
        }
    }

    /// Between deployments: was the agent's program replaced? Ends this process when another takes over.
    async fn look_at_own_program(&self) {
        let own = self.self_update.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || own.look()).await {
            tracing::error!(error.text = %error, "the agent's own program cannot be looked at");
        }
        if self.self_update.wants_hand_over() {
            self.host.stop.tell();
        }
    }

    async fn carry_out(&self, due: Due) -> Result<(), EngineError> {
        match due {
            Due::Nothing(_) => Ok(()),
            Due::Rehearsal(id, job) => Ok(self.carry_out_rehearsal(id, job).await?),
            Due::Deployment(id) => self.carry_out_deployment(id).await,
        }
    }

    async fn carry_out_rehearsal(&self, id: RehearsalId, job: Job) -> Result<(), LogError> {
        let (host, refresh) = (self.host.clone(), self.may_refresh);
        let tried = tokio::task::spawn_blocking(move || rehearse(&host, &job, refresh)).await;
        let outcome = tried.unwrap_or_else(|error| RehearsalOutcome::Impossible {
            reasons: vec![Reason::new("rehearsal.broke", format!("the dry run broke: {error}"))],
        });
        let body = ReportBody::Rehearsal { rehearsal: id, outcome };
        clock::lock(&self.host.spool).add(body, None).inspect_err(|error| {
            tracing::error!(error.text = %error, "the answer to a dry run cannot be written down");
        })
    }

    async fn carry_out_deployment(&self, id: DeploymentId) -> Result<(), EngineError> {
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
            Err(error) => Err(error),
        }
    }
}
