//! The frame: migrations, groups of writes, errors that a caller can decide by.

use fettle_store::{Connection, DatabaseUrl, MIGRATIONS, Store, StoreError};
use fettle_testkit::{TestDatabase, on_both};
use std::sync::mpsc;

fn scratch(connection: &mut Connection) -> fettle_store::Result<()> {
    connection.batch("CREATE TABLE IF NOT EXISTS scratch (name TEXT PRIMARY KEY, size BIGINT NOT NULL)")
}

fn put(connection: &mut Connection, name: &str) -> fettle_store::Result<()> {
    connection.execute("INSERT INTO scratch (name, size) VALUES (?1, 1)", &[name.into()]).map(|_| ())
}

fn names(store: &Store) -> Vec<String> {
    let rows = store.read_blocking(|c| c.query("SELECT name FROM scratch ORDER BY name", &[])).unwrap();
    rows.iter().map(|row| row.text(0).unwrap().to_owned()).collect()
}

#[test]
fn a_database_of_a_newer_schema_is_refused_and_left_alone() {
    for database in TestDatabase::all() {
        let store = database.open();
        store
            .write_blocking(|c| {
                c.execute("INSERT INTO schema_version (version, name) VALUES (999, 'from the future')", &[])
            })
            .unwrap();
        drop(store);
        let error = Store::open(&database.url).err().expect("refused");
        let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap();
        assert_eq!(error, StoreError::NewerSchema { found: 999, known });
        assert!(error.to_string().contains("start the newer Fettle"), "{error}");
    }
}

#[test]
fn migrations_may_run_twice() {
    for database in TestDatabase::all() {
        let store = database.open();
        store.write_blocking(scratch).unwrap();
        store.write_blocking(|c| put(c, "kept")).unwrap();
        // Forgotten versions: as if the server had died between a migration and its note.
        store.write_blocking(|c| c.execute("DELETE FROM schema_version", &[])).unwrap();
        drop(store);
        let store = database.open();
        assert_eq!(names(&store), ["kept"]);
        drop(store);
        drop(database.open());
    }
}

#[test]
fn many_servers_may_open_one_database_at_once() {
    for database in TestDatabase::all() {
        std::thread::scope(|scope| {
            let opened: Vec<_> = (0..4).map(|_| scope.spawn(|| Store::open(&database.url).map(drop))).collect();
            for thread in opened {
                thread.join().unwrap().unwrap();
            }
        });
    }
}

/// Holds the writer until all jobs are queued, so that they become one group.
fn one_group(
    store: &Store,
    jobs: Vec<Box<dyn FnOnce(&mut Connection) -> fettle_store::Result<()> + Send>>,
) -> Vec<Result<(), StoreError>> {
    let (release, held) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (entered, inside) = mpsc::channel();
        let gate = scope.spawn(move || {
            store.write_blocking(move |_| {
                entered.send(()).unwrap();
                held.recv().unwrap();
                Ok(())
            })
        });
        inside.recv().unwrap();
        let (queued, all_queued) = mpsc::channel();
        let count = jobs.len();
        let answers: Vec<_> = jobs
            .into_iter()
            .map(|job| {
                let queued = queued.clone();
                scope.spawn(move || {
                    queued.send(()).unwrap();
                    store.write_blocking(job)
                })
            })
            .collect();
        for _ in 0..count {
            all_queued.recv().unwrap();
        }
        release.send(()).unwrap();
        // The gate shares its group's fate.
        let _ = gate.join().unwrap();
        answers.into_iter().map(|answer| answer.join().unwrap()).collect()
    })
}

#[test]
fn the_failure_of_one_write_does_not_touch_its_neighbours() {
    on_both(|store| {
        store.write_blocking(scratch).unwrap();
        let answers = one_group(
            store,
            vec![
                Box::new(|c| put(c, "one")),
                Box::new(|c| {
                    put(c, "half")?;
                    Err(StoreError::not_found("host x"))
                }),
                Box::new(|c| put(c, "one more")),
                // PostgreSQL aborts a whole transaction at a refused statement, were it not for savepoints.
                Box::new(|c| {
                    put(c, "before the refusal")?;
                    c.execute("INSERT INTO scratch (name, size) VALUES ('x', NULL)", &[]).map(|_| ())
                }),
                Box::new(|c| put(c, "two")),
                Box::new(|c| c.execute("SELECT nonsense FROM nowhere", &[]).map(|_| ())),
                Box::new(|c| put(c, "three")),
            ],
        );
        let good: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(good, [true, false, true, false, true, false, true], "{answers:?}");
        assert_eq!(names(store), ["one", "one more", "three", "two"]);
    });
}

#[test]
fn a_write_that_panics_ends_alone() {
    on_both(|store| {
        store.write_blocking(scratch).unwrap();
        let error = store.write_blocking::<(), _>(|_| panic!("a mistake in a closure")).unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        store.write_blocking(|c| put(c, "after")).unwrap();
        assert_eq!(names(store), ["after"]);
    });
}

#[test]
fn readers_cannot_write() {
    on_both(|store| {
        store.write_blocking(scratch).unwrap();
        assert!(store.read_blocking(|c| put(c, "x")).is_err());
        assert!(names(store).is_empty());
    });
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    for database in TestDatabase::all() {
        let store = database.open();
        store.write_blocking(scratch).unwrap();
        for number in 0..50 {
            store.write_blocking(move |c| put(c, &format!("{number:02}"))).unwrap();
        }
        drop(store);
        assert_eq!(names(&database.open()).len(), 50);
    }
}

#[test]
fn a_full_disk_refuses_the_write_and_loses_nothing() {
    let database = TestDatabase::sqlite();
    let store = database.open();
    store.write_blocking(scratch).unwrap();
    store.write_blocking(|c| put(c, "before")).unwrap();
    let pages = store.read_blocking(|c| c.query_one("PRAGMA page_count", &[])).unwrap().unwrap().int(0).unwrap();
    store.write_blocking(move |c| c.query(&format!("PRAGMA max_page_count = {}", pages + 4), &[]).map(|_| ())).unwrap();

    let big = |name: &'static str| move |c: &mut Connection| put(c, &format!("{name}{}", "x".repeat(200_000)));
    let error = store.write_blocking(big("big")).unwrap_err();
    assert_eq!(error, StoreError::Full);
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(names(&store), ["before"]);
    // In a group the small ones either hold or say that the disk is full; none is silently lost.
    let answers =
        one_group(&store, vec![Box::new(|c| put(c, "small")), Box::new(big("a")), Box::new(|c| put(c, "tiny"))]);
    let kept = names(&store);
    assert_eq!(answers[1], Err(StoreError::Full));
    for (answer, name) in [(&answers[0], "small"), (&answers[2], "tiny")] {
        match answer {
            Ok(()) => assert!(kept.contains(&name.to_owned()), "{name} was acknowledged"),
            Err(error) => assert_eq!((error, kept.contains(&name.to_owned())), (&StoreError::Full, false)),
        }
    }
    // Space again: the writer goes on without a restart.
    store.write_blocking(|c| c.query("PRAGMA max_page_count = 1000000", &[]).map(|_| ())).unwrap();
    store.write_blocking(big("now")).unwrap();
    assert_eq!(
        store.read_blocking(|c| c.query_one("PRAGMA integrity_check", &[])).unwrap().unwrap().text(0).unwrap(),
        "ok"
    );
}

#[test]
fn a_database_that_went_away_comes_back() {
    let Some(database) = TestDatabase::postgres() else { return };
    let store = database.open();
    store.write_blocking(scratch).unwrap();
    assert!(names(&store).is_empty());
    let beside = TestDatabase::postgres().expect("a second one");
    let other = beside.open();
    let kick = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = ?1";
    let name = database.url_text().rsplit('/').next().unwrap().to_owned();
    other.read_blocking(|c| c.query(kick, &[name.into()])).unwrap();
    // The write or read that meets the broken connection fails aloud; the next one finds a new one.
    let written = (0..20).any(|_| store.write_blocking(|c| put(c, "back")).is_ok());
    assert!(written);
    assert!((0..20).any(|_| store.read_blocking(|c| c.query("SELECT 1", &[]).map(|_| ())).is_ok()));
    assert_eq!(names(&store), ["back"]);
}

#[test]
fn what_is_no_database_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    let error = Store::open(&DatabaseUrl::Sqlite(path.to_string_lossy().into_owned())).err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let error = Store::open(&DatabaseUrl::parse("postgres://nobody:secret@127.0.0.1:1/x").unwrap()).err().unwrap();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(!error.to_string().contains("secret"), "{error}");
    let error = DatabaseUrl::parse("mysql://root:secret@host/x").unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}
