//! Looks after this host's identity, after each check-in: renews the certificate before it expires
//! (or after a long sleep, within the server's grace), and gives a copy of another host an identity of
//! its own.
//!
//! The next key and certificate stand beside the present ones until they have been used once with
//! success; the former ones count on the server until then. So wherever the agent is stopped, one of
//! the two is good, and the next round goes on: with the same key when there is no certificate yet,
//! with the first use when there is.

use super::client::{Client, ClientError};
use super::identity::Identity;
use super::own;
use super::tls::{self, TlsError};
use crate::clock;
use crate::disk::StateDir;
use crate::disk::files::{self, DiskError};
use crate::disk::state::StateError;
use fettle_domain::Timestamp;
use fettle_wire::agent::{Report, problem};
use std::time::{Duration, Instant};

/// A certificate is renewed when less than this part of its life is left.
const PART: i64 = 3;
/// Between two attempts while the present certificate is good.
const PAUSE: Duration = Duration::from_secs(3600);

/// What became of it.
#[derive(Debug)]
pub(crate) enum Tended {
    /// Everything stays as it is.
    Nothing,
    /// There is a new certificate in use: what was refused may be asked again.
    Renewed,
    /// From the next start on this machine is another host.
    NewIdentity,
    /// The server refused it for a reason that says more than what was refused first.
    Instead(ClientError),
}

/// Why an identity was not renewed. The present one stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewalError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot make a key for this host: {0}")]
    Key(String),
    #[error("the server's answer is refused: {0}")]
    Answer(String),
    #[error("{0}")]
    NotNow(String),
}

/// When the last attempt was.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Option<Instant>);

/// Looks at the outcome of a check-in (the server's time, or why there was none) and does what is due.
pub(crate) async fn tend(client: &Client, state: &StateDir, outcome: Result<Timestamp, &ClientError>) -> Tended {
    let done = match outcome {
        Ok(server_time) => {
            if !client.renewal_is_due(server_time) {
                return Tended::Nothing;
            }
            renew(client, state).await
        }
        Err(error) => match error.problem() {
            problem::CERTIFICATE_EXPIRED => renew(client, state).await,
            // The next certificate was used, and the agent stopped before it had it in place.
            problem::CERTIFICATE_SUPERSEDED => finish_or_own(client, state).await,
            problem::IDENTITY_CLONED => own::ask(client, state).await,
            _ => return Tended::Nothing,
        },
    };
    match (done, outcome) {
        (Ok(tended), _) => tended,
        (Err(RenewalError::Client(error)), Err(_)) => Tended::Instead(error),
        (Err(error), _) => {
            tracing::warn!(error.text = %error, "the identity of this host could not be renewed; tried again later");
            Tended::Nothing
        }
    }
}

impl Client {
    /// Whether it is time, by the server's clock: this host's may be wrong.
    fn renewal_is_due(&self, server_time: Timestamp) -> bool {
        let Some(identity) = self.identity() else { return false };
        let Ok(validity) = tls::validity(&identity.certificate) else { return false };
        let life = validity.until.unix_millis().saturating_sub(validity.from.unix_millis());
        let left = validity.until.unix_millis().saturating_sub(server_time.unix_millis());
        left < life / PART && self.may_try()
    }

    /// Whether an attempt may be made now; notes it as made.
    pub(super) fn may_try(&self) -> bool {
        let mut attempts = clock::lock(self.attempts());
        let may = attempts.0.is_none_or(|last| last.elapsed() >= PAUSE);
        if may {
            attempts.0 = Some(Instant::now());
        }
        may
    }
}

/// The whole way to the next certificate, from wherever it was left.
async fn renew(client: &Client, state: &StateDir) -> Result<Tended, RenewalError> {
    let present = client.identity().ok_or_else(|| RenewalError::NotNow("this host is not enrolled".to_owned()))?;
    tidy(state, &present)?;
    let next = match Identity::load_from(&state.identity_next()) {
        Ok(Some(next)) if is_good(&next) => next,
        // Half of it is as good as nothing: the key alone is found again below.
        _ => ask(client, state, &present).await?,
    };
    use_first(client, state, next).await
}

/// Not one that was asked for in another winter and never used.
fn is_good(next: &Identity) -> bool {
    tls::validity(&next.certificate).is_ok_and(|validity| clock::now() < validity.until)
}

/// Goes on with a next certificate that is there. Without one this machine is a copy, or was set back
/// to a time before the last renewal.
async fn finish_or_own(client: &Client, state: &StateDir) -> Result<Tended, RenewalError> {
    if let Some(next) = Identity::load_from(&state.identity_next())? {
        match use_first(client, state, next).await {
            Err(RenewalError::Client(error)) if error.problem() == problem::CERTIFICATE_SUPERSEDED => {}
            other => return other,
        }
    }
    own::ask(client, state).await
}

/// Asks for it and writes it beside the present one.
async fn ask(client: &Client, state: &StateDir, present: &Identity) -> Result<Identity, RenewalError> {
    let (key, csr) = key_and_request(state)?;
    let reply = client.renew(csr).await?;
    tls::belong_together(&reply.certificate, &key)
        .map_err(|_| RenewalError::Answer("the certificate is not for this host's key".to_owned()))?;
    let next = Identity { certificate: reply.certificate, key, ..present.clone() };
    next.store_in(&state.identity_next())?;
    Ok(next)
}

/// The next key, on disk before anybody hears of it; the same one until it was used.
pub(super) fn key_and_request(state: &StateDir) -> Result<(String, String), RenewalError> {
    let failed = |error: rcgen::Error| RenewalError::Key(error.to_string());
    let path = files::beside(&state.identity_next(), ".key");
    let kept = files::read(&path, 64 << 10)?.and_then(|bytes| String::from_utf8(bytes).ok());
    let key = match kept.and_then(|pem| rcgen::KeyPair::from_pem(&pem).ok()) {
        Some(key) => key,
        None => {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
            files::replace(&path, key.serialize_pem().as_bytes(), 0o600)?;
            key
        }
    };
    let csr = rcgen::CertificateParams::new(Vec::<String>::new())
        .and_then(|params| params.serialize_request(&key))
        .and_then(|request| request.pem())
        .map_err(failed)?;
    Ok((key.serialize_pem(), csr))
}

/// Uses the next certificate once; from then on the server counts on it, so it takes the place of the
/// present one.
async fn use_first(client: &Client, state: &StateDir, next: Identity) -> Result<Tended, RenewalError> {
    let link = client.link();
    match client.under(&next)?.report(&Report { link, entries: Vec::new() }).await {
        Ok(_) => {}
        // Refused for another reason than the certificate: it was believed.
        Err(error) if error.problem() == problem::CHECK_IN_FIRST => {}
        Err(error) => {
            if matches!(error.problem(), problem::CERTIFICATE_SUPERSEDED | problem::CERTIFICATE_REQUIRED) {
                // The server does not know it (it was set back to a back-up): ask for another one next time.
                forget(state)?;
            }
            return Err(error.into());
        }
    }
    next.store(state)?;
    forget(state)?;
    let until = tls::validity(&next.certificate).map(|validity| validity.until)?;
    client.change_to(next)?;
    tracing::info!(certificate.expires_at = %until, "the certificate of this host was renewed");
    Ok(Tended::Renewed)
}

/// Removes what is left beside the identity when the agent was stopped right after it was put in place.
pub(super) fn tidy(state: &StateDir, present: &Identity) -> Result<(), DiskError> {
    let kept = files::read(&files::beside(&state.identity_next(), ".key"), 64 << 10)?;
    if kept.is_some_and(|key| key == present.key.as_bytes()) { forget(state) } else { Ok(()) }
}

/// Nothing is left beside the present identity.
pub(super) fn forget(state: &StateDir) -> Result<(), DiskError> {
    files::remove(&state.identity_next())?;
    files::remove(&files::beside(&state.identity_next(), ".key"))
}
