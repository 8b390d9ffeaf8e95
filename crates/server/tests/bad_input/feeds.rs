//! Feeds that are cut, malformed, packed to burst, or empty: from a publisher and from a directory.

use super::agent::{Agent, package};
use fettle_server::clock;
use fettle_store::systems::host;
use fettle_testkit::{Client, Setup, TestServer, eventually};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, body) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(body).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The archive with a byte of its second member's data turned: a bad disk, or half a download.
fn damaged(mut archive: Vec<u8>) -> Vec<u8> {
    let second = archive.windows(4).enumerate().filter(|(_, bytes)| *bytes == b"PK\x03\x04").nth(1).unwrap().0;
    archive[second + 60] ^= 0xff;
    archive
}

fn flaw(fixed: &str) -> Value {
    let release = json!({ "status": "resolved", "repositories": {}, "urgency": "low", "fixed_version": fixed });
    json!({ "releases": { "bookworm": release } })
}

fn tracker() -> Vec<u8> {
    json!({ "app": { "CVE-2024-0001": flaw("2.0-1"), "CVE-2024-0002": flaw("3.0-1") } }).to_string().into_bytes()
}

fn osv(id: &str, fixed: &str) -> Vec<u8> {
    json!({ "id": id, "modified": "2024-01-01T00:00:00Z", "upstream": [id.trim_start_matches("DEBIAN-")], "affected": [{
        "package": { "name": "app", "ecosystem": "Debian:12" },
        "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": fixed }] }] }] })
    .to_string()
    .into_bytes()
}

fn osv_archive() -> Vec<u8> {
    zip(&[
        ("DEBIAN-CVE-2024-0003.json", osv("DEBIAN-CVE-2024-0003", "4.0-1")),
        ("DEBIAN-CVE-2024-0004.json", osv("DEBIAN-CVE-2024-0004", "5.0-1")),
    ])
}

fn kev() -> Vec<u8> {
    json!({ "catalogVersion": "1", "count": 1, "vulnerabilities": [
        { "cveID": "CVE-2024-0001", "dateAdded": "2024-01-01", "dueDate": "2024-02-01" }] })
    .to_string()
    .into_bytes()
}

const EPSS: &[u8] =
    b"#model_version:v2023.03.01,score_date:2024-12-15T00:00:00+0000\ncve,epss,percentile\nCVE-2024-0001,0.5,0.9\n";

/// Serves one document on every path, whatever is asked.
#[derive(Clone, Default)]
struct Publisher(Arc<Mutex<Vec<u8>>>);

impl Publisher {
    fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let says = self.0.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
                let body = says.lock().unwrap().clone();
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                // Whoever hangs up does not want the rest.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        base
    }

    fn says(&self, body: &[u8]) {
        *self.0.lock().unwrap() = body.to_vec();
    }
}

/// A server with all feeds loaded from a directory, and a host whose findings rest on them.
struct Scene {
    server: TestServer,
    admin: Client,
    agent: Agent,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let server = TestServer::start_with(Setup { feeds: fettle_vendors::feeds(), ..Setup::default() });
        let admin = server.administrator().await;
        let mut agent = Agent::known(&server, &admin, "web-1").await;
        agent.packages = vec![package("app", "1.0-1")];
        agent.speaks().await;
        let folder = tempfile::tempdir().unwrap();
        let scene = Self { server, admin, agent, folder };
        for (name, bytes) in
            [("tracker.json", tracker()), ("all.zip", osv_archive()), ("kev.json", kev()), ("epss.csv.gz", gz(EPSS))]
        {
            scene.put(name, &bytes);
        }
        let loaded = scene.sync(scene.directory(), &[]).await;
        assert!(loaded.iter().all(|feed| feed["phase"] == "loaded"), "{loaded:?}");
        eventually("the findings are there", LIMIT, || async { scene.findings().await.len() == 4 }).await;
        scene
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    /// Nothing else in the directory.
    fn only(&self, name: &str, bytes: &[u8]) {
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        self.put(name, bytes);
    }

    fn directory(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    async fn sync(&self, from: &str, names: &[&str]) -> Vec<Value> {
        let asked = self.admin.post("/api/v1/feeds/sync", &json!({ "from": from, "names": names })).await.ok();
        let path = format!("/api/v1/feeds/sync/{}", asked["id"]);
        eventually("the load ends", LIMIT, || async { self.admin.get(&path).await.ok()["done"] == json!(true) }).await;
        self.admin.get(&path).await.ok()["feeds"].as_array().unwrap().clone()
    }

    async fn feed(&self, name: &str) -> Value {
        let feeds = self.admin.get("/api/v1/feeds").await.ok();
        feeds["items"].as_array().unwrap().iter().find(|feed| feed["name"] == name).unwrap().clone()
    }

    /// Every finding with what it says and why.
    async fn findings(&self) -> Vec<String> {
        let listed = self.admin.get("/api/v1/findings?limit=200&state=all").await.ok();
        let mut lines = Vec::new();
        for finding in listed["items"].as_array().unwrap() {
            let texts = ["id", "vulnerability", "source", "source_version", "state", "verdict", "fixed_version"];
            lines.push(texts.map(|key| finding[key].as_str().unwrap_or("-").to_owned()).join(" "));
        }
        lines.sort();
        lines
    }

    /// What is known of every flaw: statements and facts of all feeds.
    async fn flaws(&self) -> Vec<Value> {
        let mut flaws = Vec::new();
        for number in 1..=4 {
            let flaw = self.admin.get(&format!("/api/v1/vulnerabilities/CVE-2024-000{number}")).await.ok();
            flaws.push(json!({ "statements": flaw["statements"], "facts": flaw["facts"] }));
        }
        flaws
    }

    /// Judges the host anew from what is kept; its findings then.
    async fn judged_again(&self) -> Vec<String> {
        let id = self.agent.id;
        self.server.state.store.write(move |c| host::host_mark_changed(c, id, clock::now())).await.unwrap();
        self.server.state.nudges.gathering.notify_one();
        eventually("the host is judged", LIMIT, || async {
            self.server.state.store.read(|c| host::host_changed(c, 1)).await.unwrap().is_empty()
        })
        .await;
        self.findings().await
    }
}

/// What can be wrong with a document of any feed, with a word of the complaint.
fn spoilt(name: &str, good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let packed = gz(good);
    let mut flipped = packed.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let mut spoilt = vec![
        ("cut gz", packed[..packed.len() - 9].to_vec()),
        ("half a gz", packed[..packed.len() / 2].to_vec()),
        ("damaged gz", flipped),
        ("gz bomb", gz(&vec![b' '; 64 << 20])),
        ("zip bomb", zip(&[("a.json", vec![b' '; 64 << 20])])),
        ("cut zip", zip(&[("a.json", good.to_vec())])[..40].to_vec()),
        ("empty zip", zip(&[])),
        ("empty", Vec::new()),
        ("empty map", b"{}".to_vec()),
        ("empty list", b"[]".to_vec()),
        ("page of an error", b"<!DOCTYPE html><html><title>502 Bad Gateway</title></html>".to_vec()),
        ("noise", (0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("nested", format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)).into_bytes()),
    ];
    if name != "epss" && name != "osv-debian" {
        spoilt.push(("cut json", good[..good.len() - 7].to_vec()));
        spoilt.push(("half a json", good[..good.len() / 2].to_vec()));
    }
    spoilt
}

fn good_of(name: &str) -> Vec<u8> {
    match name {
        "debian-tracker" => tracker(),
        "osv-debian" => osv("DEBIAN-CVE-2024-0003", "4.0-1"),
        "cisa-kev" => kev(),
        _ => EPSS.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_publisher_sends_each_feed_keeps_its_last_good_data() {
    let scene = Scene::new().await;
    let (findings, flaws) = (scene.findings().await, scene.flaws().await);
    let publisher = Publisher::default();
    let base = publisher.serve();
    for name in ["debian-tracker", "osv-debian", "cisa-kev", "epss"] {
        let before = scene.feed(name).await;
        for (what, body) in spoilt(name, &good_of(name)) {
            publisher.says(&body);
            let loaded = scene.sync(&format!("{base}x"), &[name]).await;
            assert_eq!(loaded[0]["phase"], "failed", "{name} {what}: {loaded:?}");
            let after = scene.feed(name).await;
            let error = after["last_error"].as_str().unwrap();
            assert!(!error.is_empty() && error.len() < 2_000, "{name} {what}: {error}");
            assert_eq!(error, loaded[0]["error"].as_str().unwrap(), "{name} {what}");
            for key in ["advisories", "facts", "source", "loaded_at"] {
                assert_eq!(after[key], before[key], "{name} {what}");
            }
        }
    }
    assert_eq!(scene.flaws().await, flaws);
    assert_eq!(scene.judged_again().await, findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_directory_changes_nothing_and_is_told() {
    let scene = Scene::new().await;
    let (findings, flaws) = (scene.findings().await, scene.flaws().await);
    for name in ["debian-tracker", "cisa-kev", "epss"] {
        for (what, body) in spoilt(name, &good_of(name)) {
            scene.only("document", &body);
            let before = scene.feed(name).await;
            let loaded = scene.sync(scene.directory(), &[name]).await;
            assert_eq!(loaded[0]["phase"], "failed", "{name} {what}: {loaded:?}");
            let after = scene.feed(name).await;
            let error = after["last_error"].as_str().unwrap();
            assert!(error.contains(scene.directory()), "{name} {what}: {error}");
            for key in ["advisories", "facts", "source", "loaded_at"] {
                assert_eq!(after[key], before[key], "{name} {what}");
            }
        }
    }
    // No document at all, asked for by name and for every feed.
    scene.only("README", b"Feeds come here.");
    let loaded = scene.sync(scene.directory(), &[]).await;
    for feed in &loaded {
        assert_eq!(feed["phase"], "failed", "{feed}");
        assert!(feed["error"].as_str().unwrap().contains("holds no document"), "{feed}");
        let kept = scene.feed(feed["name"].as_str().unwrap()).await;
        assert_eq!(kept["last_error"], feed["error"]);
    }
    let empty = tempfile::tempdir().unwrap();
    let loaded = scene.sync(empty.path().to_str().unwrap(), &["epss"]).await;
    assert_eq!(loaded[0]["phase"], "failed", "{loaded:?}");
    assert_eq!(scene.flaws().await, flaws);
    assert_eq!(scene.judged_again().await, findings);

    // A good one again: the complaint is gone.
    scene.only("tracker.json", &tracker());
    assert_eq!(scene.sync(scene.directory(), &["debian-tracker"]).await[0]["phase"], "loaded");
    assert_eq!(scene.feed("debian-tracker").await["last_error"], "");
    assert_eq!(scene.judged_again().await, findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_breaks_in_the_middle_is_not_taken_by_half() {
    let scene = Scene::new().await;
    let (findings, flaws) = (scene.findings().await, scene.flaws().await);
    scene.only("all.zip", &damaged(osv_archive()));
    let loaded = scene.sync(scene.directory(), &["osv-debian"]).await;
    assert_eq!(loaded[0]["phase"], "failed", "half of an archive was taken for the whole: {loaded:?}");
    let kept = scene.feed("osv-debian").await;
    assert!(kept["last_error"].as_str().unwrap().contains("damaged or cut"), "{kept}");
    assert_eq!(kept["advisories"], json!(2));
    // Two archives, one of them whole: what is in the other is not forgotten.
    scene.put("a.zip", &zip(&[("DEBIAN-CVE-2024-0003.json", osv("DEBIAN-CVE-2024-0003", "4.0-1"))]));
    let loaded = scene.sync(scene.directory(), &["osv-debian"]).await;
    assert_eq!(loaded[0]["phase"], "failed", "{loaded:?}");
    assert_eq!(scene.flaws().await, flaws);
    assert_eq!(scene.judged_again().await, findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_record_spoils_nothing_but_itself_and_is_named() {
    let scene = Scene::new().await;
    let findings = scene.findings().await;
    let bad = json!({
        "app": { "CVE-2024-0001": flaw("2.0-1"), "CVE-2024-0002": flaw("3.0-1"), "CVE-2024-0009": 7 },
        "lib": [], "": { "CVE-2024-0001": flaw("1") }, "other": { "CVE-2024-0005": { "releases": "none" } },
        "odd": { "CVE-2024-0006": { "releases": { "bookworm": { "status": "perhaps" } } } },
    });
    scene.only("tracker.json", bad.to_string().as_bytes());
    scene.put(
        "kev.json",
        json!({ "catalogVersion": "2", "count": 2, "vulnerabilities": [
            7, { "cveID": "CVE-2024-0001", "dateAdded": "2024-01-01", "dueDate": "2024-02-01" }] })
        .to_string()
        .as_bytes(),
    );
    scene.put("epss.csv", b"#model_version:v1,score_date:2024-12-15T00:00:00+0000\ncve,epss,percentile\nCVE-2024-0001,0.5,0.9\nCVE-2024-0002,much,0.9\nCVE-2024-0003\n,,,\nCVE-2024-0004,NaN,inf\n");
    let loaded = scene.sync(scene.directory(), &["debian-tracker", "cisa-kev", "epss"]).await;
    for feed in &loaded {
        assert_eq!(feed["phase"], "loaded", "{loaded:?}");
        assert!(feed["problems"].as_u64().unwrap() > 0, "{feed}");
        let kept = scene.feed(feed["name"].as_str().unwrap()).await;
        let problems = kept["problems"].as_array().unwrap();
        assert!(!problems.is_empty() && problems.len() <= 50, "{kept}");
        for problem in problems {
            let said = |key: &str| problem[key].as_str().is_some_and(|text| !text.is_empty());
            assert!(said("place") && said("message"), "{problem}");
        }
        assert_eq!(kept["last_error"], "");
    }
    assert_eq!(scene.judged_again().await, findings, "the good ones count as before");
    let flaw = scene.admin.get("/api/v1/vulnerabilities/CVE-2024-0001").await.ok();
    assert_eq!(
        (flaw["facts"]["epss_score"].clone(), flaw["facts"]["kev_date_added"].clone()),
        (json!(0.5), json!("2024-01-01")),
        "{flaw}"
    );
    assert!(Path::new(scene.directory()).exists());
}
