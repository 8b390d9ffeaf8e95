//! The whole life of changes under chaos, by seed: replies get lost, reports come twice and late,
//! agents forget where they were, the server restarts. What the server says at the end is what the
//! hosts did.

use super::agent::{Agent, Conduct};
use super::fleet::{Fleet, LIMIT, settings};
use fettle_domain::machine::DeploymentState;
use fettle_testkit::{Setup, TestDatabase, TestServer, eventually};
use fettle_wire::agent::ReportEntry;
use serde_json::json;
use std::time::{Duration, Instant};

/// xorshift64*: the same seed, the same story.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// One turn of an agent, in which much may go wrong.
async fn turn(agent: &mut Agent, dice: &mut Dice, sent: &mut Vec<ReportEntry>) {
    if dice.chance(10) {
        // Its process started anew: it asks for everything again.
        agent.cursor = 0;
    }
    if dice.chance(80) {
        let reply = agent.ask(0).await;
        if dice.chance(80) {
            agent.take(serde_json::from_value(reply.ok()).unwrap());
        }
    }
    if dice.chance(80) {
        agent.go_on();
    }
    if dice.chance(30) && !sent.is_empty() {
        // Something old arrives once more.
        let start = usize::try_from(dice.roll(sent.len() as u64)).unwrap();
        agent.send(&sent[start..]).await.ok();
    }
    if dice.chance(80) && !agent.spool.is_empty() {
        let most = 1 + usize::try_from(dice.roll(agent.spool.len() as u64)).unwrap();
        let batch = agent.spool[..most].to_vec();
        sent.extend(batch.iter().cloned());
        let reply = agent.send(&batch).await.ok();
        if dice.chance(75) {
            agent.acknowledged(&reply);
        }
    }
    if dice.chance(25) {
        agent.check_in().await;
    }
}

fn restart(fleet: Fleet) -> Fleet {
    let Fleet { server, admin, operator, approver, agents } = fleet;
    let setup = server.stop();
    let server = TestServer::start_with(Setup { settings: settings(1), feeds: fettle_vendors::feeds(), ..setup });
    let mut fleet = Fleet { server, admin, operator, approver, agents };
    fleet.reconnect();
    fleet
}

async fn chaos_until(mut fleet: Fleet, path: &str, states: &[&str], dice: &mut Dice, mut restarts: u32) -> Fleet {
    let end = Instant::now() + LIMIT;
    let mut sent: Vec<Vec<ReportEntry>> = vec![Vec::new(); fleet.agents.len()];
    loop {
        let state = fleet.state(path).await;
        if states.contains(&state.as_str()) {
            return fleet;
        }
        assert!(Instant::now() < end, "the change is still {state}: {:#}", fleet.change(path).await);
        for (agent, sent) in fleet.agents.iter_mut().zip(&mut sent) {
            turn(agent, dice, sent).await;
        }
        if restarts > 0 && dice.chance(15) {
            restarts -= 1;
            fleet = restart(fleet);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn settle_reports(fleet: &mut Fleet) {
    for agent in &mut fleet.agents {
        for _ in 0..20 {
            agent.work(0).await;
            agent.go_on();
            agent.report().await;
        }
        agent.check_in().await;
    }
}

/// What the server says of each host is what its agent did; nothing was odd, nothing is missing.
async fn compare(fleet: &Fleet, path: &str, seed: u64) {
    let truth = |agent: &Agent| agent.known.values().next().map(|known| known.state);
    let told = fleet.deployments(path).await;
    for (agent, told) in fleet.agents.iter().zip(&told) {
        let state = told.split(' ').nth(1).unwrap();
        let truth = truth(agent).expect("every host got its order");
        assert_eq!(state, truth.to_string(), "seed {seed}: {} {told:?}", agent.name);
        assert!(agent.spool.is_empty());
    }
    let events = fleet.events(path).await;
    let numbers: Vec<u64> = events.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "seed {seed}: {numbers:?}");
    let odd: Vec<_> = events.iter().filter(|event| event["anomaly"] == true).collect();
    assert!(odd.is_empty(), "seed {seed}: {odd:#?}");
    // Every line of output once, though it was sent many times.
    for agent in &fleet.agents {
        let lines = events
            .iter()
            .filter(|event| event["machine"] == "output" && event["host_name"] == agent.name.as_str())
            .count();
        assert!(lines <= 1, "seed {seed}: {} has {lines} pieces of output", agent.name);
    }
    assert_eq!(fleet.admin.get("/api/v1/audit/verify").await.ok()["intact"], true);
}

async fn story(seed: u64, database: TestDatabase) {
    let mut dice = Dice::new(seed);
    let kinds = [
        Conduct::Good,
        Conduct::Good,
        Conduct::Good,
        Conduct::FailsBefore,
        Conduct::FailsInstalling,
        Conduct::GetsStuck,
    ];
    let conducts: Vec<Conduct> =
        (0..3).map(|_| kinds[usize::try_from(dice.roll(kinds.len() as u64)).unwrap()]).collect();
    let percent = [100, 60, 30][usize::try_from(dice.roll(3)).unwrap()];
    let good = conducts.iter().filter(|conduct| **conduct == Conduct::Good).count();
    let enough = good * 100 >= percent * conducts.len();
    eprintln!("seed {seed}: {conducts:?}, {percent} % must succeed");

    let mut fleet = Fleet::start(database, settings(1), &conducts).await;
    let path = fleet.ask(json!({ "success_percent": percent })).await;
    fleet = chaos_until(fleet, &path, &["proposed"], &mut dice, 1).await;
    let digest = fleet.change(&path).await["plan_digest"].clone();
    fleet.approver.post(&format!("{path}/approve"), &json!({ "digest": digest })).await.ok();
    fleet.act(&path, "start").await;
    fleet = chaos_until(fleet, &path, &["completed", "halted"], &mut dice, 2).await;
    let state = fleet.state(&path).await;
    assert_eq!(state, if enough { "completed" } else { "halted" }, "seed {seed}");
    settle_reports(&mut fleet).await;
    if enough {
        compare(&fleet, &path, seed).await;
        fleet.until_findings("verified", good).await;
        fleet.until_findings("open", conducts.len() - good).await;
    }

    fleet.act(&path, "undo").await;
    fleet = chaos_until(fleet, &path, &["rolled-back"], &mut dice, 1).await;
    settle_reports(&mut fleet).await;
    let known = |agent: &Agent| agent.known.values().next().map(|known| known.state);
    for (agent, told) in fleet.agents.iter().zip(fleet.deployments(&path).await) {
        let expected = match (agent.conduct, known(agent)) {
            // Its order was never handed out before the rollout halted.
            (_, None) => DeploymentState::Withdrawn,
            (_, Some(state)) => state,
        };
        assert_eq!(told.split(' ').nth(1), Some(expected.to_string().as_str()), "seed {seed}: {}", agent.name);
        assert_ne!(expected, DeploymentState::Succeeded, "seed {seed}: {}", agent.name);
    }
    fleet.until_findings("open", conducts.len()).await;
    eventually("the plan is closed", LIMIT, || async {
        fleet.change(&path).await["summary"]["plan_state"] == "closed"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_on_the_way_the_server_tells_what_the_hosts_did() {
    for seed in 1..=6 {
        story(seed, TestDatabase::sqlite()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_on_postgresql() {
    for seed in 101..=103 {
        let Some(database) = TestDatabase::postgres() else { return };
        story(seed, database).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_undone_and_stuck_hosts_are_told_apart() {
    let mut fleet = Fleet::start(
        TestDatabase::sqlite(),
        settings(1),
        &[Conduct::Good, Conduct::FailsBefore, Conduct::FailsInstalling, Conduct::GetsStuck],
    )
    .await;
    let path = fleet.ask(json!({ "success_percent": 25 })).await;
    fleet.approve(&path).await;
    fleet.act(&path, "start").await;
    assert_eq!(fleet.run_until(&path, &["completed", "halted"]).await, "completed");
    let told: Vec<String> = fleet
        .deployments(&path)
        .await
        .iter()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(told, ["web-1 succeeded", "web-2 failed", "web-3 undone", "web-4 stuck"]);
    fleet.until_findings("verified", 1).await;
    fleet.until_findings("open", 3).await;
    let list = fleet.admin.get(&format!("{path}/deployments?state=stuck")).await.ok();
    let id = list["items"][0]["id"].as_str().unwrap();
    let explained = fleet.admin.get(&format!("/api/v1/deployments/{id}/explain")).await.ok();
    assert!(explained["waiting_for"][0].as_str().unwrap().contains("a person to look at web-4"), "{explained:#}");
    assert!(explained["reasons"].to_string().contains("the former file is damaged"), "{explained:#}");
    let shown = fleet.admin.get(&format!("/api/v1/deployments/{id}")).await.ok();
    assert_eq!(shown["tasks"][1]["reasons"][0]["text"], "the former file is damaged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_only_says_so_does_not_pass_the_gate() {
    let mut fleet = Fleet::start(TestDatabase::sqlite(), settings(1), &[Conduct::Lies]).await;
    let path = fleet.ask(json!({ "silence_seconds": 3 })).await;
    fleet.approve(&path).await;
    fleet.act(&path, "start").await;
    assert_eq!(fleet.run_until(&path, &["completed", "halted"]).await, "halted");
    assert_eq!(fleet.deployments(&path).await, ["web-1 succeeded awaited"]);
    fleet.until_findings("remediated", 1).await;
}
