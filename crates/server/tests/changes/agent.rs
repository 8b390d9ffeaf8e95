//! An agent in memory: believes orders as the real one does, keeps what it has to tell until it is
//! acknowledged, and goes on by one step at each turn.

use fettle_content::{sha256_hex, verify};
use fettle_domain::host::OsRelease;
use fettle_domain::machine::{DeploymentEvent, DeploymentState, Machine as _, TaskState};
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_domain::plan::*;
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, HostId, LogRequestId, RehearsalId};
use fettle_server::clock;
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_testkit::{Client, Reply, TestServer};
use fettle_wire::agent::*;
use fettle_wire::offer::{OFFER_TYPE, Offer, OfferAction};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of deployments on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    Good,
    /// Fetching fails: nothing is changed.
    FailsBefore,
    /// The installation fails and is undone by itself.
    FailsInstalling,
    /// The undo fails too.
    GetsStuck,
    /// Says it succeeded, but its inventory shows the old versions.
    Lies,
    /// Answers dry runs and then nothing more.
    FallsSilent,
}

pub struct Known {
    pub state: DeploymentState,
    pub offer: Offer,
    pub undo: Option<Offer>,
    pub withdrawn: bool,
}

pub struct Agent {
    pub id: HostId,
    pub name: String,
    pub client: Client,
    pub conduct: Conduct,
    pub facts: HostFacts,
    pub packages: Vec<InstalledPackage>,
    pub known: BTreeMap<DeploymentId, Known>,
    pub cursor: u64,
    /// Not acknowledged yet.
    pub spool: Vec<ReportEntry>,
    pub next_sequence: u64,
    pub last_order: u64,
    /// Logs that were asked for: request, deployment, first line, bytes.
    pub asked_logs: Vec<(LogRequestId, DeploymentId, u64, u64)>,
    answered: BTreeSet<RehearsalId>,
    key: fettle_content::PublicKey,
}

pub fn installed(name: &str, version: &str) -> InstalledPackage {
    InstalledPackage {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: if name == "libexpat1" { "expat".into() } else { name.into() },
            source_version: version.into(),
        },
        origin: "Debian:bookworm".into(),
        held: false,
        automatic: true,
        state: InstallState::Installed,
    }
}

/// The version that closes CVE-2024-50602 in the sample feeds, and the one before.
pub const FIXED: &str = "2.5.0-1+deb12u2";
pub const AFFECTED: &str = "2.5.0-1+deb12u1";

impl Agent {
    pub async fn new(server: &TestServer, name: &str, conduct: Conduct) -> Self {
        let id: HostId = clock::fresh();
        let columns = HostFactsColumns { name: name.to_owned(), json: "{}".into(), ..HostFactsColumns::default() };
        server
            .state
            .store
            .write(move |connection| host::host_create(connection, id, &columns, "test", clock::now()))
            .await
            .unwrap();
        let os = OsRelease {
            id: "debian".into(),
            version_id: "12".into(),
            codename: "bookworm".into(),
            pretty_name: "Debian 12".into(),
        };
        let agent = Self {
            id,
            name: name.to_owned(),
            client: server.host_client(id),
            conduct,
            facts: HostFacts { name: name.to_owned(), os, ..HostFacts::default() },
            packages: vec![installed("libexpat1", AFFECTED), installed("sed", "4.9-1")],
            known: BTreeMap::new(),
            cursor: 0,
            spool: Vec::new(),
            next_sequence: 1,
            last_order: 0,
            asked_logs: Vec::new(),
            answered: BTreeSet::new(),
            key: server.state.identity.offer_key.public(),
        };
        agent.check_in().await;
        agent
    }

    pub async fn check_in(&self) {
        let digest = |value: String| sha256_hex(value.as_bytes());
        let services: Vec<Service> = Vec::new();
        let check_in = CheckIn {
            agent_version: "test".into(),
            time: clock::now(),
            chain: None,
            digests: SectionDigests {
                facts: digest(serde_json::to_string(&self.facts).unwrap()),
                packages: digest(serde_json::to_string(&self.packages).unwrap()),
                services: digest(serde_json::to_string(&services).unwrap()),
            },
            facts: Some(self.facts.clone()),
            packages: Some(PackagesReport::Complete { packages: self.packages.clone() }),
            services: Some(services),
        };
        let reply = self.client.post("/agent/v1/check-in", &serde_json::to_value(&check_in).unwrap()).await.ok();
        assert_eq!(reply["want"], json!([]), "{reply}");
    }

    pub async fn ask(&self, wait: u64) -> Reply {
        self.client.get(&format!("/agent/v1/work?after={}&wait={wait}", self.cursor)).await
    }

    /// Asks for work and takes it.
    pub async fn work(&mut self, wait: u64) {
        let work: Work = serde_json::from_value(self.ask(wait).await.ok()).unwrap();
        self.take(work);
    }

    pub fn take(&mut self, work: Work) {
        self.cursor = work.cursor;
        self.asked_logs.clear();
        let mut offers = Vec::new();
        for item in work.items {
            match item {
                WorkItem::Rehearse { rehearsal, job } => self.rehearse(rehearsal, &job),
                WorkItem::Offer { envelope } => offers.push(self.believed(&envelope)),
                WorkItem::SendLog { request, deployment, from, most_bytes } => {
                    self.asked_logs.push((request, deployment, from, most_bytes));
                }
                WorkItem::Withdraw { deployment } => {
                    if let Some(known) = self.known.get_mut(&deployment) {
                        known.withdrawn = true;
                    }
                }
            }
        }
        offers.sort_by_key(|offer| offer.sequence);
        for offer in offers {
            self.obey(offer);
        }
    }

    fn believed(&self, envelope: &fettle_wire::offer::Envelope) -> Offer {
        let signatures: Vec<(String, String)> =
            envelope.signatures.iter().map(|signature| (signature.keyid.clone(), signature.sig.clone())).collect();
        let payload =
            verify(std::slice::from_ref(&self.key), OFFER_TYPE, &envelope.payload_type, &envelope.payload, &signatures)
                .unwrap();
        let offer: Offer = serde_json::from_slice(&payload).unwrap();
        assert_eq!(offer.host, self.id, "an order for another host");
        assert!(!offer.approvals.is_empty() && offer.plan_digest.len() == 64 && offer.expires == offer.window_end);
        offer
    }

    fn obey(&mut self, offer: Offer) {
        let known = self.known.get_mut(&offer.deployment);
        let repeated = known.as_ref().is_some_and(|known| {
            known.offer.sequence == offer.sequence
                || known.undo.as_ref().is_some_and(|undo| undo.sequence == offer.sequence)
        });
        if repeated {
            return;
        }
        assert!(
            offer.sequence > self.last_order,
            "order {} after {}: the real agent would call it a replay",
            offer.sequence,
            self.last_order
        );
        self.last_order = offer.sequence;
        match (offer.action, known) {
            (OfferAction::Deploy, None) => {
                let known =
                    Known { state: DeploymentState::Offered, offer: offer.clone(), undo: None, withdrawn: false };
                self.known.insert(offer.deployment, known);
            }
            (OfferAction::Undo, Some(known)) => known.undo = Some(offer),
            (action, _) => panic!("{action:?} for {} makes no sense here", offer.deployment),
        }
    }

    fn version(&self, name: &str) -> Option<&str> {
        self.packages
            .iter()
            .find(|installed| installed.package.name == name)
            .map(|installed| installed.package.version.as_str())
    }

    /// The dry run: every wanted package goes to the version that closes the finding.
    fn rehearse(&mut self, rehearsal: RehearsalId, job: &Job) {
        if !self.answered.insert(rehearsal) {
            return;
        }
        let step = |wanted: &WantedPackage| {
            let from = self.version(&wanted.name)?.to_owned();
            let to = match &wanted.version {
                WantedVersion::Exactly { version } => version.clone(),
                _ => FIXED.to_owned(),
            };
            let file = PackageFile {
                name: format!("{}_{to}_amd64.deb", wanted.name),
                uri: "http://deb.test/".into(),
                size: 7,
                sha256: "5".repeat(64),
            };
            Some(PackageStep {
                name: wanted.name.clone(),
                architecture: "amd64".into(),
                from: Some(from.clone()),
                to: Some(to.clone()),
                asked: true,
                file: Some(file),
            })
            .filter(|_| from != to)
        };
        let steps: Vec<PackageStep> = job.wanted.iter().filter_map(step).collect();
        let outcome = if steps.is_empty() {
            RehearsalOutcome::NothingToDo
        } else {
            let manifest = Manifest {
                ecosystem: Ecosystem::Debian,
                steps,
                base_digest: "b".repeat(64),
                download_bytes: 7,
                disk_bytes: 0,
            };
            RehearsalOutcome::Possible { manifest, notes: vec![Reason::new("apt.note", "a note")] }
        };
        self.say(ReportBody::Rehearsal { rehearsal, outcome });
    }

    pub fn say(&mut self, body: ReportBody) {
        self.spool.push(ReportEntry { sequence: self.next_sequence, at: clock::now(), body });
        self.next_sequence += 1;
    }

    pub async fn send(&self, entries: &[ReportEntry]) -> Reply {
        self.client
            .post(
                "/agent/v1/report",
                &serde_json::to_value(Report { link: String::new(), entries: entries.to_vec() }).unwrap(),
            )
            .await
    }

    pub fn acknowledged(&mut self, reply: &serde_json::Value) {
        let reply: ReportReply = serde_json::from_value(reply.clone()).unwrap();
        self.spool.retain(|entry| entry.sequence > reply.acknowledged);
    }

    /// Sends everything and forgets what is acknowledged.
    pub async fn report(&mut self) {
        if !self.spool.is_empty() {
            let reply = self.send(&self.spool.clone()).await.ok();
            self.acknowledged(&reply);
        }
    }

    fn event(&mut self, id: DeploymentId, event: DeploymentEvent, why: &str) {
        let known = self.known.get_mut(&id).unwrap();
        known.state = known.state.next(event).unwrap();
        let reasons = if why.is_empty() { vec![] } else { vec![Reason::new("test.why", why)] };
        self.say(ReportBody::Deployment { deployment: id, event, reasons });
    }

    fn task(&mut self, id: DeploymentId, number: u32, name: &str, state: TaskState, why: &str) {
        let reasons = if why.is_empty() { vec![] } else { vec![Reason::new("test.why", why)] };
        self.say(ReportBody::Task { deployment: id, number, name: name.into(), state, reasons });
    }

    pub fn install(&mut self, id: DeploymentId, back: bool) {
        let steps = self.known[&id].offer.manifest.steps.clone();
        for step in steps {
            let (old, new) = if back { (&step.to, &step.from) } else { (&step.from, &step.to) };
            assert_eq!(self.version(&step.name), old.as_deref(), "{}", step.name);
            self.packages.retain(|installed| installed.package.name != step.name);
            self.packages.push(installed(&step.name, new.as_deref().unwrap()));
        }
        self.packages.sort();
    }

    /// Every deployment goes on by one step. Whether something happened.
    pub fn go_on(&mut self) -> bool {
        let ids: Vec<DeploymentId> = self.known.keys().copied().collect();
        ids.into_iter().filter(|id| self.step(*id)).count() > 0
    }

    fn step(&mut self, id: DeploymentId) -> bool {
        use DeploymentEvent as E;
        use DeploymentState as S;
        let Known { state, undo, withdrawn, .. } = &self.known[&id];
        let (state, undo, withdrawn) = (*state, undo.is_some(), *withdrawn);
        if self.conduct == Conduct::FallsSilent {
            return false;
        }
        match state {
            S::Offered => self.event(id, E::Accept, ""),
            S::Queued | S::Fetching | S::Ready if withdrawn => self.event(id, E::Withdraw, "asked back"),
            S::Queued => self.event(id, E::Fetch, ""),
            S::Fetching if self.conduct == Conduct::FailsBefore => {
                self.task(id, 1, "fetch", TaskState::Undone, "the mirror is away");
                self.event(id, E::Fail, "the mirror is away");
            }
            S::Fetching => {
                self.task(id, 1, "fetch", TaskState::Done, "");
                self.event(id, E::Prepare, "");
            }
            S::Ready => {
                self.event(id, E::Apply, "");
                self.task(id, 5, "install", TaskState::Doing, "");
                self.say(ReportBody::Output {
                    deployment: id,
                    lines: vec!["Unpacking libexpat1 …".into(), "Setting up libexpat1 …".into()],
                });
            }
            S::Applying if matches!(self.conduct, Conduct::FailsInstalling | Conduct::GetsStuck) => {
                self.task(id, 5, "install", TaskState::Undo, "postinst failed");
                self.event(id, E::Undo, "postinst failed");
            }
            S::Applying => {
                if self.conduct != Conduct::Lies {
                    self.install(id, false);
                }
                self.task(id, 5, "install", TaskState::Done, "");
                self.event(id, E::Check, "");
            }
            S::Checking if undo => self.event(id, E::Undo, "ordered"),
            S::Checking => self.event(id, E::Succeed, ""),
            S::Succeeded if undo => self.event(id, E::Undo, "ordered"),
            S::Undoing if self.conduct == Conduct::GetsStuck => {
                self.task(id, 5, "install", TaskState::Error, "the former file is damaged");
                self.event(id, E::GetStuck, "the former file is damaged");
            }
            S::Undoing => {
                if self.version("libexpat1") == Some(FIXED) {
                    self.install(id, true);
                }
                self.task(id, 5, "install", TaskState::Undone, "");
                self.event(id, E::FinishUndo, "");
            }
            _ => return false,
        }
        true
    }
}
