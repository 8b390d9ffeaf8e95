//! The real agent and the real server over real TLS: certificates that renew by themselves, wherever
//! the agent is stopped on the way; a machine that was copied.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_agent::{EnrolOptions, Exit, RunError, RunOptions};
use fettle_domain::{HostId, Timestamp};
use fettle_server::clock;
use fettle_store::systems::host_identity::{self, HostIdentity};
use fettle_testkit::server::signing_request;
use fettle_testkit::{Client, TestServer, eventually};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A machine with an agent.
struct Machine {
    folder: tempfile::TempDir,
    id: HostId,
}

impl Machine {
    async fn enrolled(server: &TestServer, admin: &Client) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dpkg = folder.path().join("root/var/lib/dpkg");
        std::fs::create_dir_all(&dpkg).unwrap();
        // For the real program, which has the real provider: a system without packages.
        std::fs::write(dpkg.join("status"), "").unwrap();
        let machine = Self { folder, id: HostId::new(0, [0; 10]) };
        let enrolled = machine.enrol(server, admin, false).await;
        let machine = Self { id: enrolled, ..machine };
        assert_eq!(machine.once().await.unwrap(), Exit::Done);
        machine
    }

    async fn enrol(&self, server: &TestServer, admin: &Client, force: bool) -> HostId {
        let token = admin.post("/api/v1/enrolment-tokens", &json!({ "server": server.url() })).await.ok();
        let options = EnrolOptions {
            server: server.url(),
            token: token["token"].as_str().unwrap().to_owned(),
            state_dir: self.state(),
            root: self.root(),
            read_only: true,
            force,
        };
        fettle_agent::enrol(options).await.unwrap().host
    }

    /// The same disk in another machine.
    fn copied(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_tree(self.folder.path(), folder.path());
        Self { folder, id: self.id }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn network(&self, name: &str) -> PathBuf {
        self.state().join("network").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.network(name)).unwrap()
    }

    fn options(&self, once: bool) -> RunOptions {
        RunOptions {
            launcher: None,
            state_dir: self.state(),
            root: self.root(),
            policy: self.folder.path().join("policy.toml"),
            read_only: true,
            once,
            check_in_seconds: None,
            providers: Vec::new(),
            owner: None,
            network: None,
        }
    }

    async fn once(&self) -> Result<Exit, RunError> {
        fettle_agent::run(self.options(true), std::future::pending()).await
    }

    /// Its certificate as if it had been issued so many days ago, for ninety days.
    fn ages(&self, server: &TestServer, days: u64) {
        let at = i64::try_from(days * 24 * 3600 * 1000).unwrap();
        let at = Timestamp::from_unix_millis(clock::now().unix_millis() - at);
        let old = server.certificate_over(&self.read("identity/key.pem"), self.id, at, 90);
        std::fs::write(self.network("identity/certificate.pem"), old).unwrap();
    }

    /// Nothing half done is left beside the identity.
    fn is_tidy(&self) -> bool {
        let names = std::fs::read_dir(self.state().join("network")).unwrap();
        !names.flatten().any(|entry| entry.file_name().to_str().unwrap().starts_with("identity."))
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn identity(server: &TestServer, host: HostId) -> HostIdentity {
    server.state.store.read(move |c| host_identity::host_identity_get(c, host)).await.unwrap()
}

async fn shown(admin: &Client, host: HostId) -> Value {
    admin.get(&format!("/api/v1/hosts/{host}")).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_when_a_third_of_its_life_is_left_and_not_before() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let machine = Machine::enrolled(&server, &admin).await;
    let (key, certificate) = (machine.read("identity/key.pem"), machine.read("identity/certificate.pem"));
    machine.ages(&server, 59);
    machine.once().await.unwrap();
    assert_eq!(machine.read("identity/key.pem"), key, "more than a third is left");
    machine.ages(&server, 61);
    machine.once().await.unwrap();
    assert_ne!(machine.read("identity/key.pem"), key, "a new key with the new certificate");
    assert_ne!(machine.read("identity/certificate.pem"), certificate);
    assert!(machine.is_tidy());
    let kept = identity(&server, machine.id).await;
    assert_eq!((kept.certificates, kept.keys.next.len()), (2, 0));
    machine.once().await.unwrap();
    assert_eq!(identity(&server, machine.id).await.certificates, 2);
    assert_eq!(shown(&admin, machine.id).await["summary"]["notices"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_agent_renews_without_a_break_and_after_a_long_sleep() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    for days in [61, 100] {
        let machine = Machine::enrolled(&server, &admin).await;
        machine.ages(&server, days);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(fettle_agent::run(machine.options(false), async move { drop(stopped.await) }));
        let (state, id) = (server.state.clone(), machine.id);
        let renewed = || async {
            let kept = state.store.read(move |c| host_identity::host_identity_get(c, id)).await.unwrap();
            kept.certificates == 2 && kept.keys.next.is_empty()
        };
        eventually("the certificate is renewed and used", LIMIT, renewed).await;
        eventually("it waits for work with it", LIMIT, || async { server.state.nudges.work.waiting() == 1 }).await;
        drop(stop);
        assert_eq!(running.await.unwrap().unwrap(), Exit::Stopped);
        assert!(machine.is_tidy());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_grace_the_agent_says_what_to_do_and_a_token_brings_it_back() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let machine = Machine::enrolled(&server, &admin).await;
    machine.ages(&server, 90 + 365 + 1);
    let key = machine.read("identity/key.pem");
    let error = machine.once().await.unwrap_err().to_string();
    for part in ["expired too long ago", "fettle host token create", "--force"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(machine.read("identity/key.pem"), key, "nothing is thrown away");
    let anew = machine.enrol(&server, &admin, true).await;
    assert_eq!(machine.once().await.unwrap(), Exit::Done);
    // The same machine under a new id: a person is asked whether it is the old one.
    let seen = shown(&admin, anew).await;
    assert_eq!(seen["identity"]["may_be"][0]["host"]["id"], json!(machine.id.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_is_not_renewed() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let machine = Machine::enrolled(&server, &admin).await;
    machine.ages(&server, 100);
    admin.post(&format!("/api/v1/hosts/{}/revoke", machine.id), &json!({ "reason": "stolen" })).await.ok();
    assert_eq!(machine.once().await.unwrap(), Exit::Revoked);
    assert_eq!(identity(&server, machine.id).await.certificates, 1);
}

/// Where an agent that renews may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// The next key is on disk, the server has not heard of it.
    AfterTheKey,
    /// The server has made the certificate, the answer was lost.
    AfterTheAnswer,
    /// Key and certificate are half on disk.
    InTheMiddleOfTheFolder,
    /// Both are on disk, and not used.
    BeforeTheFirstUse,
    /// The server has seen the new certificate; the former one still counts for a while.
    AfterTheFirstUse,
    /// The same, and the former one does not count any more.
    LongAfterTheFirstUse,
    /// The new one is in place, the rest not tidied away.
    BeforeTidyingUp,
    /// The server knows nothing of it (it was set back to a back-up).
    ForgottenByTheServer,
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_switch_is_cut_off_the_host_is_not_locked_out() {
    use Stopped as S;
    let server = TestServer::start();
    let admin = server.administrator().await;
    for point in [
        S::AfterTheKey,
        S::AfterTheAnswer,
        S::InTheMiddleOfTheFolder,
        S::BeforeTheFirstUse,
        S::AfterTheFirstUse,
        S::LongAfterTheFirstUse,
        S::BeforeTidyingUp,
        S::ForgottenByTheServer,
    ] {
        let machine = Machine::enrolled(&server, &admin).await;
        let before = machine.read("identity/key.pem");
        stop_at(&server, &machine, point).await;
        machine.ages(&server, 61);
        // A check-in at each start, an hour apart: two suffice from any point.
        for _ in 0..2 {
            let ended = machine.once().await;
            assert!(matches!(ended, Ok(Exit::Done)), "{point:?}: {ended:?}");
        }
        assert_ne!(machine.read("identity/key.pem"), before, "{point:?}");
        assert!(machine.is_tidy(), "{point:?}");
        let kept = identity(&server, machine.id).await;
        assert!(kept.keys.next.is_empty(), "{point:?}: {kept:?}");
        assert_eq!(shown(&admin, machine.id).await["summary"]["state"], "managed", "{point:?}");
    }
}

/// Brings disk and server to where an agent that was stopped there leaves them.
async fn stop_at(server: &TestServer, machine: &Machine, point: Stopped) {
    use Stopped as S;
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(machine.network("identity.next.key"), key.serialize_pem()).unwrap();
    if point == S::AfterTheKey {
        return;
    }
    let present = (machine.read("identity/certificate.pem"), machine.read("identity/key.pem"));
    let client = server.client_with(&present);
    let reply = client.post("/agent/v1/renew", &json!({ "csr": signing_request(&key) })).await.ok();
    if point == S::AfterTheAnswer {
        return;
    }
    let certificate = reply["certificate"].as_str().unwrap().to_owned();
    let next = machine.network("identity.next");
    copy_tree(&machine.network("identity"), &next);
    std::fs::write(next.join("key.pem"), key.serialize_pem()).unwrap();
    if point == S::InTheMiddleOfTheFolder {
        std::fs::rename(&next, machine.network("identity.next.new")).unwrap();
        return;
    }
    std::fs::write(next.join("certificate.pem"), &certificate).unwrap();
    let host = machine.id;
    match point {
        S::AfterTheFirstUse | S::LongAfterTheFirstUse | S::BeforeTidyingUp => {
            let used = server.client_with(&(certificate, key.serialize_pem()));
            used.post("/agent/v1/report", &json!({ "entries": [] })).await.ok();
        }
        S::ForgottenByTheServer => {
            let forget = move |c: &mut fettle_store::Connection| {
                c.execute("UPDATE host SET key_next = ?2 WHERE id = ?1", &[host.into(), Vec::new().into()])
            };
            server.state.store.write(forget).await.unwrap();
        }
        _ => {}
    }
    if point == S::LongAfterTheFirstUse {
        let over = move |c: &mut fettle_store::Connection| {
            c.execute("UPDATE host SET key_former_until = 0 WHERE id = ?1", &[host.into()])
        };
        server.state.store.write(over).await.unwrap();
    }
    if point == S::BeforeTidyingUp {
        for file in ["key.pem", "certificate.pem"] {
            std::fs::copy(next.join(file), machine.network("identity").join(file)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_of_one_image_end_as_two_hosts() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let first = Machine::enrolled(&server, &admin).await;
    let copy = first.copied();
    // Both have this machine's network cards: only the chain can tell them apart.
    first.once().await.unwrap();
    copy.once().await.unwrap();
    first.once().await.unwrap();
    let error = copy.once().await.unwrap_err().to_string();
    assert!(error.contains("waits for a person to accept it"), "{error}");
    let waiting = admin.get("/api/v1/hosts?state=discovered").await.ok();
    let own = waiting["items"][0]["id"].as_str().unwrap().to_owned();
    assert_ne!(own, first.id.to_string());
    first.once().await.unwrap();
    admin.post(&format!("/api/v1/hosts/{own}/accept"), &json!({})).await.ok();
    for _ in 0..2 {
        assert_eq!(copy.once().await.unwrap(), Exit::Done);
        assert_eq!(first.once().await.unwrap(), Exit::Done);
    }
    let told = |machine: &Machine| fettle_agent::status(&machine.state()).unwrap().host.unwrap().to_string();
    assert_eq!((told(&first), told(&copy)), (first.id.to_string(), own.clone()));
    assert_ne!(first.read("identity/key.pem"), copy.read("identity/key.pem"));
    assert!(copy.is_tidy());
    for host in [first.id, own.parse().unwrap()] {
        let seen = shown(&admin, host).await;
        assert_eq!((&seen["summary"]["state"], &seen["summary"]["notices"]), (&json!("managed"), &json!([])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_copy_becomes_a_host_of_its_own_by_itself() {
    let mut setup = fettle_testkit::Setup::default();
    setup.settings.hosts.clones = fettle_server::settings::ClonePolicy::Enrol;
    setup.settings.hosts.check_in_seconds = 1;
    let server = TestServer::start_with(setup);
    let admin = server.administrator().await;
    let first = Machine::enrolled(&server, &admin).await;
    let copy = first.copied();
    let run = |machine: &Machine| {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        (stop, tokio::spawn(fettle_agent::run(machine.options(false), async move { drop(stopped.await) })))
    };
    let agents = [run(&first), run(&copy)];
    let two = || async { admin.get("/api/v1/hosts/counts").await.ok()["managed"] == json!(2) };
    eventually("two hosts are managed", LIMIT, two).await;
    for (stop, agent) in agents {
        drop(stop);
        assert_eq!(agent.await.unwrap().unwrap(), Exit::Stopped);
    }
    let told = |machine: &Machine| fettle_agent::status(&machine.state()).unwrap().host.unwrap();
    assert_ne!(told(&first), told(&copy));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_restored_from_a_back_up_goes_on_as_itself() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let machine = Machine::enrolled(&server, &admin).await;
    let back_up = machine.copied();
    for _ in 0..3 {
        machine.once().await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(back_up.once().await.unwrap(), Exit::Done);
    }
    let seen = shown(&admin, machine.id).await;
    assert_eq!((&seen["summary"]["state"], &seen["summary"]["notices"]), (&json!("managed"), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_from_before_the_last_renewal_asks_for_an_identity_of_its_own() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let machine = Machine::enrolled(&server, &admin).await;
    let old_image = machine.copied();
    // Twice, so that the overlap of the first certificate is over.
    for _ in 0..2 {
        machine.ages(&server, 61);
        machine.once().await.unwrap();
    }
    assert_eq!(identity(&server, machine.id).await.certificates, 3);
    let error = old_image.once().await.unwrap_err().to_string();
    assert!(error.contains("waits for a person to accept it"), "{error}");
    let waiting = admin.get("/api/v1/hosts?state=discovered").await.ok();
    let own = waiting["items"][0]["id"].as_str().unwrap().to_owned();
    admin.post(&format!("/api/v1/hosts/{own}/accept"), &json!({})).await.ok();
    assert_eq!(old_image.once().await.unwrap(), Exit::Done);
    assert_eq!(machine.once().await.unwrap(), Exit::Done);
    // It was the same machine, set back: a person may say so.
    admin.post(&format!("/api/v1/hosts/{own}/merge"), &json!({ "with": machine.id.to_string() })).await.ok();
    assert_eq!(machine.once().await.unwrap(), Exit::Revoked);
    assert_eq!(old_image.once().await.unwrap(), Exit::Done);
}

/// An agent in two processes, ended when dropped.
struct Agent(std::process::Child);

impl Agent {
    fn start(program: &Path, machine: &Machine) -> Self {
        std::fs::set_permissions(machine.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = std::process::Command::new(program);
        command.args(["agent", "run", "--network-user", "nobody", "--read-only", "--state"]).arg(machine.state());
        command.arg("--root").arg(machine.root()).arg("--policy").arg(machine.folder.path().join("policy.toml"));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As it runs on real hosts: the half that speaks to the server may write its certificate and nothing
/// of the executor's, and the executor obeys for another host by the server's signature alone.
#[tokio::test(flavor = "multi_thread")]
async fn both_halves_as_processes_renew_and_become_a_host_of_their_own() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give up rights");
        return;
    }
    let mut setup = fettle_testkit::Setup::default();
    setup.settings.hosts.clones = fettle_server::settings::ClonePolicy::Enrol;
    setup.settings.hosts.check_in_seconds = 5;
    let server = TestServer::start_with(setup);
    let admin = server.administrator().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Where that user may run it, wherever this checkout stands.
    let program = folder.path().join("fettle");
    std::fs::copy(env!("CARGO_BIN_EXE_fettle"), &program).unwrap();
    let first = Machine::enrolled(&server, &admin).await;
    let copy = first.copied();
    first.ages(&server, 100);
    let agent = Agent::start(&program, &first);
    let (state, id) = (server.state.clone(), first.id);
    let renewed = || async {
        let kept = state.store.read(move |c| host_identity::host_identity_get(c, id)).await.unwrap();
        kept.certificates == 2 && kept.keys.next.is_empty()
    };
    eventually("the expired certificate is renewed", LIMIT, renewed).await;
    let other = Agent::start(&program, &copy);
    let two = || async { admin.get("/api/v1/hosts/counts").await.ok()["managed"] == json!(2) };
    eventually("two hosts are managed", LIMIT, two).await;
    drop((agent, other));
    let told = |machine: &Machine| fettle_agent::status(&machine.state()).unwrap().host.unwrap();
    assert_ne!(told(&first), told(&copy));
    for machine in [&first, &copy] {
        use std::os::unix::fs::MetadataExt as _;
        let owner = |path: PathBuf| std::fs::metadata(path).unwrap().uid();
        assert_eq!((owner(machine.state().join("trust")), owner(machine.network("identity/key.pem"))), (0, 65534));
        let trust: Value = serde_json::from_slice(&std::fs::read(machine.state().join("trust")).unwrap()).unwrap();
        assert_eq!(trust["host"], json!(told(machine).to_string()));
    }
}
