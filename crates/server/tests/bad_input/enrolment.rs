//! Who is not to become a host: tokens, signing requests, and many at once.

use super::agent::{enrolment, refused, signing_request, token};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fettle_domain::{EnrolmentTokenId, Timestamp};
use fettle_server::clock;
use fettle_store::systems::enrolment_token::{self, EnrolmentToken};
use fettle_store::systems::host;
use fettle_testkit::{Client, Reply, Setup, TestDatabase, TestServer};
use serde_json::json;

async fn hosts(server: &TestServer) -> u64 {
    server.state.store.read(host::host_counts).await.unwrap().values().sum()
}

async fn enrol(server: &TestServer, token: &str) -> Reply {
    server.client().post("/agent/v1/enrol", &enrolment(token, "web-1", &signing_request().0)).await
}

/// A token whose time was over before it was made.
async fn expired(server: &TestServer) -> String {
    let record = EnrolmentToken {
        id: EnrolmentTokenId::new(1, [1; 10]),
        group: None,
        uses_left: 5,
        expires_at: Timestamp::from_unix_millis(clock::now().unix_millis() - 1),
        created_by: "admin".into(),
        created_at: clock::now(),
    };
    let secret = ring::digest::digest(&ring::digest::SHA256, b"old");
    let make =
        move |c: &mut fettle_store::Connection| enrolment_token::enrolment_token_create(c, &record, secret.as_ref());
    server.state.store.write(make).await.unwrap();
    format!("fettle1.{}.old", URL_SAFE_NO_PAD.encode(server.state.identity.authority_fingerprint()))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_token_that_is_no_good_is_refused_in_its_own_words() {
    for database in TestDatabase::all() {
        let (server, other) =
            (TestServer::start_with(Setup { database: Some(database), ..Setup::default() }), TestServer::start());
        let admin = server.administrator().await;
        let used_up = token(&admin, json!({})).await;
        enrol(&server, &used_up).await.ok();
        let foreign = token(&other.administrator().await, json!({})).await;
        let pin = URL_SAFE_NO_PAD.encode(server.state.identity.authority_fingerprint());
        // The secret of another server under the pin of this one: no way round the pin.
        let grafted = format!("fettle1.{pin}.{}", foreign.rsplit('.').next().unwrap());
        let cases = [
            ("token-unknown", format!("fettle1.{pin}.nobody-made-this")),
            ("token-unknown", "no token at all\r\nx: y".to_owned()),
            ("token-unknown", foreign),
            ("token-unknown", grafted),
            ("token-used-up", used_up),
            ("token-expired", expired(&server).await),
        ];
        for (problem, text) in cases {
            let reply = enrol(&server, &text).await;
            refused(&reply, 403, problem);
            assert!(reply.json["advice"].as_str().unwrap().contains("fettle host token create"), "{reply:?}");
            assert!(text.len() < 20 || !reply.text.contains(&text), "a refusal does not repeat a secret");
        }
        assert_eq!((hosts(&server).await, hosts(&other).await), (1, 0));
    }
}

/// The request with a bit of its signature turned.
fn wrongly_signed(csr: &str) -> String {
    let text: String = csr.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut der = STANDARD.decode(text).unwrap();
    *der.last_mut().unwrap() ^= 1;
    armoured(&der)
}

fn armoured(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(der))
}

/// The key of one request beside the signature of another.
fn with_the_key_of(csr: &str, other: &str) -> String {
    let der =
        |pem: &str| STANDARD.decode(pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>()).unwrap();
    let (mine, theirs) = (der(csr), der(other));
    // An uncompressed P-256 point: bit string of 66 bytes, no unused bits, form 4.
    let point = |der: &[u8]| der.windows(4).position(|bytes| bytes == [0x03, 0x42, 0x00, 0x04]).unwrap() + 3;
    let (to, from) = (point(&mine), point(&theirs));
    let mut forged = mine;
    forged[to..to + 65].copy_from_slice(&theirs[from..from + 65]);
    armoured(&forged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_request_that_proves_no_key_costs_no_use() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let text = token(&admin, json!({})).await;
    let (good, _) = signing_request();
    let bad = [
        String::new(),
        "garbage".to_owned(),
        "\u{0}".repeat(100),
        armoured(b""),
        armoured(b"\x30\x82\xff\xff"),
        armoured(&[0x30; 4000]),
        good[..good.len() / 2].to_owned(),
        "x".repeat(17 << 10),
        wrongly_signed(&good),
        with_the_key_of(&good, &signing_request().0),
    ];
    for csr in bad {
        let shown: String = csr.chars().take(200).collect();
        let reply = server.client().post("/agent/v1/enrol", &enrolment(&text, "web-1", &csr)).await;
        assert_eq!(reply.status, 422, "{shown}: {reply:?}");
        refused(&reply, 422, "invalid");
        assert_eq!(reply.json["field"], "csr", "{shown}");
    }
    assert_eq!(hosts(&server).await, 0);
    assert_eq!(admin.get("/api/v1/audit?action=host.enrol").await.ok()["items"], json!([]));
    // The one use is still there.
    enrol(&server, &text).await.ok();
    refused(&enrol(&server, &text).await, 403, "token-used-up");
    assert_eq!(hosts(&server).await, 1);
}

/// Whoever tries, with its own key and name.
async fn race(client: Client, token: String, number: usize) -> Reply {
    let (csr, _) = signing_request();
    client.reconnected().post("/agent/v1/enrol", &enrolment(&token, &format!("h{number}"), &csr)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_exactly_as_many_get_in_as_the_token_has_uses() {
    const USES: usize = 5;
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let text = token(&admin, json!({ "uses": USES })).await;
        let racers: Vec<_> =
            (0..USES + 3).map(|number| tokio::spawn(race(server.client(), text.clone(), number))).collect();
        let mut ids = std::collections::BTreeSet::new();
        let mut late = 0;
        for racer in racers {
            let reply = racer.await.unwrap();
            if reply.status == 200 {
                ids.insert(reply.json["host"].as_str().unwrap().to_owned());
            } else {
                refused(&reply, 403, "token-used-up");
                late += 1;
            }
        }
        assert_eq!((ids.len(), late), (USES, 3));
        assert_eq!(hosts(&server).await, USES as u64);
        let entries = admin.get("/api/v1/audit?action=host.enrol").await.ok();
        let told: std::collections::BTreeSet<String> = entries["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["object"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, ids, "each has its audit entry, and nobody else");
    }
}
