//! The way of the data through all rooms in one process, over real TLS: a server on an empty
//! directory, this very machine's agent, the sample feeds, findings with their reasons.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_agent::{EnrolOptions, RunOptions};
use fettle_server::access::Actor;
use fettle_server::ops::finding::FindingQuery;
use fettle_server::{AppState, ServerOptions, Settings, ops};
use fettle_wire::api::feed::FeedSyncRequest;
use fettle_wire::api::host::EnrolmentTokenCreate;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/feeds").canonicalize().unwrap()
}

/// Asks until the answer is there, at most a minute.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn enrol_this_machine(state: &AppState, address: &str, folder: &Path) {
    let admin = Actor::server();
    let request = EnrolmentTokenCreate { group: Some("test".into()), ..Default::default() };
    let token = ops::host::token_create(state, &admin, request, address).await.unwrap();
    fettle_agent::enrol(EnrolOptions {
        server: address.to_owned(),
        token: token.token,
        state_dir: folder.to_path_buf(),
        root: "/".into(),
        read_only: true,
        force: false,
    })
    .await
    .unwrap();
}

async fn check_in(folder: &Path) {
    let options = RunOptions {
        state_dir: folder.to_path_buf(),
        root: "/".into(),
        read_only: true,
        once: true,
        check_in_seconds: None,
        providers: fettle_vendors::providers(),
        owner: None,
    };
    fettle_agent::run(options, std::future::pending()).await.unwrap();
}

#[test]
fn this_machines_packages_become_findings() {
    if !Path::new("/var/lib/dpkg/status").exists() {
        println!("skipped: this machine has no dpkg");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let prepared = fettle_server::prepare(ServerOptions {
            data_dir: folder.path().join("server"),
            listen: "127.0.0.1:0".parse().unwrap(),
            database_url: None,
            settings: Settings::default(),
            feeds: fettle_vendors::feeds(),
        })
        .await
        .unwrap();
        let state = prepared.state().clone();
        let address = format!("https://{}", prepared.announcement().listen);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(prepared.run(async move {
            let _ = stopped.await;
        }));

        let agent = folder.path().join("agent");
        enrol_this_machine(&state, &address, &agent).await;
        check_in(&agent).await;

        let admin = Actor::server();
        let hosts = ops::host::list(&state, &admin, Default::default()).await.unwrap();
        assert_eq!(hosts.items.len(), 1);
        assert_eq!(hosts.items[0].state, "managed");
        let detail = ops::host::show(&state, &admin, &hosts.items[0].id).await.unwrap();
        assert!(detail.packages > 50, "{} packages", detail.packages);

        let request = FeedSyncRequest { from: Some(samples().display().to_string()), names: vec![] };
        let sync = ops::feed::sync(&state, &admin, request).await.unwrap();
        let loaded = until("the feeds", || async {
            let progress = ops::feed::progress(&state, &admin, sync.id).await.unwrap();
            progress.done.then_some(progress)
        })
        .await;
        let phase = |name: &str| loaded.feeds.iter().find(|feed| feed.name == name).map(|feed| feed.phase.clone());
        assert_eq!(phase("debian-tracker").as_deref(), Some("loaded"), "{loaded:?}");
        assert_eq!(phase("cisa-kev").as_deref(), Some("loaded"), "{loaded:?}");
        assert_eq!(phase("epss").as_deref(), Some("loaded"), "{loaded:?}");

        if detail.summary.codename == "bookworm" {
            let dpkg =
                std::process::Command::new("dpkg-query").args(["-W", "-f=${source:Package}\n"]).output().unwrap();
            let sources = String::from_utf8(dpkg.stdout).unwrap();
            let findings = until("this machine to be judged", || async {
                let query = FindingQuery { state: Some("all".into()), limit: Some(1000), ..Default::default() };
                let list = ops::finding::list(&state, &admin, query).await.unwrap();
                let judged = state
                    .store
                    .read(|connection| fettle_store::systems::host::host_changed(connection, 10))
                    .await
                    .unwrap()
                    .is_empty();
                judged.then_some(list)
            })
            .await;
            for finding in &findings.items {
                assert!(sources.lines().any(|source| source == finding.source), "{finding:?}");
                let detail = ops::finding::show(&state, &admin, &finding.id).await.unwrap();
                assert!(!detail.reasons.is_empty(), "{finding:?} has no reasons");
            }
            println!("{} findings on this machine", findings.items.len());
        }

        // A restart loses nothing: the same inventory is a mere sign of life.
        check_in(&agent).await;
        let verdict = ops::audit::verify(&state, &admin).await.unwrap();
        assert!(verdict.intact, "{verdict:?}");
        drop(state);
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    });
}
