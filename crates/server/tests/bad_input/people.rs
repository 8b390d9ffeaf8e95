//! People's ways in: guessing, forged requests from other pages.

use super::agent::refused;
use fettle_server::Settings;
use fettle_testkit::server::PASSWORD;
use fettle_testkit::{Client, Reply, Setup, TestServer};
use serde_json::json;

fn form(user: &str, password: &str) -> String {
    format!("user={user}&password={}&next=/", password.replace(' ', "+"))
}

async fn submit(client: &Client, path: &str, body: String) -> Reply {
    client.send("POST", path, "application/x-www-form-urlencoded", body).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_stopped_on_the_page_and_the_api_alike() {
    let mut settings = Settings::default();
    settings.sign_in.failures_per_account = 4;
    let server = TestServer::start_with(Setup { settings, ..Setup::default() });
    let admin = server.administrator().await;
    let client = server.client();
    // Half of the tries on each: there is one count.
    for _ in 0..2 {
        let wrong = json!({ "user": "admin", "password": "wrong" });
        refused(&client.post("/api/v1/login", &wrong).await, 401, "unauthenticated");
        let page = submit(&client, "/sign-in", form("admin", "wrong")).await;
        assert_eq!(page.status, 401, "{page:?}");
        assert_eq!(page.header("set-cookie"), "");
    }
    let right = json!({ "user": "admin", "password": PASSWORD });
    let reply = client.post("/api/v1/login", &right).await;
    refused(&reply, 429, "too-many");
    assert!(reply.header("retry-after").parse::<u64>().unwrap() > 0, "{reply:?}");
    let page = submit(&client, "/sign-in", form("admin", PASSWORD)).await;
    assert_ne!(page.status, 303, "{page:?}");
    assert_eq!(page.header("set-cookie"), "", "the right password must wait too");
    // Changing the password is guessing as well.
    let change = json!({ "user": "admin", "current": PASSWORD, "new": "quite another sentence" });
    refused(&client.post("/api/v1/password", &change).await, 429, "too-many");
    // Who is in already is not thrown out by somebody else's guesses.
    assert_eq!(admin.get("/api/v1/whoami").await.ok()["user"], "admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_no_use_to_another_page() {
    let server = TestServer::start();
    let admin = server.administrator().await;
    let evil = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("origin", "null")];
    // The sign-in itself cannot be forged: no session of somebody else's is put under a browser.
    for (name, value) in evil {
        let page = submit(&server.client().with(name, value), "/sign-in", form("admin", PASSWORD)).await;
        assert_eq!((page.status, page.header("set-cookie")), (403, ""), "{page:?}");
    }
    let page = submit(&server.client().with("origin", &server.url()), "/sign-in", form("admin", PASSWORD)).await;
    assert_eq!(page.status, 303, "{page:?}");
    let cookie = page.header("set-cookie").split(';').next().unwrap().to_owned();
    let browser = || server.client().with("cookie", &cookie);
    assert_eq!(browser().get("/api/v1/whoami").await.ok()["user"], "admin");
    let token = browser().get("/").await.text;
    let token = token.split_once("name=\"csrf\" value=\"").expect("a form of our pages").1;
    let token = token.split_once('"').unwrap().0.to_owned();

    let before = admin.get("/api/v1/users").await.ok();
    let user = json!({ "name": "mallory", "role": "administrator" });
    for client in [browser(), browser().with("x-fettle-csrf", "guess")] {
        refused(&client.post("/api/v1/users", &user).await, 403, "cross-site");
        refused(&client.json("PATCH", "/api/v1/users/admin", &json!({ "role": "viewer" })).await, 403, "cross-site");
        refused(&client.delete("/api/v1/tokens/token_x").await, 403, "cross-site");
    }
    // Even with the token, from elsewhere is from elsewhere.
    for (name, value) in evil {
        let client = browser().with("x-fettle-csrf", &token).with(name, value);
        refused(&client.post("/api/v1/users", &user).await, 403, "cross-site");
        let page = submit(&client, "/users", format!("csrf={token}&name=mallory&role=administrator")).await;
        assert_eq!(page.status, 403, "{page:?}");
    }
    for csrf in ["", "csrf=&", "csrf=guess&"] {
        let page = submit(&browser(), "/users", format!("{csrf}name=mallory&role=administrator")).await;
        assert!((400..500).contains(&page.status), "{csrf}: {page:?}");
    }
    assert_eq!(admin.get("/api/v1/users").await.ok(), before);
    let good = browser().with("x-fettle-csrf", &token).with("origin", &server.url());
    good.post("/api/v1/users", &json!({ "name": "vera", "role": "viewer" })).await.ok();
}
