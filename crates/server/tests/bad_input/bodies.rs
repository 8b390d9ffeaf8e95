//! Bodies that are too long, cut, slow, no JSON, or nested without end.

use super::agent::{Agent, refused};
use super::wire::Wire;
use fettle_testkit::{Client, TestServer, eventually};
use serde_json::json;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Every way in that takes a body, with who may use it and what it takes at most.
fn ways(server: &TestServer, agent: &Agent, admin: &Client) -> Vec<(&'static str, Client, usize)> {
    vec![
        ("/agent/v1/check-in", agent.client.clone(), 32 << 20),
        ("/agent/v1/report", agent.client.clone(), 8 << 20),
        ("/agent/v1/enrol", server.client(), 256 << 10),
        ("/api/v1/users", admin.clone(), 1 << 20),
        ("/api/v1/login", server.client(), 1 << 20),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused_on_every_way_in() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let agent = Agent::known(&server, &admin, "web-1").await;
    let before = agent.kept(&server).await;
    for (path, client, limit) in ways(&server, &agent, &admin) {
        let body = format!("\"{}\"", "x".repeat(limit));
        let reply = client.send("POST", path, "application/json", body).await.unwrap();
        refused(&reply, 413, "too-large");
        assert_eq!(reply.json["instance"], path);
    }
    // One that does not tell its length: taken nowhere without an end.
    let chunks = |number: usize| {
        let (chunks, body) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
        tokio::spawn(async move {
            for _ in 0..number {
                if chunks.send(vec![b' '; 64 << 10]).await.is_err() {
                    return;
                }
            }
        });
        reqwest::Body::wrap(Endless(body))
    };
    let reply = admin.send("POST", "/api/v1/users", "application/json", chunks(40)).await.unwrap();
    refused(&reply, 413, "too-large");
    let reply = agent.send_text(chunks(2)).await;
    refused(&reply, 411, "invalid");
    assert_eq!(agent.kept(&server).await, before);
    agent.speaks().await;
}

/// A body of chunks.
struct Endless(tokio::sync::mpsc::Receiver<Vec<u8>>);

impl axum::body::HttpBody for Endless {
    type Data = axum::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(hyper::body::Frame::data(chunk.into()))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_told_with_line_and_field() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let agent = Agent::known(&server, &admin, "web-1").await;
    let before = agent.kept(&server).await;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(20_000), close.repeat(20_000));
    let good = serde_json::to_string(&agent.whole()).unwrap();
    for (path, client, _) in ways(&server, &agent, &admin) {
        for body in [
            String::new(),
            "x".to_owned(),
            "{\"a\":".to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            "\u{feff}{}".to_owned(),
            deep("[", "]"),
            deep("{\"facts\":", "}"),
            "{\"a\":1}{\"a\":1}".to_owned(),
        ] {
            let shown: String = body.chars().take(20).collect();
            let reply = client.send("POST", path, "application/json", body).await.unwrap();
            assert_eq!(reply.status, 400, "{path} {shown}: {reply:?}");
            refused(&reply, 400, "invalid");
            assert!(reply.json["advice"].is_string(), "{path} {shown}: {reply:?}");
            assert!(reply.text.len() < 2_000, "an answer does not grow with the question");
        }
        let reply = client.send("POST", path, "application/json", vec![0xff, 0xfe, 0x00]).await.unwrap();
        refused(&reply, 400, "invalid");
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json5"] {
            let reply = client.send("POST", path, kind, good.clone()).await.unwrap();
            refused(&reply, 415, "media-type");
        }
    }
    // Deep where the protocol knows no such field, deep where it knows another type.
    let with = |field: &str, value: &str| good.replacen('{', &format!("{{\"{field}\":{value},"), 1);
    let reply = agent.send_text(with("digests", &deep("[", "]"))).await;
    refused(&reply, 400, "invalid");
    let typed = agent.send_text(good.replacen("\"held\":false", "\"held\":\"no\"", 1)).await;
    refused(&typed, 400, "invalid");
    assert!(typed.json["field"].as_str().unwrap().starts_with("packages"), "{typed:?}");
    assert_eq!(agent.kept(&server).await, before);
    agent.speaks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_body_changes_nothing() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let mut agent = Agent::known(&server, &admin, "web-1").await;
    let before = agent.kept(&server).await;
    agent.packages.truncate(1);
    let good = serde_json::to_string(&agent.whole()).unwrap();
    for sent in [0, 1, good.len() / 2, good.len() - 1] {
        let mut wire = Wire::open(&server, Some(&agent.certificate)).await;
        wire.post("/agent/v1/check-in", good.len(), &good[..sent]).await;
        let answer = wire.end().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{sent}: {answer}");
        assert_eq!(agent.kept(&server).await, before, "{sent} of {} bytes", good.len());
    }
    // A length that lies: what follows the body is no second request of anybody else.
    let mut wire = Wire::open(&server, Some(&agent.certificate)).await;
    wire.post("/agent/v1/check-in", good.len() - 1, &good).await;
    let answer = wire.end().await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(agent.kept(&server).await, before);
    agent.speaks().await;
    assert_eq!(agent.kept(&server).await.1, agent.packages);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_drips_bytes_holds_up_nobody_else() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let attacker = Agent::known(&server, &admin, "evil").await;
    let honest = Agent::known(&server, &admin, "web-1").await;
    // Promises of far more than the server keeps in memory at once, one byte of each.
    let mut drips = Vec::new();
    for _ in 0..40 {
        let mut wire = Wire::open(&server, Some(&attacker.certificate)).await;
        wire.post("/agent/v1/check-in", 32 << 20, "{").await;
        drips.push(wire);
    }
    for _ in 0..40 {
        let mut wire = Wire::open(&server, None).await;
        wire.post("/agent/v1/enrol", 256 << 10, "{").await;
        drips.push(wire);
    }
    for wire in &mut drips {
        wire.write(b" ").await;
    }
    let answered = tokio::time::timeout(Duration::from_secs(10), honest.speaks()).await;
    assert!(answered.is_ok(), "an honest host waits for the one that drips");
    drop(drips);
    eventually("the attacker's own host is heard again", LIMIT, || async {
        attacker.send(&attacker.sign_of_life()).await.status == 200
    })
    .await;
    assert_eq!(attacker.send(&attacker.sign_of_life()).await.ok()["want"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_sends_one_report_at_a_time_and_holds_up_itself_alone() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let attacker = Agent::known(&server, &admin, "evil").await;
    let honest = Agent::known(&server, &admin, "web-1").await;
    let nothing = json!({ "entries": [] });
    // One that comes to the server after the report beside it is refused itself: then another one is tried.
    let drips = tokio::sync::Mutex::new(Vec::new());
    eventually("the second report to be refused", LIMIT, || async {
        let mut drip = Wire::open(&server, Some(&attacker.certificate)).await;
        drip.post("/agent/v1/report", 8 << 20, "{").await;
        drips.lock().await.push(drip);
        attacker.client.post("/agent/v1/report", &nothing).await.status == 429
    })
    .await;
    refused(&attacker.client.post("/agent/v1/report", &nothing).await, 429, "too-many");
    assert_eq!(honest.client.post("/agent/v1/report", &nothing).await.status, 200);
    assert_eq!(attacker.send(&attacker.sign_of_life()).await.status, 200, "check-ins have a turn of their own");
    drop(drips);
    eventually("the attacker's own report is taken again", LIMIT, || async {
        attacker.client.post("/agent/v1/report", &nothing).await.status == 200
    })
    .await;
}
