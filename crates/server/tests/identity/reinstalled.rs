//! A machine installed anew is offered to a person as the host that it was.

use super::machine::{Machine, audited, events, facts, shown};
use fettle_domain::access::Role;
use fettle_testkit::{Client, Setup, TestDatabase, TestServer};
use serde_json::{Value, json};

const CARD: &str = "52:54:00:00:00:01";

async fn started(database: TestDatabase) -> (TestServer, Client) {
    let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
    let admin = server.administrator().await;
    (server, admin)
}

fn may_be(shown: &Value) -> Vec<&str> {
    let all = shown["identity"]["may_be"].as_array().unwrap();
    all.iter().map(|one| one["host"]["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_over_groups_and_history_when_a_person_says_so() {
    for database in TestDatabase::all() {
        let (server, admin) = started(database).await;
        let viewer = server.user(&admin, "vera", Role::Viewer).await;
        let old = Machine::enrol(&server, &admin, facts("web-1", "m1", "u1", &[CARD])).await;
        let stranger = Machine::enrol(&server, &admin, facts("db-1", "m9", "u9", &["52:54:00:00:00:09"])).await;
        assert_eq!(may_be(&shown(&admin, stranger.id).await), Vec::<&str>::new());
        admin.post("/api/v1/groups", &json!({ "name": "web" })).await.ok();
        admin.post("/api/v1/groups/web/hosts", &json!({ "add": [old.id.to_string()] })).await.ok();
        // Another disk, another system, the same machine.
        let mut anew = Machine::enrol(&server, &admin, facts("web-1", "m2", "u1", &[CARD])).await;
        let seen = shown(&admin, anew.id).await;
        assert_eq!(may_be(&seen), [old.id.to_string()]);
        assert_eq!(seen["summary"]["notices"], json!(["may be a host installed anew"]));
        let why = seen["identity"]["may_be"][0]["reasons"].to_string();
        for word in ["product UUID is the same", CARD, "both are called web-1", "still speaks"] {
            assert!(why.contains(word), "{word} in {why}");
        }
        let explained = admin.get(&format!("/api/v1/hosts/{}/explain", anew.id)).await.ok();
        assert!(explained["reasons"].to_string().contains("may be the same machine as web-1"), "{explained}");
        assert_eq!(shown(&admin, anew.id).await["groups"], json!([]), "nothing goes over by itself");

        let path = format!("/api/v1/hosts/{}/merge", anew.id);
        let with_old = json!({ "with": old.id.to_string() });
        assert_eq!(viewer.post(&path, &with_old).await.problem(), "denied");
        assert_eq!(admin.post(&path, &json!({ "with": anew.id.to_string() })).await.status, 409, "with itself");
        assert_eq!(admin.post(&path, &json!({ "with": "nobody" })).await.status, 404);
        admin.post(&path, &with_old).await.ok();
        let seen = shown(&admin, anew.id).await;
        assert_eq!((&seen["groups"], &seen["summary"]["notices"]), (&json!(["web"]), &json!([])));
        assert_eq!(seen["identity"]["formerly"][0]["id"], json!(old.id.to_string()));
        assert_eq!(
            events(&admin, anew.id).await,
            ["enrol", "report", "retire", "enrol", "resemble", "report", "merge"]
        );
        let before = shown(&admin, old.id).await;
        assert_eq!(before["summary"]["state"], "retired");
        assert_eq!(before["identity"]["goes_on_as"]["id"], json!(anew.id.to_string()));
        for reply in [old.work(0).await, old.reports().await, old.clone().tries().await] {
            assert_eq!(reply.problem(), "host-revoked", "{reply:?}");
        }
        anew.speaks().await;
        assert_eq!(audited(&admin, "host.merge").await, 1);
        // Who has gone over is offered to nobody any more.
        let third = Machine::enrol(&server, &admin, facts("web-1", "m3", "u1", &[CARD])).await;
        assert_eq!(may_be(&shown(&admin, third.id).await), [anew.id.to_string()]);
        assert_eq!(admin.post(&format!("/api/v1/hosts/{}/merge", third.id), &with_old).await.status, 409);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_is_offered_by_its_name_and_a_person_may_say_no() {
    for database in TestDatabase::all() {
        let (server, admin) = started(database).await;
        let old = Machine::enrol(&server, &admin, facts("web-1", "m1", "u1", &[CARD])).await;
        // A live namesake on other hardware is another machine: nobody is asked.
        let namesake = Machine::enrol(&server, &admin, facts("web-1", "m2", "u2", &["52:54:00:00:00:02"])).await;
        assert_eq!(may_be(&shown(&admin, namesake.id).await), Vec::<&str>::new());
        admin.post(&format!("/api/v1/hosts/{}/revoke", old.id), &json!({ "reason": "broken" })).await.ok();
        let anew = Machine::enrol(&server, &admin, facts("web-1", "m3", "u3", &["52:54:00:00:00:03"])).await;
        assert_eq!(may_be(&shown(&admin, anew.id).await), [old.id.to_string()]);
        let path = format!("/api/v1/hosts/{}/dismiss", anew.id);
        admin.post(&path, &json!({})).await.ok();
        assert_eq!(admin.post(&path, &json!({})).await.status, 404, "nothing is asked any more");
        let seen = shown(&admin, anew.id).await;
        assert_eq!((may_be(&seen).len(), &seen["summary"]["notices"]), (0, &json!([])));
        assert_eq!(events(&admin, anew.id).await, ["enrol", "resemble", "report", "dismiss"]);
    }
}
