//! A machine with an agent's memory: certificate, key, chain of check-ins. It can be copied.

use fettle_content::sha256_hex;
use fettle_domain::package::InstalledPackage;
use fettle_domain::{HostId, Timestamp};
use fettle_server::clock;
use fettle_testkit::client::ClientCertificate;
use fettle_testkit::server::signing_request;
use fettle_testkit::{Client, Reply, TestServer};
use fettle_wire::agent::{Chain, CheckIn, CheckInReply, HostFacts, PackagesReport, SectionDigests, Service};
use serde_json::{Value, json};
use std::time::Duration;

pub const DAY: u64 = 24 * 3600;

/// So many days before now.
pub fn days_ago(days: u64) -> Timestamp {
    let back = i64::try_from(days * DAY * 1000).unwrap();
    Timestamp::from_unix_millis(clock::now().unix_millis() - back)
}

pub fn facts(name: &str, machine_id: &str, product_uuid: &str, macs: &[&str]) -> HostFacts {
    HostFacts {
        name: name.into(),
        machine_id: machine_id.into(),
        product_uuid: product_uuid.into(),
        macs: macs.iter().map(|mac| (*mac).to_owned()).collect(),
        ..HostFacts::default()
    }
}

/// A new key, PEM.
pub fn fresh_key() -> String {
    rcgen::KeyPair::generate().unwrap().serialize_pem()
}

pub fn request_over(key: &str) -> String {
    signing_request(&rcgen::KeyPair::from_pem(key).unwrap())
}

#[derive(Clone)]
pub struct Machine {
    pub id: HostId,
    pub facts: HostFacts,
    pub certificate: ClientCertificate,
    pub client: Client,
    /// Link of the last check-in that was answered.
    pub last: String,
    /// By how much its clock is off, in milliseconds.
    pub clock: i64,
    drawn: u32,
    salt: &'static str,
}

impl Machine {
    /// Enrolled with a token, and heard once.
    pub async fn enrol(server: &TestServer, admin: &Client, facts: HostFacts) -> Self {
        let host = server.enrol(admin, facts.clone()).await;
        let mut machine = Self {
            id: host.id,
            facts,
            certificate: host.certificate,
            client: host.client,
            last: String::new(),
            clock: 0,
            drawn: 0,
            salt: "first",
        };
        machine.speaks().await;
        machine
    }

    /// The same disk in another machine, which draws other links.
    pub fn copied(&self, facts: HostFacts, salt: &'static str) -> Self {
        Self { facts, salt, client: self.client.reconnected(), ..self.clone() }
    }

    /// Shows another certificate from now on.
    pub fn shows(&mut self, server: &TestServer, certificate: ClientCertificate) {
        self.client = server.client_with(&certificate);
        self.certificate = certificate;
    }

    fn check_in(&self, link: &str, whole: bool) -> CheckIn {
        let packages: Vec<InstalledPackage> = Vec::new();
        let services: Vec<Service> = Vec::new();
        let digest = |json: Vec<u8>| sha256_hex(&json);
        CheckIn {
            agent_version: "test".into(),
            time: Timestamp::from_unix_millis(clock::now().unix_millis() + self.clock),
            digests: SectionDigests {
                facts: digest(serde_json::to_vec(&self.facts).unwrap()),
                packages: digest(serde_json::to_vec(&packages).unwrap()),
                services: digest(serde_json::to_vec(&services).unwrap()),
            },
            chain: Some(Chain { previous: self.last.clone(), link: link.to_owned() }),
            facts: whole.then(|| self.facts.clone()),
            packages: whole.then_some(PackagesReport::Complete { packages }),
            services: whole.then_some(services),
        }
    }

    /// What the agent does: a short check-in, and a whole one with the same link where more is wanted.
    pub async fn tries(&mut self) -> Reply {
        self.drawn += 1;
        let link: String = sha256_hex(format!("{} {}", self.salt, self.drawn).as_bytes()).chars().take(32).collect();
        let mut reply = None;
        for whole in [false, true] {
            let body = serde_json::to_value(self.check_in(&link, whole)).unwrap();
            let answer = self.client.post("/agent/v1/check-in", &body).await;
            let wants = answer.json["want"].as_array().is_some_and(|want| !want.is_empty());
            reply = Some(answer);
            if !wants {
                break;
            }
        }
        let reply = reply.unwrap();
        if reply.status == 200 {
            self.last = link;
        }
        reply
    }

    /// A check-in that is taken, with nothing left to be wanted.
    pub async fn speaks(&mut self) {
        let reply: CheckInReply = serde_json::from_value(self.tries().await.ok()).unwrap();
        assert_eq!(reply.want, []);
    }

    pub async fn work(&self, wait: u64) -> Reply {
        self.client.get(&format!("/agent/v1/work?after=0&wait={wait}&link={}", self.last)).await
    }

    pub async fn reports(&self) -> Reply {
        self.client.post("/agent/v1/report", &json!({ "link": self.last, "entries": [] })).await
    }

    pub async fn renews(&self, key: &str) -> Reply {
        self.client.post("/agent/v1/renew", &json!({ "csr": request_over(key) })).await
    }

    pub async fn asks_for_its_own(&self, key: &str) -> Reply {
        let body = json!({ "csr": request_over(key), "agent_version": "test", "facts": self.facts });
        self.client.post("/agent/v1/clone", &body).await
    }
}

/// What a person sees of a host.
pub async fn shown(admin: &Client, id: HostId) -> Value {
    admin.get(&format!("/api/v1/hosts/{id}")).await.ok()
}

/// Names of the events of a host, oldest first.
pub async fn events(admin: &Client, id: HostId) -> Vec<String> {
    let explained = admin.get(&format!("/api/v1/hosts/{id}/explain")).await.ok();
    let history = explained["history"].as_array().unwrap();
    history.iter().map(|entry| entry["event"].as_str().unwrap().to_owned()).collect()
}

pub async fn audited(admin: &Client, action: &str) -> usize {
    admin.get(&format!("/api/v1/audit?action={action}")).await.ok()["items"].as_array().unwrap().len()
}

/// Long enough for whatever is asked.
pub const LIMIT: Duration = Duration::from_secs(30);
