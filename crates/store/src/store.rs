//! The handle that everybody holds: readers apart, one writer.

use crate::writer::{self, Job};
use crate::{Connection, Dialect, Result, StoreError, migrations};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// Reader connections at most.
const READERS: usize = 6;
/// A reader connection that rested longer is asked whether it still lives before it is used.
const TRUSTED: Duration = Duration::from_secs(5);

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(String),
    /// A server: the whole URL.
    Postgres(String),
}

impl DatabaseUrl {
    /// From `sqlite:PATH` or `postgres://…`.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            Ok(Self::Sqlite(path.trim_start_matches("//").to_owned()))
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(Self::Postgres(text.to_owned()))
        } else {
            Err(StoreError::Url { url: text.split('@').next_back().unwrap_or_default().chars().take(100).collect() })
        }
    }

    /// The embedded default inside a data directory.
    pub fn default_in(data: &Path) -> Self {
        Self::Sqlite(data.join("fettle.db").to_string_lossy().into_owned())
    }

    fn open(&self, read_only: bool) -> Result<Connection> {
        match self {
            Self::Sqlite(path) => Connection::sqlite(path, read_only),
            Self::Postgres(url) => Connection::postgres(url, read_only),
        }
    }
}

/// The database. Cheap to clone; the last clone dropped ends the writer after its queue is empty.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    url: DatabaseUrl,
    grouped: bool,
    readers: Mutex<Vec<(Connection, Instant)>>,
    permits: Semaphore,
    jobs: Mutex<Option<SyncSender<Job>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A writer that panicked has told its callers by their closed channels.
            let _ = thread.join();
        }
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        // PostgreSQL's driver says good-bye in a runtime of its own, which must not be begun inside
        // another one; the last handle may well be dropped by async code.
        if let Ok(thread) = std::thread::Builder::new().name("store-close".into()).spawn(move || drop(readers)) {
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// Blocks; call it before the runtime starts or from a blocking thread.
    pub fn open(url: &DatabaseUrl) -> Result<Self> {
        Self::open_with(url, true)
    }

    /// The same with one transaction for each write: the baseline of `./bench checkin`.
    pub fn open_ungrouped(url: &DatabaseUrl) -> Result<Self> {
        Self::open_with(url, false)
    }

    fn open_with(url: &DatabaseUrl, grouped: bool) -> Result<Self> {
        let mut connection = url.open(false)?;
        migrations::migrate(&mut connection)?;
        let reopen_url = url.clone();
        let (jobs, thread) = writer::start(connection, move || reopen_url.open(false), grouped)
            .map_err(|error| StoreError::Unavailable { cause: format!("cannot start the writer thread: {error}") })?;
        Ok(Self(Arc::new(Inner {
            url: url.clone(),
            grouped,
            readers: Mutex::new(Vec::new()),
            permits: Semaphore::new(READERS),
            jobs: Mutex::new(Some(jobs)),
            writer: Mutex::new(Some(thread)),
        })))
    }

    /// Whether many writes share a transaction.
    pub fn is_grouped(&self) -> bool {
        self.0.grouped
    }

    /// Which database this is.
    pub fn dialect(&self) -> Dialect {
        match self.0.url {
            DatabaseUrl::Sqlite(_) => Dialect::Sqlite,
            DatabaseUrl::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a closure on a reader connection, from async code.
    pub async fn read<T, F>(&self, action: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let _permit = self.0.permits.acquire().await.map_err(|_| closing())?;
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read_blocking(action))
            .await
            .map_err(|error| StoreError::Refused { cause: format!("the query ended abruptly: {error}") })?
    }

    /// The same from a blocking thread.
    pub fn read_blocking<T>(&self, action: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let idle = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let usable = idle.and_then(|(mut connection, since)| {
            let alive = !connection.is_closed() && (since.elapsed() < TRUSTED || connection.is_alive());
            alive.then_some(connection)
        });
        let mut connection = match usable {
            Some(connection) => connection,
            None => self.0.url.open(true)?,
        };
        let answer = guarded(action, &mut connection);
        let mut readers = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(answer, Err(StoreError::Unavailable { .. })) {
            // The others were made to the same server: they would only fail too.
            readers.clear();
        } else if readers.len() < READERS {
            readers.push((connection, Instant::now()));
        }
        answer
    }

    /// Hands a closure to the writer and waits for the commit, from async code. When the closure
    /// fails, nothing of it is kept.
    pub async fn write<T, F>(&self, action: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let (job, answer) = Self::job(action);
        let sender = self.sender()?;
        if let Err(full) = sender.try_send(job) {
            let job = match full {
                std::sync::mpsc::TrySendError::Full(job) => job,
                std::sync::mpsc::TrySendError::Disconnected(_) => return Err(closing()),
            };
            tokio::task::spawn_blocking(move || sender.send(job))
                .await
                .map_err(|_| closing())?
                .map_err(|_| closing())?;
        }
        answer.await.map_err(|_| closing())?
    }

    /// The same from a blocking thread.
    pub fn write_blocking<T, F>(&self, action: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let (job, answer) = Self::job(action);
        self.sender()?.send(job).map_err(|_| closing())?;
        answer.blocking_recv().map_err(|_| closing())?
    }

    fn sender(&self) -> Result<SyncSender<Job>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closing)
    }

    fn job<T, F>(action: F) -> (Job, oneshot::Receiver<Result<T>>)
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let answer = connection.and_then(|connection| guarded(action, connection));
            let failure = answer.as_ref().err().cloned();
            (
                failure,
                Box::new(move |broken| {
                    let answer = match broken {
                        Some(error) => Err(error),
                        None => answer,
                    };
                    // A caller that went away does not want the answer; the commit stands.
                    let _ = sender.send(answer);
                }),
            )
        });
        (job, receiver)
    }
}

/// A closure that panics fails, and takes neither the writer nor its neighbours with it.
fn guarded<T>(action: impl FnOnce(&mut Connection) -> Result<T>, connection: &mut Connection) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(|| action(connection))).unwrap_or_else(|_| {
        Err(StoreError::Refused { cause: "the write ended abruptly (a mistake in Fettle; the log has more)".into() })
    })
}

fn closing() -> StoreError {
    StoreError::Unavailable { cause: "the write was given up: the server is closing or the database is away".into() }
}
