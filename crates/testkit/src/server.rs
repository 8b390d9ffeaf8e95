//! A real server on 127.0.0.1 and a free port, with its own folder and database.

use crate::client::{self, Client, ClientCertificate};
use crate::database::TestDatabase;
use fettle_domain::access::Role;
use fettle_domain::{HostId, Timestamp};
use fettle_plugin::Feed;
use fettle_server::{Announcement, AppState, ServerOptions, Settings};
use fettle_wire::agent::{EnrolReply, EnrolRequest, HostFacts};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// What a server is made with.
#[derive(Default)]
pub struct Setup {
    /// Configuration.
    pub settings: Settings,
    /// Publishers.
    pub feeds: Vec<Box<dyn Feed>>,
    /// The database; the embedded default in the server's folder when absent.
    pub database: Option<TestDatabase>,
    /// The data directory of a server that ran before; a fresh one when absent.
    pub folder: Option<TempDir>,
    /// The address of a server that ran before; a free port when absent.
    pub listen: Option<SocketAddr>,
}

/// What an agent has after its enrolment.
pub struct EnrolledHost {
    /// Its id.
    pub id: HostId,
    /// Asks with its certificate.
    pub client: Client,
    /// Certificate and key.
    pub certificate: ClientCertificate,
    /// Keys whose signatures on offers count.
    pub offer_keys: Vec<String>,
}

/// It runs until dropped or stopped.
pub struct TestServer {
    /// What was said at the start.
    pub announcement: Announcement,
    /// What its parts hold.
    pub state: AppState,
    database: Option<TestDatabase>,
    folder: Option<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A signing request over a key, as agents make them.
pub fn signing_request(key: &rcgen::KeyPair) -> String {
    rcgen::CertificateParams::new(Vec::<String>::new()).unwrap().serialize_request(key).unwrap().pem().unwrap()
}

/// The password that [`TestServer::token`] gives everybody.
pub const PASSWORD: &str = "correct horse battery staple";

impl TestServer {
    /// With defaults.
    pub fn start() -> Self {
        Self::start_with(Setup::default())
    }

    /// In a thread and a runtime of its own, so that a test may be blocking or async.
    pub fn start_with(setup: Setup) -> Self {
        let folder = setup.folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let options = ServerOptions {
            data_dir: folder.path().join("data"),
            listen: setup.listen.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap()),
            database_url: setup.database.as_ref().map(TestDatabase::url_text),
            settings: setup.settings,
            feeds: setup.feeds,
        };
        let (ready, prepared) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async move {
                let prepared = fettle_server::prepare(options).await.unwrap();
                ready.send((prepared.announcement().clone(), prepared.state().clone())).unwrap();
                prepared.run(async { drop(stopped.await) }).await.unwrap();
            });
        });
        let (announcement, state) = prepared.recv().expect("the server starts");
        Self {
            announcement,
            state,
            database: setup.database,
            folder: Some(folder),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.announcement.listen)
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.as_ref().map(TempDir::path).unwrap_or(Path::new("")).join("data")
    }

    /// A client without any credentials.
    pub fn client(&self) -> Client {
        Client::new(&self.url(), client::tls(self.state.identity.authority_pem(), None))
    }

    /// A client with a certificate of this server's authority for a host.
    pub fn host_client(&self, host: HostId) -> Client {
        self.client_with(&self.host_certificate(host))
    }

    /// A certificate of this server's authority for a host.
    pub fn host_certificate(&self, host: HostId) -> ClientCertificate {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        (self.certificate_over(&key, host, fettle_server::clock::now(), 90), key)
    }

    /// A certificate of this server's authority for a host, over a key (PEM), as it would have been
    /// issued at that time for so many days.
    pub fn certificate_over(&self, key: &str, host: HostId, at: Timestamp, days: u64) -> String {
        let csr = signing_request(&rcgen::KeyPair::from_pem(key).unwrap());
        let life = Duration::from_secs(days * 24 * 3600);
        self.state.identity.issue_client_certificate(&csr, host, at, life).unwrap().pem
    }

    /// A client that shows this certificate.
    pub fn client_with(&self, certificate: &ClientCertificate) -> Client {
        Client::new(&self.url(), client::tls(self.state.identity.authority_pem(), Some(certificate)))
    }

    /// Enrols a host over the wire with a token of its own, as an agent would.
    pub async fn enrol(&self, administrator: &Client, facts: HostFacts) -> EnrolledHost {
        let token = administrator.post("/api/v1/enrolment-tokens", &json!({})).await.ok();
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = signing_request(&key);
        let token = token["token"].as_str().unwrap().to_owned();
        let request = EnrolRequest { token, csr, agent_version: "0.1.0".to_owned(), facts };
        let reply = self.client().post("/agent/v1/enrol", &serde_json::to_value(&request).unwrap()).await.ok();
        let reply: EnrolReply = serde_json::from_value(reply).unwrap();
        let certificate = (reply.certificate.clone(), key.serialize_pem());
        let client = Client::new(&self.url(), client::tls(&reply.authority, Some(&certificate)));
        EnrolledHost { id: reply.host, client, certificate, offer_keys: reply.offer_keys }
    }

    /// A client with an API token of the first administrator, whose password it changes.
    pub async fn administrator(&self) -> Client {
        let (name, one_time) = self.announcement.administrator.clone().expect("made at this start");
        let client = self.client();
        let change = json!({ "user": name, "current": one_time, "new": PASSWORD });
        let changed = client.post("/api/v1/password", &change).await;
        // A second call of the same test finds it changed.
        assert!(changed.status == 200 || changed.status == 401, "{changed:?}");
        self.login(&name).await
    }

    /// A client with an API token of a new user.
    pub async fn user(&self, administrator: &Client, name: &str, role: Role) -> Client {
        let created = administrator.post("/api/v1/users", &json!({ "name": name, "role": role.as_str() })).await.ok();
        let change = json!({ "user": name, "current": created["one_time_password"], "new": PASSWORD });
        self.client().post("/api/v1/password", &change).await.ok();
        self.login(name).await
    }

    /// A client with a further API token of a user with [`PASSWORD`].
    pub async fn login(&self, name: &str) -> Client {
        let login = self.client().post("/api/v1/login", &json!({ "user": name, "password": PASSWORD })).await.ok();
        self.client().bearer(login["secret"].as_str().unwrap())
    }

    /// Stops it gracefully and hands back what a restart needs.
    pub fn stop(mut self) -> Setup {
        self.end();
        Setup {
            folder: self.folder.take(),
            database: self.database.take(),
            listen: Some(self.announcement.listen),
            ..Setup::default()
        }
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server ends well");
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.end();
    }
}
