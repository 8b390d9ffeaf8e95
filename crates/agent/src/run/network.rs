//! The network-facing half: four loops over one connection. One checks in, one waits for work, one
//! reports what the executor's spool holds, one sends logs that are asked for. They share nothing but a few nudges, so that none waits
//! for another.

use super::check_in::CheckIns;
use super::log::LogRequests;
use super::{Exit, FIRST_WAIT, LONGEST_WAIT, RunError};
use crate::channel::{Answer, Asking, ChannelError, Notice, Request};
use crate::clock::Backoff;
use crate::disk::StateDir;
use crate::inventory::Acknowledged;
use crate::link::{Client, ClientError, own};
use fettle_domain::HostId;
use fettle_wire::agent::Report;
use std::future::Future;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// While a deployment runs, its output goes out at least so often.
const LIVE: Duration = Duration::from_millis(700);
/// For the last report when the agent ends; what is not told then is told at the next start.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The half as its loops share it.
pub(super) struct Network {
    pub(super) state: StateDir,
    pub(super) client: Client,
    pub(super) executor: Asking,
    pub(super) check_ins: CheckIns,
    /// Logs that the server asks for.
    pub(super) logs: LogRequests,
    /// There is something to report.
    reports: Notify,
    /// The host was changed: check in.
    pub(super) changed: Notify,
    pub(super) end: watch::Sender<Option<Exit>>,
}

impl Network {
    pub(super) fn new(state: StateDir, client: Client, executor: Asking) -> Self {
        let check_ins = CheckIns::new(Acknowledged::load(&state));
        Self {
            state,
            client,
            executor,
            check_ins,
            logs: LogRequests::default(),
            reports: Notify::new(),
            changed: Notify::new(),
            end: watch::channel(None).0,
        }
    }

    /// Hears what the executor says.
    pub(super) async fn listen(&self, answers: crate::channel::Answers) {
        self.executor.listen(answers, |notice| self.noticed(notice)).await;
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(Exit::Stopped);
            first
        });
    }

    fn noticed(&self, notice: Notice) {
        match notice {
            Notice::Reports => self.reports.notify_one(),
            Notice::Changed => self.changed.notify_one(),
            Notice::End => drop(self.end.send_replace(Some(Exit::Stopped))),
        }
    }

    /// Runs until told to end; `host` is whom our certificate names.
    pub(super) async fn run(&self, host: HostId, once: bool) -> Result<Exit, RunError> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let Answer::Welcome { host: obeyed, check_in_seconds } = self.executor.ask(Request::Hello { version }).await?
        else {
            return Err(ChannelError::Other.into());
        };
        let host = own::settle(&self.client, &self.state, host, obeyed)?;
        if obeyed != host {
            return Err(RunError::Work(format!(
                "the certificate of this machine is that of {host}, its executor obeys orders for {obeyed}: enrol again with a new token and --force"
            )));
        }
        self.check_ins.set_interval(check_in_seconds.map(Duration::from_secs));
        tracing::info!(host.id = %host, server.address = self.client.server(), "connecting");
        if once { self.once().await } else { Ok(self.until_told().await) }
    }

    /// Tells the executor how this half ended.
    pub(super) async fn say_goodbye(&self, exit: Result<Exit, String>) {
        // The executor may be gone already, and does not answer.
        let _ = tokio::time::timeout(LAST_WORDS, self.executor.ask(Request::Goodbye { exit })).await;
    }

    async fn until_told(&self) -> Exit {
        tokio::join!(self.check_in_loop(), self.work_loop(), self.report_loop(), self.log_loop());
        let exit = self.end.borrow().unwrap_or(Exit::Stopped);
        if exit == Exit::Stopped {
            let _ = tokio::time::timeout(LAST_WORDS, self.report_all()).await;
        }
        exit
    }

    pub(super) fn is_ending(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits at most so long; ends at once when the agent ends or `nudge` is told.
    pub(super) async fn pause(&self, limit: Duration, nudge: Option<&Notify>) {
        let mut end = self.end.subscribe();
        let nudged = async {
            match nudge {
                Some(nudge) => nudge.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(limit) => {}
            () = nudged => {}
            _ = end.wait_for(Option::is_some) => {}
        }
    }

    /// A request that is given up when the agent ends; `None` then.
    pub(super) async fn unless_ending<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        let mut end = self.end.subscribe();
        tokio::select! {
            answer = request => Some(answer),
            _ = end.wait_for(Option::is_some) => None,
        }
    }

    /// A request that may end when the agent does, but not take long then.
    async fn finish_soon<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        let mut end = self.end.subscribe();
        let ended = async {
            let _ = end.wait_for(Option::is_some).await;
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            answer = request => Some(answer),
            () = ended => None,
        }
    }

    /// Notes a failed request once; a revoked host ends here.
    pub(super) fn failed(&self, what: &'static str, error: &ClientError, wait: Duration) {
        if error.is_revoked() {
            tracing::error!(
                "the server has revoked this host: the agent ends; nothing on this machine is changed any more"
            );
            self.end.send_replace(Some(Exit::Revoked));
            return;
        }
        tracing::warn!(request.name = what, error.text = %error, wait.seconds = wait.as_secs(), "no good answer from the server");
    }

    /// Reports what the spool holds, as it comes.
    async fn report_loop(&self) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while !self.is_ending() {
            match self.finish_soon(self.report_batch()).await {
                None => return,
                Some(Ok(Reported { more: true, .. })) => backoff.reset(),
                Some(Ok(Reported { live, .. })) => {
                    self.pause(if live { LIVE } else { LONGEST_WAIT }, Some(&self.reports)).await;
                }
                Some(Err(error)) => {
                    let wait = backoff.next_wait();
                    match &error {
                        RunError::Client(error) => self.failed("report", error, wait),
                        other => tracing::error!(error.text = %other, "the spool cannot be reported"),
                    }
                    self.pause(wait, None).await;
                }
            }
        }
    }

    /// Reports one batch; `more` is false when there is none, or the server did not take it.
    async fn report_batch(&self) -> Result<Reported, RunError> {
        let Answer::Reports { entries, live } = self.executor.ask(Request::Reports).await? else {
            return Err(ChannelError::Other.into());
        };
        let Some(first) = entries.first().map(|entry| entry.sequence) else {
            return Ok(Reported { more: false, live });
        };
        let reply = self.client.report(&Report { link: self.client.link(), entries }).await?;
        self.executor.ask(Request::Acknowledge { up_to: reply.acknowledged }).await?;
        Ok(Reported { more: reply.acknowledged >= first, live })
    }

    async fn report_all(&self) -> Result<(), RunError> {
        while self.report_batch().await?.more {}
        Ok(())
    }

    /// `--once`. What is half done is carried on even when the server cannot be reached.
    async fn once(&self) -> Result<Exit, RunError> {
        let mut failed = false;
        let result = self.once_round(&mut failed).await;
        match result {
            Err(RunError::Client(error)) if error.is_revoked() => {
                self.failed("once", &error, Duration::ZERO);
                Ok(Exit::Revoked)
            }
            Err(_) if *self.end.borrow() == Some(Exit::NewIdentity) => Ok(Exit::NewIdentity),
            Err(error) => Err(error),
            Ok(()) if failed => Ok(Exit::DeploymentFailed),
            Ok(()) => Ok(Exit::Done),
        }
    }

    async fn once_round(&self, failed: &mut bool) -> Result<(), RunError> {
        let first = self.first_contact().await;
        if let Err(RunError::Client(error)) = &first
            && error.is_revoked()
        {
            return first;
        }
        let Answer::CarriedOut { failed: some_failed, problem } = self.executor.ask(Request::CarryOut).await? else {
            return Err(ChannelError::Other.into());
        };
        *failed |= some_failed;
        first?;
        if let Some(problem) = problem {
            return Err(RunError::Work(problem));
        }
        self.report_all().await?;
        // What was done is proved by a new inventory.
        self.check_in().await.map(drop)
    }

    async fn first_contact(&self) -> Result<(), RunError> {
        self.check_in().await?;
        self.report_all().await?;
        let work = self.client.work(0, Duration::ZERO).await?;
        let items = self.logs.take_from(work.items);
        self.executor.ask(Request::Take { items }).await?;
        self.send_logs().await;
        self.report_all().await
    }
}

/// What came of reporting one batch.
struct Reported {
    more: bool,
    /// A deployment's output goes on.
    live: bool,
}
