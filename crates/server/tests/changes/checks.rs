//! Health checks of a change: refused by their place, part of what is approved, in the signed order,
//! and what hosts saw of them on page and API.

use super::agent::Conduct;
use super::fleet::{Fleet, LIMIT, settings};
use fettle_domain::machine::{DeploymentEvent as E, TaskState};
use fettle_domain::reason::Reason;
use fettle_testkit::{TestDatabase, eventually};
use fettle_wire::agent::ReportBody;
use serde_json::json;

const SHOP: &str = "http=http://127.0.0.1:8080/health,within=30s,name=the shop";
const SELF_TEST: &str = "command=self-test,when=always";

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_none_is_refused_with_its_place() {
    let fleet = Fleet::start(TestDatabase::sqlite(), settings(1), &[Conduct::Good]).await;
    let many: Vec<String> = (1..=33).map(|port| format!("port={port}")).collect();
    for (checks, field, part) in [
        (json!(["port=80", "shell=rm -rf /"]), "checks[1]", "no kind `shell`"),
        (json!(["command=/bin/sh -c x"]), "checks[0]", "never written out"),
        (json!(["http=http://db.example.net/"]), "checks[0]", "IP address or localhost"),
        (json!(["log=/var/log/../../etc/shadow,present=root"]), "checks[0]", "below /var/log"),
        (json!(["port=80", "port=80"]), "checks[1]", "two checks are called"),
        (json!(many), "checks", "33 checks"),
    ] {
        let request = json!({ "packages": ["libexpat1"], "hosts": ["web-1"], "checks": checks });
        let refused = fleet.operator.post("/api/v1/changes", &request).await;
        assert_eq!((refused.status, refused.json["field"].as_str()), (422, Some(field)), "{checks} {refused:?}");
        assert!(refused.text.contains(part), "{part}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_are_approved_with_the_plan_and_signed_into_the_order() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good]).await;
        let plain = fleet.ask(json!({})).await;
        let path = fleet.ask(json!({ "checks": [SHOP, SELF_TEST] })).await;
        fleet.approve(&path).await;
        let change = fleet.change(&path).await;
        assert_eq!(
            change["checks"],
            json!([
                { "name": "the shop", "text": SHOP, "when": "both" },
                { "name": "command self-test", "text": SELF_TEST, "when": "always" },
            ])
        );
        assert_eq!(fleet.change(&plain).await["checks"], json!([]));
        fleet.act(&path, "start").await;
        eventually("the wave is open", LIMIT, || async { fleet.deployments(&path).await.len() == 1 }).await;
        let agent = &mut fleet.agents[0];
        agent.work(0).await;
        let id = *agent.known.keys().next().unwrap();
        let known = &agent.known[&id];
        let texts: Vec<String> = known.offer.checks.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [SHOP, SELF_TEST]);
        assert_eq!(json!(known.offer.plan_digest), change["plan_digest"]);

        let task = |number: u32, name: &str, state, reasons: Vec<Reason>| ReportBody::Task {
            deployment: id,
            number,
            name: name.to_owned(),
            state,
            reasons,
        };
        let event = |event, reasons: Vec<Reason>| ReportBody::Deployment { deployment: id, event, reasons };
        let broken =
            || Reason::from_source("health.broken", "the shop: held before and does not now: 500", "the change");
        let holds = |text: &str| Reason::new("health.holds", text);
        for body in [
            event(E::Accept, vec![]),
            event(E::Fetch, vec![]),
            task(3, "pre-check", TaskState::Done, vec![holds("the shop: holds before the change: 200")]),
        ] {
            agent.say(body);
        }
        agent.report().await;
        let seen = fleet.admin.get(&format!("{path}/checks")).await.ok();
        let host = &seen["items"][0];
        assert_eq!(
            (&host["task"], &host["failed"], &host["host_name"]),
            (&json!("pre-check"), &json!(false), &json!("web-1"))
        );

        let agent = &mut fleet.agents[0];
        for body in [
            event(E::Prepare, vec![]),
            event(E::Apply, vec![]),
            event(E::Check, vec![]),
            task(7, "health-checks", TaskState::Undo, vec![broken(), Reason::new("task.output", "<b>last lines</b>")]),
            event(E::Undo, vec![broken()]),
            task(7, "health-checks", TaskState::Undoing, vec![]),
            task(7, "health-checks", TaskState::Undone, vec![]),
            task(5, "install", TaskState::Undone, vec![holds("after the undo: the shop: holds: 200")]),
            event(E::FinishUndo, vec![]),
        ] {
            agent.say(body);
        }
        agent.report().await;
        let seen = fleet.admin.get(&format!("{path}/checks")).await.ok();
        let host = &seen["items"][0];
        assert_eq!((&host["task"], &host["failed"]), (&json!("health-checks"), &json!(true)), "{seen:#}");
        assert_eq!(host["results"].as_array().unwrap().len(), 1, "only what speaks of health: {seen:#}");
        assert_eq!(host["results"][0]["source"], "the change");
        // Why it was undone is still told when it is undone: with the deployment, and with the task.
        let deployment = fleet.admin.get(&format!("/api/v1/deployments/{id}")).await.ok();
        assert_eq!(deployment["summary"]["state"], "undone");
        assert_eq!(deployment["reasons"][0]["topic"], "health.broken", "{deployment:#}");
        let tasks = deployment["tasks"].as_array().unwrap();
        let checks = tasks.iter().find(|task| task["name"] == "health-checks").unwrap();
        assert_eq!((&checks["state"], &checks["reasons"][0]["topic"]), (&json!("undone"), &json!("health.broken")));
        assert_eq!(fleet.admin.get(&format!("{path}/checks?after=x")).await.status, 422);
    }
}
