//! Who may approve what, and what a change is made of.

use super::agent::Conduct;
use super::fleet::{FLAW, Fleet, settings};
use fettle_domain::access::Role;
use fettle_testkit::TestDatabase;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn two_people_other_than_the_requester_approve_exactly_what_they_saw() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(2), &[Conduct::Good]).await;
        let path = fleet.ask(json!({})).await;
        let draft = fleet.change(&path).await;
        assert_eq!(draft["summary"]["state"], "draft");
        assert_eq!(draft["summary"]["title"], "Close CVE-2024-50602 on 1 host");
        assert_eq!(
            draft["asked_for"],
            json!(["close the vulnerabilities CVE-2024-50602", "on all hosts that are affected"])
        );
        let approve = |digest: serde_json::Value| json!({ "digest": digest });
        let early = fleet.approver.post(&format!("{path}/approve"), &approve(json!("x"))).await;
        assert_eq!((early.status, early.problem()), (409, "conflict"), "{early:?}");
        assert!(early.text.contains("its plan is draft"), "{early:?}");

        for agent in &mut fleet.agents {
            agent.work(0).await;
            agent.report().await;
        }
        fleet.until_state(&path, "proposed").await;
        fleet.until_findings("planned", 1).await;
        let plan = fleet.change(&path).await;
        let digest = plan["plan_digest"].clone();
        assert_eq!(digest.as_str().unwrap().len(), 64);
        // The same version closes other flaws of expat too.
        assert!(plan["findings"].as_u64().unwrap() >= 1, "{plan:#}");
        assert_eq!((plan["summary"]["hosts"].clone(), plan["approvals_needed"].clone()), (json!(1), json!(2)));
        assert_eq!(plan["risk"]["level"], "low");
        assert!(plan["back_out"].as_str().unwrap().contains("without network"));
        assert!(plan["report"][0]["text"].as_str().unwrap().contains("1 of 1 hosts can be changed"), "{plan:#}");
        assert!(plan["waiting_for"][0].as_str().unwrap().contains("2 more approval(s)"), "{plan:#}");
        let hosts = fleet.admin.get(&format!("{path}/hosts")).await.ok();
        assert_eq!(hosts["items"][0]["packages"][0]["to"], "2.5.0-1+deb12u2");

        // Not with the right role alone: the requester asked for it (as administrator, to have the permission).
        let own =
            fleet.admin.post("/api/v1/changes", &json!({ "packages": ["libexpat1"], "hosts": ["web-1"] })).await.ok();
        let own_path = format!("/api/v1/changes/{}", own["summary"]["number"]);
        for agent in &mut fleet.agents {
            agent.work(0).await;
            agent.report().await;
        }
        fleet.until_state(&own_path, "proposed").await;
        let own_digest = fleet.change(&own_path).await["plan_digest"].clone();
        let refused = fleet.admin.post(&format!("{own_path}/approve"), &approve(own_digest)).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.text.contains("admin asked for change 2 and so may not approve it"), "{refused:?}");

        let viewer = fleet.server.user(&fleet.admin, "vera", Role::Viewer).await;
        for (who, name) in [(&fleet.operator, "operator"), (&viewer, "viewer")] {
            assert_eq!(who.post(&format!("{path}/approve"), &approve(digest.clone())).await.status, 403, "{name}");
        }
        let stale = fleet.approver.post(&format!("{path}/approve"), &approve(json!("0".repeat(64)))).await;
        assert_eq!(stale.status, 409);
        assert!(stale.text.contains("not the one you approve"), "{stale:?}");
        let start = fleet.operator.post(&format!("{path}/start"), &json!({})).await;
        assert_eq!(start.status, 409, "not approved yet: {start:?}");

        let once = fleet.approver.post(&format!("{path}/approve"), &approve(digest.clone())).await.ok();
        assert_eq!(
            (once["summary"]["state"].clone(), once["approvals"][0]["by"].clone()),
            (json!("proposed"), json!("anton"))
        );
        let again = fleet.approver.post(&format!("{path}/approve"), &approve(digest.clone())).await;
        assert_eq!(again.status, 409);
        assert!(again.text.contains("anton has approved change 1 already"), "{again:?}");
        let twice = fleet.admin.post(&format!("{path}/approve"), &approve(digest)).await.ok();
        assert_eq!(twice["summary"]["state"], "approved");
        assert!(twice["may"].as_array().unwrap().contains(&json!("start")), "{twice:#}");

        let explained = fleet.admin.get(&format!("{path}/explain")).await.ok();
        assert_eq!(explained["summary"], "change 1 (Close CVE-2024-50602 on 1 host) is approved");
        assert!(explained["waiting_for"][0].as_str().unwrap().contains("fettle change start 1"), "{explained:#}");
        let topics: Vec<&str> =
            explained["reasons"].as_array().unwrap().iter().map(|reason| reason["topic"].as_str().unwrap()).collect();
        for topic in ["change.asked", "policy.approval", "plan.approved", "plan.hosts", "change.closes"] {
            assert!(topics.contains(&topic), "{topic} in {topics:?}");
        }
        let audit = fleet.admin.get("/api/v1/audit?limit=1000").await.ok();
        let acts: Vec<&str> =
            audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(acts.iter().filter(|act| **act == "change.approve").count(), 2);
        assert_eq!(acts.iter().filter(|act| **act == "change.create").count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_the_field() {
    let fleet = Fleet::start(TestDatabase::sqlite(), settings(1), &[Conduct::Good]).await;
    for (request, field) in [
        (json!({}), "packages"),
        (json!({ "packages": ["libexpat1"] }), "hosts"),
        (json!({ "vulnerabilities": [FLAW] }), "hosts"),
        (json!({ "vulnerabilities": [FLAW], "hosts": ["web-1"], "all_affected": true }), "all_affected"),
        (json!({ "packages": ["rm -rf /"], "hosts": ["web-1"] }), "packages"),
        (json!({ "packages": ["sed=not a version"], "hosts": ["web-1"] }), "packages"),
        (json!({ "packages": ["sed"], "hosts": ["web-1"], "success_percent": 101 }), "success_percent"),
        (json!({ "packages": ["sed"], "hosts": ["web-1"], "reboot": "often" }), "reboot"),
        (json!({ "packages": ["sed"], "hosts": ["web-1"], "window_start": "tomorrow" }), "window_start"),
        (json!({ "packages": ["sed"], "hosts": ["web-1"], "window_end": "2020-01-01T00:00:00Z" }), "window_end"),
        (json!({ "vulnerabilities": ["CVE-1999-0001"], "all_affected": true }), "vulnerabilities"),
        (json!({ "findings": ["finding_x"] }), "findings"),
    ] {
        let refused = fleet.operator.post("/api/v1/changes", &request).await;
        assert_eq!((refused.status, refused.json["field"].as_str()), (422, Some(field)), "{request} {refused:?}");
        assert!(!refused.json["advice"].as_str().unwrap_or_default().is_empty(), "{refused:?}");
    }
    let missing = fleet.operator.post("/api/v1/changes", &json!({ "packages": ["sed"], "hosts": ["nowhere"] })).await;
    assert_eq!(missing.status, 404, "{missing:?}");
    let nothing = fleet.operator.post("/api/v1/changes", &json!({ "packages": ["nginx"], "hosts": ["web-1"] })).await;
    assert_eq!(nothing.status, 409, "{nothing:?}");
    assert!(nothing.text.contains("nginx is not installed on web-1"), "{nothing:?}");
    assert_eq!(fleet.admin.get("/api/v1/changes").await.ok()["items"], json!([]));
    assert_eq!(fleet.admin.get("/api/v1/changes/7").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_and_cancelled_changes_release_their_findings() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good, Conduct::Good]).await;
        for end in ["reject", "cancel"] {
            let path = fleet.ask(json!({})).await;
            for agent in &mut fleet.agents {
                agent.work(0).await;
                agent.report().await;
            }
            fleet.until_state(&path, "proposed").await;
            fleet.until_findings("planned", 2).await;
            let who = if end == "reject" { &fleet.approver } else { &fleet.operator };
            who.post(&format!("{path}/{end}"), &json!({ "reason": "not now" })).await.ok();
            fleet.until_findings("open", 2).await;
            let again = who.post(&format!("{path}/{end}"), &json!({})).await;
            assert_eq!(again.status, 409, "{again:?}");
        }
        let listed = fleet.admin.get("/api/v1/changes?state=rejected").await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        assert_eq!(listed["items"][0]["number"], 1);
    }
}
