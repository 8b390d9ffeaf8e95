//! Waiting for work, and handing it to the executor.

use super::network::Network;
use super::{FIRST_WAIT, LONGEST_WAIT};
use crate::channel::{Answer, Request};
use crate::clock::Backoff;
use fettle_wire::agent::WorkItem;
use std::time::{Duration, Instant};

/// How long one long poll waits: shorter than the minute after which some middle-boxes forget it.
const LONG_POLL: Duration = Duration::from_secs(50);
/// After an answer that brought nothing new at once: no server may make us ask in a circle.
const NOTHING_NEW: Duration = Duration::from_secs(5);

impl Network {
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
                    if !work.items.is_empty() && !self.take(work.items).await {
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
    async fn take(&self, items: Vec<WorkItem>) -> bool {
        let items = self.logs.take_from(items);
        match self.executor.ask(Request::Take { items }).await {
            Ok(Answer::Taken { all }) => all,
            Ok(_) => false,
            Err(error) => {
                tracing::error!(error.text = %error, "work from the server cannot be handed on");
                false
            }
        }
    }
}
