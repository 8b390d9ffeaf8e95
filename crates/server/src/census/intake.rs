//! Signs of life, written by the hundred: one statement, one commit, many hosts.

use crate::{AppState, clock};
use fettle_store::StoreError;
use fettle_store::systems::host_seen::{HostHead, Seen, host_seen};
use std::sync::{Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Check-ins that wait before agents wait.
const QUEUE: usize = 8192;
/// Hosts in one statement.
const GROUP: usize = 512;

type Answer = Result<Option<HostHead>, StoreError>;
type Ticket = (Seen, oneshot::Sender<Answer>);

/// The way into the store.
pub struct Intake {
    sender: mpsc::Sender<Ticket>,
    receiver: Mutex<Option<mpsc::Receiver<Ticket>>>,
}

impl Default for Intake {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, receiver: Mutex::new(Some(receiver)) }
    }
}

impl Intake {
    /// Notes that a host spoke; answers, after the commit, what the store has of it. `None`: no such
    /// host, or it may not speak (so).
    pub async fn seen(&self, seen: Seen) -> Answer {
        let closing = || StoreError::Unavailable { cause: "the server is closing".into() };
        let (ticket, answer) = oneshot::channel();
        self.sender.send((seen, ticket)).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())?
    }
}

/// Serves the queue until the server ends.
pub(super) async fn run(state: AppState) {
    let receiver = state.intake.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut receiver) = receiver else { return };
    // One at a time is the baseline that `./bench checkin` compares with.
    let most = if state.store.is_grouped() { GROUP } else { 1 };
    let mut group = Vec::with_capacity(most);
    loop {
        tokio::select! {
            () = state.shutdown.requested() => {
                // What came before the end is still written.
                receiver.close();
                if receiver.recv_many(&mut group, most).await == 0 { return; }
            }
            taken = receiver.recv_many(&mut group, most) => if taken == 0 { return; },
        }
        write(&state, std::mem::take(&mut group)).await;
    }
}

async fn write(state: &AppState, group: Vec<Ticket>) {
    let now = clock::now();
    let mut hosts: Vec<Seen> = group.iter().map(|(seen, _)| Seen { at: now, ..seen.clone() }).collect();
    hosts.sort_unstable();
    // Twice in a group is who hung up and came again: its second word is answered by what the first left.
    hosts.dedup_by_key(|seen| seen.host);
    let heads = state.store.write(move |connection| host_seen(connection, &hosts)).await;
    for (seen, answer) in group {
        let head = match &heads {
            Ok(heads) => Ok(heads.get(&seen.host).cloned()),
            Err(error) => Err(error.clone()),
        };
        // An agent that hung up does not want the answer.
        let _ = answer.send(head);
    }
}
