//! Orders reach hosts in time, and are taken back, held, undone.

use super::agent::{Agent, Conduct};
use super::fleet::{Fleet, LIMIT, settings};
use fettle_domain::machine::DeploymentState;
use fettle_server::ServerOptions;
use fettle_testkit::{TestDatabase, client, eventually};
use fettle_wire::agent::{Work, WorkItem};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_agent_gets_its_order_within_a_second_or_two() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good]).await;
        let path = fleet.ask(json!({})).await;
        fleet.approve(&path).await;
        let agent = &fleet.agents[0];
        let waiting = tokio::spawn({
            let (client, cursor) = (agent.client.clone(), agent.cursor);
            async move { client.get(&format!("/agent/v1/work?after={cursor}&wait=50")).await.ok() }
        });
        let state = fleet.server.state.clone();
        // The answered dry run's mark may have been taken before: then the agent waits at once.
        eventually("the agent waits", LIMIT, || async { state.nudges.work.waiting() == 1 }).await;
        let begun = Instant::now();
        fleet.act(&path, "start").await;
        let work: Work = serde_json::from_value(waiting.await.unwrap()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(matches!(work.items.as_slice(), [WorkItem::Offer { .. }]), "{work:?}");
        // The answer got lost: the same document comes again.
        let again: Work = serde_json::from_value(fleet.agents[0].ask(0).await.ok()).unwrap();
        assert_eq!(work.items, again.items);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_made_by_another_server_wakes_the_agents_of_this_one() {
    // Two servers over one PostgreSQL with the same keys; where there is none, nothing to show.
    let Some(database) = TestDatabase::postgres() else { return };
    let url = database.url_text();
    let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good]).await;
    let path = fleet.ask(json!({})).await;
    fleet.approve(&path).await;
    let folder = tempfile::tempdir().unwrap();
    copy(&fleet.server.data_dir(), &folder.path().join("data"));
    let options = ServerOptions {
        data_dir: folder.path().join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        database_url: Some(url),
        settings: settings(1),
        feeds: Vec::new(),
    };
    let other = fettle_server::prepare(options).await.unwrap();
    let (base, state) = (format!("https://{}", other.announcement().listen), other.state().clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(other.run(async { drop(stopped.await) }));
    let agent = &fleet.agents[0];
    let certificate = fleet.server.host_certificate(agent.id);
    let there = fettle_testkit::Client::new(&base, client::tls(state.identity.authority_pem(), Some(&certificate)));
    let waiting = tokio::spawn({
        let cursor = agent.cursor;
        async move { there.get(&format!("/agent/v1/work?after={cursor}&wait=50")).await.ok() }
    });
    eventually("the agent waits at the other server", LIMIT, || async { state.nudges.work.waiting() == 1 }).await;
    let begun = Instant::now();
    fleet.act(&path, "start").await;
    let work: Work = serde_json::from_value(waiting.await.unwrap()).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    fleet.agents[0].take(work);
    // Both carry the rollout on; neither does anything twice.
    assert_eq!(fleet.run_until(&path, &["completed", "halted"]).await, "completed");
    let offered = fleet.events(&path).await.iter().filter(|event| event["event"] == "offer").count();
    assert_eq!(offered, 1);
    drop(state);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_change_is_undone_host_by_host() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good, Conduct::Good]).await;
        let path = fleet.ask(json!({})).await;
        fleet.approve(&path).await;
        fleet.act(&path, "start").await;
        assert_eq!(fleet.run_until(&path, &["completed", "halted"]).await, "completed");
        assert_eq!(fleet.deployments(&path).await, ["web-1 succeeded proved", "web-2 succeeded proved"]);
        fleet.until_findings("verified", 2).await;
        let change = fleet.change(&path).await;
        assert_eq!((change["summary"]["plan_state"].clone(), change["proved"].clone()), (json!("closed"), json!(2)));
        assert_eq!(change["may"], json!(["undo"]));
        let cancel = fleet.operator.post(&format!("{path}/cancel"), &json!({})).await;
        assert!(cancel.status == 409 && cancel.text.contains("fettle change undo"), "{cancel:?}");

        fleet.act(&path, "undo").await;
        assert_eq!(fleet.run_until(&path, &["rolled-back"]).await, "rolled-back");
        for agent in &fleet.agents {
            agent.check_in().await;
        }
        eventually("former versions are proved", LIMIT, || async {
            fleet.deployments(&path).await == ["web-1 undone proved", "web-2 undone proved"]
        })
        .await;
        fleet.until_findings("open", 2).await;
        fleet.until_state(&path, "rolled-back").await;
        assert_eq!(fleet.change(&path).await["summary"]["plan_state"], "closed");
        // Each deployment tells its whole way.
        let list = fleet.admin.get(&format!("{path}/deployments")).await.ok();
        let id = list["items"][0]["id"].as_str().unwrap();
        let shown = fleet.admin.get(&format!("/api/v1/deployments/{id}")).await.ok();
        assert_eq!(shown["tasks"][1]["state"], "undone");
        let log = fleet.admin.get(&format!("/api/v1/deployments/{id}/log")).await.ok();
        assert_eq!(log["lines"], json!(["Unpacking libexpat1 …", "Setting up libexpat1 …"]));
        let explained = fleet.admin.get(&format!("/api/v1/deployments/{id}/explain")).await.ok();
        let texts: Vec<&str> =
            explained["reasons"].as_array().unwrap().iter().map(|reason| reason["text"].as_str().unwrap()).collect();
        assert!(texts.iter().any(|text| text.starts_with("an order to undo was signed")), "{texts:?}");
        let again = fleet.operator.post(&format!("{path}/undo"), &json!({})).await;
        assert_eq!(again.status, 409, "{again:?}");
        let of_host = fleet.admin.get("/api/v1/hosts/web-1/deployments").await.ok();
        assert_eq!(of_host["items"].as_array().unwrap().len(), 1);
        assert_eq!(fleet.admin.get("/api/v1/audit/verify").await.ok()["intact"], true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_takes_back_what_has_not_begun_and_leaves_the_rest() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good, Conduct::Good, Conduct::Good]).await;
        let path = fleet.ask(json!({})).await;
        fleet.approve(&path).await;
        fleet.act(&path, "start").await;
        fleet.until_state(&path, "running").await;
        // The first has begun to install, the second has its order, the third never asked.
        for turn in 0..5 {
            let agent = &mut fleet.agents[0];
            agent.work(0).await;
            agent.go_on();
            agent.report().await;
            if turn == 0 {
                fleet.agents[1].work(0).await;
                fleet.agents[1].go_on();
            }
        }
        assert_eq!(fleet.agents[0].known.values().next().unwrap().state, DeploymentState::Checking);
        fleet.act(&path, "cancel").await;
        fleet.until_state(&path, "cancelled").await;
        eventually("the unseen order is withdrawn", LIMIT, || async {
            fleet.deployments(&path).await[2] == "web-3 withdrawn awaited"
        })
        .await;
        fleet.run_until(&path, &["cancelled"]).await;
        for _ in 0..4 {
            for agent in &mut fleet.agents {
                agent.work(0).await;
                agent.go_on();
                agent.report().await;
                agent.check_in().await;
            }
        }
        eventually("the first is proved", LIMIT, || async {
            fleet.deployments(&path).await
                == ["web-1 succeeded proved", "web-2 withdrawn awaited", "web-3 withdrawn awaited"]
        })
        .await;
        assert!(fleet.agents[2].known.is_empty());
        fleet.until_findings("verified", 1).await;
        fleet.until_findings("open", 2).await;
        // Even now the one that was installed can be undone.
        fleet.act(&path, "undo").await;
        fleet.run_until(&path, &["rolled-back"]).await;
        assert_eq!(fleet.agents[0].known.values().next().unwrap().state, DeploymentState::Undone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rollout_hands_out_nothing_new() {
    let mut fleet = Fleet::start(TestDatabase::sqlite(), settings(1), &[Conduct::Good]).await;
    let path = fleet.ask(json!({})).await;
    fleet.approve(&path).await;
    fleet.act(&path, "start").await;
    fleet.until_state(&path, "running").await;
    eventually("the wave is open", LIMIT, || async { fleet.deployments(&path).await.len() == 1 }).await;
    fleet.act(&path, "pause").await;
    fleet.agents[0].work(0).await;
    assert!(fleet.agents[0].known.is_empty());
    fleet.act(&path, "resume").await;
    assert_eq!(fleet.run_until(&path, &["completed", "halted"]).await, "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_halts_the_rollout_and_a_host_that_comes_back_is_judged_again() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good, Conduct::FallsSilent]).await;
        let path = fleet.ask(json!({ "silence_seconds": 3 })).await;
        fleet.approve(&path).await;
        fleet.act(&path, "start").await;
        assert_eq!(fleet.run_until(&path, &["completed", "halted"]).await, "halted");
        let change = fleet.change(&path).await;
        assert_eq!(change["waves"][0]["state"], "failed");
        assert!(change["waiting_for"][0].as_str().unwrap().contains("fettle change resume"), "{change:#}");
        let history = fleet.events(&path).await;
        let halt = history.iter().find(|event| event["event"] == "halt").unwrap();
        assert!(halt["reasons"][0]["text"].as_str().unwrap().contains("1 silent"), "{halt:#}");
        fleet.agents[1].conduct = Conduct::Good;
        fleet.act(&path, "resume").await;
        assert_eq!(fleet.run_until(&path, &["completed", "halted"]).await, "completed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_do_not_answer_or_cannot_are_left_out_with_the_reason() {
    let mut fleet = Fleet::start(TestDatabase::sqlite(), settings(1), &[Conduct::Good, Conduct::Good]).await;
    let mut reader = Agent::new(&fleet.server, "reader", Conduct::Good).await;
    reader.facts.read_only = true;
    reader.check_in().await;
    fleet.until_findings("open", 3).await;
    let path = fleet.ask(json!({})).await;
    reader.work(0).await;
    assert!(reader.spool.is_empty(), "nothing is asked of a read-only agent");
    // One more package makes the second host's dry run find nothing to do.
    fleet.agents[1].packages = vec![super::agent::installed("libexpat1", super::agent::FIXED)];
    fleet.approve(&path).await;
    let change = fleet.change(&path).await;
    let report: Vec<&str> =
        change["report"].as_array().unwrap().iter().map(|reason| reason["text"].as_str().unwrap()).collect();
    assert_eq!(report[0], "1 of 3 hosts can be changed");
    assert!(report.contains(&"web-2: all that is wanted is so already"), "{report:?}");
    assert!(
        report.contains(&"reader: the agent of reader runs with --read-only and may not change the host"),
        "{report:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_starts_when_its_window_begins() {
    let mut fleet = Fleet::start(TestDatabase::sqlite(), settings(1), &[Conduct::Good]).await;
    let begin = fettle_server::clock::now().after(Duration::from_secs(4));
    let path = fleet.ask(json!({ "window_start": begin.to_string() })).await;
    fleet.approve(&path).await;
    let started = fleet.act(&path, "start").await;
    assert_eq!(started["summary"]["state"], "scheduled");
    assert!(started["waiting_for"][0].as_str().unwrap().contains(&begin.to_string()), "{started:#}");
    assert_eq!(fleet.run_until(&path, &["completed", "halted"]).await, "completed");
    let offer = &fleet.agents[0].known.values().next().unwrap().offer;
    assert_eq!(offer.window_start, begin);
    assert!(offer.issued_at >= begin, "nothing is handed out before");
}
