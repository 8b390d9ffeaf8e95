//! Sending the log that is kept of a deployment, when the server asks for it. Part after part, each
//! after the answer to the one before; what breaks off is asked for again from where it ended.

use super::LONGEST_WAIT;
use super::network::Network;
use crate::channel::{Answer, Request};
use crate::clock;
use crate::link::ClientError;
use fettle_domain::{DeploymentId, LogRequestId};
use fettle_wire::agent::WorkItem;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Notify;

/// Bytes of one part; with its JSON around well below what the server takes.
const PART: u64 = 256 << 10;
/// Requests that wait at most; the server asks again for what was not answered.
const MOST: usize = 16;

/// One request of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    request: LogRequestId,
    deployment: DeploymentId,
    from: u64,
    most_bytes: u64,
}

/// Requests that wait; the first one is being answered.
#[derive(Default)]
pub(super) struct LogRequests {
    waiting: Mutex<VecDeque<Asked>>,
    nudge: Notify,
}

impl LogRequests {
    /// Takes the requests out of what the server sent.
    pub(super) fn take_from(&self, items: Vec<WorkItem>) -> Vec<WorkItem> {
        let mut rest = Vec::with_capacity(items.len());
        for item in items {
            match item {
                WorkItem::SendLog { request, deployment, from, most_bytes } => {
                    self.add(Asked { request, deployment, from, most_bytes });
                }
                other => rest.push(other),
            }
        }
        rest
    }

    fn add(&self, asked: Asked) {
        let mut waiting = clock::lock(&self.waiting);
        if waiting.len() < MOST && waiting.iter().all(|other| other.request != asked.request) {
            waiting.push_back(asked);
            self.nudge.notify_one();
        }
    }
}

impl Network {
    /// Answers requests for logs, one after the other.
    pub(super) async fn log_loop(&self) {
        while !self.is_ending() {
            if self.send_next_log().await {
                continue;
            }
            self.pause(LONGEST_WAIT, Some(&self.logs.nudge)).await;
        }
    }

    /// For `--once`: all that were asked for.
    pub(super) async fn send_logs(&self) {
        while self.send_next_log().await {}
    }

    /// False when none is asked for.
    async fn send_next_log(&self) -> bool {
        let Some(asked) = clock::lock(&self.logs.waiting).front().cloned() else { return false };
        if let Some(Err(error)) = self.unless_ending(self.send_log(&asked)).await {
            // The server asks again with its next answer for work.
            self.failed("log", &error, Duration::ZERO);
        }
        clock::lock(&self.logs.waiting).pop_front();
        true
    }

    async fn send_log(&self, asked: &Asked) -> Result<(), ClientError> {
        let (request, deployment) = (asked.request, asked.deployment);
        let (mut from, mut most) = (asked.from, asked.most_bytes);
        loop {
            let question = Request::Log { request, deployment, from, most_bytes: most.min(PART) };
            let Ok(Answer::Log { part }) = self.executor.ask(question).await else { return Ok(()) };
            let last = part.last;
            let reply = self.client.log(&part).await?;
            // A server that asks for the same again makes no circle here.
            if last || !reply.wanted || reply.most_bytes == 0 || reply.next <= from {
                return Ok(());
            }
            (from, most) = (reply.next, reply.most_bytes);
        }
    }
}
