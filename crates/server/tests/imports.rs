//! Inventories of machines that reach no server, imported from files through the real API, on both
//! databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_content::sha256_hex;
use fettle_domain::access::Role;
use fettle_domain::host::OsRelease;
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_server::clock;
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_testkit::{Client, Setup, TestDatabase, TestServer, eventually};
use fettle_wire::agent::{HostFacts, SectionDigests};
use fettle_wire::scan::{FORMAT, Machine, Scan, VERSION};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const FLAW: &str = "CVE-2024-50602";
const AFFECTED: &str = "2.5.0-1+deb12u1";
const FIXED: &str = "2.5.0-1+deb12u2";

fn package(name: &str, source: &str, version: &str) -> InstalledPackage {
    InstalledPackage {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: source.into(),
            source_version: version.into(),
        },
        origin: "Debian:bookworm".into(),
        held: false,
        automatic: true,
        state: InstallState::Installed,
    }
}

/// What `fettle agent scan` writes on a machine of this name, with this version of libexpat1.
fn scan(name: &str, machine: &str, version: &str) -> Scan {
    let os = OsRelease {
        id: "debian".into(),
        version_id: "12".into(),
        codename: "bookworm".into(),
        pretty_name: "Debian 12".into(),
    };
    let digest = |json: String| sha256_hex(json.as_bytes());
    let facts = HostFacts { name: name.into(), os, ..HostFacts::default() };
    let packages = vec![package("libexpat1", "expat", version), package("sed", "sed", "4.9-1")];
    Scan {
        format: FORMAT.into(),
        version: VERSION,
        made_at: clock::now(),
        made_by: "fettle 0.1.0".into(),
        user: "joe".into(),
        missing: vec!["the UUID of the hardware (needs root)".into()],
        machine: Machine { id: machine.into(), product_uuid: String::new() },
        digests: SectionDigests {
            facts: digest(serde_json::to_string(&facts).unwrap()),
            packages: digest(serde_json::to_string(&packages).unwrap()),
            services: digest("[]".into()),
        },
        facts,
        packages,
        services: Vec::new(),
    }
}

async fn server(database: TestDatabase) -> (TestServer, Client) {
    let server =
        TestServer::start_with(Setup { feeds: fettle_vendors::feeds(), database: Some(database), ..Setup::default() });
    let admin = server.administrator().await;
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/feeds").canonicalize().unwrap();
    let asked = admin.post("/api/v1/feeds/sync", &json!({ "from": samples })).await.ok();
    let path = format!("/api/v1/feeds/sync/{}", asked["id"]);
    eventually("the feeds are loaded", LIMIT, || async { admin.get(&path).await.ok()["done"] == json!(true) }).await;
    (server, admin)
}

async fn import(client: &Client, scan: &Scan) -> fettle_testkit::Reply {
    client.post("/api/v1/host-imports", &serde_json::to_value(scan).unwrap()).await
}

async fn findings(admin: &Client, state: &str) -> Vec<Value> {
    let path = format!("/api/v1/findings?vulnerability={FLAW}&state={state}");
    admin.get(&path).await.ok()["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_network_has_its_findings_and_is_left_alone() {
    for database in TestDatabase::all() {
        let (server, admin) = server(database).await;
        let operator = server.user(&admin, "olga", Role::Operator).await;
        let viewer = server.user(&admin, "vera", Role::Viewer).await;
        let file = scan("island", "aa11", AFFECTED);
        assert_eq!(import(&viewer, &file).await.status, 403);
        let made = import(&operator, &file).await.ok();
        assert_eq!(
            (made["new"].as_bool(), made["packages"].as_u64(), made["name"].as_str()),
            (Some(true), Some(2), Some("island"))
        );
        eventually("its finding is open", LIMIT, || async { findings(&admin, "open").await.len() == 1 }).await;

        let host = admin.get("/api/v1/hosts/island").await.ok();
        assert_eq!(
            (host["summary"]["state"].as_str(), host["summary"]["management"].as_str()),
            (Some("imported"), Some("agentless"))
        );
        assert_eq!(host["imported"]["imported_by"], "olga");
        assert_eq!(host["imported"]["missing"][0], "the UUID of the hardware (needs root)");
        assert_eq!(admin.get("/api/v1/hosts/counts").await.ok()["imported"], 1);
        let id = findings(&admin, "open").await[0]["id"].as_str().unwrap().to_owned();
        let finding = admin.get(&format!("/api/v1/findings/{id}")).await.ok();
        let as_of = format!("the inventory of island is as of {}, imported by olga", file.made_at);
        assert!(finding["reasons"].to_string().contains(&as_of), "{finding:#}");
        let audit = admin.get("/api/v1/audit?limit=20").await.ok();
        let entry = audit["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "host.import").unwrap();
        assert_eq!((entry["actor"].as_str(), entry["detail"]["name"].as_str()), (Some("olga"), Some("island")));

        // A change for it is refused for that host, with the reason.
        let change = operator.post("/api/v1/changes", &json!({ "vulnerabilities": [FLAW], "hosts": ["island"] })).await;
        let said = change.text.clone();
        assert!(said.contains("no agent runs there that could carry out a change"), "{said}");

        // The same machine under another name, patched meanwhile: known by its id, the finding is closed.
        let patched = scan("island-2", "aa11", FIXED);
        let again = import(&operator, &patched).await.ok();
        assert_eq!(
            (again["new"].as_bool(), again["known_by"].as_str(), again["host"].as_str()),
            (Some(false), Some("machine id"), made["host"].as_str())
        );
        eventually("the finding is verified", LIMIT, || async { findings(&admin, "verified").await.len() == 1 }).await;
        assert_eq!(admin.get("/api/v1/hosts/island-2").await.ok()["summary"]["id"], made["host"]);

        // An older file brings nothing back.
        let mut old = scan("island-2", "aa11", AFFECTED);
        old.made_at = file.made_at;
        let refused = import(&operator, &old).await;
        assert_eq!(refused.status, 409);
        assert!(refused.text.contains("was imported already, by olga"), "{}", refused.text);
        // Revoked like any other host; afterwards the machine is a new one.
        admin.post("/api/v1/hosts/island-2/revoke", &json!({ "reason": "scrapped" })).await.ok();
        assert_eq!(import(&operator, &scan("island-2", "aa11", FIXED)).await.ok()["new"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_like_an_agents_host_or_hostile_is_refused_by_name() {
    for database in TestDatabase::all() {
        let (server, admin) = server(database).await;
        let columns = HostFactsColumns { name: "web-1".into(), json: "{}".into(), ..HostFactsColumns::default() };
        server
            .state
            .store
            .write(move |connection| host::host_create(connection, clock::fresh(), &columns, "test", clock::now()))
            .await
            .unwrap();
        let refused = import(&admin, &scan("web-1", "bb22", FIXED)).await;
        assert_eq!(refused.status, 409);
        assert!(refused.text.contains("web-1 has an agent"), "{}", refused.text);

        // Two machines of one name are told apart by their ids; without ids the name decides.
        assert_eq!(import(&admin, &scan("twin", "c1", FIXED)).await.ok()["new"], true);
        assert_eq!(import(&admin, &scan("twin", "c2", FIXED)).await.ok()["new"], true);
        assert_eq!(import(&admin, &scan("plain", "", FIXED)).await.ok()["new"], true);
        assert_eq!(import(&admin, &scan("plain", "", FIXED)).await.ok()["known_by"], "name");

        let hosts = admin.get("/api/v1/hosts?limit=50").await.ok()["items"].as_array().unwrap().len();
        let post = async |value: Value| admin.post("/api/v1/host-imports", &value).await;
        let good = || serde_json::to_value(scan("hostile", "dd44", FIXED)).unwrap();
        let with = |pointer: &str, value: Value| {
            let mut document = good();
            *document.pointer_mut(pointer).unwrap() = value;
            document
        };
        let cases = [
            (with("/format", json!("other")), "format"),
            (with("/version", json!(2)), "version"),
            (with("/made_at", json!("2999-01-01T00:00:00Z")), "made_at"),
            (with("/machine/id", json!("../../etc")), "machine.id"),
            (with("/machine/product_uuid", json!("z".repeat(100))), "machine.product_uuid"),
            (with("/user", json!("a\nb")), "user"),
            (with("/missing", json!(vec!["x"; 51])), "missing"),
            (with("/packages/0/version", json!("9")), "packages"),
            (with("/packages/0/name", json!("x\u{1b}")), "packages"),
            (with("/facts/name", json!("other")), "facts"),
            (with("/digests/services", json!("0")), "services"),
            (with("/packages", json!([{ "name": 7 }])), "packages[0].name"),
        ];
        for (document, field) in cases {
            let reply = post(document).await;
            assert!(matches!(reply.status, 400 | 422), "{field}: {} {}", reply.status, reply.text);
            assert_eq!(reply.json["field"], field, "{}", reply.text);
        }
        let mut unknown = good();
        unknown.as_object_mut().unwrap().insert("surprise".into(), json!(1));
        assert!(post(unknown).await.text.contains("unknown field `surprise`"));
        assert_eq!(post(json!([])).await.status, 400);
        let many: Vec<Value> = (0..50_001)
            .map(|number| serde_json::to_value(package(&format!("p{number:06}"), "p", "1")).unwrap())
            .collect();
        let mut document = good();
        document["packages"] = json!(many);
        let reply = post(document).await;
        assert!(reply.text.contains("at most 50000 are taken"), "{}", reply.text);
        let now = admin.get("/api/v1/hosts?limit=50").await.ok()["items"].as_array().unwrap().len();
        assert_eq!(now, hosts, "nothing of it became a host");
    }
}
