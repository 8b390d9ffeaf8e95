//! Enrolment: a token becomes an identity. The key is made here and stays here.

use super::client::{Client, ClientError};
use super::identity::{About, Identity};
use super::tls::{self, TlsError};
use super::token::{Token, TokenError};
use crate::clock;
use crate::config::{Config, ConfigError};
use crate::deploy::desk;
use crate::disk::StateDir;
use crate::disk::files::{self, DiskError};
use crate::disk::state::StateError;
use crate::executor::trust::Trust;
use crate::facts;
use fettle_content::PublicKey;
use fettle_domain::HostId;
use fettle_wire::agent::{EnrolReply, EnrolRequest, problem};
use std::path::PathBuf;

/// What `fettle agent enrol` was told.
#[derive(Debug, Clone)]
pub struct EnrolOptions {
    /// `https://NAME:PORT`.
    pub server: String,
    /// The token's whole text.
    pub token: String,
    /// The agent's folder.
    pub state_dir: PathBuf,
    /// The host's file system.
    pub root: PathBuf,
    /// The agent will never change the host.
    pub read_only: bool,
    /// Replace an identity that is there.
    pub force: bool,
}

/// What enrolment gave.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Id of the host.
    pub host: HostId,
    /// Its server.
    pub server: String,
    /// Where the identity stands.
    pub state_dir: PathBuf,
}

/// Why a host was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Not a token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The agent's configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has an identity.
    #[error("this machine is already enrolled as {host} at {server}: give --force to replace that identity")]
    AlreadyEnrolled {
        /// Its id.
        host: HostId,
        /// Its server.
        server: String,
    },
    /// A change of the old identity is half done.
    #[error("a change is under way on this machine ({0}): let `fettle agent run` finish or undo it, then enrol again")]
    ChangeUnderWay(String),
    /// The server does not know the token.
    #[error(
        "the server does not know this token: check that it was pasted whole, or make a new one with `fettle host token create`"
    )]
    TokenUnknown,
    /// No uses left.
    #[error("this token has been used up: make a new one with `fettle host token create`")]
    TokenUsedUp,
    /// Too late.
    #[error("this token has expired: make a new one with `fettle host token create`")]
    TokenExpired,
    /// Everything else between host and server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No key could be made.
    #[error("cannot make a key for this host: {0}")]
    Key(String),
    /// The server's answer contradicts itself or the token.
    #[error("the server's answer is refused: {0}; nothing was stored")]
    Answer(String),
}

impl From<DiskError> for EnrolError {
    fn from(error: DiskError) -> Self {
        EnrolError::State(error.into())
    }
}

impl From<TlsError> for EnrolError {
    fn from(error: TlsError) -> Self {
        EnrolError::Client(error.into())
    }
}

/// Enrols this host. On any error nothing is changed on disk.
pub async fn enrol(options: EnrolOptions) -> Result<Enrolled, EnrolError> {
    let token = Token::parse(&options.token)?;
    let client = Client::pinned(&options.server, token.authority)?;
    let state = StateDir::open(&options.state_dir)?;
    refuse_over_existing(&state, options.force)?;
    let config = Config::load(&state.config())?;
    let (key, csr) = make_key()?;
    let request = EnrolRequest {
        token: token.text.clone(),
        csr,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        facts: facts::collect(&options.root, &config, &facts::PackageSummary::default(), options.read_only),
    };
    let reply = client.enrol(&request).await.map_err(told)?;
    let offer_keys = checked_keys(&reply)?;
    let identity = checked(reply, key, client.server(), &token)?;
    forget_former(&state)?;
    identity.store(&state)?;
    // After the identity: with the former trust and the new identity the agent refuses to run and says why.
    Trust { host: identity.about.host, offer_keys: offer_keys.clone() }.store(&state)?;
    super::own::discard(&state)?;
    tracing::info!(host.id = %identity.about.host, server.address = %identity.about.server, "enrolled");
    Ok(Enrolled { host: identity.about.host, server: identity.about.server, state_dir: options.state_dir })
}

fn refuse_over_existing(state: &StateDir, force: bool) -> Result<(), EnrolError> {
    let former = match Identity::load(state) {
        Ok(Some(former)) => former,
        Ok(None) => return Ok(()),
        // An identity that cannot be read may be replaced, but only on purpose.
        Err(error) if !force => return Err(error.into()),
        Err(_) => return Ok(()),
    };
    if !force {
        return Err(EnrolError::AlreadyEnrolled { host: former.about.host, server: former.about.server });
    }
    match desk::unfinished(state) {
        Some(what) => Err(EnrolError::ChangeUnderWay(what)),
        None => Ok(()),
    }
}

/// Sequences and spool belong to the former identity; another server counts anew.
pub(super) fn forget_former(state: &StateDir) -> Result<(), DiskError> {
    let inventory = [state.acknowledged_digests(), state.acknowledged_packages()];
    for path in [state.sequence(), state.spool(), state.last_contact()].into_iter().chain(inventory) {
        files::remove(&path)?;
    }
    super::renewal::forget(state)
}

/// P-256 because every TLS stack a server may stand behind verifies it.
fn make_key() -> Result<(String, String), EnrolError> {
    let failed = |error: rcgen::Error| EnrolError::Key(error.to_string());
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    // The server decides the subject; what stands in the request is not believed anyway.
    let request = rcgen::CertificateParams::new(Vec::<String>::new())
        .and_then(|params| params.serialize_request(&key))
        .and_then(|request| request.pem())
        .map_err(failed)?;
    Ok((key.serialize_pem(), request))
}

/// The identity, when every part of the answer fits the others and the token.
fn checked(reply: EnrolReply, key: String, server: &str, token: &Token) -> Result<Identity, EnrolError> {
    let authority = tls::certificate(&reply.authority, "certificate of the authority")?;
    if tls::fingerprint(&authority) != token.authority {
        return Err(EnrolError::Answer("it names another authority than the token".to_owned()));
    }
    tls::belong_together(&reply.certificate, &key)
        .map_err(|_| EnrolError::Answer("the certificate is not for this host's key".to_owned()))?;
    let about = About { version: 1, host: reply.host, server: server.to_owned(), enrolled_at: clock::now() };
    let identity = Identity { about, certificate: reply.certificate, authority: reply.authority, key };
    Client::enrolled(&identity)?;
    Ok(identity)
}

/// The keys for orders, when they are keys.
fn checked_keys(reply: &EnrolReply) -> Result<Vec<String>, EnrolError> {
    if reply.offer_keys.is_empty() || reply.offer_keys.len() > 16 {
        return Err(EnrolError::Answer(format!("it names {} keys for orders", reply.offer_keys.len())));
    }
    for key in &reply.offer_keys {
        PublicKey::from_base64(key).map_err(|error| EnrolError::Answer(error.to_string()))?;
    }
    Ok(reply.offer_keys.clone())
}

/// Each refusal with its own words.
fn told(error: ClientError) -> EnrolError {
    match error.problem() {
        problem::TOKEN_UNKNOWN => EnrolError::TokenUnknown,
        problem::TOKEN_USED_UP => EnrolError::TokenUsedUp,
        problem::TOKEN_EXPIRED => EnrolError::TokenExpired,
        _ => EnrolError::Client(error),
    }
}
