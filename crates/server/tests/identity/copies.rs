//! Two machines with one identity: noticed, told apart, and both hosts in the end. A machine that was
//! set back to a back-up is none of that.

use super::machine::{Machine, audited, events, facts, fresh_key, shown};
use fettle_domain::HostId;
use fettle_domain::access::Role;
use fettle_server::Settings;
use fettle_server::settings::ClonePolicy;
use fettle_testkit::{Client, Setup, TestDatabase, TestServer};
use serde_json::json;

const CARD: &str = "52:54:00:00:00:01";
const OTHER_CARD: &str = "52:54:00:00:00:02";

async fn known(database: TestDatabase, settings: Settings) -> (TestServer, Client, Machine) {
    let server = TestServer::start_with(Setup { database: Some(database), settings, ..Setup::default() });
    let admin = server.administrator().await;
    let mut machine = Machine::enrol(&server, &admin, facts("web-1", "m1", "u1", &[CARD])).await;
    machine.speaks().await;
    (server, admin, machine)
}

fn of_the_copy() -> fettle_wire::agent::HostFacts {
    facts("web-1", "m1", "u2", &[OTHER_CARD])
}

/// The identity of its own that a copy was given.
async fn own(server: &TestServer, copy: &mut Machine) -> HostId {
    let key = fresh_key();
    let reply = copy.asks_for_its_own(&key).await.ok();
    copy.id = reply["host"].as_str().unwrap().parse().unwrap();
    copy.last = String::new();
    copy.shows(server, (reply["certificate"].as_str().unwrap().to_owned(), key));
    copy.id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_told_apart_and_both_end_with_identities_of_their_own() {
    for database in TestDatabase::all() {
        let (server, admin, mut first) = known(database, Settings::default()).await;
        let operator = server.user(&admin, "olga", Role::Operator).await;
        let viewer = server.user(&admin, "vera", Role::Viewer).await;
        let mut copy = first.copied(of_the_copy(), "copy");
        first.speaks().await;
        // Before it has said who it is, it gets no orders and is not believed.
        for reply in [copy.work(0).await, copy.reports().await] {
            assert_eq!((reply.status, reply.problem()), (409, "check-in-first"), "{reply:?}");
        }
        let refused = copy.tries().await;
        assert_eq!((refused.status, refused.problem()), (403, "identity-cloned"), "{refused:?}");
        let detail = refused.json["detail"].as_str().unwrap();
        assert!(detail.contains("product UUID is another") && detail.contains("copied with an image"), "{detail}");
        // The first is not disturbed, and its inventory is its own.
        first.speaks().await;
        first.work(0).await.ok();
        let seen = shown(&admin, first.id).await;
        assert_eq!(seen["macs"], json!([CARD]));
        assert_eq!(seen["summary"]["notices"], json!(["two machines with its identity"]));
        // Knocking again is not told again.
        for _ in 0..3 {
            assert_eq!(copy.tries().await.problem(), "identity-cloned");
        }
        assert_eq!(audited(&admin, "host.clone-noticed").await, 1);

        let id = own(&server, &mut copy).await;
        assert_ne!(id, first.id);
        for reply in [copy.tries().await, copy.work(0).await, copy.reports().await, copy.renews(&fresh_key()).await] {
            assert_eq!((reply.status, reply.problem()), (403, "host-pending"), "{reply:?}");
        }
        let waiting = admin.get("/api/v1/hosts?state=discovered").await.ok();
        assert_eq!(waiting["items"][0]["id"], json!(id.to_string()));
        assert!(waiting["items"][0]["notices"][0].as_str().unwrap().contains("waits to be accepted"), "{waiting}");
        assert_eq!(admin.get("/api/v1/hosts/counts").await.ok()["discovered"], 1);
        let path = format!("/api/v1/hosts/{id}/accept");
        assert_eq!(viewer.post(&path, &json!({})).await.problem(), "denied");
        operator.post(&path, &json!({})).await.ok();
        assert_eq!(operator.post(&path, &json!({})).await.status, 409, "once");

        copy.speaks().await;
        first.speaks().await;
        copy.work(0).await.ok();
        let (one, other) = (shown(&admin, first.id).await, shown(&admin, id).await);
        assert_eq!((&one["summary"]["state"], &other["summary"]["state"]), (&json!("managed"), &json!("managed")));
        assert_eq!((&one["macs"], &other["macs"]), (&json!([CARD]), &json!([OTHER_CARD])));
        assert_eq!((&one["summary"]["notices"], &other["summary"]["notices"]), (&json!([]), &json!([])));
        assert_eq!(one["identity"]["copies"][0]["id"], json!(id.to_string()));
        assert_eq!(other["identity"]["copy_of"]["id"], json!(first.id.to_string()));
        assert_eq!(events(&admin, first.id).await, ["enrol", "report", "notice-clone", "tell-apart"]);
        assert_eq!(events(&admin, id).await, ["tell-apart", "enrol", "report"]);
        assert_eq!((audited(&admin, "host.clone").await, audited(&admin, "host.accept").await), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_takes_copies_in_at_once_and_a_person_may_refuse_them() {
    let mut settings = Settings::default();
    settings.hosts.clones = ClonePolicy::Enrol;
    let (server, admin, mut first) = known(TestDatabase::sqlite(), settings).await;
    let mut copy = first.copied(of_the_copy(), "copy");
    first.speaks().await;
    assert_eq!(copy.tries().await.problem(), "identity-cloned");
    let id = own(&server, &mut copy).await;
    copy.speaks().await;
    assert_eq!(shown(&admin, first.id).await["summary"]["notices"], json!([]));
    assert_eq!(events(&admin, id).await, ["tell-apart", "enrol", "report"]);

    let (server, admin, mut first) = known(TestDatabase::sqlite(), Settings::default()).await;
    let mut copy = first.copied(of_the_copy(), "copy");
    first.speaks().await;
    assert_eq!(copy.tries().await.problem(), "identity-cloned");
    let id = own(&server, &mut copy).await;
    admin.post(&format!("/api/v1/hosts/{id}/revoke"), &json!({ "reason": "not ours" })).await.ok();
    assert_eq!(copy.tries().await.problem(), "host-revoked");
    assert_eq!(shown(&admin, first.id).await["summary"]["notices"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_the_very_same_marks_are_known_when_both_go_on() {
    for database in TestDatabase::all() {
        let (server, admin, mut first) = known(database, Settings::default()).await;
        let mut copy = first.copied(first.facts.clone(), "copy");
        first.speaks().await;
        // Taken for a restored machine as long as the other line does not go on.
        copy.speaks().await;
        assert_eq!(first.work(0).await.problem(), "check-in-first", "one of them at a time is given orders");
        first.speaks().await;
        assert_eq!(copy.work(0).await.problem(), "check-in-first");
        assert_eq!(copy.tries().await.problem(), "identity-cloned");
        let seen = shown(&admin, first.id).await;
        assert_eq!(seen["summary"]["notices"], json!(["two machines with its identity"]));
        let id = own(&server, &mut copy).await;
        admin.post(&format!("/api/v1/hosts/{id}/accept"), &json!({})).await.ok();
        for _ in 0..2 {
            copy.speaks().await;
            first.speaks().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_set_back_to_a_back_up_is_no_copy() {
    for database in TestDatabase::all() {
        let (_server, admin, mut machine) = known(database, Settings::default()).await;
        let back_up = machine.clone();
        for _ in 0..5 {
            machine.speaks().await;
        }
        let mut machine = back_up.copied(back_up.facts.clone(), "restored");
        assert_eq!(machine.work(0).await.problem(), "check-in-first");
        for _ in 0..3 {
            machine.speaks().await;
            machine.work(0).await.ok();
        }
        assert_eq!(events(&admin, machine.id).await, ["enrol", "report", "restore"]);
        assert_eq!(shown(&admin, machine.id).await["summary"]["notices"], json!([]));
        assert_eq!((audited(&admin, "host.restored").await, audited(&admin, "host.clone-noticed").await), (1, 0));
        assert_eq!(machine.asks_for_its_own(&fresh_key()).await.status, 409, "there is no copy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_got_lost_is_no_news() {
    let (_server, admin, mut machine) = known(TestDatabase::sqlite(), Settings::default()).await;
    let before = machine.clone();
    machine.speaks().await;
    // The same link again, and after the agent died another one after the same.
    let mut repeated = before.clone();
    repeated.speaks().await;
    assert_eq!(repeated.last, machine.last);
    let mut died = before.copied(before.facts.clone(), "died");
    died.speaks().await;
    died.speaks().await;
    assert_eq!(events(&admin, machine.id).await, ["enrol", "report"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_asked_for_once_each_and_not_without_end() {
    let (server, admin, mut first) = known(TestDatabase::sqlite(), Settings::default()).await;
    let mut copy = first.copied(of_the_copy(), "copy");
    assert_eq!(copy.asks_for_its_own(&fresh_key()).await.status, 409);
    first.speaks().await;
    assert_eq!(copy.tries().await.problem(), "identity-cloned");
    // The answer was lost: with the same key it is the same host.
    let key = fresh_key();
    let (once, again) = (copy.asks_for_its_own(&key).await.ok(), copy.asks_for_its_own(&key).await.ok());
    assert_eq!(once["host"], again["host"]);
    // Nor can the key of the copied identity be a host of its own.
    assert_eq!(copy.asks_for_its_own(&first.certificate.1).await.status, 422);
    for _ in 1..16 {
        copy.asks_for_its_own(&fresh_key()).await.ok();
    }
    let full = copy.asks_for_its_own(&fresh_key()).await;
    assert_eq!(full.status, 409, "{full:?}");
    assert!(full.json["advice"].as_str().unwrap().contains("fettle host list --state discovered"), "{full:?}");
    assert_eq!(admin.get("/api/v1/hosts/counts").await.ok()["discovered"], 16);
    let nobody = server.client().post("/agent/v1/clone", &json!({})).await;
    assert_eq!(nobody.problem(), "certificate-required");
    for chain in [json!({ "previous": "", "link": "short" }), json!({ "previous": "x", "link": "0".repeat(32) })] {
        let digest = "0".repeat(64);
        let body = json!({
            "agent_version": "test", "time": "2026-11-25T00:00:00Z", "chain": chain,
            "digests": { "facts": digest, "packages": digest, "services": digest },
        });
        let reply = first.client.post("/agent/v1/check-in", &body).await;
        assert_eq!((reply.status, reply.json["field"].as_str()), (422, Some("chain")), "{reply:?}");
    }
    first.speaks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_before_the_last_renewal_waits_for_a_person_whatever_the_policy() {
    let mut settings = Settings::default();
    settings.hosts.clones = ClonePolicy::Enrol;
    for database in TestDatabase::all() {
        let (server, admin, mut first) = known(database, settings.clone()).await;
        let mut copy = first.copied(of_the_copy(), "copy");
        // Twice, so that the overlap of the first one is over.
        for _ in 0..2 {
            let key = fresh_key();
            let reply = first.renews(&key).await.ok();
            first.shows(&server, (reply["certificate"].as_str().unwrap().to_owned(), key));
            first.speaks().await;
        }
        assert_eq!(copy.asks_for_its_own(&fresh_key()).await.status, 409, "nobody has noticed it yet");
        for _ in 0..3 {
            assert_eq!(copy.tries().await.problem(), "certificate-superseded");
        }
        assert_eq!(audited(&admin, "host.clone-noticed").await, 1);
        let seen = shown(&admin, first.id).await;
        assert_eq!(seen["summary"]["notices"], json!(["two machines with its identity"]));
        let id = own(&server, &mut copy).await;
        assert_eq!(copy.tries().await.problem(), "host-pending");
        admin.post(&format!("/api/v1/hosts/{id}/accept"), &json!({})).await.ok();
        copy.speaks().await;
        first.speaks().await;
        assert_eq!(shown(&admin, first.id).await["summary"]["notices"], json!([]));
    }
}
