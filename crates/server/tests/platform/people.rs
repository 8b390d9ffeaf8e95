//! Sign-in, passwords, sessions, tokens, users: over the API where there is an endpoint, else over
//! the operations that the pages call.

use axum::http::{HeaderMap, HeaderValue, header};
use fettle_domain::access::Role;
use fettle_server::ops::{self, OpsError};
use fettle_server::{AppState, Settings};
use fettle_testkit::server::PASSWORD;
use fettle_testkit::{Setup, TestDatabase, TestServer};
use serde_json::{Value, json};
use std::net::IpAddr;

fn login(user: &str, password: &str) -> Value {
    json!({ "user": user, "password": password })
}

#[tokio::test]
async fn a_one_time_password_opens_nothing_but_its_change() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let (name, one_time) = server.announcement.administrator.clone().unwrap();
        let client = server.client();
        let reply = client.post("/api/v1/login", &login(&name, &one_time)).await;
        assert_eq!((reply.status, reply.problem()), (403, "password-change-required"), "{reply:?}");
        let change = |new: &str| json!({ "user": name, "current": one_time, "new": new });
        let reply = client.post("/api/v1/password", &change("short")).await;
        assert_eq!((reply.status, reply.json["field"].as_str()), (422, Some("new")), "{reply:?}");
        assert!(reply.json["advice"].as_str().unwrap().contains("at least 12"));
        assert_eq!(client.post("/api/v1/password", &change(&one_time)).await.status, 422, "the same again");
        client.post("/api/v1/password", &change(PASSWORD)).await.ok();
        assert_eq!(client.post("/api/v1/password", &change("another good one")).await.status, 401, "used up");
        let token = client.post("/api/v1/login", &login("ADMIN ", PASSWORD)).await.ok();
        assert!(token["secret"].as_str().unwrap().starts_with("fettle_"));
        let who = client.bearer(token["secret"].as_str().unwrap()).get("/api/v1/whoami").await.ok();
        assert_eq!((who["user"].as_str(), who["role"].as_str()), (Some("admin"), Some("administrator")));
    }
}

#[tokio::test]
async fn guessing_is_slow_for_an_account_and_for_an_address() {
    let mut settings = Settings::default();
    settings.sign_in.failures_per_account = 3;
    settings.sign_in.failures_per_address = 8;
    let server = TestServer::start_with(Setup { settings, ..Setup::default() });
    let administrator = server.administrator().await;
    server.user(&administrator, "vera", Role::Viewer).await;
    let client = server.client();
    for _ in 0..3 {
        assert_eq!(client.post("/api/v1/login", &login("vera", "wrong")).await.status, 401);
    }
    let reply = client.post("/api/v1/login", &login("vera", PASSWORD)).await;
    assert_eq!((reply.status, reply.problem()), (429, "too-many"), "the right one must wait too: {reply:?}");
    assert!(
        reply.json["retry_after"].as_u64().unwrap() > 800 && reply.header("retry-after").parse::<u64>().unwrap() > 800
    );
    // Others are not held up, until the address has guessed too much. A right one does not count.
    server.login("admin").await;
    for number in 0..5 {
        assert_eq!(client.post("/api/v1/login", &login(&format!("nobody-{number}"), "wrong")).await.status, 401);
    }
    assert_eq!(client.post("/api/v1/login", &login("admin", PASSWORD)).await.status, 429);
    // What is signed in goes on.
    administrator.get("/api/v1/whoami").await.ok();
    // Unknown names are not written down: people type passwords there.
    let entries = administrator.get("/api/v1/audit?action=session.refuse").await.ok();
    let objects: Vec<&str> =
        entries["items"].as_array().unwrap().iter().map(|entry| entry["object"].as_str().unwrap()).collect();
    assert_eq!(objects.iter().filter(|object| **object == "vera").count(), 3);
    assert_eq!(objects.iter().filter(|object| **object == "an unknown user").count(), 5);
    assert!(!entries.to_string().contains("nobody-"));
}

#[tokio::test]
async fn many_guesses_at_once_gain_nothing() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    server.user(&administrator, "vera", Role::Viewer).await;
    let guesses: Vec<_> = (0..20)
        .map(|number| {
            let client = server.client();
            tokio::spawn(async move {
                client.post("/api/v1/login", &login("vera", &format!("guess {number}"))).await.status
            })
        })
        .collect();
    let mut tried = 0;
    for guess in guesses {
        tried += u32::from(guess.await.unwrap() == 401);
    }
    assert!(tried <= 5, "{tried} passwords were looked at");
}

#[tokio::test]
async fn a_role_or_a_shutting_out_takes_effect_with_the_next_request() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    let vera = server.user(&administrator, "vera", Role::Operator).await;
    assert_eq!(vera.get("/api/v1/users").await.status, 403);
    administrator.json("PATCH", "/api/v1/users/vera", &json!({ "role": "administrator" })).await.ok();
    vera.get("/api/v1/users").await.ok();
    // A second administrator may shut out the first, but not the last.
    vera.json("PATCH", "/api/v1/users/admin", &json!({ "disabled": true })).await.ok();
    assert_eq!(administrator.get("/api/v1/whoami").await.status, 401);
    assert_eq!(server.client().post("/api/v1/login", &login("admin", PASSWORD)).await.status, 401);
    for change in [json!({ "disabled": true }), json!({ "role": "viewer" })] {
        let reply = vera.json("PATCH", "/api/v1/users/vera", &change).await;
        assert_eq!((reply.status, reply.problem()), (409, "conflict"), "{reply:?}");
        assert!(reply.json["detail"].as_str().unwrap().contains("last administrator"));
    }
    // Let in again: old tokens stay dead.
    vera.json("PATCH", "/api/v1/users/admin", &json!({ "disabled": false })).await.ok();
    assert_eq!(administrator.get("/api/v1/whoami").await.status, 401);
    server.login("admin").await.get("/api/v1/whoami").await.ok();
    // A new one-time password ends what the old one opened.
    let admin = server.login("admin").await;
    let reset = admin.json("PATCH", "/api/v1/users/vera", &json!({ "reset_password": true })).await.ok();
    assert_eq!(vera.get("/api/v1/whoami").await.status, 401);
    let one_time = reset["one_time_password"].as_str().unwrap();
    assert_eq!(
        server.client().post("/api/v1/login", &login("vera", one_time)).await.problem(),
        "password-change-required"
    );
    assert_eq!(admin.json("PATCH", "/api/v1/users/nobody", &json!({ "disabled": true })).await.status, 404);
    assert_eq!(admin.json("PATCH", "/api/v1/users/vera", &json!({})).await.status, 422);
    assert_eq!(admin.post("/api/v1/users", &json!({ "name": "vera", "role": "viewer" })).await.status, 409);
    assert_eq!(admin.post("/api/v1/users", &json!({ "name": "server", "role": "viewer" })).await.status, 422);
}

#[tokio::test]
async fn tokens_end_when_revoked_or_expired() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    let made = administrator.post("/api/v1/tokens", &json!({ "label": "ci", "hours": 1 })).await.ok();
    let client = server.client().bearer(made["secret"].as_str().unwrap());
    client.get("/api/v1/whoami").await.ok();
    let id = made["token"]["id"].as_str().unwrap().to_owned();
    let vera = server.user(&administrator, "vera", Role::Administrator).await;
    assert_eq!(vera.delete(&format!("/api/v1/tokens/{id}")).await.status, 404, "another's token");
    administrator.delete(&format!("/api/v1/tokens/{id}")).await.ok();
    assert_eq!(client.get("/api/v1/whoami").await.status, 401);
    assert_eq!(administrator.delete(&format!("/api/v1/tokens/{id}")).await.status, 404);

    let made = administrator.post("/api/v1/tokens", &json!({ "label": "short", "hours": 1 })).await.ok();
    let client = server.client().bearer(made["secret"].as_str().unwrap());
    let past = "UPDATE api_token SET expires_at = 1 WHERE label = 'short'";
    server.state.store.write(move |connection| connection.execute(past, &[])).await.unwrap();
    assert_eq!(client.get("/api/v1/whoami").await.status, 401);
    for wrong in [
        json!({ "label": "x", "hours": 0 }),
        json!({ "label": "x", "hours": 9000 }),
        json!({ "label": " ", "hours": 1 }),
        json!({ "label": "x", "hours": 1, "scopes": [] }),
        json!({ "label": "x", "hours": 1, "scopes": ["root"] }),
    ] {
        assert_eq!(administrator.post("/api/v1/tokens", &wrong).await.status, 422, "{wrong}");
    }
    let listed = administrator.get("/api/v1/tokens?limit=1").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains("fettle_"), "secrets are said once");
}

const HERE: &str = "192.0.2.1";

async fn sign_in(
    state: &AppState,
    headers: &HeaderMap,
    password: &str,
) -> Result<fettle_server::access::session::Session, OpsError> {
    ops::account::sign_in(state, HERE.parse::<IpAddr>().unwrap(), headers, "admin", password).await
}

/// What a browser sends back of a `Set-Cookie`.
fn sent_back(cookie: &HeaderValue) -> String {
    cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn sessions_are_safe_against_fixation_and_forged_requests() {
    let server = TestServer::start();
    server.administrator().await;
    let state = server.state.clone();
    let first = sign_in(&state, &HeaderMap::new(), PASSWORD).await.unwrap();
    let cookie = first.cookie().unwrap();
    let attributes = cookie.to_str().unwrap();
    for part in ["__Host-fettle_session=", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(attributes.contains(part), "{attributes}");
    }
    let first_cookie = sent_back(&cookie);
    let browser = |cookie: &str| server.client().with("cookie", cookie);
    browser(&first_cookie).get("/api/v1/whoami").await.ok();

    // Signing in again with the old cookie makes a new secret and ends the old session.
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, HeaderValue::from_str(&first_cookie).unwrap());
    let second = sign_in(&state, &headers, PASSWORD).await.unwrap();
    let second_cookie = sent_back(&second.cookie().unwrap());
    assert_ne!(first_cookie, second_cookie);
    assert_eq!(browser(&first_cookie).get("/api/v1/whoami").await.status, 401);

    // Unsafe methods need the token of this session, and an honest origin.
    let body = json!({ "label": "x", "hours": 1 });
    let post = |client: fettle_testkit::Client| {
        let body = body.clone();
        async move { client.post("/api/v1/tokens", &body).await }
    };
    let reply = post(browser(&second_cookie)).await;
    assert_eq!((reply.status, reply.problem()), (403, "cross-site"), "{reply:?}");
    let reply = post(browser(&second_cookie).with("x-fettle-csrf", &first.csrf_token())).await;
    assert_eq!(reply.problem(), "cross-site", "a token of another session");
    let good = || browser(&second_cookie).with("x-fettle-csrf", &second.csrf_token());
    post(good()).await.ok();
    post(good().with("origin", &server.url()).with("sec-fetch-site", "same-origin")).await.ok();
    assert_eq!(post(good().with("origin", "https://evil.example")).await.problem(), "cross-site");
    assert_eq!(post(good().with("sec-fetch-site", "cross-site")).await.problem(), "cross-site");

    ops::account::sign_out(&state, &second).await.unwrap();
    assert_eq!(browser(&second_cookie).get("/api/v1/whoami").await.status, 401);
}

#[tokio::test]
async fn sessions_end_by_idleness_by_age_and_by_a_new_password() {
    let server = TestServer::start();
    server.administrator().await;
    let state = server.state.clone();
    let alive = |cookie: String| {
        let client = server.client().with("cookie", &cookie);
        async move { client.get("/api/v1/whoami").await.status == 200 }
    };
    for ending in ["UPDATE session SET seen_at = seen_at - 3600001", "UPDATE session SET expires_at = 1"] {
        let session = sign_in(&state, &HeaderMap::new(), PASSWORD).await.unwrap();
        let cookie = sent_back(&session.cookie().unwrap());
        assert!(alive(cookie.clone()).await);
        state.store.write(move |connection| connection.execute(ending, &[])).await.unwrap();
        assert!(!alive(cookie).await, "{ending}");
    }
    let session = sign_in(&state, &HeaderMap::new(), PASSWORD).await.unwrap();
    let cookie = sent_back(&session.cookie().unwrap());
    let change = json!({ "user": "admin", "current": PASSWORD, "new": "quite another sentence" });
    server.client().post("/api/v1/password", &change).await.ok();
    assert!(!alive(cookie).await);
    let error = sign_in(&state, &HeaderMap::new(), PASSWORD).await.unwrap_err();
    assert!(matches!(error, OpsError::Unauthenticated { .. }), "{error:?}");
}

#[tokio::test]
async fn every_act_stands_in_the_audit_log_and_no_secret_does() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let one_time = server.announcement.administrator.clone().unwrap().1;
        let administrator = server.administrator().await;
        server.user(&administrator, "vera", Role::Viewer).await;
        administrator.json("PATCH", "/api/v1/users/vera", &json!({ "role": "approver" })).await.ok();
        let log = administrator.get("/api/v1/audit").await.ok();
        let lines: Vec<String> = log["items"]
            .as_array()
            .unwrap()
            .iter()
            .rev()
            .map(|entry| {
                let object = entry["object"].as_str().unwrap();
                let object = object.split_once('_').map_or(object, |(kind, _)| kind);
                format!("{} {} {object}", entry["actor"].as_str().unwrap(), entry["action"].as_str().unwrap())
            })
            .collect();
        assert_eq!(
            lines,
            [
                "server user.create admin",
                "admin user.change-password admin",
                "admin token.create token",
                "admin user.create vera",
                "vera user.change-password vera",
                "vera token.create token",
                "admin user.change vera",
            ]
        );
        let text = log.to_string();
        assert!(
            !text.contains(PASSWORD)
                && !text.contains(&one_time)
                && !text.contains("argon2")
                && !text.contains("fettle_"),
            "{text}"
        );
        let page = administrator.get("/api/v1/audit?limit=2&action=user.").await.ok();
        let next = page["next"].as_str().unwrap();
        let page = administrator.get(&format!("/api/v1/audit?limit=9&action=user.&after={next}")).await.ok();
        assert_eq!(page["items"].as_array().unwrap().len(), 3);
        assert!(page["next"].is_null());

        let verdict = administrator.get("/api/v1/audit/verify").await.ok();
        assert_eq!((verdict["intact"].as_bool(), verdict["checked"].as_u64()), (Some(true), Some(7)));
        assert_eq!(verdict["head"], log["items"][0]["digest"]);
        let tamper = "UPDATE audit_entry SET actor = 'vera' WHERE sequence = 4";
        server.state.store.write(move |connection| connection.execute(tamper, &[])).await.unwrap();
        let verdict = administrator.get("/api/v1/audit/verify").await.ok();
        assert_eq!((verdict["intact"].as_bool(), verdict["broken_at"].as_u64()), (Some(false), Some(4)), "{verdict}");
    }
}

#[tokio::test]
async fn a_lost_password_is_reset_on_the_servers_machine() {
    let server = TestServer::start();
    let administrator = server.administrator().await;
    let data_dir = server.data_dir();
    let one_time = tokio::task::spawn_blocking(move || fettle_server::reset_password(&data_dir, None, "admin"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(administrator.get("/api/v1/whoami").await.status, 401);
    let reply = server.client().post("/api/v1/login", &login("admin", &one_time)).await;
    assert_eq!(reply.problem(), "password-change-required");
    let nowhere = tempfile::tempdir().unwrap();
    let error = fettle_server::reset_password(nowhere.path(), None, "admin").unwrap_err();
    assert!(error.to_string().contains("no server was set up there"), "{error}");
    assert_eq!(std::fs::read_dir(nowhere.path()).unwrap().count(), 0);
}
