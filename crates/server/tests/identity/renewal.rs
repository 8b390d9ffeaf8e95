//! Certificates: renewed in time, after a long sleep, and by nobody else.

use super::machine::{DAY, Machine, audited, days_ago, events, facts, fresh_key, request_over, shown};
use fettle_domain::Timestamp;
use fettle_server::clock;
use fettle_testkit::{Setup, TestDatabase, TestServer};
use serde_json::json;

/// A server, its administrator, and a machine that is known.
async fn known(database: TestDatabase) -> (TestServer, fettle_testkit::Client, Machine) {
    let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
    let admin = server.administrator().await;
    let machine = Machine::enrol(&server, &admin, facts("web-1", "m1", "u1", &["52:54:00:00:00:01"])).await;
    (server, admin, machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_certificate_counts_at_its_first_use_and_ends_the_one_before() {
    for database in TestDatabase::all() {
        let (server, admin, mut machine) = known(database).await;
        let first = machine.clone();
        let mut keys = vec![];
        for number in 1..=2 {
            let key = fresh_key();
            let reply = machine.renews(&key).await.ok();
            let certificate = (reply["certificate"].as_str().unwrap().to_owned(), key.clone());
            // Issued, not used: the present one counts as before, as often as wanted.
            machine.speaks().await;
            machine.reports().await.ok();
            let mut next = machine.clone();
            next.shows(&server, certificate);
            next.speaks().await;
            let seen = shown(&admin, machine.id).await;
            let expires = Timestamp::parse(seen["identity"]["certificate_expires_at"].as_str().unwrap()).unwrap();
            let left = clock::now().until(expires).as_secs();
            assert!((89 * DAY..=90 * DAY).contains(&left), "{left}");
            assert_eq!(seen["identity"]["certificates"], number + 1);
            // What was under way over the one before ends in peace.
            machine.last = next.last.clone();
            machine.work(0).await.ok();
            keys.push(key);
            machine = next;
        }
        // Two certificates ago: refused everywhere, with what to do.
        for reply in
            [first.work(0).await, first.reports().await, first.clone().tries().await, first.renews(&fresh_key()).await]
        {
            assert_eq!((reply.status, reply.problem()), (403, "certificate-superseded"), "{reply:?}");
            assert!(reply.json["advice"].as_str().unwrap().contains("--force"), "{reply:?}");
        }
        machine.speaks().await;
        assert_eq!(audited(&admin, "host.renew").await, 2);
        let told = events(&admin, machine.id).await;
        let renewed = ["renew", "use-certificate"];
        assert_eq!(
            told,
            [["enrol", "report"], renewed, renewed].concat().into_iter().chain(["notice-clone"]).collect::<Vec<_>>()
        );
        assert_eq!(admin.get("/api/v1/audit/verify").await.ok()["intact"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_never_used_does_not_lock_the_host_out_and_can_be_asked_for_again() {
    let (server, _, mut machine) = known(TestDatabase::sqlite()).await;
    let key = fresh_key();
    // The agent died after each answer; with the same key, then with another one.
    for key in [&key, &key, &fresh_key()] {
        machine.renews(key).await.ok();
        machine.speaks().await;
    }
    let reply = machine.renews(&key).await.ok();
    machine.shows(&server, (reply["certificate"].as_str().unwrap().to_owned(), key));
    machine.speaks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_good_for_its_renewal_within_the_grace_and_for_nothing_else() {
    for database in TestDatabase::all() {
        let (server, admin, mut machine) = known(database).await;
        let (good, key) = machine.certificate.clone();
        // As it would be after ninety days and a long sleep: the same key, its time over.
        let expired = server.certificate_over(&key, machine.id, days_ago(100), 90);
        machine.shows(&server, (expired, key.clone()));
        for reply in [
            machine.work(0).await,
            machine.reports().await,
            machine.clone().tries().await,
            machine.asks_for_its_own(&fresh_key()).await,
        ] {
            assert_eq!((reply.status, reply.problem()), (401, "certificate-expired"), "{reply:?}");
            assert!(reply.json["detail"].as_str().unwrap().contains("expired at"), "{reply:?}");
        }
        // Nor does it open anything that is for people.
        assert_eq!(machine.client.get("/api/v1/hosts").await.problem(), "denied");
        let next = fresh_key();
        let reply = machine.renews(&next).await.ok();
        machine.shows(&server, (reply["certificate"].as_str().unwrap().to_owned(), next));
        machine.speaks().await;
        let history = admin.get(&format!("/api/v1/hosts/{}/explain", machine.id)).await.ok()["history"].to_string();
        assert!(history.contains("within the grace"), "{history}");
        // The former key is not the last one known: its expired certificate renews nothing any more,
        // as soon as the overlap is over. A further renewal ends it at once.
        let third = fresh_key();
        let reply = machine.renews(&third).await.ok();
        machine.shows(&server, (reply["certificate"].as_str().unwrap().to_owned(), third));
        machine.speaks().await;
        let mut thief = machine.clone();
        for certificate in [server.certificate_over(&key, machine.id, days_ago(100), 90), good] {
            thief.shows(&server, (certificate, key.clone()));
            assert_eq!(thief.renews(&fresh_key()).await.problem(), "certificate-superseded");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_grace_or_revoked_a_person_is_needed() {
    let (server, admin, mut machine) = known(TestDatabase::sqlite()).await;
    let key = machine.certificate.1.clone();
    let long_ago = server.certificate_over(&key, machine.id, days_ago(90 + 365 + 1), 90);
    machine.shows(&server, (long_ago, key.clone()));
    for reply in [machine.renews(&fresh_key()).await, machine.work(0).await, machine.clone().tries().await] {
        assert_eq!((reply.status, reply.problem()), (401, "certificate-expired-for-good"), "{reply:?}");
        assert!(reply.json["advice"].as_str().unwrap().contains("fettle host token create"), "{reply:?}");
    }
    let expired = server.certificate_over(&key, machine.id, days_ago(100), 90);
    machine.shows(&server, (expired, key));
    admin.post(&format!("/api/v1/hosts/{}/revoke", machine.id), &json!({ "reason": "stolen" })).await.ok();
    assert_eq!(machine.renews(&fresh_key()).await.problem(), "host-revoked");
    assert_eq!(audited(&admin, "host.renew").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_renew_nothing() {
    let (server, admin, mut machine) = known(TestDatabase::sqlite()).await;
    let other = Machine::enrol(&server, &admin, facts("web-2", "m2", "u2", &["52:54:00:00:00:02"])).await;
    for csr in ["", "garbage", &"x".repeat(17 << 10)] {
        let reply = machine.client.post("/agent/v1/renew", &json!({ "csr": csr })).await;
        assert_eq!((reply.status, reply.problem()), (422, "invalid"), "{reply:?}");
    }
    // The present key again: nothing would be renewed.
    let same = machine.renews(&machine.certificate.1.clone()).await;
    assert_eq!((same.status, same.json["field"].as_str()), (422, Some("csr")), "{same:?}");
    let nobody = server.client().post("/agent/v1/renew", &json!({ "csr": request_over(&fresh_key()) })).await;
    assert_eq!((nobody.status, nobody.problem()), (401, "certificate-required"));
    assert_eq!(admin.post("/agent/v1/renew", &json!({ "csr": request_over(&fresh_key()) })).await.status, 401);
    // A certificate is always for who shows one: what stands in the request is not believed.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wish = rcgen::CertificateParams::new(vec![]).unwrap();
    wish.distinguished_name.push(rcgen::DnType::CommonName, other.id.to_string());
    let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
    let reply = machine.client.post("/agent/v1/renew", &json!({ "csr": csr })).await.ok();
    machine.shows(&server, (reply["certificate"].as_str().unwrap().to_owned(), key.serialize_pem()));
    machine.speaks().await;
    assert_eq!(shown(&admin, machine.id).await["identity"]["certificates"], 2);
    assert_eq!(shown(&admin, other.id).await["identity"]["certificates"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_set_back_to_a_back_up_believes_newer_certificates_of_its_authority_and_no_older_ones() {
    for database in TestDatabase::all() {
        let (server, admin, mut machine) = known(database).await;
        let former = machine.certificate.clone();
        // Renewed by a server that this database does not remember.
        let key = fresh_key();
        let newer = server.certificate_over(&key, machine.id, clock::now(), 91);
        machine.shows(&server, (newer, key));
        machine.speaks().await;
        machine.work(0).await.ok();
        machine.reports().await.ok();
        assert_eq!(audited(&admin, "host.certificate-adopted").await, 1);
        machine.shows(&server, former);
        machine.work(0).await.ok();
        let key = fresh_key();
        let older = server.certificate_over(&key, machine.id, days_ago(1), 30);
        machine.shows(&server, (older, key));
        assert_eq!(machine.tries().await.problem(), "certificate-superseded");
        assert_eq!(audited(&admin, "host.certificate-adopted").await, 1);
        assert_eq!(shown(&admin, machine.id).await["identity"]["certificates"], 2);
    }
}
