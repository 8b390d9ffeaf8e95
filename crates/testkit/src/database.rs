//! A fresh database of each kind for one test, removed afterwards.

use fettle_store::{DatabaseUrl, Store};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Names the PostgreSQL server where tests make databases of their own (`testbed/postgres url DIR`).
pub const POSTGRES: &str = "FETTLE_TEST_POSTGRES";

/// A database that lives as long as this value.
pub struct TestDatabase {
    /// Where it is.
    pub url: DatabaseUrl,
    /// `sqlite` or `postgres`, for messages.
    pub kind: &'static str,
    _folder: Option<TempDir>,
    server: Option<(String, String)>,
}

impl TestDatabase {
    /// An embedded one in a temporary folder.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { url: DatabaseUrl::default_in(folder.path()), kind: "sqlite", _folder: Some(folder), server: None }
    }

    /// One of its own on the server of the environment; `None`, said aloud, when none is named.
    pub fn postgres() -> Option<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let Some(server) = std::env::var_os(POSTGRES).map(|url| url.into_string().unwrap()) else {
            eprintln!("{POSTGRES} names no server: this test ran on SQLite only (./test runs both)");
            return None;
        };
        let name = format!("fettle_{}_{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        administer(&server, &format!("CREATE DATABASE {name}"));
        let (front, _) = server.rsplit_once('/').expect("a URL with a database name");
        let url = DatabaseUrl::parse(&format!("{front}/{name}")).unwrap();
        Some(Self { url, kind: "postgres", _folder: None, server: Some((server, name)) })
    }

    /// The same database for a second server; it lives as long as the first value.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self { url: self.url.clone(), kind: self.kind, _folder: None, server: None }
    }

    /// All that there are.
    pub fn all() -> Vec<Self> {
        std::iter::once(Self::sqlite()).chain(Self::postgres()).collect()
    }

    /// The URL as `--database-url` takes it.
    pub fn url_text(&self) -> String {
        match &self.url {
            DatabaseUrl::Sqlite(path) => format!("sqlite:{path}"),
            DatabaseUrl::Postgres(url) => url.clone(),
        }
    }

    /// Opens it.
    pub fn open(&self) -> Store {
        Store::open(&self.url).unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.server {
            administer(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// The driver blocks inside a runtime of its own, so it gets a thread of its own too.
fn administer(server: &str, sql: &str) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            postgres::Client::connect(server, postgres::NoTls).and_then(|mut client| client.batch_execute(sql))
        });
        if let Err(error) = run.join().unwrap() {
            assert!(std::thread::panicking(), "{sql}: {error}");
        }
    });
}

/// Runs a story on a fresh database of each kind.
pub fn on_both(story: impl Fn(&Store)) {
    for database in TestDatabase::all() {
        eprintln!("on {}", database.kind);
        story(&database.open());
    }
}
