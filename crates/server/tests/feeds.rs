//! Loading feeds from a publisher over HTTP: conditional requests, packed documents, and every way in
//! which a publisher can misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_testkit::{Client, Setup, TestServer, eventually};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A publisher's web server: whole answers by path, and the requests it got.
#[derive(Clone, Default)]
struct Publisher {
    answers: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Publisher {
    /// Serves until the process ends; its base URL.
    fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let publisher = self.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| publisher.answer(stream)));
        base
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
        let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        let etag =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("if-none-match: ").map(str::to_owned));
        self.requests.lock().unwrap().push(format!("{path} {}", etag.as_deref().unwrap_or("-")));
        let whole = self
            .answers
            .lock()
            .unwrap()
            .get(&path)
            .cloned()
            .unwrap_or_else(|| b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec());
        let tagged =
            etag.filter(|etag| whole.windows(etag.len()).any(|window| window.eq_ignore_ascii_case(etag.as_bytes())));
        let bytes =
            if tagged.is_some() { b"HTTP/1.1 304 Not Modified\r\ncontent-length: 0\r\n\r\n".to_vec() } else { whole };
        // Whoever hangs up does not want the rest.
        let _ = stream.write_all(&bytes);
    }

    fn says(&self, path: &str, headers: &str, body: &[u8]) {
        let mut bytes = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.answers.lock().unwrap().insert(path.into(), bytes);
    }

    fn document(&self, path: &str, etag: &str, body: &[u8]) {
        self.says(path, &format!("etag: \"{etag}\"\r\ncontent-length: {}\r\n", body.len()), body);
    }

    fn took(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(members: &[(&str, String)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, body) in members {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(body.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tracker(fixed: &str) -> Vec<u8> {
    let release = json!({ "status": "resolved", "repositories": {}, "urgency": "low", "fixed_version": fixed });
    json!({ "app": { "CVE-2024-0001": { "releases": { "bookworm": release } } } }).to_string().into_bytes()
}

fn osv(id: &str, fixed: &str) -> String {
    json!({ "id": id, "modified": "2024-01-01T00:00:00Z", "upstream": ["CVE-2024-0001"], "affected": [{
        "package": { "name": "app", "ecosystem": "Debian:12" },
        "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": fixed }] }] }] })
    .to_string()
}

/// Loads and waits for the end: feed name → (phase, error).
async fn sync(admin: &Client, from: &str, names: &[&str]) -> HashMap<String, (String, String)> {
    let asked = admin.post("/api/v1/feeds/sync", &json!({ "from": from, "names": names })).await.ok();
    let path = format!("/api/v1/feeds/sync/{}", asked["id"]);
    eventually("the load ends", LIMIT, || async { admin.get(&path).await.ok()["done"] == json!(true) }).await;
    let ended = admin.get(&path).await.ok();
    let text = |feed: &Value, key: &str| feed[key].as_str().unwrap().to_owned();
    ended["feeds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feed| (text(feed, "name"), (text(feed, "phase"), text(feed, "error"))))
        .collect()
}

async fn feed(admin: &Client, name: &str) -> Value {
    let feeds = admin.get("/api/v1/feeds").await.ok();
    feeds["items"].as_array().unwrap().iter().find(|feed| feed["name"] == name).unwrap().clone()
}

fn start() -> TestServer {
    TestServer::start_with(Setup { feeds: fettle_vendors::feeds(), ..Setup::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_asked_for_what_is_newer_only() {
    let server = start();
    let admin = server.administrator().await;
    let publisher = Publisher::default();
    let base = publisher.serve();
    publisher.document("json", "t1", &tracker("1.0-2"));
    publisher.document("epss_scores-current.csv.gz", "e1", &gz(b"cve,epss,percentile\nCVE-2024-0001,0.5,0.9\n"));
    publisher.document(
        "all.zip",
        "o1",
        &zip(&[
            ("DSA-1-1.json", osv("DSA-1-1", "1.0-2")),
            ("DEBIAN-CVE-2024-0001.json", osv("DEBIAN-CVE-2024-0001", "1.0-2")),
        ]),
    );

    let loaded = sync(&admin, &base, &[]).await;
    for name in ["debian-tracker", "epss", "osv-debian"] {
        assert_eq!(loaded[name], ("loaded".into(), String::new()));
    }
    let (phase, error) = &loaded["cisa-kev"];
    assert_eq!(phase, "failed");
    assert!(error.contains("answered 404 Not Found"), "{error}");
    assert_eq!(feed(&admin, "osv-debian").await["advisories"], json!(2));

    publisher.took();
    let again = sync(&admin, &base, &["debian-tracker", "osv-debian"]).await;
    assert_eq!((again["debian-tracker"].0.as_str(), again["osv-debian"].0.as_str()), ("unchanged", "unchanged"));
    assert_eq!(publisher.took(), ["json \"t1\"", "all.zip \"o1\""]);

    publisher.document("json", "t2", &tracker("1.0-3"));
    assert_eq!(sync(&admin, &base, &["debian-tracker"]).await["debian-tracker"].0, "loaded");
    let flaw = admin.get("/api/v1/vulnerabilities/CVE-2024-0001").await.ok();
    let tracker = flaw["statements"]
        .as_array()
        .unwrap()
        .iter()
        .find(|statement| statement["feed"] == "debian-tracker")
        .unwrap()
        .clone();
    assert_eq!(tracker["fixed_version"], "1.0-3");
    assert_eq!(flaw["facts"]["epss_score"], json!(0.5));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_publisher_sends_the_last_good_data_stays() {
    let server = start();
    let admin = server.administrator().await;
    let publisher = Publisher::default();
    let base = publisher.serve();
    let whole = tracker("1.0-2");
    publisher.document("json", "t1", &whole);
    sync(&admin, &base, &["debian-tracker"]).await;

    let length = whole.len();
    let bomb = gz(&vec![b' '; 64 << 20]);
    let cut_gz = gz(&whole);
    let bad: Vec<(String, Vec<u8>, &str)> = vec![
        (format!("content-length: {length}\r\n"), whole[..length - 9].to_vec(), "broke off"),
        (format!("content-length: {}\r\n", length - 9), whole[..length - 9].to_vec(), "EOF while parsing"),
        (format!("content-length: {}\r\n", 9_u64 << 40), whole.clone(), "more than the"),
        (format!("content-length: {}\r\n", bomb.len()), bomb, "decompression bomb"),
        (format!("content-length: {}\r\n", cut_gz.len() - 6), cut_gz[..cut_gz.len() - 6].to_vec(), "damaged or cut"),
        ("content-length: 2\r\n".into(), b"{}".to_vec(), "no usable record"),
        ("content-length: 15\r\n".into(), b"<html></html>\r\n".to_vec(), "cannot read"),
    ];
    for (headers, body, wanted) in bad {
        publisher.says("json", &headers, &body);
        let loaded = sync(&admin, &base, &["debian-tracker"]).await;
        let (phase, error) = &loaded["debian-tracker"];
        assert_eq!(phase, "failed", "{wanted}: {error}");
        assert!(error.contains(wanted), "{wanted}: {error}");
        let kept = feed(&admin, "debian-tracker").await;
        assert_eq!(kept["advisories"], json!(1), "{wanted}");
        assert!(kept["last_error"].as_str().unwrap().contains(wanted), "{kept}");
        assert!(kept["age_seconds"].as_u64().is_some());
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let loaded = sync(&admin, &format!("http://{nobody}/"), &["debian-tracker"]).await;
    assert!(loaded["debian-tracker"].1.contains("cannot fetch"), "{loaded:?}");
    assert_eq!(feed(&admin, "debian-tracker").await["advisories"], json!(1));

    publisher.document("json", "t9", &tracker("1.0-9"));
    assert_eq!(sync(&admin, &base, &["debian-tracker"]).await["debian-tracker"].0, "loaded");
    assert_eq!(feed(&admin, "debian-tracker").await["last_error"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_source_is_refused_before_anything_is_fetched() {
    let server = start();
    let admin = server.administrator().await;
    for (body, field) in [
        (json!({ "from": "ftp://example.org/x" }), "from"),
        (json!({ "from": "relative/folder" }), "from"),
        (json!({ "from": "/does/not/exist" }), "from"),
        (json!({ "names": ["nvd"] }), "names"),
        (json!({ "form": "https://example.org/" }), "form"),
    ] {
        let reply = admin.post("/api/v1/feeds/sync", &body).await;
        assert!(matches!(reply.status, 400 | 422), "{body}: {} {}", reply.status, reply.text);
        assert!(reply.text.contains(field), "{body}: {}", reply.text);
    }
}
