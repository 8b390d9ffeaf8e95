//! The one writer: a thread that takes closures from a queue and commits many in one transaction.
//! One commit for many check-ins is several times the rate of one each (`./bench checkin`).

use crate::{Connection, Result, StoreError};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// What to tell the caller once the group's fate is known.
type Deliver = Box<dyn FnOnce(Option<StoreError>) + Send>;
/// One closure of the queue.
pub(crate) type Job = Box<dyn FnOnce(&mut Connection) -> (bool, Deliver) + Send>;

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
        if connection.is_closed() {
            match reopen() {
                Ok(fresh) => connection = fresh,
                Err(error) => tracing::warn!(store.error = %error, "the database is away; writes are refused until it is back"),
            }
        }
        group(&mut connection, first, queue, grouped);
    }
}

fn group(connection: &mut Connection, first: Job, queue: &Receiver<Job>, grouped: bool) {
    let begin = match connection.dialect() {
        crate::Dialect::Sqlite => "BEGIN IMMEDIATE",
        crate::Dialect::Postgres => "BEGIN",
    };
    let mut outcome = connection.batch(begin).err();
    let started = Instant::now();
    let mut deliveries = Vec::new();
    let mut next = Some(first);
    while let Some(job) = next.take() {
        if outcome.is_none() {
            match one(connection, job) {
                Ok(deliver) => deliveries.push(deliver),
                Err(error) => outcome = Some(error),
            }
        }
        // A broken transaction collects no more: dropped jobs tell their callers by the closed channel.
        if outcome.is_none() && grouped && deliveries.len() < GROUP_JOBS && started.elapsed() < GROUP_TIME {
            next = queue.try_recv().ok();
        }
    }
    let outcome = match outcome {
        None => connection.batch("COMMIT").err(),
        Some(error) => Some(error),
    };
    if outcome.is_some() {
        // The transaction may be gone already (connection lost, disk full): nothing more to do then.
        let _ = connection.batch("ROLLBACK");
    }
    for deliver in deliveries {
        deliver(outcome.clone());
    }
}

/// Runs one closure in a savepoint of its own, so that its failure does not touch its neighbours.
fn one(connection: &mut Connection, job: Job) -> Result<Deliver> {
    connection.batch("SAVEPOINT job")?;
    let (succeeded, deliver) = job(connection);
    connection.batch(if succeeded { "RELEASE SAVEPOINT job" } else { "ROLLBACK TO SAVEPOINT job; RELEASE SAVEPOINT job" })?;
    Ok(deliver)
}
