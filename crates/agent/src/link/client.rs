//! Requests to the server: one connection kept open, answers capped, errors told by kind.

use super::chain::Links;
use super::identity::Identity;
use super::renewal::{self, Attempts};
use super::tls::{self, TlsError, WrongAuthority};
use crate::clock;
use crate::disk::{StateDir, state};
use crate::status::LastContact;
use fettle_domain::Timestamp;
use fettle_domain::time::span_words;
use fettle_wire::agent::{
    Chain, CheckIn, CheckInReply, CloneReply, CloneRequest, EnrolReply, EnrolRequest, HostFacts, RenewReply,
    RenewRequest, Report, ReportReply, Work, problem,
};
use fettle_wire::log::{LogPart, LogReply};
use reqwest::{Method, StatusCode, Url};
use rustls::{CertificateError, ClientConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Cap of an answer: offers for a host with thousands of packages are about 1 MB each.
const LONGEST_ANSWER: usize = 16 << 20;
/// Cap of a problem document.
const LONGEST_PROBLEM: usize = 64 << 10;
/// Time to connect, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Time for one request besides what it waits for on purpose.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Cap of the file with the last contact.
const LONGEST_CONTACT: u64 = 64 << 10;
/// While the clocks differ by more, this host takes no orders.
const CLOCK_BOUND: Duration = Duration::from_secs(3600);

/// Why a request got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's address is not usable.
    #[error("`{0}` is not a server address: give https://NAME:PORT as the server printed it")]
    Address(String),
    /// Keys or certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody there, or the connection broke.
    #[error("cannot reach the server {server}: {why}")]
    Unreachable {
        /// Which server.
        server: String,
        /// The innermost causes.
        why: String,
    },
    /// The server shows a certificate that our authority did not make.
    #[error(
        "{server} shows a certificate of another authority than the one this host trusts: it is not the server this host belongs to, or somebody is in between. Nothing was sent. If the server was set up anew, enrol this host again with a new token and --force"
    )]
    OtherAuthority {
        /// Which server.
        server: String,
    },
    /// The token names another authority than the server has.
    #[error(
        "{server} does not show the certificate authority that the token names: check the address, or make a new token there; nothing was sent"
    )]
    TokenOfOtherServer {
        /// Which server.
        server: String,
    },
    /// The certificate is of our authority but not for this name.
    #[error(
        "the certificate of {server} is not for that name: use the name or address that the server was set up with ({why})"
    )]
    OtherName {
        /// Which server.
        server: String,
        /// What rustls says.
        why: String,
    },
    /// The certificate is not valid at this time.
    #[error(
        "the certificate of {server} is not valid at this host's time: set this host's clock, or renew the certificate there ({why})"
    )]
    OtherTime {
        /// Which server.
        server: String,
        /// What rustls says.
        why: String,
    },
    /// The clocks differ too far.
    #[error(
        "this host's clock is {apart}: it says {ours}, {server} says {theirs}. Set it (for example `timedatectl set-ntp true`); until then this host takes no orders, and goes on trying by itself"
    )]
    Clock {
        /// Which server.
        server: String,
        /// How far, in words (`3 years behind`).
        apart: String,
        /// This host's time.
        ours: Timestamp,
        /// The server's time.
        theirs: Timestamp,
    },
    /// Not even good for a renewal any more.
    #[error(
        "the certificate of this host expired too long ago to be renewed ({detail}): make a token on the server (`fettle host token create`) and enrol this host again with it and --force"
    )]
    ExpiredForGood {
        /// What the server says.
        detail: String,
    },
    /// The server answered with a refusal.
    #[error("the server refused: {title}{}", dash(.detail))]
    Refused {
        /// HTTP status.
        status: u16,
        /// Stable type of the problem; empty when the answer carried none.
        kind: String,
        /// Title.
        title: String,
        /// Detail.
        detail: String,
    },
    /// The answer cannot be understood.
    #[error("the server's answer to {request} cannot be understood: {why}")]
    Answer {
        /// Which request.
        request: &'static str,
        /// What is wrong.
        why: String,
    },
}

fn dash(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(" ({detail})") }
}

impl ClientError {
    /// Whether the server said that this host was revoked.
    pub(crate) fn is_revoked(&self) -> bool {
        self.problem() == problem::HOST_REVOKED
    }

    /// Stable type of the server's problem document, or empty.
    pub(crate) fn problem(&self) -> &str {
        match self {
            ClientError::Refused { kind, .. } => kind,
            _ => "",
        }
    }
}

/// RFC 9457, the fields that are used here.
#[derive(Deserialize, Default)]
struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

/// The requests of one host to its one server. All copies share the connection, the chain of
/// check-ins and the identity, which may be renewed under way.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    http: RwLock<reqwest::Client>,
    base: Url,
    server: String,
    /// `None` before enrolment.
    identity: RwLock<Option<Identity>>,
    links: Mutex<Links>,
    /// What this machine was at the last look.
    facts: Mutex<Option<HostFacts>>,
    /// Milliseconds this host's clock is ahead of the server's, as last heard.
    clock_ahead: AtomicI64,
    /// When a renewal was last tried.
    attempts: Mutex<Attempts>,
}

impl Client {
    /// Before enrolment: the authority is pinned.
    pub(crate) fn pinned(server: &str, authority: [u8; 32]) -> Result<Self, ClientError> {
        Self::new(server, tls::pinned(authority)?, None)
    }

    /// As an enrolled host.
    pub(crate) fn enrolled(identity: &Identity) -> Result<Self, ClientError> {
        Self::new(&identity.about.server, tls_of(identity)?, Some(identity.clone()))
    }

    fn new(server: &str, config: ClientConfig, identity: Option<Identity>) -> Result<Self, ClientError> {
        let base = address(server)?;
        Ok(Self(Arc::new(Shared {
            http: RwLock::new(connection(server, config)?),
            server: base.origin().ascii_serialization(),
            base,
            identity: RwLock::new(identity),
            links: Mutex::default(),
            facts: Mutex::default(),
            clock_ahead: AtomicI64::new(0),
            attempts: Mutex::default(),
        })))
    }

    /// At the start: goes on with the chain of check-ins that the folder knows (with a new one when that
    /// cannot be read).
    pub(crate) fn with_chain_of(self, state: &StateDir) -> Self {
        let contact: Option<LastContact> = state::read_json(&state.last_contact(), LONGEST_CONTACT)
            .inspect_err(|error| tracing::warn!(error.text = %error, "the last contact cannot be read"))
            .ok()
            .flatten();
        *clock::lock(&self.0.links) = Links::after(contact.map(|contact| contact.link).unwrap_or_default());
        if let Some(present) = self.identity()
            && let Err(error) = renewal::tidy(state, &present)
        {
            tracing::warn!(error.text = %error, "what is left of a renewal cannot be removed");
        }
        if state.identity_change().exists() {
            // Not taken at this start: no use in beginning anew at once.
            self.may_try();
        }
        self
    }

    /// Begins a new chain, as another host.
    pub(super) fn begin_chain(&self) {
        *clock::lock(&self.0.links) = Links::default();
    }

    /// The address as stored: `https://NAME:PORT`.
    pub(crate) fn server(&self) -> &str {
        &self.0.server
    }

    /// The identity that is shown; `None` before enrolment.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.0.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another client over another identity of this host, with the same chain.
    pub(super) fn under(&self, identity: &Identity) -> Result<Self, ClientError> {
        let other = Self::enrolled(identity)?;
        *clock::lock(&other.0.links) = Links::after(self.link());
        Ok(other)
    }

    /// Shows this identity from now on. What is under way ends over the former one.
    pub(super) fn change_to(&self, identity: Identity) -> Result<(), ClientError> {
        let http = connection(&self.0.server, tls_of(&identity)?)?;
        *self.0.http.write().unwrap_or_else(PoisonError::into_inner) = http;
        *self.0.identity.write().unwrap_or_else(PoisonError::into_inner) = Some(identity);
        Ok(())
    }

    pub(super) fn attempts(&self) -> &Mutex<Attempts> {
        &self.0.attempts
    }

    /// What this machine was at the last look.
    pub(super) fn facts(&self) -> Option<HostFacts> {
        clock::lock(&self.0.facts).clone()
    }

    /// Notes what this machine is, for when it needs an identity of its own.
    pub(crate) fn note_facts(&self, facts: &HostFacts) {
        *clock::lock(&self.0.facts) = Some(facts.clone());
    }

    /// Link of the last check-in that was answered; empty before the first.
    pub(crate) fn link(&self) -> String {
        clock::lock(&self.0.links).last().to_owned()
    }

    /// Ties the next check-in to the last one.
    pub(crate) fn next_link(&self) -> Option<Chain> {
        clock::lock(&self.0.links).next()
    }

    pub(crate) async fn enrol(&self, request: &EnrolRequest) -> Result<EnrolReply, ClientError> {
        self.post("enrol", request).await
    }

    /// The next certificate of this host.
    pub(super) async fn renew(&self, csr: String) -> Result<RenewReply, ClientError> {
        self.post("renew", &RenewRequest { csr }).await
    }

    /// An identity of its own for this copy of another host.
    pub(super) async fn own_identity(&self, request: &CloneRequest) -> Result<CloneReply, ClientError> {
        self.post("clone", request).await
    }

    /// One check-in. Where the server's certificate is not valid at this host's time, a bare sign of
    /// life tells both sides how far the clocks differ; that is an error nevertheless.
    pub(crate) async fn check_in(&self, request: &CheckIn) -> Result<CheckInReply, ClientError> {
        match self.post("check-in", request).await {
            Err(error @ ClientError::OtherTime { .. }) => Err(self.compare_clocks(request).await.unwrap_or(error)),
            Err(error) => Err(error),
            Ok(reply) => {
                self.answered(request, &reply);
                Ok(reply)
            }
        }
    }

    fn answered(&self, request: &CheckIn, reply: &CheckInReply) -> i64 {
        if let Some(chain) = request.chain.as_ref().filter(|_| !reply.chain_unsettled) {
            clock::lock(&self.0.links).answered(&chain.link);
        }
        let ahead = clock::now().unix_millis().saturating_sub(reply.server_time.unix_millis());
        self.0.clock_ahead.store(ahead, Ordering::Relaxed);
        ahead
    }

    /// How far the clocks differ, as an error; `None` when that cannot be learnt. Nothing is sent but
    /// that this host lives, and the answer is believed only where it fits the certificate: a key that
    /// was stolen long ago cannot pass for the server of today.
    async fn compare_clocks(&self, request: &CheckIn) -> Option<ClientError> {
        let identity = self.identity()?;
        let (config, shown) =
            tls::mutual_whatever_the_time(&identity.authority, &identity.certificate, &identity.key).ok()?;
        let http = connection(&self.0.server, config).ok()?;
        let bare = CheckIn {
            agent_version: request.agent_version.clone(),
            time: clock::now(),
            digests: request.digests.clone(),
            chain: request.chain.clone(),
            facts: None,
            packages: None,
            services: None,
        };
        let reply: CheckInReply = self.post_over(&http, "check-in", &bare).await.ok()?;
        if !shown.covers(reply.server_time) {
            return None;
        }
        let ahead = self.answered(&bare, &reply);
        Some(ClientError::Clock {
            server: self.0.server.clone(),
            apart: words_of(ahead),
            ours: clock::now(),
            theirs: reply.server_time,
        })
    }

    pub(crate) async fn report(&self, report: &Report) -> Result<ReportReply, ClientError> {
        self.post("report", report).await
    }

    pub(crate) async fn log(&self, part: &LogPart) -> Result<LogReply, ClientError> {
        self.post("log", part).await
    }

    /// Long poll: answers when something is new, or after `wait`. No orders are asked for while the
    /// clocks differ: windows and expiry would mean another time than the one that was approved.
    pub(crate) async fn work(&self, after: u64, wait: Duration) -> Result<Work, ClientError> {
        let ahead = self.0.clock_ahead.load(Ordering::Relaxed);
        if ahead.unsigned_abs() > CLOCK_BOUND.as_millis().try_into().unwrap_or(u64::MAX) {
            let ours = clock::now();
            let theirs = Timestamp::from_unix_millis(ours.unix_millis().saturating_sub(ahead));
            return Err(ClientError::Clock { server: self.0.server.clone(), apart: words_of(ahead), ours, theirs });
        }
        let mut url = self.url("work");
        url.set_query(Some(&format!("after={after}&wait={}&link={}", wait.as_secs(), self.link())));
        let request = self.http().request(Method::GET, url).timeout(REQUEST_LIMIT + wait);
        self.send("work", request).await
    }

    fn http(&self) -> reqwest::Client {
        self.0.http.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn url(&self, request: &'static str) -> Url {
        let mut url = self.0.base.clone();
        url.set_path(&format!("/agent/v1/{request}"));
        url
    }

    async fn post<B: Serialize, A: DeserializeOwned>(&self, name: &'static str, body: &B) -> Result<A, ClientError> {
        self.post_over(&self.http(), name, body).await
    }

    async fn post_over<B: Serialize, A: DeserializeOwned>(
        &self,
        http: &reqwest::Client,
        name: &'static str,
        body: &B,
    ) -> Result<A, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::Answer { request: name, why: error.to_string() })?;
        let request = http
            .request(Method::POST, self.url(name))
            .header("content-type", "application/json")
            .timeout(REQUEST_LIMIT)
            .body(body);
        self.send(name, request).await
    }

    async fn send<A: DeserializeOwned>(
        &self,
        name: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<A, ClientError> {
        let response = request.send().await.map_err(|error| self.failure(&error))?;
        let status = response.status();
        let limit = if status.is_success() { LONGEST_ANSWER } else { LONGEST_PROBLEM };
        let body = self.body(name, response, limit).await?;
        if status != StatusCode::OK {
            return Err(refusal(status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| ClientError::Answer { request: name, why: error.to_string() })
    }

    async fn body(
        &self,
        name: &'static str,
        mut response: reqwest::Response,
        limit: usize,
    ) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(ClientError::Answer { request: name, why: format!("it is longer than {limit} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What went wrong below HTTP, told by what the administrator can do about it.
    fn failure(&self, error: &reqwest::Error) -> ClientError {
        let server = self.0.server.clone();
        match rustls_error(error) {
            Some(rustls::Error::InvalidCertificate(certificate)) => match certificate {
                CertificateError::Other(other) if other.0.is::<WrongAuthority>() => {
                    ClientError::TokenOfOtherServer { server }
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    ClientError::OtherAuthority { server }
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    ClientError::OtherName { server, why: certificate.to_string() }
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => {
                    ClientError::OtherTime { server, why: certificate.to_string() }
                }
                other => ClientError::Unreachable { server, why: other.to_string() },
            },
            Some(rustls::Error::AlertReceived(alert)) => ClientError::Refused {
                status: 0,
                kind: problem::CERTIFICATE_REQUIRED.to_owned(),
                title: "it does not accept the certificate of this host".to_owned(),
                detail: format!(
                    "TLS alert {alert:?}; if the server was set up anew, enrol again with a new token and --force"
                ),
            },
            _ => ClientError::Unreachable { server, why: causes(error) },
        }
    }
}

fn tls_of(identity: &Identity) -> Result<ClientConfig, TlsError> {
    tls::mutual(&identity.authority, &identity.certificate, &identity.key)
}

fn connection(server: &str, config: ClientConfig) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .pool_max_idle_per_host(2)
        .user_agent(concat!("fettle-agent/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| ClientError::Unreachable { server: server.to_owned(), why: causes(&error) })
}

/// `3 years behind`, from the milliseconds that this host's clock is ahead.
fn words_of(ahead: i64) -> String {
    let way = if ahead < 0 { "behind" } else { "ahead" };
    format!("{} {way}", span_words(Duration::from_millis(ahead.unsigned_abs())))
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    if problem.kind == problem::CERTIFICATE_EXPIRED_FOR_GOOD {
        return ClientError::ExpiredForGood { detail: bounded(problem.detail) };
    }
    let title = if problem.title.is_empty() { format!("HTTP status {status}") } else { problem.title };
    ClientError::Refused {
        status: status.as_u16(),
        kind: bounded(problem.kind),
        title: bounded(title),
        detail: bounded(problem.detail),
    }
}

/// What others wrote is shown, but neither at length nor with control characters.
fn bounded(text: String) -> String {
    text.chars().filter(|character| !character.is_control()).take(500).collect()
}

/// `https://NAME[:PORT]` and nothing more.
fn address(server: &str) -> Result<Url, ClientError> {
    let wrong = || ClientError::Address(server.chars().take(200).collect());
    let url = Url::parse(server.trim()).map_err(|_| wrong())?;
    let plain = url.scheme() == "https"
        && url.host().is_some()
        && matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if plain { Ok(url) } else { Err(wrong()) }
}

/// The rustls error inside, wherever hyper and std::io wrapped it.
fn rustls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            return rustls_error(inner);
        }
        next = error.source();
    }
    None
}

/// The chain of causes below reqwest's own sentence, which only repeats the address.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last() != Some(&text) {
            texts.push(text);
        }
        next = cause.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_https_address_is_an_address() {
        assert!(address("https://10.0.0.1:8443").is_ok());
        assert!(address("https://patch.example/").is_ok());
        for bad in [
            "",
            "patch.example",
            "http://patch.example",
            "https://u:p@patch.example",
            "https://patch.example/x",
            "https://patch.example?a",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_without_a_document_still_says_something() {
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, b"<html>").to_string(),
            "the server refused: HTTP status 502 Bad Gateway"
        );
        let revoked =
            refusal(StatusCode::FORBIDDEN, br#"{"type":"urn:fettle:problem:host-revoked","title":"Revoked"}"#);
        assert!(revoked.is_revoked());
    }
}
