//! Every endpoint with every kind of asker. New endpoints are covered by standing in the table.

use axum::http::HeaderMap;
use fettle_domain::access::{Permission, Role};
use fettle_server::api::{Endpoint, Needs, PREFIX, endpoints};
use fettle_server::{clock, ops};
use fettle_testkit::server::PASSWORD;
use fettle_testkit::{Client, Reply, TestServer};
use serde_json::json;

/// A path with something in place of each `{name}`.
fn path(endpoint: &Endpoint) -> String {
    let parts = endpoint.path.split('/').map(|part| if part.starts_with('{') { "nothing" } else { part });
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join("/"))
}

async fn ask(client: &Client, endpoint: &Endpoint) -> Reply {
    if endpoint.stream {
        // A stream that opens does not end; a refused one is a document.
        let status = client.open(endpoint.method, &path(endpoint)).await;
        if status == 200 {
            return Reply { status, headers: Default::default(), text: String::new(), json: json!(null) };
        }
    }
    let content_type = if endpoint.request.is_some() { "application/json" } else { "" };
    client.send(endpoint.method, &path(endpoint), content_type, "{").await.unwrap()
}

/// Whatever is refused is a problem document that names its path.
fn check_form(endpoint: &Endpoint, reply: &Reply) {
    let name = format!("{} {}: {} {}", endpoint.method, endpoint.path, reply.status, reply.text);
    assert!(reply.status < 500, "{name}");
    if reply.status >= 400 {
        assert_eq!(reply.header("content-type"), "application/problem+json", "{name}");
        assert!(!reply.problem().is_empty(), "{name}");
        assert_eq!(reply.json["status"], reply.status, "{name}");
        assert_eq!(reply.json["instance"], path(endpoint), "{name}");
        assert!(reply.json["title"].as_str().is_some_and(|title| !title.is_empty()), "{name}");
    }
    if reply.status != 200 || !endpoint.stream {
        assert_eq!(reply.header("cache-control"), "no-store", "{name}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{name}");
    }
}

/// Asks every endpoint; `expected` says what each must refuse with, or `None` when it must let in.
async fn walk(who: &str, client: &Client, expected: impl Fn(&Endpoint) -> Option<(u16, &'static str)>) {
    for endpoint in endpoints() {
        let reply = ask(client, &endpoint).await;
        check_form(&endpoint, &reply);
        let name = format!("{who}: {} {} answered {} {}", endpoint.method, endpoint.path, reply.status, reply.text);
        match expected(&endpoint) {
            Some((status, problem)) => assert_eq!((reply.status, reply.problem()), (status, problem), "{name}"),
            None => assert!(!matches!(reply.status, 401 | 403), "{name}"),
        }
    }
}

fn permission(endpoint: &Endpoint) -> Option<Permission> {
    match endpoint.needs {
        Needs::Nothing => None,
        Needs::Permission(permission) => Some(permission),
    }
}

#[tokio::test]
async fn every_endpoint_lets_in_whom_its_permission_says_and_nobody_else() {
    let server = TestServer::start();
    let administrator = server.administrator().await;

    walk("nobody", &server.client(), |endpoint| permission(endpoint).map(|_| (401, "unauthenticated"))).await;
    walk("a token of nobody", &server.client().bearer("fettle_AAAA"), |endpoint| {
        permission(endpoint).map(|_| (401, "unauthenticated"))
    })
    .await;
    let basic = server.client().with("authorization", "Basic YWRtaW46YWRtaW4=");
    walk("basic", &basic, |endpoint| permission(endpoint).map(|_| (401, "unauthenticated"))).await;
    let host = server.host_client(clock::fresh());
    walk("a host", &host, |_| Some((403, "denied"))).await;

    for role in Role::ALL {
        let client = server.user(&administrator, &format!("the-{role}"), role).await;
        walk(role.as_str(), &client, |endpoint| {
            permission(endpoint).filter(|permission| !role.may(*permission)).map(|_| (403, "denied"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_token_carries_its_scopes_and_no_more() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    for scope in Permission::ALL {
        let request = json!({ "label": scope.as_str(), "scopes": [scope.as_str()], "hours": 1 });
        let token = administrator.post("/api/v1/tokens", &request).await.ok();
        let client = server.client().bearer(token["secret"].as_str().unwrap());
        walk(scope.as_str(), &client, |endpoint| {
            permission(endpoint).filter(|permission| *permission != scope).map(|_| (403, "denied"))
        })
        .await;
        // It cannot make a token that carries more than itself.
        if scope == Permission::OwnAccount {
            let more = json!({ "label": "more", "scopes": ["user-manage"], "hours": 1 });
            assert_eq!(client.post("/api/v1/tokens", &more).await.problem(), "denied");
            let same = client.post("/api/v1/tokens", &json!({ "label": "same", "hours": 1 })).await.ok();
            assert_eq!(same["token"]["scopes"], json!(["own-account"]));
        }
    }
}

#[tokio::test]
async fn a_session_changes_nothing_without_the_proof_that_our_page_asks() {
    let server = TestServer::start();
    server.administrator().await;
    let address = "192.0.2.1".parse().unwrap();
    let session = ops::account::sign_in(&server.state, address, &HeaderMap::new(), "admin", PASSWORD).await.unwrap();
    let cookie = session.cookie().unwrap();
    let browser = || server.client().with("cookie", cookie.to_str().unwrap().split(';').next().unwrap());
    let forged = |endpoint: &Endpoint| {
        (endpoint.method != "GET" && permission(endpoint).is_some()).then_some((403, "cross-site"))
    };
    walk("a page of another site", &browser().with("sec-fetch-site", "cross-site"), forged).await;
    walk("a page without the token", &browser(), forged).await;
    walk("our page", &browser().with("x-fettle-csrf", &session.csrf_token()).with("origin", &server.url()), |_| None)
        .await;
}

#[tokio::test]
async fn what_is_not_there_or_malformed_is_a_problem_too() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    let expect = |reply: Reply, status: u16, problem: &str| {
        assert_eq!((reply.status, reply.problem()), (status, problem), "{reply:?}");
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert!(reply.json["instance"].as_str().unwrap().starts_with('/'), "{reply:?}");
        reply
    };
    expect(administrator.get("/api/v1/nothing").await, 404, "not-found");
    expect(administrator.get("/api").await, 404, "not-found");
    expect(administrator.get("/agent/v1/nothing").await, 404, "not-found");
    // A person who mistypes an address sees a page, not JSON.
    let page = administrator.get("/apiary").await;
    assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"), "{page:?}");
    assert!(page.text.contains("this page does not exist") && page.text.contains("To the overview"), "{page:?}");
    expect(administrator.delete("/api/v1/users").await, 405, "method-not-allowed");
    expect(administrator.send("POST", "/api/v1/users", "text/plain", "x").await.unwrap(), 415, "media-type");
    let wrong =
        expect(administrator.post("/api/v1/users", &json!({ "name": "x", "role": ["viewer"] })).await, 400, "invalid");
    assert_eq!((wrong.json["field"].as_str(), wrong.json["line"].as_u64()), (Some("role"), Some(1)));
    let wrong =
        expect(administrator.post("/api/v1/users", &json!({ "name": "x", "role": "king" })).await, 422, "invalid");
    assert_eq!(wrong.json["advice"], "administrator, operator, approver, viewer");
    expect(administrator.get("/api/v1/audit?limit=many").await, 400, "invalid");
    // Many times, and far longer than the limit: the answer must not be lost in a reset.
    for megabytes in [2, 2, 2, 2, 30] {
        let long = format!("{{\"name\": \"{}\"}}", "x".repeat(megabytes << 20));
        expect(administrator.send("POST", "/api/v1/users", "application/json", long).await.unwrap(), 413, "too-large");
    }
}

#[tokio::test]
async fn agents_without_a_certificate_are_told_that_they_need_one() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    for client in [server.client(), administrator] {
        let reply = client.post("/agent/v1/check-in", &json!({})).await;
        assert_eq!((reply.status, reply.problem()), (401, "certificate-required"), "{reply:?}");
        assert!(reply.json["advice"].as_str().unwrap().contains("host token create"));
    }
    // With one, the request itself is judged.
    let reply = server.host_client(clock::fresh()).post("/agent/v1/check-in", &json!({})).await;
    assert_eq!((reply.status, reply.problem()), (400, "invalid"), "{reply:?}");
    // Enrolment is for who has none yet.
    assert_ne!(server.client().post("/agent/v1/enrol", &json!({})).await.problem(), "certificate-required");
}

#[tokio::test]
async fn health_is_for_everybody_and_tells_nothing() {
    let server = TestServer::start();
    let reply = server.client().get("/healthz").await;
    assert_eq!((reply.status, reply.text.as_str()), (200, r#"{"status":"ok"}"#));
}
