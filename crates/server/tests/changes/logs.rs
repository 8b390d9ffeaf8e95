//! The whole log of a deployment, fetched from its host on request.

use super::agent::Conduct;
use super::fleet::{Fleet, settings};
use fettle_domain::DeploymentId;
use fettle_domain::access::Role;
use fettle_server::clock;
use fettle_testkit::TestDatabase;
use fettle_wire::log::{LogLine, LogPart, LogReply, LogStream};
use serde_json::{Value, json};

/// A completed change on so many hosts, with the deployment of the first.
async fn completed(database: TestDatabase, conducts: &[Conduct]) -> (Fleet, String, DeploymentId) {
    let mut fleet = Fleet::start(database, settings(1), conducts).await;
    let path = fleet.ask(json!({})).await;
    fleet.approve(&path).await;
    fleet.act(&path, "start").await;
    assert_eq!(fleet.run_until(&path, &["completed"]).await, "completed");
    let id = *fleet.agents[0].known.keys().next().unwrap();
    (fleet, path, id)
}

fn line(number: u64, text: &str) -> LogLine {
    LogLine { number, at: clock::now(), task: "install".into(), stream: LogStream::Output, text: text.into() }
}

fn texts(log: &Value) -> Vec<&str> {
    log["lines"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_asked_for_once_comes_in_parts_and_shows_its_gaps() {
    for database in TestDatabase::all() {
        let (mut fleet, path, id) = completed(database, &[Conduct::Good, Conduct::Good]).await;
        let viewer = fleet.server.user(&fleet.admin, "vera", Role::Viewer).await;
        let whole = format!("/api/v1/deployments/{id}/whole-log");
        assert_eq!(viewer.get(&whole).await.ok()["state"], "not-asked");
        let asked = viewer.post(&whole, &Value::Null).await.ok();
        assert_eq!((asked["state"].as_str(), asked["asked_by"].as_str()), (Some("asked"), Some("vera")));
        assert!(asked["waiting_for"].as_str().unwrap().contains("web-1 to answer: it was asked at"), "{asked}");
        // Asked once more by another person while the first request is open: the same one.
        assert_eq!(fleet.operator.post(&whole, &Value::Null).await.ok()["asked_by"], "vera");

        fleet.agents[1].work(0).await;
        assert!(fleet.agents[1].asked_logs.is_empty(), "another host is not asked");
        fleet.agents[0].work(0).await;
        let [(request, deployment, from, most)] = fleet.agents[0].asked_logs[..] else {
            panic!("{:?}", fleet.agents[0].asked_logs)
        };
        assert_eq!((deployment, from), (id, 1));
        assert!(most >= 8 << 20);
        let part = |from, lines: Vec<LogLine>, last| LogPart { request, from, lines, last, missing: String::new() };
        let send = async |agent: usize, part: &LogPart| -> LogReply {
            let body = serde_json::to_value(part).unwrap();
            serde_json::from_value(fleet.agents[agent].client.post("/agent/v1/log", &body).await.ok()).unwrap()
        };
        let first = part(1, vec![line(1, "one"), line(2, "two\u{1b}[31m")], false);
        // Another host's part is not wanted and changes nothing.
        assert!(!send(1, &first).await.wanted);
        let reply = send(0, &first).await;
        assert_eq!((reply.next, reply.wanted), (3, true));
        // The answer got lost: the part comes again.
        assert_eq!(send(0, &first).await, reply);
        let half = viewer.get(&whole).await.ok();
        assert_eq!((half["state"].as_str(), texts(&half).len()), (Some("arriving"), 2));
        let reply = send(0, &part(3, vec![line(90, "ninety"), line(91, "the end")], true)).await;
        assert!(!reply.wanted);

        let done = viewer.get(&whole).await.ok();
        assert_eq!(done["state"], "complete");
        assert_eq!(
            texts(&done),
            [
                "one",
                "two\u{fffd}[31m",
                "[lines 3 to 89 were cut: of a long log the beginning and the end are kept]",
                "ninety",
                "the end"
            ]
        );
        let page = viewer.get(&format!("{whole}?limit=1")).await.ok();
        assert_eq!((texts(&page), page["next"].as_str()), (vec!["one"], Some("1")));
        let rest = viewer.get(&format!("{whole}?after=90")).await.ok();
        assert_eq!((texts(&rest), rest["next"].is_null()), (vec!["the end"], true));
        fleet.agents[0].work(0).await;
        assert!(fleet.agents[0].asked_logs.is_empty(), "answered is answered");

        let audit = fleet.admin.get("/api/v1/audit?limit=50").await.ok();
        let entry =
            audit["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "deployment.ask-log").unwrap();
        assert_eq!((entry["actor"].as_str(), entry["object"].as_str()), (Some("vera"), Some(id.to_string().as_str())));
        let events = fleet.events(&path).await;
        let of_log: Vec<&str> = events
            .iter()
            .filter(|event| event["machine"] == "log")
            .map(|event| event["state"].as_str().unwrap())
            .collect();
        assert_eq!(of_log, ["asked", "complete"]);

        // Asked for anew: what was here is replaced.
        assert_eq!(fleet.operator.post(&whole, &Value::Null).await.ok()["asked_by"], "olga");
        assert_eq!(texts(&viewer.get(&whole).await.ok()).len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_right_is_told() {
    for database in TestDatabase::all() {
        let (mut fleet, _, id) = completed(database, &[Conduct::Good]).await;
        let whole = format!("/api/v1/deployments/{id}/whole-log");
        let other: DeploymentId = clock::fresh();
        assert_eq!(fleet.admin.post(&format!("/api/v1/deployments/{other}/whole-log"), &Value::Null).await.status, 404);
        assert_eq!(fleet.admin.get("/api/v1/deployments/nonsense/whole-log").await.problem(), "invalid");
        fleet.operator.post(&whole, &Value::Null).await.ok();
        fleet.agents[0].work(0).await;
        let (request, ..) = fleet.agents[0].asked_logs[0];
        let send = async |part: Value| fleet.agents[0].client.post("/agent/v1/log", &part).await;
        let line = |number: u64, text: &str| serde_json::to_value(line(number, text)).unwrap();
        let wrong = |lines: Value| json!({ "request": request, "from": 1, "lines": lines, "last": true });
        assert_eq!(send(wrong(json!([line(2, "b"), line(2, "b")]))).await.json["field"], "lines[1].number");
        assert_eq!(send(wrong(json!([line(1, &"x".repeat(9_000))]))).await.json["field"], "lines[0]");
        assert_eq!(send(wrong(json!(vec![line(1, ""); 20_001]))).await.json["field"], "lines");
        assert_eq!(send(wrong(json!("no list"))).await.status, 400);
        assert_eq!(fleet.admin.get(&whole).await.ok()["state"], "asked", "nothing of it was taken");
        send(json!({ "request": request, "from": 1, "lines": [], "last": true, "missing": "kept no longer\u{1b}" }))
            .await
            .ok();
        let missing = fleet.admin.get(&whole).await.ok();
        assert_eq!(
            (missing["state"].as_str(), missing["waiting_for"].as_str()),
            (Some("missing"), Some("kept no longer\u{fffd}"))
        );
        // A revoked host is not asked.
        fleet.admin.post("/api/v1/hosts/web-1/revoke", &json!({ "reason": "gone" })).await.ok();
        let refused = fleet.operator.post(&whole, &Value::Null).await;
        assert_eq!(refused.status, 409);
        assert!(refused.text.contains("web-1 was revoked"), "{}", refused.text);
    }
}
