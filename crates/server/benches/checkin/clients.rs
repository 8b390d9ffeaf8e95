//! All hosts of the fleet in one process: their connections, what they send, how long it took.

use crate::fleet::{self, Snippets};
use crate::{Fleet, Measured};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::client::TlsStream;

type Connection = TlsStream<TcpStream>;

struct Clients {
    server: SocketAddr,
    fleet: Fleet,
    snippets: Snippets,
    connections: Vec<Mutex<Option<Connection>>>,
    reconnects: AtomicUsize,
}

/// Obeys one command a line of standard input, answers each with a line of JSON.
pub fn run(server: SocketAddr, fleet: Fleet, in_flight: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let connections = fleet.hosts.iter().map(|_| Mutex::new(None)).collect();
    let clients =
        Arc::new(Clients { server, fleet, snippets: Snippets::new(), connections, reconnects: AtomicUsize::new(0) });
    for line in std::io::stdin().lock().lines() {
        let measured = runtime.block_on(pass(&clients, line.unwrap().trim(), in_flight));
        println!("{}", serde_json::to_string(&measured).unwrap());
    }
}

/// Hosts whose requests are made at once, while the clock stands still: the making of inventories
/// would take more of the processors than all that is to be measured.
const BATCH: usize = 2_000;

/// Every host does it once, `in_flight` at a time.
async fn pass(clients: &Arc<Clients>, what: &str, in_flight: usize) -> Measured {
    let before = clients.reconnects.load(Ordering::Relaxed);
    let all = clients.connections.len();
    // All wait at once for their work: nobody waits for a place, and the clock says nothing.
    let (batch, workers) = if what == "wait" { (all, all) } else { (BATCH, in_flight) };
    let mut took = Vec::with_capacity(all);
    let mut spent = Duration::ZERO;
    for first in (0..all).step_by(batch) {
        let requests: Arc<Vec<Vec<u8>>> =
            Arc::new((first..all.min(first + batch)).map(|host| clients.request(host, what)).collect());
        let started = Instant::now();
        let next = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..workers.min(requests.len()))
            .map(|_| tokio::spawn(work(clients.clone(), requests.clone(), first, next.clone(), what.to_owned())))
            .collect();
        for task in tasks {
            took.extend(task.await.unwrap());
        }
        spent += started.elapsed();
    }
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    Measured {
        requests: took.len(),
        seconds: spent.as_secs_f64(),
        middle_ms: at(0.5),
        slow_ms: at(0.99),
        reconnects: clients.reconnects.load(Ordering::Relaxed) - before,
    }
}

async fn work(
    clients: Arc<Clients>,
    requests: Arc<Vec<Vec<u8>>>,
    first: usize,
    next: Arc<AtomicUsize>,
    what: String,
) -> Vec<Duration> {
    let mut took = Vec::new();
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = requests.get(place) else { return took };
        let started = Instant::now();
        clients.act(first + place, &what, request).await;
        took.push(started.elapsed());
    }
}

impl Clients {
    fn request(&self, host: usize, what: &str) -> Vec<u8> {
        match what {
            "connect" => Vec::new(),
            "wait" => b"GET /agent/v1/work?after=0&wait=50 HTTP/1.1\r\nhost: server\r\n\r\n".to_vec(),
            what => self.check_in(host, what),
        }
    }

    async fn act(&self, host: usize, what: &str, request: &[u8]) {
        let mut seat = self.connections[host].lock().await;
        if what == "connect" {
            *seat = Some(self.connect(host).await);
            return;
        }
        let mut answer = None;
        if let Some(connection) = seat.as_mut() {
            answer = exchange(connection, request).await.ok();
        }
        // The server closes a connection that rested for 100 seconds, as it would an agent's.
        if answer.is_none() {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
            // The old one first: there is no descriptor to spare.
            *seat = None;
            let mut connection = self.connect(host).await;
            answer = Some(exchange(&mut connection, request).await.expect("an answer on a fresh connection"));
            *seat = Some(connection);
        }
        let (status, body) = answer.expect("an answer");
        let well = status == 200 && (what == "wait" || body.contains(r#""want":[]"#));
        assert!(well, "host {host}, {what}: {status} {body}");
    }

    async fn connect(&self, host: usize) -> Connection {
        let fleet = &self.fleet;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(fleet.authority.as_bytes()).unwrap()).unwrap();
        let (_, certificate) = &fleet.hosts[host];
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        let key =
            rustls::pki_types::PrivateKeyDer::from_pem_slice(fleet.keys[host % fleet.keys.len()].as_bytes()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        let stream = TcpStream::connect(self.server).await.expect("connect");
        stream.set_nodelay(true).unwrap();
        let name = ServerName::from(self.server.ip());
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS handshake")
    }

    fn check_in(&self, host: usize, what: &str) -> Vec<u8> {
        let (id, _) = &self.fleet.hosts[host];
        let (facts, services) = (fleet::facts(host, *id), fleet::services(host));
        let updates = usize::from(what == "difference");
        let now = fleet::packages(host, updates);
        let (list, digest) = self.snippets.list(&now);
        let sections = match what {
            "inventory" => {
                format!(r#","facts":{facts},"packages":{{"form":"complete","packages":{list}}},"services":{services}"#)
            }
            "difference" => {
                let former = fleet::packages(host, 0);
                let (removed, added) = self.snippets.difference(&former, &now);
                let (_, base) = self.snippets.list(&former);
                format!(r#","packages":{{"form":"difference","base":"{base}","removed":{removed},"added":{added}}}"#)
            }
            _ => String::new(),
        };
        let (facts, services) = (fleet::digest(&facts), fleet::digest(&services));
        let body = format!(
            r#"{{"agent_version":"0.1.0","time":"2026-11-25T06:00:00Z","digests":{{"facts":"{facts}","packages":"{digest}","services":"{services}"}}{sections}}}"#
        );
        let head = format!(
            "POST /agent/v1/check-in HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body.into_bytes()].concat()
    }
}

async fn exchange(connection: &mut Connection, request: &[u8]) -> std::io::Result<(u16, String)> {
    connection.write_all(request).await?;
    connection.flush().await?;
    let mut answer = Vec::new();
    let broken = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, why.to_owned());
    loop {
        let mut piece = [0; 1024];
        let read = connection.read(&mut piece).await?;
        if read == 0 {
            return Err(broken("closed"));
        }
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_lowercase().strip_prefix("content-length:").map(|number| number.trim().to_owned())
        });
        let length: usize = length.and_then(|number| number.parse().ok()).ok_or_else(|| broken("no content-length"))?;
        if body.len() >= length {
            let status =
                head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(|| broken("no status"))?;
            return Ok((status, body.to_owned()));
        }
    }
}
