//! A real server with its people, behind a connection that the test can cut.

use fettle_domain::access::Role;
use fettle_testkit::{Client, TestServer};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Asks until the answer is there, within a limit.
pub fn until<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(seconds), "waited {seconds} seconds for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

type Cut = Arc<Mutex<Box<dyn Fn() -> bool + Send>>>;

pub struct Site {
    runtime: tokio::runtime::Runtime,
    server: TestServer,
    operator: Client,
    approver: Client,
    address: SocketAddr,
    cut: Cut,
}

impl Site {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = TestServer::start();
        let (operator, approver) = runtime.block_on(async {
            let administrator = server.administrator().await;
            let operator = server.user(&administrator, "olga", Role::Operator).await;
            (operator, server.user(&administrator, "anna", Role::Approver).await)
        });
        let cut: Cut = Arc::new(Mutex::new(Box::new(|| false)));
        let address = relay(server.announcement.listen, cut.clone());
        Self { runtime, server, operator, approver, address, cut }
    }

    /// Where agents connect.
    pub fn address(&self) -> String {
        assert_ne!(self.address, self.server.announcement.listen);
        format!("https://{}", self.address)
    }

    /// While this says yes, every connection of the agent is cut at once.
    pub fn cut_while(&mut self, condition: impl Fn() -> bool + Send + 'static) {
        *self.cut.lock().unwrap() = Box::new(condition);
    }

    pub fn token(&self) -> String {
        let made = self.post(&self.operator, "/api/v1/enrolment-tokens", &json!({}));
        made["token"].as_str().unwrap().to_owned()
    }

    /// The one host.
    pub fn host(&self) -> Value {
        self.get("/api/v1/hosts")["items"].as_array().and_then(|items| items.first().cloned()).unwrap_or_default()
    }

    /// An approved change to this version, begun. Returns its id.
    pub fn begin(&self, host: &str, version: &str) -> String {
        let wanted = json!({ "packages": [format!("fettle={version}")], "hosts": [host], "reason": "self-update" });
        let made = self.post(&self.operator, "/api/v1/changes", &wanted);
        let id = made["summary"]["id"].as_str().unwrap().to_owned();
        let proposed = until("the plan", 120, || {
            let change = self.get(&format!("/api/v1/changes/{id}"));
            assert_ne!(change["summary"]["state"], "rejected", "{change:#}");
            (change["summary"]["state"] == "proposed").then_some(change)
        });
        let digest = json!({ "digest": proposed["plan_digest"] });
        self.post(&self.approver, &format!("/api/v1/changes/{id}/approve"), &digest);
        self.post(&self.operator, &format!("/api/v1/changes/{id}/start"), &json!({}));
        id
    }

    /// The deployment of a change once it is in this state.
    pub fn ended(&self, change: &str, state: &str) -> Value {
        let id = until(&format!("a deployment that is {state}"), 240, || {
            let list = self.get(&format!("/api/v1/changes/{change}/deployments"));
            let deployment = list["items"].as_array()?.first()?.clone();
            let now = deployment["state"].as_str()?.to_owned();
            assert!(!["stuck", "failed"].contains(&now.as_str()), "{deployment:#}");
            assert!(now != "succeeded" || state == now, "{deployment:#}");
            (now == state).then(|| deployment["id"].as_str().unwrap().to_owned())
        });
        let mut deployment = self.get(&format!("/api/v1/deployments/{id}"));
        deployment["explained"] = self.get(&format!("/api/v1/deployments/{id}/explain"));
        deployment
    }

    pub fn update(&self, host: &str, version: &str, state: &str) -> Value {
        self.ended(&self.begin(host, version), state)
    }

    pub fn undo(&self, change: &str) {
        self.post(&self.operator, &format!("/api/v1/changes/{change}/undo"), &json!({}));
        self.ended_undone(change);
    }

    fn ended_undone(&self, change: &str) {
        until("the undo", 240, || {
            let list = self.get(&format!("/api/v1/changes/{change}/deployments"));
            (list["items"][0]["state"] == "undone").then_some(())
        });
    }

    fn get(&self, path: &str) -> Value {
        self.runtime.block_on(async { self.operator.get(path).await.ok() })
    }

    fn post(&self, client: &Client, path: &str, body: &Value) -> Value {
        self.runtime.block_on(async { client.post(path, body).await.ok() })
    }
}

/// Passes bytes on between agent and server; closes what comes, and what is open, while `cut` says so.
fn relay(server: SocketAddr, cut: Cut) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for agent in listener.incoming().flatten() {
            if (cut.lock().unwrap())() {
                continue;
            }
            let Ok(server) = TcpStream::connect(server) else { continue };
            pass(agent.try_clone().unwrap(), server.try_clone().unwrap());
            pass(server, agent);
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
