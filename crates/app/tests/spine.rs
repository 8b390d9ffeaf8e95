//! The way of the data through all rooms in one process, over real TLS: a server on an empty
//! directory, this very machine's agent, the sample feeds, findings with their reasons.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_agent::{EnrolOptions, RunOptions};
use fettle_server::access::Actor;
use fettle_server::ops::finding::FindingQuery;
use fettle_server::{AppState, ServerOptions, Settings, ops};
use fettle_wire::api::feed::FeedSyncRequest;
use fettle_wire::api::host::EnrolmentTokenCreate;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
        network: None,
        launcher: None,
        policy: folder.join("no-policy.toml"),
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

/// Fields of `/proc/PID/status`.
fn status_of(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The agent as root: its other half is another process, as another user, without any right, with
/// nothing of the executor's; killed it comes again, and it never outlives the executor.
#[test]
fn the_half_that_faces_the_network_has_no_rights() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give up rights");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // Where that user may run it, wherever this checkout stands.
        let program = folder.path().join("fettle");
        std::fs::copy(env!("CARGO_BIN_EXE_fettle"), &program).unwrap();
        let mut settings = Settings::default();
        settings.hosts.check_in_seconds = 5;
        let prepared = fettle_server::prepare(ServerOptions {
            data_dir: folder.path().join("server"),
            listen: "127.0.0.1:0".parse().unwrap(),
            database_url: None,
            settings,
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

        let mut command = Command::new(&program);
        command.args(["agent", "run", "--network-user", "nobody", "--read-only", "--state"]).arg(&agent);
        command.args(["--policy"]).arg(folder.path().join("no-policy.toml"));
        command.env("SECRET_OF_ROOT", "1").stdout(Stdio::null()).stderr(Stdio::null());
        let mut executor = Ended(command.spawn().unwrap());
        let pid = executor.0.id();
        let admin = Actor::server();
        let seen = || async {
            let hosts = ops::host::list(&state, &admin, Default::default()).await.unwrap();
            hosts.items.first().filter(|host| host.state == "managed").map(|host| host.last_seen.clone())
        };
        let first = until("the first check-in", seen).await;

        let half = until("the other half", || async { children_of(pid).first().copied() }).await;
        assert_eq!(status_of(pid, "Uid"), "0 0 0 0");
        assert_eq!(status_of(half, "Uid"), "65534 65534 65534 65534");
        assert_eq!(status_of(half, "Gid"), "65534 65534 65534 65534");
        assert_eq!(status_of(half, "Groups"), "");
        assert_eq!(status_of(half, "NoNewPrivs"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status_of(half, set), "0000000000000000", "{set}");
        }
        let environment = std::fs::read(format!("/proc/{half}/environ")).unwrap();
        let names: BTreeSet<String> = String::from_utf8(environment)
            .unwrap()
            .split_terminator('\0')
            .map(|one| one.split('=').next().unwrap().to_owned())
            .collect();
        let allowed = ["FETTLE_LOG", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "TZ"];
        assert!(names.iter().all(|name| allowed.contains(&name.as_str())), "{names:?}");
        // Of regular files it has none open that are the executor's; its own folder is all it owns.
        for entry in std::fs::read_dir(format!("/proc/{half}/fd")).unwrap().flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            assert!(!target.starts_with(&agent) || target.starts_with(agent.join("network")), "{target:?}");
        }
        for private in ["spool", "trust", "lock"] {
            use std::os::unix::fs::MetadataExt as _;
            let about = std::fs::metadata(agent.join(private)).unwrap();
            assert_eq!((about.uid(), about.mode() & 0o022), (0, 0), "{private}");
        }

        // Killed, it comes again and goes on.
        let killed = rustix::process::Pid::from_raw(half.try_into().unwrap()).unwrap();
        rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
        let next = until("another half", || async { children_of(pid).into_iter().find(|one| *one != half) }).await;
        until("a check-in of the new half", || async { seen().await.filter(|last| *last > first) }).await;

        // A killed executor does not leave it behind.
        executor.0.kill().unwrap();
        executor.0.wait().unwrap();
        until("the end of the half", || async {
            (status_of(next, "State").is_empty() || status_of(next, "State").starts_with('Z')).then_some(())
        })
        .await;
        drop(state);
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    });
}
