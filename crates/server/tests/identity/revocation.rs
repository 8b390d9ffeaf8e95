//! Revocation bites while an agent waits, on whatever server it waits.

use super::machine::{LIMIT, Machine, facts};
use fettle_testkit::{Client, Setup, TestDatabase, TestServer, eventually};
use serde_json::json;
use std::time::{Duration, Instant};

/// What a long poll of fifty seconds may still take after the revocation.
const BITES: Duration = Duration::from_secs(2);

/// A machine waits at `there`, a person revokes it at `here`.
async fn bites(admin: &Client, machine: &Machine, there: &TestServer) {
    let waiting = tokio::spawn({
        let machine = machine.clone();
        async move { machine.work(50).await }
    });
    eventually("the agent waits", LIMIT, || async { there.state.nudges.work.waiting() == 1 }).await;
    let asked = Instant::now();
    admin.post(&format!("/api/v1/hosts/{}/revoke", machine.id), &json!({ "reason": "stolen" })).await.ok();
    let reply = waiting.await.unwrap();
    assert_eq!((reply.status, reply.problem()), (403, "host-revoked"), "{reply:?}");
    assert!(asked.elapsed() < BITES, "{:?}", asked.elapsed());
    for reply in [machine.work(0).await, machine.reports().await, machine.clone().tries().await] {
        assert_eq!(reply.problem(), "host-revoked", "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_at_once_with_the_word() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let machine = Machine::enrol(&server, &admin, facts("web-1", "m1", "u1", &[])).await;
        bites(&admin, &machine, &server).await;
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn also_at_another_server_over_the_same_database() {
    let Some(database) = TestDatabase::postgres() else { return };
    let second_handle = database.shared();
    let here = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&here.data_dir(), &folder.path().join("data"));
    let there =
        TestServer::start_with(Setup { database: Some(second_handle), folder: Some(folder), ..Setup::default() });
    let admin = here.administrator().await;
    let mut machine = Machine::enrol(&here, &admin, facts("web-1", "m1", "u1", &[])).await;
    let certificate = machine.certificate.clone();
    machine.shows(&there, certificate);
    machine.speaks().await;
    bites(&admin, &machine, &there).await;
}
