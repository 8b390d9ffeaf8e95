//! The same on the pages: what is told, and the forms that answer.

use super::machine::{Machine, facts, fresh_key, shown};
use axum::http::HeaderMap;
use fettle_server::ops;
use fettle_testkit::server::PASSWORD;
use fettle_testkit::{Client, TestServer};
use serde_json::json;

/// A browser of the administrator, and the proof its forms carry.
async fn browser(server: &TestServer) -> (Client, String) {
    let address = "192.0.2.1".parse().unwrap();
    let session = ops::account::sign_in(&server.state, address, &HeaderMap::new(), "admin", PASSWORD).await.unwrap();
    let cookie = session.cookie().unwrap();
    let client = server
        .client()
        .with("cookie", cookie.to_str().unwrap().split(';').next().unwrap())
        .with("origin", &server.url());
    (client, session.csrf_token())
}

async fn submit(client: &Client, path: &str, fields: &[(&str, &str)]) -> u16 {
    let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    client.send("POST", path, "application/x-www-form-urlencoded", body.join("&")).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_to_copies_and_machines_installed_anew() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let (browser, csrf) = browser(&server).await;
    let mut first = Machine::enrol(&server, &admin, facts("web-1", "m1", "u1", &["52:54:00:00:00:01"])).await;
    let mut copy = first.copied(facts("web-1", "m1", "u2", &["52:54:00:00:00:02"]), "copy");
    first.speaks().await;
    assert_eq!(copy.tries().await.problem(), "identity-cloned");
    let own = copy.asks_for_its_own(&fresh_key()).await.ok()["host"].as_str().unwrap().to_owned();
    let page = browser.get(&format!("/hosts/{}", first.id)).await.text;
    assert!(page.contains("Two machines use this identity") && page.contains(&format!("/hosts/{own}")), "{page}");
    let list = browser.get("/hosts?state=discovered").await.text;
    assert!(list.contains(&own) && list.contains("waits to be accepted"), "{list}");
    let page = browser.get(&format!("/hosts/{own}")).await.text;
    assert!(page.contains("Accept as a host") && page.contains("A copy: "), "{page}");
    let path = format!("/hosts/{own}/accept");
    assert_eq!(submit(&browser, &path, &[("csrf", "forged")]).await, 403);
    assert_eq!(submit(&browser, &path, &[("csrf", &csrf)]).await, 303);
    assert_eq!(shown(&admin, own.parse().unwrap()).await["summary"]["state"], "enrolling");

    let anew = Machine::enrol(&server, &admin, facts("web-1", "m3", "u1", &["52:54:00:00:00:01"])).await;
    let page = browser.get(&format!("/hosts/{}", anew.id)).await.text;
    assert!(page.contains("Maybe installed anew") && page.contains("product UUID is the same"), "{page}");
    let (path, with) = (format!("/hosts/{}/merge", anew.id), first.id.to_string());
    assert_eq!(submit(&browser, &path, &[("csrf", &csrf), ("with", &with)]).await, 303);
    let page = browser.get(&format!("/hosts/{}", anew.id)).await.text;
    assert!(page.contains("before it was installed anew") && !page.contains("Maybe installed anew"), "{page}");
    let page = browser.get(&format!("/hosts/{}", first.id)).await.text;
    assert!(page.contains("Its machine goes on as"), "{page}");
    let third = Machine::enrol(&server, &admin, facts("web-1", "m4", "u1", &["52:54:00:00:00:01"])).await;
    let path = format!("/hosts/{}/dismiss", third.id);
    assert_eq!(submit(&browser, &path, &[("csrf", &csrf)]).await, 303);
    assert_eq!(shown(&admin, third.id).await["identity"]["may_be"], json!([]));
    let mut wrong = third;
    wrong.clock = -3_660 * 24 * 3600 * 1000;
    wrong.speaks().await;
    let page = browser.get(&format!("/hosts/{}", wrong.id)).await.text;
    assert!(page.contains("Clock 10 years behind"), "{page}");
}
