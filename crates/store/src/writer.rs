//! The one writer: a thread that takes closures from a queue and commits many in one transaction.
//! One commit for many check-ins is several times the rate of one each (`./bench checkin`).

use crate::{Connection, Dialect, Result, StoreError};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// What to tell the caller once the group's fate is known.
type Deliver = Box<dyn FnOnce(Option<StoreError>) + Send>;
/// One closure of the queue. Given the connection it acts, given an error it only passes it on; then
/// it tells what went wrong, and how to tell its caller.
pub(crate) type Job =
    Box<dyn FnOnce(std::result::Result<&mut Connection, StoreError>) -> (Option<StoreError>, Deliver) + Send>;

/// Most closures in one transaction.
const GROUP_JOBS: usize = 512;
/// Longest time a group collects while the queue is not empty.
const GROUP_TIME: Duration = Duration::from_millis(50);
/// Closures that wait before callers wait.
const QUEUE: usize = 4096;

/// Starts the thread. It ends when the last sender is gone, after the queue is empty.
pub(crate) fn start(
    connection: Connection,
    reopen: impl Fn() -> Result<Connection> + Send + 'static,
    grouped: bool,
) -> std::io::Result<(SyncSender<Job>, std::thread::JoinHandle<()>)> {
    let (sender, receiver) = sync_channel(QUEUE);
    let thread = std::thread::Builder::new()
        .name("store-writer".into())
        .spawn(move || run(connection, &receiver, &reopen, grouped))?;
    Ok((sender, thread))
}

fn run(mut connection: Connection, queue: &Receiver<Job>, reopen: &dyn Fn() -> Result<Connection>, grouped: bool) {
    while let Ok(first) = queue.recv() {
        match begin(&mut connection, reopen) {
            Ok(()) => group(&mut connection, first, queue, grouped),
            Err(error) => {
                tracing::warn!(store.error = %error, "cannot begin a write");
                refuse(first, &error);
            }
        }
    }
}

/// Begins a transaction, on a new connection when the old one is found broken: nothing was written
/// on it yet.
fn begin(connection: &mut Connection, reopen: &dyn Fn() -> Result<Connection>) -> Result<()> {
    let text = match connection.dialect() {
        Dialect::Sqlite => "BEGIN IMMEDIATE",
        Dialect::Postgres => "BEGIN",
    };
    if !connection.is_closed() {
        match connection.batch(text) {
            Err(StoreError::Unavailable { .. }) if connection.dialect() == Dialect::Postgres => {}
            other => return other,
        }
    }
    *connection = reopen()?;
    connection.batch(text)
}

fn refuse(job: Job, error: &StoreError) {
    let (_, deliver) = job(Err(error.clone()));
    deliver(None);
}

fn group(connection: &mut Connection, first: Job, queue: &Receiver<Job>, grouped: bool) {
    let started = Instant::now();
    let mut deliveries = Vec::new();
    let mut broken = None;
    let mut next = Some(first);
    while let Some(job) = next.take() {
        let (outcome, deliver) = one(connection, job);
        deliveries.push(deliver);
        broken = outcome;
        if broken.is_none() && grouped && deliveries.len() < GROUP_JOBS && started.elapsed() < GROUP_TIME {
            next = queue.try_recv().ok();
        }
    }
    let outcome = match broken {
        None => connection.batch("COMMIT").err(),
        broken => broken,
    };
    if let Some(error) = &outcome {
        tracing::warn!(store.error = %error, store.writes = deliveries.len(), "a group of writes was given up");
        // The transaction may be gone already (connection lost, disk full): nothing more to do then.
        let _ = connection.batch("ROLLBACK");
    }
    for deliver in deliveries {
        deliver(outcome.clone());
    }
}

/// Runs one closure in a savepoint of its own, so that its failure does not touch its neighbours.
/// Tells what broke the whole transaction, if it did.
fn one(connection: &mut Connection, job: Job) -> (Option<StoreError>, Deliver) {
    if let Err(error) = connection.batch("SAVEPOINT job") {
        let (_, deliver) = job(Err(error.clone()));
        return (Some(error), deliver);
    }
    let (failure, deliver) = job(Ok(&mut *connection));
    let end =
        if failure.is_none() { "RELEASE SAVEPOINT job" } else { "ROLLBACK TO SAVEPOINT job; RELEASE SAVEPOINT job" };
    let broken = connection.batch(end).err().map(|error| match failure {
        // Whatever took the savepoint away, the closure met it first and knows its name.
        Some(cause @ (StoreError::Full | StoreError::Unavailable { .. })) => cause,
        _ => error,
    });
    (broken, deliver)
}
