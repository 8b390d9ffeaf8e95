//! A server with people, feeds and hosts that all have CVE-2024-50602.

use super::agent::{Agent, Conduct};
use fettle_domain::access::Role;
use fettle_server::Settings;
use fettle_testkit::{Client, Setup, TestDatabase, TestServer, eventually};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

pub const LIMIT: Duration = Duration::from_secs(60);
pub const FLAW: &str = "CVE-2024-50602";

pub struct Fleet {
    pub server: TestServer,
    pub admin: Client,
    pub operator: Client,
    pub approver: Client,
    pub agents: Vec<Agent>,
}

pub fn settings(approvals: u32) -> Settings {
    let mut settings = Settings::default();
    settings.changes.approvals = approvals;
    settings
}

impl Fleet {
    pub async fn start(database: TestDatabase, settings: Settings, conducts: &[Conduct]) -> Self {
        let server = TestServer::start_with(Setup {
            feeds: fettle_vendors::feeds(),
            settings,
            database: Some(database),
            ..Setup::default()
        });
        let admin = server.administrator().await;
        let operator = server.user(&admin, "olga", Role::Operator).await;
        let approver = server.user(&admin, "anton", Role::Approver).await;
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/feeds").canonicalize().unwrap();
        let asked = admin.post("/api/v1/feeds/sync", &json!({ "from": samples })).await.ok();
        let path = format!("/api/v1/feeds/sync/{}", asked["id"]);
        eventually("the feeds are loaded", LIMIT, || async { admin.get(&path).await.ok()["done"] == json!(true) })
            .await;
        let mut agents = Vec::new();
        for (index, conduct) in conducts.iter().enumerate() {
            agents.push(Agent::new(&server, &format!("web-{}", index + 1), *conduct).await);
        }
        let fleet = Self { server, admin, operator, approver, agents };
        fleet.until_findings("open", conducts.len()).await;
        fleet
    }

    /// Waits until so many findings of the flaw are in a state.
    pub async fn until_findings(&self, state: &str, number: usize) {
        let what = format!("{number} findings are {state}");
        eventually(&what, LIMIT, || async { self.findings(state).await == number }).await;
    }

    pub async fn findings(&self, state: &str) -> usize {
        let path = format!("/api/v1/findings?limit=500&vulnerability={FLAW}&state={state}");
        self.admin.get(&path).await.ok()["items"].as_array().unwrap().len()
    }

    /// After a restart of the server.
    pub fn reconnect(&mut self) {
        for client in [&mut self.admin, &mut self.operator, &mut self.approver] {
            *client = client.reconnected();
        }
        for agent in &mut self.agents {
            agent.client = agent.client.reconnected();
        }
    }

    /// The operator asks to close the flaw on all hosts; returns the change's path.
    pub async fn ask(&self, more: Value) -> String {
        let mut request = json!({ "vulnerabilities": [FLAW], "all_affected": true, "reason": "it is exploited", "silence_seconds": 600 });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let change = self.operator.post("/api/v1/changes", &request).await.ok();
        format!("/api/v1/changes/{}", change["summary"]["number"])
    }

    pub async fn change(&self, path: &str) -> Value {
        self.admin.get(path).await.ok()
    }

    pub async fn state(&self, path: &str) -> String {
        self.change(path).await["summary"]["state"].as_str().unwrap().to_owned()
    }

    /// Waits until the change is in a state; meanwhile agents do nothing.
    pub async fn until_state(&self, path: &str, state: &str) {
        eventually(&format!("the change is {state}"), LIMIT, || async { self.state(path).await == state }).await;
    }

    /// Agents answer their dry runs, the approver approves what came of it.
    pub async fn approve(&mut self, path: &str) {
        for agent in &mut self.agents {
            agent.work(0).await;
            agent.report().await;
        }
        self.until_state(path, "proposed").await;
        let digest = self.change(path).await["plan_digest"].clone();
        self.approver
            .post(&format!("{path}/approve"), &json!({ "digest": digest, "comment": "looks good" }))
            .await
            .ok();
    }

    pub async fn act(&self, path: &str, act: &str) -> Value {
        self.operator.post(&format!("{path}/{act}"), &json!({ "reason": "because of the test" })).await.ok()
    }

    /// Agents work until the change is in one of these states.
    pub async fn run_until(&mut self, path: &str, states: &[&str]) -> String {
        let end = std::time::Instant::now() + LIMIT;
        loop {
            for agent in &mut self.agents {
                agent.work(0).await;
                let went_on = agent.go_on();
                agent.report().await;
                if !went_on {
                    agent.check_in().await;
                }
            }
            let state = self.state(path).await;
            if states.contains(&state.as_str()) {
                return state;
            }
            assert!(std::time::Instant::now() < end, "the change is still {state}: {:#}", self.change(path).await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `host state proof` of every deployment.
    pub async fn deployments(&self, path: &str) -> Vec<String> {
        let list = self.admin.get(&format!("{path}/deployments?limit=500")).await.ok();
        let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| ["host_name", "state", "proof"].map(|key| text(item, key)).join(" "))
            .collect()
    }

    pub async fn events(&self, path: &str) -> Vec<Value> {
        let (mut events, mut after) = (Vec::new(), 0);
        loop {
            let page = self.admin.get(&format!("{path}/history?limit=1000&after={after}")).await.ok();
            events.extend(page["items"].as_array().unwrap().clone());
            match page["next"].as_str() {
                Some(next) => after = next.parse().unwrap(),
                None => return events,
            }
        }
    }
}
