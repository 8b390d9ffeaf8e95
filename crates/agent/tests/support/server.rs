//! The other side: TLS with an authority of its own, HTTP/1.1 by hand, the protocol's state in memory.

use fettle_content::{SigningKey, sha256_hex};
use fettle_domain::package::InstalledPackage;
use fettle_domain::plan::{Manifest, RebootPolicy};
use fettle_domain::{ChangeId, DeploymentId, HostId, PlanId, Timestamp};
use fettle_wire::agent::*;
use fettle_wire::log::{LogPart, LogReply};
use fettle_wire::offer::*;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What the server knows.
#[derive(Default)]
pub struct World {
    /// Problem type with which enrolment is refused.
    pub refuse_enrolment: Option<&'static str>,
    /// Problem type and status with which everything else is refused.
    pub refuse: Option<(u16, &'static str)>,
    /// Every answer is this long instead.
    pub flood: Option<usize>,
    pub enrolled: Vec<EnrolRequest>,
    pub check_ins: Vec<CheckIn>,
    pub facts: Option<HostFacts>,
    pub services: Option<Vec<Service>>,
    pub packages: Option<Vec<InstalledPackage>>,
    pub digests: SectionDigests,
    pub items: Vec<WorkItem>,
    pub cursor: u64,
    pub entries: Vec<ReportEntry>,
    /// Parts of logs, and how many bytes of them are taken.
    pub log_parts: Vec<LogPart>,
    pub log_room: u64,
    /// Every request's path with its query.
    pub asked: Vec<String>,
    /// By how many days the server's clock is ahead of this machine's.
    pub days_ahead: i64,
}

impl World {
    /// All entries' bodies of deployments' events.
    pub fn events(&self) -> Vec<fettle_domain::machine::DeploymentEvent> {
        let events = self.entries.iter().filter_map(|entry| match &entry.body {
            ReportBody::Deployment { event, .. } => Some(*event),
            _ => None,
        });
        events.collect()
    }

    pub fn refusals(&self) -> Vec<String> {
        let refusals = self.entries.iter().filter_map(|entry| match &entry.body {
            ReportBody::Refused { reasons, .. } => Some(reasons[0].topic.clone()),
            _ => None,
        });
        refusals.collect()
    }

    fn check_in(&mut self, request: CheckIn) -> CheckInReply {
        self.check_ins.push(request.clone());
        let mut want = Vec::new();
        if let Some(facts) = request.facts {
            self.digests.facts = json_digest(&facts);
            self.facts = Some(facts);
        }
        if let Some(services) = request.services {
            self.digests.services = json_digest(&services);
            self.services = Some(services);
        }
        match request.packages {
            Some(PackagesReport::Complete { packages }) => self.packages = Some(packages),
            Some(PackagesReport::Difference { base, removed, added }) if base == self.digests.packages => {
                let mut packages = self.packages.take().unwrap();
                packages.retain(|package| !removed.contains(package));
                packages.extend(added);
                packages.sort();
                self.packages = Some(packages);
            }
            _ => {}
        }
        self.digests.packages = self.packages.as_ref().map(json_digest).unwrap_or_default();
        let compare = [
            (&self.digests.facts, &request.digests.facts, Section::Facts),
            (&self.digests.packages, &request.digests.packages, Section::Packages),
            (&self.digests.services, &request.digests.services, Section::Services),
        ];
        want.extend(compare.into_iter().filter(|(ours, theirs, _)| ours != theirs).map(|(_, _, section)| section));
        CheckInReply { want, chain_unsettled: false, next_seconds: 5, server_time: days_on(self.days_ahead) }
    }

    fn log(&mut self, part: LogPart) -> LogReply {
        self.log_parts.push(part);
        let lines = || self.log_parts.iter().flat_map(|part| &part.lines);
        let taken: u64 = lines().map(|line| line.text.len() as u64 + 100).sum();
        LogReply {
            next: lines().next_back().map_or(1, |line| line.number + 1),
            wanted: true,
            most_bytes: self.log_room.saturating_sub(taken),
        }
    }

    fn report(&mut self, report: Report) -> ReportReply {
        for entry in report.entries {
            let last = self.entries.last().map_or(0, |entry| entry.sequence);
            if entry.sequence > last {
                self.entries.push(entry);
            }
        }
        ReportReply { acknowledged: self.entries.last().map_or(0, |entry| entry.sequence) }
    }
}

fn json_digest<T: Serialize>(value: &T) -> String {
    sha256_hex(&serde_json::to_vec(value).unwrap())
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap())
}

/// So many days from now (negative: before).
pub fn days_on(days: i64) -> Timestamp {
    Timestamp::from_unix_millis(now().unix_millis() + days * 24 * 3600 * 1000)
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
    pub der: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn sign(&self, csr: &str) -> String {
        CertificateSigningRequestParams::from_pem(csr).unwrap().signed_by(&self.issuer).unwrap().pem()
    }

    /// With a certificate that is valid for a year around the server's own time.
    fn server_config(&self, days_ahead: i64) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let moment = |days: i64| {
            let base = rcgen::date_time_ymd(1970, 1, 1);
            base + Duration::from_secs(u64::try_from(days_on(days_ahead + days).unix_seconds()).unwrap())
        };
        (params.not_before, params.not_after) = (moment(-180), moment(180));
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![leaf.der().clone(), self.der.clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    }
}

/// A running server.
pub struct Server {
    pub authority: Arc<Authority>,
    key: SigningKey,
    pub shared: Arc<Shared>,
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

pub struct Shared {
    world: Mutex<World>,
    changed: Condvar,
    work: Notify,
    authority: Arc<Authority>,
    offer_key: String,
    host: HostId,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(Arc::new(Authority::new()), "127.0.0.1:0".parse().unwrap())
    }

    pub fn start_with(authority: Arc<Authority>, at: SocketAddr) -> Self {
        Self::start_ahead(authority, at, 0)
    }

    /// With a clock that is so many days ahead of this machine's.
    pub fn start_ahead(authority: Arc<Authority>, at: SocketAddr, days_ahead: i64) -> Self {
        let key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
        let shared = Arc::new(Shared {
            world: Mutex::new(World { days_ahead, ..World::default() }),
            changed: Condvar::new(),
            work: Notify::new(),
            authority: authority.clone(),
            offer_key: key.public().to_base64(),
            host: HostId::new(1, [5; 10]),
        });
        let listener = std::net::TcpListener::bind(at).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config(days_ahead)));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = shared.clone();
        let thread = std::thread::spawn(move || {
            super::block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, acceptor, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { authority, key, shared, address, stop: Some(stop), thread: Some(thread) }
    }

    pub fn address(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn port(&self) -> SocketAddr {
        self.address
    }

    pub fn token(&self) -> String {
        use base64::Engine as _;
        let pin =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.authority.der).as_ref());
        format!("fettle1.{pin}.secret")
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.shared.world.lock().unwrap())
    }

    /// Waits until the world is so, at most half a minute.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut(&mut World) -> Option<T>) -> T {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        let mut world = self.shared.world.lock().unwrap();
        loop {
            if let Some(found) = look(&mut world) {
                return found;
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            assert!(!left.is_zero(), "it never came to this: {what}; events {:?}", world.events());
            world = self.shared.changed.wait_timeout(world, left).unwrap().0;
        }
    }

    /// Ends waiting requests.
    pub fn shared_nudge(&self) {
        self.shared.work.notify_waiters();
    }

    /// Puts work up; waiting agents hear of it.
    pub fn give(&self, items: Vec<WorkItem>) {
        self.with(|world| {
            world.items = items;
            world.cursor += 1;
        });
        self.shared.work.notify_waiters();
    }

    pub fn offer(&self, action: OfferAction, deployment: u8, sequence: u64, manifest: Manifest) -> Offer {
        let earlier = Timestamp::from_unix_millis(now().unix_millis() - 60_000);
        Offer {
            action,
            deployment: DeploymentId::new(u64::from(deployment), [deployment; 10]),
            host: self.shared.host,
            change: ChangeId::new(1, [1; 10]),
            plan: PlanId::new(1, [1; 10]),
            plan_digest: "a".repeat(64),
            approvals: vec![Approval { by: "ann".to_owned(), at: earlier }],
            manifest,
            restart_services: true,
            reboot: RebootPolicy::Never,
            checks: Vec::new(),
            window_start: earlier,
            window_end: now().after(Duration::from_secs(3600)),
            expires: now().after(Duration::from_secs(7200)),
            issued_at: earlier,
            sequence,
        }
    }

    pub fn sign(&self, offer: &Offer) -> WorkItem {
        let signed = fettle_content::sign(&self.key, OFFER_TYPE, &serde_json::to_vec(offer).unwrap());
        WorkItem::Offer {
            envelope: Envelope {
                payload_type: OFFER_TYPE.to_owned(),
                payload: signed.payload,
                signatures: vec![EnvelopeSignature { keyid: signed.key_id, sig: signed.signature }],
            },
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, shared) = (acceptor.clone(), shared.clone());
        tokio::spawn(async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let named = stream.get_ref().1.peer_certificates().is_some();
                while let Some((target, body)) = read_request(&mut stream).await {
                    let (status, answer) = answer(&shared, &target, &body, named).await;
                    if write_answer(&mut stream, status, &answer).await.is_none() {
                        break;
                    }
                }
            }
        });
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1)?.to_owned();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((target, body))
}

async fn write_answer(stream: &mut (impl AsyncWrite + Unpin), status: u16, body: &[u8]) -> Option<()> {
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()?;
    stream.flush().await.ok()
}

fn problem(status: u16, kind: &str) -> (u16, Vec<u8>) {
    (status, serde_json::to_vec(&serde_json::json!({ "type": kind, "title": "refused", "status": status })).unwrap())
}

async fn answer(shared: &Shared, target: &str, body: &[u8], named: bool) -> (u16, Vec<u8>) {
    let path = target.split('?').next().unwrap_or_default();
    shared.world.lock().unwrap().asked.push(target.to_owned());
    shared.changed.notify_all();
    if path == "/agent/v1/work" {
        wait_for_work(shared, target).await;
    }
    let mut world = shared.world.lock().unwrap();
    if let Some(length) = world.flood {
        return (200, vec![b' '; length]);
    }
    let answer = if path == "/agent/v1/enrol" {
        enrol(shared, &mut world, body)
    } else if !named {
        problem(401, problem::CERTIFICATE_REQUIRED)
    } else if let Some((status, kind)) = world.refuse {
        problem(status, kind)
    } else {
        let value = match path {
            "/agent/v1/check-in" => serde_json::to_vec(&world.check_in(serde_json::from_slice(body).unwrap())),
            "/agent/v1/report" => serde_json::to_vec(&world.report(serde_json::from_slice(body).unwrap())),
            "/agent/v1/log" => serde_json::to_vec(&world.log(serde_json::from_slice(body).unwrap())),
            "/agent/v1/work" => serde_json::to_vec(&Work { cursor: world.cursor, items: world.items.clone() }),
            other => panic!("no such path: {other}"),
        };
        (200, value.unwrap())
    };
    shared.changed.notify_all();
    answer
}

use fettle_wire::agent::problem;

fn enrol(shared: &Shared, world: &mut World, body: &[u8]) -> (u16, Vec<u8>) {
    if let Some(kind) = world.refuse_enrolment {
        return problem(403, kind);
    }
    let request: EnrolRequest = serde_json::from_slice(body).unwrap();
    let reply = EnrolReply {
        host: shared.host,
        certificate: shared.authority.sign(&request.csr),
        authority: shared.authority.pem.clone(),
        offer_keys: vec![shared.offer_key.clone()],
        server_time: now(),
    };
    world.enrolled.push(request);
    (200, serde_json::to_vec(&reply).unwrap())
}

async fn wait_for_work(shared: &Shared, target: &str) {
    let number = |key: &str| -> u64 {
        let value = target.split(['?', '&']).find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    let notified = shared.work.notified();
    let nothing_new = {
        let world = shared.world.lock().unwrap();
        world.cursor == number("after") && world.refuse.is_none()
    };
    if nothing_new {
        let _ = tokio::time::timeout(Duration::from_secs(number("wait")), notified).await;
    }
}
