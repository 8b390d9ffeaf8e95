//! Enrolment and check-ins over real TLS: who gets in, what is taken, what is refused and leaves
//! everything as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_content::sha256_hex;
use fettle_domain::host::OsRelease;
use fettle_domain::machine::HostState;
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_domain::{EnrolmentTokenId, HostId, Timestamp};
use fettle_server::{Settings, clock};
use fettle_store::Store;
use fettle_store::systems::enrolment_token::{self, EnrolmentToken};
use fettle_store::systems::{host, inventory};
use fettle_testkit::{Client, Reply, Setup, TestDatabase, TestServer, client, eventually};
use fettle_wire::agent::{CheckIn, EnrolRequest, HostFacts, PackagesReport, SectionDigests, Service};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

fn digest<T: Serialize>(value: &T) -> String {
    sha256_hex(&serde_json::to_vec(value).unwrap())
}

fn package(name: &str, version: &str) -> InstalledPackage {
    InstalledPackage {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: format!("{name}-src"),
            source_version: version.into(),
        },
        origin: "Debian:bookworm".into(),
        held: false,
        automatic: true,
        state: InstallState::Installed,
    }
}

fn many(number: usize) -> Vec<InstalledPackage> {
    (0..number).map(|number| package(&format!("p{number:05}"), "1.0-1")).collect()
}

fn facts(name: &str) -> HostFacts {
    HostFacts {
        name: name.into(),
        os: OsRelease {
            id: "debian".into(),
            version_id: "12".into(),
            codename: "bookworm".into(),
            pretty_name: "Debian 12".into(),
        },
        ..HostFacts::default()
    }
}

fn request(token: &str, name: &str, key: &rcgen::KeyPair) -> Value {
    let csr =
        rcgen::CertificateParams::new(Vec::<String>::new()).unwrap().serialize_request(key).unwrap().pem().unwrap();
    serde_json::to_value(EnrolRequest { token: token.into(), csr, agent_version: "test".into(), facts: facts(name) })
        .unwrap()
}

async fn enrol(server: &TestServer, token: &str) -> Reply {
    server.client().post("/agent/v1/enrol", &request(token, "web-1", &rcgen::KeyPair::generate().unwrap())).await
}

async fn token(admin: &Client, body: Value) -> Value {
    admin.post("/api/v1/enrolment-tokens", &body).await.ok()
}

/// A host as its agent keeps it.
struct Agent {
    id: HostId,
    client: Client,
    facts: HostFacts,
    packages: Vec<InstalledPackage>,
    services: Vec<Service>,
}

impl Agent {
    async fn enrol(server: &TestServer, token: &str, name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let reply = server.client().post("/agent/v1/enrol", &request(token, name, &key)).await.ok();
        let certificate = (reply["certificate"].as_str().unwrap().to_owned(), key.serialize_pem());
        let client = Client::new(&server.url(), client::tls(reply["authority"].as_str().unwrap(), Some(&certificate)));
        let id = reply["host"].as_str().unwrap().parse().unwrap();
        Self { id, client, facts: facts(name), packages: many(590), services: Vec::new() }
    }

    fn sign_of_life(&self) -> CheckIn {
        CheckIn {
            agent_version: "0.1.0".into(),
            time: clock::now(),
            digests: SectionDigests {
                facts: digest(&self.facts),
                packages: digest(&self.packages),
                services: digest(&self.services),
            },
            chain: None,
            facts: None,
            packages: None,
            services: None,
        }
    }

    fn whole(&self) -> CheckIn {
        CheckIn {
            facts: Some(self.facts.clone()),
            packages: Some(PackagesReport::Complete { packages: self.packages.clone() }),
            services: Some(self.services.clone()),
            ..self.sign_of_life()
        }
    }

    /// Becomes the list, and says only what changed.
    fn difference(&mut self, now: Vec<InstalledPackage>) -> CheckIn {
        let former = std::mem::replace(&mut self.packages, now);
        let not_in = |one: &[InstalledPackage], other: &[InstalledPackage]| {
            one.iter().filter(|package| !other.contains(package)).cloned().collect::<Vec<_>>()
        };
        let (removed, added) = (not_in(&former, &self.packages), not_in(&self.packages, &former));
        let report = PackagesReport::Difference { base: digest(&former), removed, added };
        CheckIn { packages: Some(report), ..self.sign_of_life() }
    }

    async fn send(&self, check_in: &CheckIn) -> Reply {
        self.client.post("/agent/v1/check-in", &serde_json::to_value(check_in).unwrap()).await
    }

    async fn send_ok(&self, check_in: &CheckIn) -> Value {
        self.send(check_in).await.ok()["want"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_becomes_a_host_and_says_what_it_has() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let made = token(&admin, json!({ "group": "web", "uses": 2 })).await;
        let line = format!("fettle agent enrol --server {} --token {}", server.url(), made["token"].as_str().unwrap());
        assert_eq!(made["command"], json!(line));
        let mut agent = Agent::enrol(&server, made["token"].as_str().unwrap(), "web-1").await;
        let path = format!("/api/v1/hosts/{}", agent.id);
        let explained = admin.get(&format!("{path}/explain")).await.ok();
        assert_eq!(explained["summary"], "web-1 (Debian 12) is enrolling");
        assert!(explained["waiting_for"][0].as_str().unwrap().contains("first check-in"), "{explained}");

        assert_eq!(agent.send_ok(&agent.sign_of_life()).await, json!(["facts", "packages", "services"]));
        assert_eq!(agent.send_ok(&agent.whole()).await, json!([]));
        assert_eq!(agent.send_ok(&agent.sign_of_life()).await, json!([]), "nothing changed, nothing is wanted");
        let shown = admin.get("/api/v1/hosts/web-1").await.ok();
        assert_eq!(shown["packages"], 590);
        assert_eq!(shown["groups"], json!(["web"]));
        let listed = admin.get("/api/v1/hosts?group=web&state=managed&codename=bookworm&text=WEB").await.ok();
        assert_eq!(
            (listed["items"][0]["id"].clone(), listed["items"][0]["agent_version"].clone()),
            (json!(agent.id.to_string()), json!("0.1.0"))
        );

        // One upgraded, one held, one new.
        let mut now = agent.packages.clone();
        now[7].package.version = "2.0-1".into();
        now[9].held = true;
        now.push(package("zzz", "1"));
        let difference = agent.difference(now);
        assert_eq!(agent.send_ok(&difference).await, json!([]));
        let found = admin.get(&format!("{path}/packages?text=p00007&limit=5")).await.ok();
        assert_eq!((found["total"].clone(), found["items"][0]["version"].clone()), (json!(1), json!("2.0-1")));
        let (id, dictionary) = (agent.id, server.state.packages.clone());
        let kept = server.state.store.read(move |c| inventory::host_packages(c, &dictionary, id)).await.unwrap();
        assert_eq!(kept, agent.packages);

        // A difference to a set that is not here, or that does not add up: the whole list is asked for.
        let mut lost = agent.difference(many(10));
        let Some(PackagesReport::Difference { base, .. }) = &mut lost.packages else { panic!() };
        *base = "0".repeat(64);
        assert_eq!(agent.send_ok(&lost).await, json!(["packages"]));
        let Some(PackagesReport::Difference { base, removed, .. }) = &mut lost.packages else { panic!() };
        *base = digest(&kept);
        removed.pop();
        assert_eq!(agent.send_ok(&lost).await, json!(["packages"]));
        assert_eq!(agent.send_ok(&agent.whole()).await, json!([]));
        assert_eq!(admin.get(&path).await.ok()["packages"], 10);
        assert_eq!(admin.get("/api/v1/hosts/counts").await.ok()["managed"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_refused_each_in_its_own_words() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let made = token(&admin, json!({})).await;
    let text = made["token"].as_str().unwrap().to_owned();
    let mut parts = text.split('.');
    let (form, pin, secret) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let other_server = TestServer::start();
    let other = token(&other_server.administrator().await, json!({})).await;
    let wrong = [
        String::new(),
        "x".repeat(10_000),
        format!("{form}.{pin}"),
        format!("{form}.{pin}.{secret}.{secret}"),
        format!("{form}.{pin}.{}", secret.to_uppercase()),
        format!("fettle2.{pin}.{secret}"),
        other["token"].as_str().unwrap().to_owned(),
    ];
    for token in &wrong {
        let refused = enrol(&server, token).await;
        assert_eq!((refused.status, refused.problem()), (403, "token-unknown"), "{token}: {refused:?}");
        assert!(refused.json["advice"].as_str().unwrap().contains("fettle host token create"), "{refused:?}");
    }
    // What is wrong with the rest of the request costs no use of the token.
    let mut broken = request(&text, "web-1", &rcgen::KeyPair::generate().unwrap());
    for csr in
        ["", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", &"x".repeat(20_000)]
    {
        broken["csr"] = json!(csr);
        let refused = server.client().post("/agent/v1/enrol", &broken).await;
        assert_eq!(
            (refused.status, refused.problem(), refused.json["field"].as_str()),
            (422, "invalid", Some("csr")),
            "{refused:?}"
        );
    }
    let enrolled = enrol(&server, &text).await.ok();
    let again = enrol(&server, &text).await;
    assert_eq!((again.status, again.problem()), (403, "token-used-up"));
    let expired = EnrolmentToken {
        id: EnrolmentTokenId::new(1, [1; 10]),
        group: None,
        uses_left: 5,
        expires_at: Timestamp::from_unix_millis(clock::now().unix_millis() - 1),
        created_by: "ada".into(),
        created_at: clock::now(),
    };
    let secret_digest = ring::digest::digest(&ring::digest::SHA256, b"old");
    server
        .state
        .store
        .write(move |c| enrolment_token::enrolment_token_create(c, &expired, secret_digest.as_ref()))
        .await
        .unwrap();
    let refused = enrol(&server, &format!("{form}.{pin}.old")).await;
    assert_eq!((refused.status, refused.problem()), (403, "token-expired"));
    // Taken back by a person.
    let made = token(&admin, json!({ "uses": 3 })).await;
    admin.delete(&format!("/api/v1/enrolment-tokens/{}", made["id"].as_str().unwrap())).await.ok();
    let refused = enrol(&server, made["token"].as_str().unwrap()).await;
    assert_eq!((refused.status, refused.problem()), (403, "token-used-up"));
    // The audit log tells of one enrolment.
    let entries = admin.get("/api/v1/audit?action=host.enrol").await.ok();
    assert_eq!(entries["items"].as_array().unwrap().len(), 1, "{entries}");
    assert_eq!(entries["items"][0]["object"], enrolled["host"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tries_tokens_must_wait_and_who_has_one_need_not() {
    let mut settings = Settings::default();
    settings.sign_in.failures_per_address = 3;
    let server = TestServer::start_with(Setup { settings, ..Setup::default() });
    let admin = server.administrator().await;
    let made = token(&admin, json!({ "uses": 20 })).await;
    for _ in 0..10 {
        enrol(&server, made["token"].as_str().unwrap()).await.ok();
    }
    for _ in 0..3 {
        assert_eq!(enrol(&server, "fettle1.a.b").await.status, 403);
    }
    let refused = enrol(&server, "fettle1.a.b").await;
    assert_eq!((refused.status, refused.problem()), (429, "too-many"), "{refused:?}");
    assert!(refused.json["retry_after"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_of_a_token_is_never_given_twice() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let made = token(&server.administrator().await, json!({ "uses": 3 })).await;
        let text = made["token"].as_str().unwrap().to_owned();
        let body = request(&text, "web-1", &rcgen::KeyPair::generate().unwrap());
        let client = server.client();
        let tries: Vec<_> = (0..12)
            .map(|_| {
                let (client, body) = (client.clone(), body.clone());
                tokio::spawn(async move { client.post("/agent/v1/enrol", &body).await.status })
            })
            .collect();
        let mut admitted = 0;
        for one in tries {
            admitted += u32::from(one.await.unwrap() == 200);
        }
        assert_eq!(admitted, 3);
        let counts = server.state.store.read(host::host_counts).await.unwrap();
        assert_eq!(counts.get(&HostState::Enrolling), Some(&3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_is_refused_at_once_also_by_other_servers() {
    for database in TestDatabase::all() {
        let url = (database.kind == "postgres").then(|| database.url.clone());
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let text = token(&admin, json!({ "uses": 2 })).await["token"].as_str().unwrap().to_owned();
        let agent = Agent::enrol(&server, &text, "web-1").await;
        agent.send_ok(&agent.whole()).await;
        let waiting = tokio::spawn({
            let client = agent.client.clone();
            async move { client.get("/agent/v1/work?after=0&wait=50").await }
        });
        eventually("the agent waits", LIMIT, || async { server.state.nudges.work.waiting() == 1 }).await;
        admin.post("/api/v1/hosts/web-1/revoke", &json!({ "reason": "sold" })).await.ok();
        let refused = tokio::time::timeout(LIMIT, waiting).await.expect("the long poll ends at once").unwrap();
        assert_eq!((refused.status, refused.problem()), (403, "host-revoked"), "{refused:?}");
        let seen = server.state.store.read(move |c| host::host_get(c, agent.id)).await.unwrap().last_seen;
        let refused = agent.send(&agent.whole()).await;
        assert_eq!((refused.status, refused.problem()), (403, "host-revoked"), "{refused:?}");
        let after = server.state.store.read(move |c| host::host_get(c, agent.id)).await.unwrap();
        assert_eq!((after.last_seen, after.state), (seen, HostState::Retired), "it does not count as seen");
        let explained = admin.get(&format!("/api/v1/hosts/{}/explain", agent.id)).await.ok();
        assert!(explained["waiting_for"][0].as_str().unwrap().contains("revoked"), "{explained}");

        // Another server over the same database revokes: nothing is remembered here that would let it in.
        let other = Agent::enrol(&server, &text, "web-2").await;
        other.send_ok(&other.whole()).await;
        let Some(url) = url else { continue };
        let id = other.id;
        tokio::task::spawn_blocking(move || {
            let elsewhere = Store::open(&url).unwrap();
            let retire = fettle_domain::machine::HostEvent::Retire;
            elsewhere.write_blocking(move |c| host::host_transition(c, id, retire, "ada", &[], clock::now())).unwrap();
        })
        .await
        .unwrap();
        assert_eq!(other.send(&other.sign_of_life()).await.problem(), "host-revoked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_wrong_changes_anything() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let mut agent = Agent::enrol(&server, token(&admin, json!({})).await["token"].as_str().unwrap(), "web-1").await;
        agent.send_ok(&agent.whole()).await;
        let id = agent.id;
        let record = || async {
            let mut record = server.state.store.read(move |c| host::host_get(c, id)).await.unwrap();
            record.last_seen = Timestamp::from_unix_millis(0);
            record
        };
        let before = record().await;

        let nobody = server.client().post("/agent/v1/check-in", &serde_json::to_value(agent.whole()).unwrap()).await;
        assert_eq!((nobody.status, nobody.problem()), (401, "certificate-required"), "{nobody:?}");
        let unknown = server
            .host_client(clock::fresh())
            .post("/agent/v1/check-in", &serde_json::to_value(agent.whole()).unwrap())
            .await;
        assert_eq!((unknown.status, unknown.problem()), (403, "host-revoked"), "{unknown:?}");

        let good = serde_json::to_string(&agent.whole()).unwrap();
        let raw = |body: String| {
            let client = agent.client.clone();
            async move { client.send("POST", "/agent/v1/check-in", "application/json", body).await.unwrap() }
        };
        let cut = raw(good[..good.len() / 2].to_owned()).await;
        assert_eq!((cut.status, cut.problem()), (400, "invalid"), "{cut:?}");
        let kind = raw(good.replacen("debian", "slackware", 1_000)).await;
        assert_eq!(kind.status, 400, "{kind:?}");
        assert!(kind.json["field"].as_str().unwrap().starts_with("packages"), "{kind:?}");
        let huge = raw(format!("\"{}\"", "x".repeat(33 << 20))).await;
        assert_eq!((huge.status, huge.problem()), (413, "too-large"), "{huge:?}");

        let refused = |what: &str, reply: Reply| {
            assert_eq!((reply.status, reply.problem()), (422, "invalid"), "{what}: {reply:?}");
            reply.json["detail"].as_str().unwrap().to_owned()
        };
        let mut unsorted = many(10);
        unsorted.reverse();
        let mut twice = many(10);
        twice.insert(1, InstalledPackage { held: true, ..twice[0].clone() });
        let mut long = many(10);
        long[3].package.source = "x".repeat(2_000);
        let mut control = many(10);
        control[3].package.version = "1\u{0}2".into();
        for (what, packages) in
            [("unsorted", unsorted), ("twice", twice), ("long", long), ("control", control), ("gigantic", many(50_001))]
        {
            agent.packages = packages;
            let detail = refused(what, agent.send(&agent.whole()).await);
            assert!(detail.contains("sorted") || detail.contains("text") || detail.contains("50001"), "{detail}");
        }
        agent.packages = many(12);
        let mut lying = agent.whole();
        lying.digests.packages = "a".repeat(64);
        assert!(refused("lying", agent.send(&lying).await).contains("nothing was changed"));
        lying.digests.packages = String::new();
        assert!(refused("empty", agent.send(&lying).await).contains("sha-256"));
        // A good section does not come in beside a bad one.
        agent.facts.location = "cellar".into();
        let mut mixed = agent.whole();
        mixed.digests.services = "b".repeat(64);
        refused("mixed", agent.send(&mixed).await);
        assert_eq!(record().await, before);
        assert_eq!(agent.send_ok(&agent.whole()).await, json!([]), "the same host, telling the truth, is heard");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_hosts_check_in_at_once_and_each_is_answered() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let text = token(&admin, json!({ "uses": 100 })).await["token"].as_str().unwrap().to_owned();
        let mut agents = Vec::new();
        for number in 0..60 {
            let mut agent = Agent::enrol(&server, &text, &format!("h{number:02}")).await;
            agent.packages = many(50 + number);
            agents.push(agent);
        }
        let tasks: Vec<_> = agents
            .into_iter()
            .map(|agent| {
                tokio::spawn(async move {
                    assert_eq!(agent.send_ok(&agent.whole()).await, json!([]));
                    for _ in 0..5 {
                        assert_eq!(agent.send_ok(&agent.sign_of_life()).await, json!([]));
                    }
                    agent
                })
            })
            .collect();
        for task in tasks {
            let agent = task.await.unwrap();
            let dictionary = server.state.packages.clone();
            let kept =
                server.state.store.read(move |c| inventory::host_packages(c, &dictionary, agent.id)).await.unwrap();
            assert_eq!(kept, agent.packages);
        }
        assert_eq!(admin.get("/api/v1/hosts/counts").await.ok()["managed"], 60);
        // Pages of the list meet without a gap.
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/api/v1/hosts?limit=7{after}")).await.ok();
            names
                .extend(page["items"].as_array().unwrap().iter().map(|host| host["name"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(names, (0..60).map(|number| format!("h{number:02}")).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_noticed_and_ends_with_a_word() {
    let mut settings = Settings::default();
    (settings.hosts.check_in_seconds, settings.hosts.silent_after) = (1, 1);
    let server = TestServer::start_with(Setup { settings, ..Setup::default() });
    let admin = server.administrator().await;
    let agent = Agent::enrol(&server, token(&admin, json!({})).await["token"].as_str().unwrap(), "web-1").await;
    agent.send_ok(&agent.whole()).await;
    let state = || async { admin.get("/api/v1/hosts/web-1").await.ok()["summary"]["state"].clone() };
    eventually("it falls silent", LIMIT, || async { state().await == "silent" }).await;
    let explained = admin.get("/api/v1/hosts/web-1/explain").await.ok();
    assert!(explained["history"].to_string().contains("no check-in for more than 1 seconds"), "{explained}");
    agent.send_ok(&agent.sign_of_life()).await;
    // It may have fallen silent again meanwhile: the history tells.
    let explained = admin.get("/api/v1/hosts/web-1/explain").await.ok();
    let words: Vec<&str> =
        explained["history"].as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    assert_eq!(words[..4], ["enrol", "report", "fall-silent", "report"]);
}
