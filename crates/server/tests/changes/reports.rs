//! Reports: once each, in whatever order and number they come, from hosts that may be hostile.

use super::agent::Conduct;
use super::fleet::{Fleet, LIMIT, settings};
use fettle_domain::machine::{DeploymentEvent, DeploymentState, TaskState};
use fettle_domain::plan::RehearsalOutcome;
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, RehearsalId};
use fettle_server::clock;
use fettle_testkit::{TestDatabase, eventually};
use fettle_wire::agent::{ReportBody, ReportEntry};
use serde_json::json;

fn entry(sequence: u64, body: ReportBody) -> ReportEntry {
    ReportEntry { sequence, at: clock::now(), body }
}

fn event(deployment: DeploymentId, event: DeploymentEvent) -> ReportBody {
    ReportBody::Deployment { deployment, event, reasons: vec![] }
}

/// A running change whose hosts have their orders.
async fn running(database: TestDatabase, conducts: &[Conduct]) -> (Fleet, String) {
    let mut fleet = Fleet::start(database, settings(1), conducts).await;
    let path = fleet.ask(json!({})).await;
    fleet.approve(&path).await;
    fleet.act(&path, "start").await;
    fleet.until_state(&path, "running").await;
    eventually("the wave is open", LIMIT, || async { fleet.deployments(&path).await.len() == conducts.len() }).await;
    for agent in &mut fleet.agents {
        agent.work(0).await;
    }
    (fleet, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_late_or_in_disorder_is_stored_once() {
    for database in TestDatabase::all() {
        let (mut fleet, path) = running(database, &[Conduct::Good]).await;
        let agent = &mut fleet.agents[0];
        let id = *agent.known.keys().next().unwrap();
        let first = agent.next_sequence;
        use DeploymentEvent as E;
        let all: Vec<ReportEntry> = [E::Accept, E::Fetch, E::Prepare, E::Apply]
            .into_iter()
            .enumerate()
            .map(|(index, e)| entry(first + index as u64, event(id, e)))
            .collect();
        let mut shuffled = vec![all[1].clone(), all[0].clone(), all[1].clone()];
        assert_eq!(agent.send(&shuffled).await.ok()["acknowledged"], first + 1);
        // The acknowledgement got lost: everything again, with more.
        assert_eq!(agent.send(&all).await.ok()["acknowledged"], first + 3);
        shuffled.reverse();
        assert_eq!(agent.send(&shuffled).await.ok()["acknowledged"], first + 3);
        assert_eq!(agent.send(&[]).await.ok()["acknowledged"], first + 3);
        assert_eq!(fleet.deployments(&path).await, ["web-1 applying awaited"]);
        let events = fleet.events(&path).await;
        let of_deployment: Vec<&str> = events
            .iter()
            .filter(|event| event["machine"] == "deployment")
            .map(|event| event["event"].as_str().unwrap())
            .collect();
        assert_eq!(of_deployment, ["offer", "accept", "fetch", "prepare", "apply"]);
        assert!(events.iter().all(|event| event["anomaly"] == false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_reports_change_nothing_and_are_told() {
    for database in TestDatabase::all() {
        let (mut fleet, path) = running(database, &[Conduct::Good, Conduct::Good]).await;
        let ids: Vec<DeploymentId> = fleet.agents.iter().map(|agent| *agent.known.keys().next().unwrap()).collect();
        let agent = &mut fleet.agents[0];
        let first = agent.next_sequence;
        let bodies = [
            // Another host's deployment, one that is none, a dry run that was never asked.
            event(ids[1], DeploymentEvent::Accept),
            event(clock::fresh(), DeploymentEvent::Accept),
            ReportBody::Rehearsal { rehearsal: clock::fresh::<RehearsalId>(), outcome: RehearsalOutcome::NothingToDo },
            // Its own, but out of turn.
            event(ids[0], DeploymentEvent::Succeed),
            event(ids[0], DeploymentEvent::FinishUndo),
            ReportBody::Task {
                deployment: ids[0],
                number: 4_000_000,
                name: "x".repeat(10_000),
                state: TaskState::Done,
                reasons: vec![],
            },
            ReportBody::Output { deployment: ids[0], lines: vec!["\u{1b}[31mred\u{0}".into(), "y".repeat(1_000_000)] },
            ReportBody::Refused {
                deployment: None,
                reasons: vec![Reason::new("order.not-believed", "no valid signature")],
            },
            event(ids[0], DeploymentEvent::Accept),
        ];
        let count = bodies.len() as u64;
        let entries: Vec<ReportEntry> =
            bodies.into_iter().enumerate().map(|(index, body)| entry(first + index as u64, body)).collect();
        assert_eq!(agent.send(&entries).await.ok()["acknowledged"], first + count - 1);
        assert_eq!(fleet.deployments(&path).await, ["web-1 queued awaited", "web-2 offered awaited"]);
        let list = fleet.admin.get(&format!("{path}/deployments")).await.ok();
        assert_eq!(
            (list["items"][0]["anomalies"].clone(), list["items"][1]["anomalies"].clone()),
            (json!(4), json!(0))
        );
        let shown = fleet.admin.get(&format!("/api/v1/deployments/{}", ids[0])).await.ok();
        assert_eq!(shown["tasks"], json!([]));
        let log = fleet.admin.get(&format!("/api/v1/deployments/{}/log", ids[0])).await.ok();
        assert_eq!(log["lines"][0], "\u{fffd}[31mred\u{fffd}");
        assert!(log["lines"][1].as_str().unwrap().len() <= 2_003, "{}", log["lines"][1]);
        let explained = fleet.admin.get(&format!("/api/v1/deployments/{}/explain", ids[0])).await.ok();
        let history = explained["history"].to_string();
        for told in ["a deployment that is offered cannot succeed", "no valid signature", "nothing was changed"] {
            assert!(history.contains(told), "{told} in {history}");
        }
    }
}

/// What one host says in another's name: of a deployment and a dry run that are the other's own.
#[tokio::test(flavor = "multi_thread")]
async fn no_host_speaks_for_another() {
    for database in TestDatabase::all() {
        let mut fleet = Fleet::start(database, settings(1), &[Conduct::Good, Conduct::Good]).await;
        // The second host does not answer its dry run; the first one knows its number and does.
        fleet.ask(json!({})).await;
        let state = fleet.server.state.clone();
        let victim = fleet.agents[1].id;
        let asked = move |c: &mut fettle_store::Connection| {
            fettle_store::systems::rehearsal::rehearsals_asked_of_host(c, victim, 10)
        };
        eventually("the dry run is asked", LIMIT, || async { !state.store.read(asked).await.unwrap().is_empty() })
            .await;
        let rehearsal = state.store.read(asked).await.unwrap()[0].id;
        let agent = &mut fleet.agents[0];
        let forged =
            entry(agent.next_sequence, ReportBody::Rehearsal { rehearsal, outcome: RehearsalOutcome::NothingToDo });
        assert_eq!(agent.send(&[forged]).await.ok()["acknowledged"], agent.next_sequence);
        agent.next_sequence += 1;
        assert_eq!(state.store.read(asked).await.unwrap()[0].id, rehearsal, "it is still asked");
    }
    for database in TestDatabase::all() {
        let (mut fleet, path) = running(database, &[Conduct::Good, Conduct::Good]).await;
        let victim = *fleet.agents[1].known.keys().next().unwrap();
        let before = fleet.admin.get(&format!("/api/v1/deployments/{victim}")).await.ok();
        let agent = &mut fleet.agents[0];
        let first = agent.next_sequence;
        let reasons = || vec![Reason::new("order.replay", "forged")];
        use DeploymentEvent as E;
        let mut bodies: Vec<ReportBody> =
            [E::Accept, E::Fetch, E::Prepare, E::Apply, E::Check, E::Succeed, E::Fail, E::Undo, E::FinishUndo]
                .map(|e| event(victim, e))
                .into();
        bodies.push(ReportBody::Task {
            deployment: victim,
            number: 1,
            name: "install".into(),
            state: TaskState::Done,
            reasons: reasons(),
        });
        bodies.push(ReportBody::Output { deployment: victim, lines: vec!["forged".into()] });
        bodies.push(ReportBody::Refused { deployment: Some(victim), reasons: reasons() });
        let entries: Vec<ReportEntry> =
            bodies.into_iter().enumerate().map(|(index, body)| entry(first + index as u64, body)).collect();
        agent.send(&entries).await.ok();
        let after = fleet.admin.get(&format!("/api/v1/deployments/{victim}")).await.ok();
        assert_eq!(before, after, "not even an anomaly of the other host");
        assert_eq!(fleet.deployments(&path).await[1], "web-2 offered awaited");
        // Its own word, said again under new numbers when all is over: kept as told, changing nothing.
        let own = *fleet.agents[0].known.keys().next().unwrap();
        let agent = &mut fleet.agents[0];
        let mut next = first + entries.len() as u64;
        let mut say = async |agent: &super::agent::Agent, e| {
            next += 1;
            agent.send(&[entry(next - 1, event(own, e))]).await.ok();
        };
        for e in [E::Accept, E::Fetch, E::Prepare, E::Apply, E::Check, E::Succeed] {
            say(agent, e).await;
        }
        let done = fleet.deployments(&path).await;
        for e in [E::Apply, E::Check, E::Succeed, E::Fail, E::Accept] {
            say(&fleet.agents[0], e).await;
        }
        assert_eq!(fleet.deployments(&path).await, done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_bounded_and_says_so_once() {
    let (mut fleet, _) = running(TestDatabase::sqlite(), &[Conduct::Good]).await;
    let agent = &mut fleet.agents[0];
    let id = *agent.known.keys().next().unwrap();
    for _ in 0..4 {
        let lines: Vec<String> = (0..500).map(|_| "z".repeat(1_800)).collect();
        agent.say(ReportBody::Output { deployment: id, lines });
        agent.report().await;
    }
    let shown = fleet.admin.get(&format!("/api/v1/deployments/{id}")).await.ok();
    assert_eq!(shown["output_bytes"], 2 << 20);
    let log = fleet.admin.get(&format!("/api/v1/deployments/{id}/log?limit=1000")).await.ok();
    let cut: Vec<&str> = log["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line.as_str().unwrap())
        .filter(|line| !line.starts_with('z'))
        .collect();
    assert_eq!(cut, ["(more output than 2 MB is not kept here; the host's journal of this deployment has it)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_a_host_of_ours_gets_no_work_and_tells_nothing() {
    for database in TestDatabase::all() {
        let (fleet, _) = running(database, &[Conduct::Good]).await;
        let nobody = fleet.server.client();
        assert_eq!(nobody.get("/agent/v1/work?after=0&wait=0").await.problem(), "certificate-required");
        assert_eq!(nobody.post("/agent/v1/report", &json!({ "entries": [] })).await.problem(), "certificate-required");
        let unknown = fleet.server.host_client(clock::fresh());
        assert_eq!(unknown.get("/agent/v1/work?after=0&wait=0").await.problem(), "host-revoked");
        let agent = &fleet.agents[0];
        let waiting = tokio::spawn({
            let (client, cursor) = (agent.client.clone(), agent.cursor);
            async move { client.get(&format!("/agent/v1/work?after={cursor}&wait=50")).await }
        });
        let state = fleet.server.state.clone();
        eventually("the agent waits", LIMIT, || async { state.nudges.work.waiting() == 1 }).await;
        fleet.admin.post(&format!("/api/v1/hosts/{}/revoke", agent.id), &json!({})).await.ok();
        // Whether or not revoking rings the bell: the next question is refused.
        state.nudges.work.wake(agent.id);
        assert_eq!(waiting.await.unwrap().problem(), "host-revoked");
        assert_eq!(agent.send(&[]).await.problem(), "host-revoked");
        assert_eq!(agent.ask(0).await.problem(), "host-revoked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_order_fails_its_deployment_and_a_refused_undo_ends_the_roll_back() {
    for database in TestDatabase::all() {
        let (mut fleet, path) = running(database, &[Conduct::Good, Conduct::Good]).await;
        let refused = |id| ReportBody::Refused {
            deployment: Some(id),
            reasons: vec![Reason::new("order.replay", "old or repeated")],
        };
        let first = *fleet.agents[0].known.keys().next().unwrap();
        fleet.agents[0].say(refused(first));
        fleet.agents[0].known.clear();
        fleet.agents[0].report().await;
        assert_eq!(fleet.run_until(&path, &["halted"]).await, "halted");
        assert_eq!(fleet.deployments(&path).await[0], "web-1 failed awaited");
        for _ in 0..8 {
            fleet.agents[1].go_on();
        }
        fleet.agents[1].report().await;
        assert_eq!(fleet.agents[1].known.values().next().unwrap().state, DeploymentState::Succeeded);
        fleet.act(&path, "undo").await;
        let agent = &mut fleet.agents[1];
        let second = *agent.known.keys().next().unwrap();
        let end = std::time::Instant::now() + LIMIT;
        while agent.known[&second].undo.is_none() {
            assert!(std::time::Instant::now() < end);
            agent.work(1).await;
        }
        // Its time ran out while the host was away: a new order comes, with another number.
        let lapsed = agent.known.get_mut(&second).unwrap().undo.take().unwrap();
        agent.say(ReportBody::Refused {
            deployment: Some(second),
            reasons: vec![Reason::new("order.expired", "too late")],
        });
        agent.report().await;
        agent.work(5).await;
        let order = agent.known.get_mut(&second).unwrap().undo.take().unwrap();
        assert!(order.sequence > lapsed.sequence);
        agent.say(refused(second));
        agent.report().await;
        fleet.until_state(&path, "rolled-back").await;
        assert_eq!(fleet.deployments(&path).await[1].split(' ').nth(1), Some("succeeded"));
        let history = fleet.events(&path).await;
        let finish = history.iter().find(|event| event["event"] == "finish-roll-back").unwrap();
        assert!(finish["reasons"].to_string().contains("1 hosts refused the undo"), "{finish:#}");
    }
}
