//! From a feed's document and a host's inventory to a finding, its proof and its return, through the
//! real server: publishers' sample documents, check-ins over mutual TLS, the REST API.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_content::sha256_hex;
use fettle_domain::HostId;
use fettle_domain::host::{Kernel, OsRelease};
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_server::clock;
use fettle_store::systems::finding;
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_testkit::{Client, Setup, TestDatabase, TestServer, eventually};
use fettle_wire::agent::{CheckIn, HostFacts, PackagesReport, SectionDigests, Service};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/feeds").canonicalize().unwrap()
}

/// A host that speaks the protocol, and what it has.
struct Host {
    id: HostId,
    client: Client,
    facts: HostFacts,
    packages: Vec<InstalledPackage>,
    services: Vec<Service>,
}

impl Host {
    async fn new(server: &TestServer, name: &str) -> Self {
        let id: HostId = clock::fresh();
        let columns = HostFactsColumns { name: name.to_owned(), json: "{}".into(), ..HostFactsColumns::default() };
        server
            .state
            .store
            .write(move |connection| host::host_create(connection, id, &columns, "test", clock::now()))
            .await
            .unwrap();
        let facts = HostFacts {
            name: name.to_owned(),
            os: OsRelease {
                id: "debian".into(),
                version_id: "12".into(),
                codename: "bookworm".into(),
                pretty_name: "Debian 12".into(),
            },
            ..HostFacts::default()
        };
        Self { id, client: server.host_client(id), facts, packages: Vec::new(), services: Vec::new() }
    }

    /// Installs a package in place of the one of the same name.
    fn install(&mut self, name: &str, version: &str, source: &str, source_version: &str) {
        self.packages.retain(|installed| installed.package.name != name);
        self.packages.push(InstalledPackage {
            package: PackageVersion {
                ecosystem: Ecosystem::Debian,
                name: name.into(),
                version: version.into(),
                architecture: "amd64".into(),
                source: source.into(),
                source_version: source_version.into(),
            },
            origin: "Debian:bookworm".into(),
            held: false,
            automatic: true,
            state: InstallState::Installed,
        });
        self.packages.sort();
    }

    fn plain(&mut self, name: &str, version: &str, source: &str) {
        self.install(name, version, source, version);
    }

    async fn check_in(&self) {
        let digest = |value: String| sha256_hex(value.as_bytes());
        let check_in = CheckIn {
            agent_version: "test".into(),
            time: clock::now(),
            chain: None,
            digests: SectionDigests {
                facts: digest(serde_json::to_string(&self.facts).unwrap()),
                packages: digest(serde_json::to_string(&self.packages).unwrap()),
                services: digest(serde_json::to_string(&self.services).unwrap()),
            },
            facts: Some(self.facts.clone()),
            packages: Some(PackagesReport::Complete { packages: self.packages.clone() }),
            services: Some(self.services.clone()),
        };
        let reply = self.client.post("/agent/v1/check-in", &serde_json::to_value(&check_in).unwrap()).await.ok();
        assert_eq!(reply["want"], json!([]), "{reply}");
    }
}

/// Loads feeds from a directory and waits for the end; the progress of each feed.
async fn sync(admin: &Client, directory: &Path) -> Value {
    let asked = admin.post("/api/v1/feeds/sync", &json!({ "from": directory })).await.ok();
    let path = format!("/api/v1/feeds/sync/{}", asked["id"]);
    eventually("the load ends", LIMIT, || async { admin.get(&path).await.ok()["done"] == json!(true) }).await;
    admin.get(&path).await.ok()["feeds"].clone()
}

fn phase(feeds: &Value, name: &str) -> String {
    let feed = feeds.as_array().unwrap().iter().find(|feed| feed["name"] == name).unwrap();
    feed["phase"].as_str().unwrap().to_owned()
}

async fn findings(admin: &Client, query: &str) -> Vec<Value> {
    admin.get(&format!("/api/v1/findings?limit=200&{query}")).await.ok()["items"].as_array().unwrap().clone()
}

fn line(finding: &Value) -> String {
    let text = |key: &str| finding[key].as_str().unwrap_or("-").to_owned();
    ["vulnerability", "source", "source_version", "state", "verdict", "fixed_version"].map(text).join(" ")
}

/// Waits until the findings of a host are exactly so many in a state.
async fn until(admin: &Client, what: &str, query: &str, number: usize) -> Vec<Value> {
    eventually(what, LIMIT, || async { findings(admin, query).await.len() == number }).await;
    findings(admin, query).await
}

fn start(database: TestDatabase) -> TestServer {
    TestServer::start_with(Setup { feeds: fettle_vendors::feeds(), database: Some(database), ..Setup::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_opens_is_proved_gone_and_comes_back() {
    for database in TestDatabase::all() {
        let server = start(database);
        let admin = server.administrator().await;
        let loaded = sync(&admin, &samples()).await;
        for name in ["debian-tracker", "cisa-kev", "epss"] {
            assert_eq!(phase(&loaded, name), "loaded", "{loaded}");
        }
        assert_eq!(phase(&loaded, "osv-debian"), "absent");

        let mut host = Host::new(&server, "web1").await;
        host.plain("libexpat1", "2.5.0-1+deb12u1", "expat");
        host.plain("sed", "4.9-1", "sed");
        host.check_in().await;
        let of_host = format!("host={}", host.id);
        eventually("findings open", LIMIT, || async { !findings(&admin, &of_host).await.is_empty() }).await;
        let open = findings(&admin, &of_host).await;
        assert!(open.iter().all(|finding| finding["state"] == "open" && finding["verdict"] == "affected"));
        let known =
            open.iter().find(|finding| finding["vulnerability"] == "CVE-2024-50602").expect("fixed by 2.5.0-1+deb12u2");
        assert_eq!(line(known), "CVE-2024-50602 expat 2.5.0-1+deb12u1 open affected 2.5.0-1+deb12u2");
        let id = known["id"].as_str().unwrap().to_owned();

        let explained = admin.get(&format!("/api/v1/findings/{id}/explain")).await.ok();
        let told: Vec<String> = explained["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reason| {
                format!(
                    "{}: {} [{}]",
                    reason["topic"].as_str().unwrap(),
                    reason["text"].as_str().unwrap(),
                    reason["source"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "match.version-below-fix: expat 2.5.0-1+deb12u1 is below 2.5.0-1+deb12u2, the first fixed version in bookworm (dpkg ordering) [debian-tracker: CVE-2024-50602]",
                "priority.severity-unknown: no feed states a severity []",
                "priority.epss: probability of exploitation within 30 days: 0.04 % [epss]",
            ]
        );
        let flaw = admin.get("/api/v1/vulnerabilities/CVE-2024-50602").await.ok();
        assert_eq!(flaw["hosts"], json!(1));

        // A later inventory proves it: nothing else closes it.
        host.plain("libexpat1", "2.9.9-1", "expat");
        host.check_in().await;
        let query = format!("{of_host}&source=expat&state=verified");
        let verified = until(
            &admin,
            "the fix is proved",
            &query,
            open.iter().filter(|finding| finding["source"] == "expat").count(),
        )
        .await;
        assert!(verified.iter().all(|finding| finding["source_version"] == "2.9.9-1"));
        let detail = admin.get(&format!("/api/v1/findings/{id}")).await.ok();
        assert_eq!(detail["reasons"][0]["topic"], "match.version-has-fix");

        // The old version is back, and so is the flaw.
        host.plain("libexpat1", "2.5.0-1+deb12u1", "expat");
        host.check_in().await;
        until(&admin, "the flaw comes back", &format!("{of_host}&source=expat&state=open"), verified.len()).await;
        let history = admin.get(&format!("/api/v1/findings/{id}")).await.ok()["history"].clone();
        let events: Vec<&str> =
            history.as_array().unwrap().iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["open", "prove", "regress"]);

        // Removing the package closes it too.
        host.packages.retain(|installed| installed.package.source != "expat");
        host.check_in().await;
        until(&admin, "a removed package proves", &format!("{of_host}&source=expat&state=verified"), verified.len())
            .await;
        let detail = admin.get(&format!("/api/v1/findings/{id}")).await.ok();
        assert_eq!(detail["reasons"][0]["topic"], "match.package-gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_but_does_not_run_yet_closes_nothing() {
    for database in TestDatabase::all() {
        let server = start(database);
        let admin = server.administrator().await;
        sync(&admin, &samples()).await;
        let mut host = Host::new(&server, "db1").await;
        host.plain("libexpat1", "2.5.0-1", "expat");
        host.install("linux-image-6.1.0-7-amd64", "6.1.20-1", "linux-signed-amd64", "6.1.20+1");
        host.facts.kernel =
            Kernel { running_release: "6.1.0-7-amd64".into(), running_version: "6.1.20-1".into(), ..Kernel::default() };
        host.check_in().await;
        let of_host = format!("host={}", host.id);
        let (expat, linux) = (format!("{of_host}&source=expat"), format!("{of_host}&source=linux&text=CVE-2023-2"));
        eventually("findings open", LIMIT, || async { !findings(&admin, &linux).await.is_empty() }).await;
        let (libraries, kernels) = (findings(&admin, &expat).await.len(), findings(&admin, &linux).await.len());
        assert!(libraries > 3 && kernels > 3, "{libraries} {kernels}");

        host.plain("libexpat1", "2.9.9-1", "expat");
        host.install("linux-image-6.1.0-99-amd64", "6.1.999-1", "linux-signed-amd64", "6.1.999+1");
        let uses = |outdated: &[&str]| Service {
            unit: "app.service".into(),
            executable: "/usr/bin/app".into(),
            package: "app".into(),
            listens: vec![],
            restart_pending: !outdated.is_empty(),
            outdated_packages: outdated.iter().map(|name| (*name).to_owned()).collect(),
        };
        host.services = vec![uses(&["libexpat1"])];
        host.check_in().await;
        until(&admin, "the library waits for a restart", &format!("{expat}&verdict=restart-needed"), libraries).await;
        until(&admin, "the kernel waits for a reboot", &format!("{linux}&verdict=restart-needed"), kernels).await;
        assert_eq!(findings(&admin, &format!("{of_host}&state=verified")).await, Vec::<Value>::new());

        host.services = vec![uses(&[])];
        host.facts.kernel = Kernel {
            running_release: "6.1.0-99-amd64".into(),
            running_version: "6.1.999-1".into(),
            ..Kernel::default()
        };
        host.check_in().await;
        until(&admin, "the restart proves", &format!("{expat}&state=verified"), libraries).await;
        until(&admin, "the reboot proves", &format!("{linux}&state=verified"), kernels).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn feeds_change_what_is_known_and_bad_ones_change_nothing() {
    for database in TestDatabase::all() {
        let server = start(database);
        let admin = server.administrator().await;
        let folder = tempfile::tempdir().unwrap();
        let tracker = |entry: Value| {
            let document = json!({ "app": { "CVE-2024-0001": { "description": "A flaw.", "releases": { "bookworm": entry } } },
                                   "other": { "CVE-2024-0002": { "releases": { "bookworm": open() } } } });
            std::fs::write(folder.path().join("tracker.json"), document.to_string()).unwrap();
        };
        fn open() -> Value {
            json!({ "status": "open", "repositories": {}, "urgency": "not yet assigned" })
        }
        tracker(open());
        sync(&admin, folder.path()).await;
        let mut host = Host::new(&server, "app1").await;
        host.plain("app", "1.0-1", "app");
        host.check_in().await;
        let of_host = format!("host={}", host.id);
        let found = until(&admin, "the finding opens", &of_host, 1).await;
        assert_eq!(
            (&found[0]["level"], &found[0]["exploited"], &found[0]["fixed_version"]),
            (&json!("unknown"), &json!(false), &Value::Null)
        );

        // A fix is published, the flaw gets exploited: the same finding, other evidence, more urgent.
        tracker(json!({ "status": "resolved", "repositories": {}, "urgency": "high", "fixed_version": "1.0-2" }));
        let kev = json!({ "catalogVersion": "1", "count": 1, "vulnerabilities": [
            { "cveID": "CVE-2024-0001", "dateAdded": "2024-01-01", "dueDate": "2024-01-22", "knownRansomwareCampaignUse": "Known" }] });
        std::fs::write(folder.path().join("kev.json"), kev.to_string()).unwrap();
        sync(&admin, folder.path()).await;
        let found = until(&admin, "it is known exploited", &format!("{of_host}&exploited=true"), 1).await;
        assert_eq!((&found[0]["level"], &found[0]["fixed_version"]), (&json!("high"), &json!("1.0-2")));

        // A document that was cut, a bomb, and no document at all: the last good data stays in use.
        let whole = std::fs::read(folder.path().join("tracker.json")).unwrap();
        std::fs::write(folder.path().join("tracker.json"), &whole[..whole.len() - 20]).unwrap();
        let loaded = sync(&admin, folder.path()).await;
        assert_eq!(phase(&loaded, "debian-tracker"), "failed", "{loaded}");
        let feeds = admin.get("/api/v1/feeds").await.ok();
        let feed =
            feeds["items"].as_array().unwrap().iter().find(|feed| feed["name"] == "debian-tracker").unwrap().clone();
        assert_eq!(feed["advisories"], json!(2));
        assert!(feed["last_error"].as_str().unwrap().contains("EOF while parsing"), "{feed}");
        assert_eq!(findings(&admin, &of_host).await.len(), 1);

        // The publisher finds that it was never affected: dismissed, not proved. And takes that back.
        tracker(json!({ "status": "resolved", "repositories": {}, "urgency": "high", "fixed_version": "0" }));
        sync(&admin, folder.path()).await;
        until(&admin, "it is dismissed", &format!("{of_host}&state=not-affected"), 1).await;
        tracker(open());
        sync(&admin, folder.path()).await;
        until(&admin, "it is reinstated", &format!("{of_host}&state=open"), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cannot_be_matched_does_not_hold_up_the_others() {
    for database in TestDatabase::all() {
        let server = start(database);
        let admin = server.administrator().await;
        let mut broken = Host::new(&server, "broken").await;
        broken.plain("libexpat1", "2.5.0-1", "expat");
        broken.check_in().await;
        eventually("the first inventory is judged", LIMIT, || async {
            let id = broken.id;
            server.state.store.read(move |connection| finding::evaluation_get(connection, id)).await.unwrap().is_some()
        })
        .await;
        // Something on disk went wrong: it is told in the log, and nothing is guessed.
        let id = broken.id;
        let unreadable = HostFactsColumns {
            name: "broken".into(),
            os_codename: "bookworm".into(),
            json: "nonsense".into(),
            ..HostFactsColumns::default()
        };
        server.state.store.write(move |connection| host::host_set_facts(connection, id, &unreadable)).await.unwrap();
        sync(&admin, &samples()).await;
        let mut whole = Host::new(&server, "whole").await;
        whole.plain("libexpat1", "2.5.0-1", "expat");
        whole.check_in().await;
        eventually("the other host is matched", LIMIT, || async {
            !findings(&admin, &format!("host={}", whole.id)).await.is_empty()
        })
        .await;
        assert_eq!(findings(&admin, &format!("host={}", broken.id)).await, Vec::<Value>::new());

        // What is whole again is matched again.
        broken.plain("libexpat1", "2.5.0-1+deb12u1", "expat");
        broken.check_in().await;
        eventually("the mended host is matched", LIMIT, || async {
            !findings(&admin, &format!("host={}", broken.id)).await.is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_nothing_and_judges_nobody_anew() {
    for database in TestDatabase::all() {
        let server = start(database);
        let admin = server.administrator().await;
        sync(&admin, &samples()).await;
        let mut host = Host::new(&server, "web1").await;
        host.plain("libexpat1", "2.5.0-1", "expat");
        host.check_in().await;
        let of_host = format!("host={}", host.id);
        eventually("findings open", LIMIT, || async { !findings(&admin, &of_host).await.is_empty() }).await;
        let before = findings(&admin, &of_host).await;
        let again = TestServer::start_with(Setup { feeds: fettle_vendors::feeds(), ..server.stop() });
        let admin = again.login("admin").await;
        // A change after the restart is judged by the same feeds.
        host.client = again.host_client(host.id);
        host.plain("sed", "4.9-1", "sed");
        host.check_in().await;
        eventually("the new package is matched", LIMIT, || async {
            findings(&admin, &of_host).await.len() > before.len()
        })
        .await;
        let after = findings(&admin, &format!("{of_host}&source=expat")).await;
        assert_eq!(after, before, "ids, times and evidence are the same");
    }
}
