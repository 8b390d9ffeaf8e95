//! A host that changes stays the host that it is; one whose clock is wrong is told of.

use super::machine::{DAY, Machine, events, facts, shown};
use fettle_testkit::{Setup, TestDatabase, TestServer};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn another_name_address_disk_or_card_is_the_same_host() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let mut machine = Machine::enrol(&server, &admin, facts("web-1", "m1", "u1", &["52:54:00:00:00:01"])).await;
        let id = machine.id;
        let mut changes = vec![facts("db-7", "m1", "u1", &["52:54:00:00:00:01"])];
        changes.push(fettle_wire::agent::HostFacts { addresses: vec!["192.0.2.99".into()], ..changes[0].clone() });
        // The system was moved to another disk (its id with it), to another card, to another machine.
        changes.push(facts("db-7", "m2", "u1", &["52:54:00:00:00:01"]));
        changes.push(facts("db-7", "m2", "u1", &["52:54:00:00:00:77"]));
        changes.push(facts("db-7", "m2", "u5", &["52:54:00:00:00:88"]));
        for change in changes {
            machine.facts = change;
            machine.speaks().await;
            machine.work(0).await.ok();
            let seen = shown(&admin, id).await;
            assert_eq!((&seen["summary"]["state"], &seen["summary"]["notices"]), (&json!("managed"), &json!([])));
            assert_eq!(seen["macs"], json!(machine.facts.macs));
        }
        assert_eq!(shown(&admin, id).await["summary"]["name"], "db-7");
        assert_eq!(events(&admin, id).await, ["enrol", "report"]);
        assert_eq!(admin.get("/api/v1/hosts/counts").await.ok()["managed"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_by_years_is_told_and_forgotten_when_it_is_right() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let mut machine = Machine::enrol(&server, &admin, facts("web-1", "m1", "u1", &[])).await;
        let decade = i64::try_from(3660 * DAY * 1000).unwrap();
        for (clock, words) in [(-decade, "10 years behind"), (decade, "10 years ahead"), (-7_200_000, "2 hours behind")]
        {
            machine.clock = clock;
            machine.speaks().await;
            let seen = shown(&admin, machine.id).await;
            assert_eq!(seen["identity"]["clock"], words);
            assert_eq!(seen["summary"]["notices"], json!([format!("clock {words}")]));
            let explained = admin.get(&format!("/api/v1/hosts/{}/explain", machine.id)).await.ok();
            assert!(explained["reasons"].to_string().contains("windows and expiry go by the host's clock"));
        }
        machine.clock = 200_000;
        machine.speaks().await;
        assert_eq!(shown(&admin, machine.id).await["summary"]["notices"], json!([]), "within bounds");
    }
}
