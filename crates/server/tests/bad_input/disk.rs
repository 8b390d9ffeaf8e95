//! The server's own trouble: a disk that is full, a database of a newer Fettle.

use super::agent::{Agent, many, refused};
use fettle_server::{ServerOptions, Settings};
use fettle_testkit::{Setup, TestServer, eventually};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A file system of a few megabytes; taken away when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where it may not be made.
    fn mount(folder: &Path) -> Option<Self> {
        let made =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m,mode=0700", "fettle-test"]).arg(folder).output();
        match made {
            Ok(output) if output.status.success() => Some(Self(folder.to_owned())),
            other => {
                println!("skipped: a small file system cannot be mounted here (needs root): {other:?}");
                None
            }
        }
    }

    /// Fills it to the last byte.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        for piece in [1 << 16, 1 << 10, 1] {
            let bytes = vec![0; piece];
            while file.write_all(&bytes).is_ok() {}
        }
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_costs_nothing_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else { return };
    let server = TestServer::start_with(Setup { folder: Some(folder), ..Setup::default() });
    let admin = server.administrator().await;
    let mut agent = Agent::known(&server, &admin, "web-1").await;

    let filler = disk.fill();
    // What the database still has in hand may take some; then it is full.
    let mut good = agent.packages.clone();
    let mut full = None;
    for round in 0..50 {
        agent.packages = many(4_000, &format!("{round}.0-1"));
        let reply = agent.send(&agent.whole()).await;
        if reply.status == 200 {
            good.clone_from(&agent.packages);
            continue;
        }
        full = Some(reply);
        break;
    }
    let full = full.expect("the disk is full");
    refused(&full, 507, "disk-full");
    assert!(full.json["advice"].as_str().unwrap().contains("Free space"), "{full:?}");
    // Again and again: the same words, no other.
    for _ in 0..3 {
        refused(&agent.send(&agent.whole()).await, 507, "disk-full");
    }
    // Reading goes on, and shows the last good inventory.
    assert_eq!(agent.kept(&server).await.1, good);
    assert_eq!(admin.get("/api/v1/hosts/web-1").await.ok()["packages"], good.len());
    assert_eq!(admin.get("/healthz").await.status, 200);
    let user = admin.post("/api/v1/users", &json!({ "name": "x".repeat(60), "role": "viewer" })).await;
    assert!(user.status == 200 || user.problem() == "disk-full", "{user:?}");

    std::fs::remove_file(&filler).unwrap();
    eventually("it works again", Duration::from_secs(30), || async { agent.send(&agent.whole()).await.status == 200 })
        .await;
    assert_eq!(agent.kept(&server).await.1, agent.packages);
    assert_eq!(admin.get("/api/v1/audit/verify").await.ok()["intact"], true);

    // A restart on the full disk is a server that reads, or a refusal that names the disk; never a new one.
    let fingerprint = server.announcement.authority_fingerprint.clone();
    let setup = stop(server).await;
    let filler = disk.fill();
    let options = |folder: &Path| ServerOptions {
        data_dir: folder.join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        database_url: None,
        settings: Settings::default(),
        feeds: Vec::new(),
    };
    match fettle_server::prepare(options(setup.folder.as_ref().unwrap().path())).await {
        Ok(prepared) => assert_eq!(prepared.announcement().administrator, None),
        Err(error) => assert!(error.to_string().contains("full"), "{error}"),
    }
    std::fs::remove_file(&filler).unwrap();
    let again = TestServer::start_with(setup);
    assert_eq!(again.announcement.authority_fingerprint, fingerprint);
    assert_eq!(again.announcement.administrator, None);
    assert_eq!(agent.kept(&again).await.1, agent.packages, "and a restart loses nothing");
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_on_a_full_disk_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else { return };
    let filler = disk.fill();
    let options = || ServerOptions {
        data_dir: folder.path().join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        database_url: None,
        settings: Settings::default(),
        feeds: Vec::new(),
    };
    let error = fettle_server::prepare(options()).await.err().expect("there is no room").to_string();
    assert!(error.contains("No space left") || error.contains("full"), "{error}");
    std::fs::remove_file(&filler).unwrap();
    // What the failed start left behind does not stand in the way.
    let prepared = fettle_server::prepare(options()).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(prepared.announcement().administrator.is_some());
    drop(prepared);
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_fettle_is_left_alone() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let agent = Agent::known(&server, &admin, "web-1").await;
    let setup = stop(server).await;
    let data_dir = setup.folder.as_ref().unwrap().path().join("data");
    let back_up = database(&data_dir);

    let server = TestServer::start_with(setup);
    let newer = "INSERT INTO schema_version (version, name) VALUES (999, 'of the future')";
    server.state.store.write(move |connection| connection.execute(newer, &[])).await.unwrap();
    let setup = stop(server).await;
    let before = database(&data_dir);
    for _ in 0..2 {
        let options = ServerOptions {
            data_dir: data_dir.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
            database_url: None,
            settings: Settings::default(),
            feeds: Vec::new(),
        };
        let error = fettle_server::prepare(options).await.err().expect("refused").to_string();
        assert!(error.contains("schema 999") && error.contains("start the newer Fettle"), "{error}");
        assert!(error.contains("restore a back-up"), "{error}");
        assert!(database(&data_dir) == before, "not a byte of it was touched");
    }
    // What the message says to do, done.
    for (path, _) in before {
        std::fs::remove_file(path).unwrap();
    }
    for (path, bytes) in back_up {
        std::fs::write(path, bytes).unwrap();
    }
    let again = TestServer::start_with(setup);
    assert_eq!(agent.kept(&again).await.1, agent.packages);
}

async fn stop(server: TestServer) -> Setup {
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap()
}

/// The files of the database that hold something, with their bytes.
fn database(data_dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(data_dir).unwrap().map(|entry| entry.unwrap().path());
    let ours = files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("fettle.db"));
    ours.map(|path| (path.clone(), std::fs::read(path).unwrap())).filter(|(_, bytes)| !bytes.is_empty()).collect()
}
