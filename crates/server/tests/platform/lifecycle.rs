//! From an empty directory, over restarts, to a graceful end.

use fettle_domain::access::Role;
use fettle_server::{ServerError, ServerOptions, Settings};
use fettle_store::StoreError;
use fettle_testkit::{Setup, TestDatabase, TestServer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

fn server_certificate(server: &TestServer) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(server.data_dir().join("server.pem")).unwrap()
}

fn alternative_names(certificate: &CertificateDer<'_>) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value.general_names)
}

#[tokio::test]
async fn an_empty_directory_becomes_a_server_and_stays_one() {
    for database in TestDatabase::all() {
        let setup = Setup { database: Some(database), ..Setup::default() };
        let server = TestServer::start_with(setup);
        let (name, one_time) = server.announcement.administrator.clone().expect("said once");
        assert_eq!(name, "admin");
        assert_eq!(one_time.len(), 23);
        assert_eq!(server.announcement.authority_fingerprint.len(), 95);
        assert_eq!(std::fs::metadata(server.data_dir()).unwrap().permissions().mode() & 0o777, 0o700);
        for entry in std::fs::read_dir(server.data_dir()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert!(mode == 0o600 || name.starts_with("fettle.db"), "{name} has mode {mode:o}");
        }
        let administrator = server.administrator().await;
        let viewer = server.user(&administrator, "vera", Role::Viewer).await;
        viewer.get("/api/v1/whoami").await.ok();
        let fingerprint = server.announcement.authority_fingerprint.clone();
        let certificate = server_certificate(&server);

        let again = TestServer::start_with(server.stop());
        assert_eq!(again.announcement.administrator, None, "a password is not said twice");
        assert_eq!(again.announcement.authority_fingerprint, fingerprint);
        assert_eq!(server_certificate(&again), certificate);
        assert_eq!(viewer.reconnected().get("/api/v1/whoami").await.ok()["user"], "vera", "tokens outlive a restart");
        assert_eq!(administrator.reconnected().get("/api/v1/audit/verify").await.ok()["intact"], true);
    }
}

#[tokio::test]
async fn a_new_name_makes_a_new_certificate_of_the_same_authority() {
    let server = TestServer::start();
    let before = server_certificate(&server);
    assert!(!alternative_names(&before).contains("patch.example"));
    let fingerprint = server.announcement.authority_fingerprint.clone();
    let mut setup = server.stop();
    setup.settings.server.names = vec!["Patch.Example".to_owned()];
    let again = TestServer::start_with(setup);
    let after = server_certificate(&again);
    assert_ne!(before, after);
    assert!(alternative_names(&after).contains("patch.example"));
    assert_eq!(again.announcement.authority_fingerprint, fingerprint);
    // While it runs, a further one is shown to the next connection without a restart.
    assert!(again.state.identity.renew(&["127.0.0.1".into(), "other.example".into()]).unwrap());
    assert!(!again.state.identity.renew(&["127.0.0.1".into(), "other.example".into()]).unwrap());
    assert_eq!(again.client().get("/healthz").await.status, 200);
}

#[tokio::test]
async fn damaged_keys_are_told_and_never_replaced() {
    let server = TestServer::start();
    let setup = server.stop();
    let data_dir = setup.folder.as_ref().unwrap().path().join("data");
    let options = || ServerOptions {
        data_dir: data_dir.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        database_url: None,
        settings: Settings::default(),
        feeds: Vec::new(),
    };
    let complaint = |error: Option<ServerError>| error.expect("refused").to_string();

    let key = data_dir.join("authority.key");
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let text = complaint(fettle_server::prepare(options()).await.err());
    assert!(text.contains("authority.key is not") && text.contains("back-up"), "{text}");
    std::fs::write(&key, "nonsense").unwrap();
    let text = complaint(fettle_server::prepare(options()).await.err());
    assert!(text.contains("authority.key is not usable"), "{text}");
    std::fs::write(&key, kept).unwrap();

    std::fs::write(data_dir.join("offer.key"), b"short").unwrap();
    let text = complaint(fettle_server::prepare(options()).await.err());
    assert!(text.contains("offer.key is not usable"), "{text}");

    std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o750)).unwrap();
    let text = complaint(fettle_server::prepare(options()).await.err());
    assert!(text.contains("may be used by others (mode 750): chmod 700"), "{text}");
}

#[tokio::test]
async fn a_port_in_use_and_a_newer_database_are_told() {
    let server = TestServer::start();
    let options = |folder: &std::path::Path, listen| ServerOptions {
        data_dir: folder.to_owned(),
        listen,
        database_url: None,
        settings: Settings::default(),
        feeds: Vec::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    let error = fettle_server::prepare(options(&folder.path().join("data"), server.announcement.listen))
        .await
        .err()
        .expect("refused");
    assert!(error.to_string().contains("choose one with --listen"), "{error}");

    let insert = "INSERT INTO schema_version (version, name) VALUES (999, 'x')";
    server.state.store.write(move |connection| connection.execute(insert, &[])).await.unwrap();
    let data_dir = server.data_dir();
    let setup = server.stop();
    let error =
        fettle_server::prepare(options(&data_dir, "127.0.0.1:0".parse().unwrap())).await.err().expect("refused");
    assert!(matches!(error, ServerError::Store(StoreError::NewerSchema { found: 999, .. })), "{error}");
    drop(setup);
}

#[tokio::test]
async fn the_end_is_graceful_and_quick() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    let idle = server.client();
    idle.get("/healthz").await.ok();
    // A sign-in hashes for a while; meanwhile the server is asked to stop.
    let slow = tokio::spawn({
        let client = server.client();
        async move { client.post("/api/v1/login", &json!({ "user": "admin", "password": "wrong" })).await }
    });
    let wanted = || async {
        let query = "SELECT failures FROM login_attempt WHERE subject = 'account admin'";
        server.state.store.read(move |connection| connection.query_one(query, &[])).await.unwrap().is_some()
    };
    fettle_testkit::eventually("the sign-in was counted", Duration::from_secs(10), wanted).await;
    let started = Instant::now();
    let setup = tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "idle connections do not hold it up: {:?}", started.elapsed());
    assert_eq!(slow.await.unwrap().status, 401, "an open request was answered");
    assert!(administrator.send("GET", "/healthz", "", "").await.is_err(), "nobody listens any more");
    let again = TestServer::start_with(setup);
    let entries = administrator.reconnected().get("/api/v1/audit?action=session.refuse").await.ok();
    assert_eq!(entries["items"].as_array().unwrap().len(), 1, "what was written is kept");
    drop(again);
}

#[tokio::test]
async fn waiting_agents_are_let_go_at_the_end() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    let host = server.enrol(&administrator, Default::default()).await;
    let waiting = tokio::spawn(async move { host.client.get("/agent/v1/work?after=0&wait=50").await });
    let state = server.state.clone();
    fettle_testkit::eventually("the agent waits", Duration::from_secs(10), || async {
        state.nudges.work.waiting() == 1
    })
    .await;
    drop(state);
    let started = Instant::now();
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(waiting.await.unwrap().ok()["items"], json!([]));
}

#[tokio::test]
async fn a_full_disk_is_told_and_reading_goes_on() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    let bound = |pages: &'static str| async {
        let count = server
            .state
            .store
            .read(|connection| connection.query_one("PRAGMA page_count", &[]))
            .await
            .unwrap()
            .unwrap()
            .int(0)
            .unwrap();
        let text = pages.replace("NOW", &count.to_string());
        server
            .state
            .store
            .write(move |connection| connection.query(&format!("PRAGMA max_page_count = {text}"), &[]))
            .await
            .unwrap();
    };
    bound("NOW").await;
    let mut refused = None;
    for number in 0..200 {
        let reply = administrator
            .post("/api/v1/tokens", &json!({ "label": format!("{number} {}", "x".repeat(90)), "hours": 1 }))
            .await;
        if reply.status != 200 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("the disk fills up");
    assert_eq!((refused.status, refused.problem()), (507, "disk-full"), "{refused:?}");
    assert!(refused.json["advice"].as_str().unwrap().contains("Free space"));
    administrator.get("/api/v1/tokens").await.ok();
    assert_eq!(administrator.get("/healthz").await.status, 200);
    bound("1000000").await;
    administrator.post("/api/v1/tokens", &json!({ "label": "after", "hours": 1 })).await.ok();
    assert_eq!(administrator.get("/api/v1/audit/verify").await.ok()["intact"], true);
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_told_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.sign_in.session_hours = 0;
    let data_dir = folder.path().join("data");
    let options = ServerOptions {
        data_dir: data_dir.clone(),
        listen: "127.0.0.1:0".parse().unwrap(),
        database_url: None,
        settings,
        feeds: Vec::new(),
    };
    let error = fettle_server::prepare(options).await.err().expect("refused");
    assert_eq!(error.to_string(), "`sign-in.session-hours` is 0: use 1 to 8784");
    assert!(!data_dir.exists());
}
