//! Inventories: gigantic, unsorted, lying, and differences that rest on nothing.

use super::agent::{Agent, digest, many, package, refused};
use fettle_domain::package::InstalledPackage;
use fettle_testkit::{Setup, TestDatabase, TestServer};
use fettle_wire::agent::{PackagesReport, Service};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_list_of_packages_is_refused_and_the_former_one_stays() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let mut agent = Agent::known(&server, &admin, "web-1").await;
        let before = agent.kept(&server).await;
        let good = agent.packages.clone();

        let mut long_name = many(10, "1");
        long_name.push(package(&"q".repeat(2 << 10), "1"));
        let mut unsorted = many(10, "1");
        unsorted.swap(3, 7);
        let mut twice = many(10, "1");
        twice.insert(4, InstalledPackage { automatic: false, ..twice[4].clone() });
        let mut newline = many(10, "1");
        newline[2].package.version = "1\n2".into();
        let lists = [
            ("gigantic", many(60_000, "1.0-1"), "60000 packages; at most 50000"),
            ("long name", long_name, "longer than 1024 bytes"),
            ("unsorted", unsorted, "not sorted"),
            ("twice", twice, "twice in one version"),
            ("control character", newline, "control characters"),
        ];
        for (what, packages, words) in lists {
            agent.packages = packages;
            let reply = agent.send(&agent.whole()).await;
            refused(&reply, 422, "invalid");
            assert_eq!(reply.json["field"], "packages", "{what}");
            assert!(reply.json["detail"].as_str().unwrap().contains(words), "{what}: {reply:?}");
            assert!(reply.text.len() < 2_000, "{what}: the answer does not repeat the question");
            assert_eq!(agent.kept(&server).await, before, "{what}");
        }

        // 60,000 names of 2 KB are longer than any check-in may be.
        agent.packages = many(20_000, &"9".repeat(1_000));
        refused(&agent.send(&agent.whole()).await, 413, "too-large");

        agent.packages = good;
        agent.services = (0..20_001)
            .map(|number| Service {
                unit: format!("u{number}"),
                executable: String::new(),
                package: String::new(),
                listens: Vec::new(),
                restart_pending: false,
                outdated_packages: Vec::new(),
            })
            .collect();
        let reply = agent.send(&agent.whole()).await;
        refused(&reply, 422, "invalid");
        assert_eq!(reply.json["field"], "services");
        agent.services.clear();
        agent.facts.tags = vec!["t".repeat(1 << 10); 300];
        let reply = agent.send(&agent.whole()).await;
        refused(&reply, 422, "invalid");
        assert_eq!(reply.json["field"], "facts");
        agent.facts.tags.clear();
        assert_eq!(agent.kept(&server).await, before);
        agent.speaks().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_lies_is_told_and_a_lost_base_is_asked_for_whole() {
    for database in TestDatabase::all() {
        let server = TestServer::start_with(Setup { database: Some(database), ..Setup::default() });
        let admin = server.administrator().await;
        let mut agent = Agent::known(&server, &admin, "web-1").await;
        let before = agent.kept(&server).await;
        let former = agent.packages.clone();
        agent.packages = many(41, "1.0-1");

        for section in ["facts", "packages", "services"] {
            let mut lying = serde_json::to_value(agent.whole()).unwrap();
            lying["digests"][section] = json!("a".repeat(64));
            let reply = agent.client.post("/agent/v1/check-in", &lying).await;
            refused(&reply, 422, "invalid");
            assert_eq!(reply.json["field"], section, "{reply:?}");
            for none in ["", "A", &"A".repeat(64), &"a".repeat(63), &"g".repeat(64)] {
                lying["digests"][section] = json!(none);
                refused(&agent.client.post("/agent/v1/check-in", &lying).await, 422, "invalid");
            }
            assert_eq!(agent.kept(&server).await, before, "{section}");
        }

        let added = vec![agent.packages[40].clone()];
        let from = |base: String, removed: Vec<InstalledPackage>| PackagesReport::Difference {
            base,
            removed,
            added: added.clone(),
        };
        for (what, report) in [
            ("unknown base", from("0".repeat(64), Vec::new())),
            ("base that is no digest", from("'; DROP TABLE host; --".repeat(1000), Vec::new())),
            ("does not add up", from(digest(&former), vec![former[0].clone()])),
        ] {
            let reply = agent.send(&agent.with(report)).await;
            assert_eq!(reply.ok()["want"], json!(["packages"]), "{what}");
            assert_eq!(agent.kept(&server).await.1, before.1, "{what}");
        }
        agent.speaks().await;
        assert_eq!(agent.kept(&server).await.1, agent.packages);
        assert_eq!(admin.get("/api/v1/audit/verify").await.ok()["intact"], true);
    }
}
