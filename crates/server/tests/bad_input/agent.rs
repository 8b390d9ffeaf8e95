//! A host that speaks the protocol: it can say anything, also what is wrong.

use fettle_content::sha256_hex;
use fettle_domain::host::OsRelease;
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_domain::{HostId, Timestamp};
use fettle_server::clock;
use fettle_store::systems::host::{self, HostRecord};
use fettle_store::systems::inventory;
use fettle_testkit::client::{ClientCertificate, tls};
use fettle_testkit::{Client, Reply, TestServer};
use fettle_wire::agent::{CheckIn, EnrolRequest, HostFacts, PackagesReport, SectionDigests, Service};
use serde::Serialize;
use serde_json::{Value, json};

pub fn digest<T: Serialize>(value: &T) -> String {
    sha256_hex(&serde_json::to_vec(value).unwrap())
}

pub fn package(name: &str, version: &str) -> InstalledPackage {
    InstalledPackage {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: name.into(),
            source_version: version.into(),
        },
        origin: "Debian:bookworm".into(),
        held: false,
        automatic: true,
        state: InstallState::Installed,
    }
}

/// So many packages, sorted, in one version.
pub fn many(number: usize, version: &str) -> Vec<InstalledPackage> {
    (0..number).map(|number| package(&format!("p{number:06}"), version)).collect()
}

pub fn facts(name: &str) -> HostFacts {
    HostFacts {
        name: name.into(),
        os: OsRelease {
            id: "debian".into(),
            version_id: "12".into(),
            codename: "bookworm".into(),
            pretty_name: "Debian 12".into(),
        },
        ..HostFacts::default()
    }
}

/// A signing request and its key, as an agent makes them.
pub fn signing_request() -> (String, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let wish = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    (wish.serialize_request(&key).unwrap().pem().unwrap(), key)
}

pub fn enrolment(token: &str, name: &str, csr: &str) -> Value {
    let request =
        EnrolRequest { token: token.into(), csr: csr.into(), agent_version: "test".into(), facts: facts(name) };
    serde_json::to_value(request).unwrap()
}

/// Makes a token and returns its text.
pub async fn token(admin: &Client, wish: Value) -> String {
    admin.post("/api/v1/enrolment-tokens", &wish).await.ok()["token"].as_str().unwrap().to_owned()
}

/// An enrolled host and what it has.
pub struct Agent {
    pub id: HostId,
    pub client: Client,
    pub certificate: ClientCertificate,
    pub facts: HostFacts,
    pub packages: Vec<InstalledPackage>,
    pub services: Vec<Service>,
}

impl Agent {
    /// Enrolled, and heard once with 40 packages.
    pub async fn known(server: &TestServer, admin: &Client, name: &str) -> Self {
        let (csr, key) = signing_request();
        let text = token(admin, json!({})).await;
        let reply = server.client().post("/agent/v1/enrol", &enrolment(&text, name, &csr)).await.ok();
        let certificate = (reply["certificate"].as_str().unwrap().to_owned(), key.serialize_pem());
        let client = Client::new(&server.url(), tls(reply["authority"].as_str().unwrap(), Some(&certificate)));
        let id = reply["host"].as_str().unwrap().parse().unwrap();
        let agent =
            Self { id, client, certificate, facts: facts(name), packages: many(40, "1.0-1"), services: Vec::new() };
        agent.speaks().await;
        agent
    }

    pub fn sign_of_life(&self) -> CheckIn {
        CheckIn {
            agent_version: "test".into(),
            time: clock::now(),
            digests: SectionDigests {
                facts: digest(&self.facts),
                packages: digest(&self.packages),
                services: digest(&self.services),
            },
            chain: None,
            facts: None,
            packages: None,
            services: None,
        }
    }

    pub fn whole(&self) -> CheckIn {
        self.with(PackagesReport::Complete { packages: self.packages.clone() })
    }

    pub fn with(&self, packages: PackagesReport) -> CheckIn {
        CheckIn {
            facts: Some(self.facts.clone()),
            packages: Some(packages),
            services: Some(self.services.clone()),
            ..self.sign_of_life()
        }
    }

    pub async fn send(&self, check_in: &CheckIn) -> Reply {
        self.client.post("/agent/v1/check-in", &serde_json::to_value(check_in).unwrap()).await
    }

    pub async fn send_text(&self, text: impl Into<reqwest::Body>) -> Reply {
        self.client.send("POST", "/agent/v1/check-in", "application/json", text).await.unwrap()
    }

    /// Says everything, and nothing is left to be wanted.
    pub async fn speaks(&self) {
        assert_eq!(self.send(&self.whole()).await.ok()["want"], json!([]));
    }

    /// What the server has of it; the time it was seen apart, which also a bad report may move.
    pub async fn kept(&self, server: &TestServer) -> (HostRecord, Vec<InstalledPackage>) {
        let (id, dictionary) = (self.id, server.state.packages.clone());
        let mut kept = server
            .state
            .store
            .read(move |c| Ok((host::host_get(c, id)?, inventory::host_packages(c, &dictionary, id)?)))
            .await
            .unwrap();
        kept.0.last_seen = Timestamp::from_unix_millis(0);
        kept
    }
}

/// A refusal is a problem document with words for a person.
#[track_caller]
pub fn refused(reply: &Reply, status: u16, problem: &str) {
    assert_eq!((reply.status, reply.problem()), (status, problem), "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json", "{reply:?}");
    let said = |field: &str| reply.json[field].as_str().is_some_and(|text| !text.is_empty());
    assert!(said("title") && said("detail") && said("instance"), "{reply:?}");
    assert_eq!(reply.json["status"], json!(status), "{reply:?}");
}
