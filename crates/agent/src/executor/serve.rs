//! Answers the network-facing half and tells it what it should know.

use super::Executor;
use crate::channel::{Answer, FrameReader, FrameWriter, FromExecutor, FromNetwork, Notice, Request};
use crate::clock;
use crate::deploy::engine::EngineError;
use crate::disk::LogError;
use crate::inventory::Snapshot;
use crate::report::keep;
use crate::run::Exit;
use fettle_domain::{DeploymentId, LogRequestId};
use fettle_wire::agent::SectionDigests;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::UnixStream;

/// How the other half ended.
#[derive(Debug)]
pub(crate) enum Served {
    /// It said so.
    Goodbye(Result<Exit, String>),
    /// Without a word.
    Gone(String),
}

type Writer = FrameWriter<FromExecutor>;

impl Executor {
    /// Serves one network-facing half until it is gone.
    pub(crate) async fn serve(self: &Arc<Self>, socket: UnixStream) -> Served {
        let (read, write) = socket.into_split();
        let writer = Arc::new(Writer::new(write));
        tokio::select! {
            served = self.answer_all(FrameReader::new(read), &writer) => served,
            why = self.tell_notices(&writer) => Served::Gone(why.to_string()),
        }
    }

    async fn answer_all(self: &Arc<Self>, mut requests: FrameReader<FromNetwork>, writer: &Arc<Writer>) -> Served {
        let looking = Arc::new(AtomicBool::new(false));
        loop {
            let FromNetwork { id, request } = match requests.next().await {
                Ok(Some(asked)) => asked,
                Ok(None) => return Served::Gone("it ended".to_owned()),
                Err(error) => return Served::Gone(format!("it said what cannot be understood: {error}")),
            };
            let answer = match request {
                Request::Goodbye { exit } => return Served::Goodbye(exit),
                Request::Look { server_has, whole } => {
                    // One at a time: it costs the host something.
                    if looking.swap(true, Ordering::AcqRel) {
                        refused("the host is being looked at already")
                    } else {
                        let (executor, writer, looking) = (self.clone(), writer.clone(), looking.clone());
                        tokio::spawn(async move {
                            let answer = executor.look(server_has, whole).await;
                            looking.store(false, Ordering::Release);
                            let _ = writer.write(&FromExecutor::Answer { id, answer: Box::new(answer) }).await;
                        });
                        continue;
                    }
                }
                Request::CarryOut => {
                    let (executor, writer) = (self.clone(), writer.clone());
                    tokio::spawn(async move {
                        let answer = executor.carry_out_due().await;
                        let _ = writer.write(&FromExecutor::Answer { id, answer: Box::new(answer) }).await;
                    });
                    continue;
                }
                Request::Log { request, deployment, from, most_bytes } => {
                    let (executor, writer) = (self.clone(), writer.clone());
                    tokio::spawn(async move {
                        let answer = executor.log(request, deployment, from, most_bytes).await;
                        let _ = writer.write(&FromExecutor::Answer { id, answer: Box::new(answer) }).await;
                    });
                    continue;
                }
                short => self.answer(short),
            };
            if let Err(error) = writer.write(&FromExecutor::Answer { id, answer: Box::new(answer) }).await {
                return Served::Gone(error.to_string());
            }
        }
    }

    /// What takes no time.
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Hello { version } if version != env!("CARGO_PKG_VERSION") => refused(&format!(
                "the executor is version {}, its other half {version}: restart the agent",
                env!("CARGO_PKG_VERSION")
            )),
            Request::Hello { .. } => Answer::Welcome { host: self.host_id, check_in_seconds: self.check_in_seconds },
            Request::Take { items } => match self.take(items) {
                Ok(all) => Answer::Taken { all },
                Err(error) => {
                    tracing::error!(error.text = %error, "work from the server cannot be written down");
                    Answer::Taken { all: false }
                }
            },
            Request::Reports => match self.reports() {
                Ok(answer) => answer,
                Err(error) => refused(&error.to_string()),
            },
            Request::Answered => {
                if self.self_update.answered() {
                    // A version of the agent that is on trial has proved itself: note it now.
                    self.work.notify_one();
                }
                Answer::Done
            }
            Request::Acknowledge { up_to } => match clock::lock(&self.host.spool).acknowledge(up_to) {
                Ok(()) => Answer::Done,
                Err(error) => refused(&error.to_string()),
            },
            Request::Look { .. } | Request::Log { .. } | Request::CarryOut | Request::Goodbye { .. } => {
                refused("not answered here")
            }
        }
    }

    fn take(&self, items: Vec<fettle_wire::agent::WorkItem>) -> Result<bool, EngineError> {
        let taken = clock::lock(&self.desk).take(&self.host, items);
        self.work.notify_one();
        taken
    }

    fn reports(&self) -> Result<Answer, LogError> {
        let live = self.host.flush_output();
        let entries = clock::lock(&self.host.spool).batch()?;
        Ok(Answer::Reports { entries, live })
    }

    /// Reads a part of a kept log in a thread of its own.
    async fn log(&self, request: LogRequestId, deployment: DeploymentId, from: u64, most_bytes: u64) -> Answer {
        let folder = self.host.state.deployment(deployment);
        let read = tokio::task::spawn_blocking(move || keep::part(&folder, request, from, most_bytes));
        match read.await {
            Ok(part) => Answer::Log { part: Box::new(part) },
            Err(error) => refused(&format!("cannot read the log: {error}")),
        }
    }

    /// Looks at the host in a thread of its own.
    async fn look(&self, server_has: SectionDigests, whole: bool) -> Answer {
        let watch = self.watch.clone();
        let looked = tokio::task::spawn_blocking(move || -> Snapshot {
            let mut watch = clock::lock(&watch);
            let mut snapshot = watch.look(whole);
            let lacks = snapshot.packages.is_none() && snapshot.digests.packages != server_has.packages;
            if lacks && snapshot.trouble.is_none() {
                // Listed earlier, but the server never got it.
                snapshot = watch.look(true);
            }
            if snapshot.trouble.is_some() {
                // Nothing is known: claim what the server has, or what no set has.
                let unknown = server_has.packages.is_empty();
                snapshot.digests.packages = if unknown { "0".repeat(64) } else { server_has.packages };
            }
            snapshot
        });
        match looked.await {
            Ok(snapshot) => Answer::Snapshot { snapshot: Box::new(snapshot) },
            Err(error) => refused(&format!("cannot take the inventory: {error}")),
        }
    }

    /// Runs until nobody listens any more.
    async fn tell_notices(&self, writer: &Writer) -> io::Error {
        let reports = clock::lock(&self.host.spool).nudge();
        let mut ended = self.ended.subscribe();
        let mut told_end = false;
        loop {
            let notice = tokio::select! {
                () = reports.notified() => Notice::Reports,
                () = self.changed.notified() => Notice::Changed,
                _ = ended.wait_for(|ended| *ended), if !told_end => {
                    told_end = true;
                    Notice::End
                }
            };
            if let Err(error) = writer.write(&FromExecutor::Notice { notice }).await {
                return error;
            }
        }
    }
}

fn refused(why: &str) -> Answer {
    Answer::Refused { why: why.to_owned() }
}
