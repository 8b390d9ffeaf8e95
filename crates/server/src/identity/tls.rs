//! What the listener shows (a chain that holds the authority, so that agents can pin it) and whom
//! it believes: certificates of our authority or none at all.

use super::{Authority, IdentityError, files};
use fettle_domain::{HostId, Timestamp};
use rcgen::KeyPair;
use ring::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use x509_parser::extensions::GeneralName;

const DAY: u64 = 24 * 3600;
/// Browsers refuse certificates that live longer than 398 days.
const LIFE: Duration = Duration::from_secs(397 * DAY);
/// Renewed when less than this is left.
const RENEW_BEFORE: Duration = Duration::from_secs(60 * DAY);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificate that is shown now; a new one takes its place without a restart.
#[derive(Debug)]
pub(super) struct ServerCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ServerCertificate {
    fn current(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn load_or_create(
        data_dir: &Path,
        authority: &Authority,
        names: &[String],
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let found = match load(data_dir, authority)? {
            Some(found) => found,
            None => make(data_dir, authority, names, now)?,
        };
        let certificate = Self(RwLock::new(Arc::new(found)));
        certificate.renew_when_due(data_dir, authority, names, now)?;
        Ok(certificate)
    }

    pub(super) fn renew_when_due(
        &self,
        data_dir: &Path,
        authority: &Authority,
        names: &[String],
        now: Timestamp,
    ) -> Result<bool, IdentityError> {
        let due = self.current().cert.first().is_none_or(|certificate| is_due(certificate, authority, names, now));
        if due {
            let fresh = Arc::new(make(data_dir, authority, names, now)?);
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(due)
    }
}

/// Near its end (a new one would live longer), or without one of the names.
fn is_due(certificate: &CertificateDer<'_>, authority: &Authority, names: &[String], now: Timestamp) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return true };
    let ends = parsed.validity().not_after.timestamp();
    let limit = now.after(RENEW_BEFORE).unix_seconds().min(authority.ends_at());
    let covered = names_of(&parsed);
    ends < limit || names.iter().any(|name| !covered.contains(name))
}

fn names_of(certificate: &x509_parser::certificate::X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

/// What is on disk, when it is usable with this authority. It can always be made anew, so whatever
/// is wrong with it only means that.
fn load(data_dir: &Path, authority: &Authority) -> Result<Option<CertifiedKey>, IdentityError> {
    let (Some(chain), Some(key)) =
        (files::read(&data_dir.join("server.pem"))?, files::read(&data_dir.join("server.key"))?)
    else {
        return Ok(None);
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let (Ok(chain), Ok(key)) = (chain, PrivateKeyDer::from_pem_slice(&key)) else { return Ok(None) };
    let Ok(key) = provider().key_provider.load_private_key(key) else { return Ok(None) };
    let ours = chain.len() == 2 && chain.last() == Some(authority.certificate());
    let certified = CertifiedKey::new(chain, key);
    Ok((ours && certified.keys_match().is_ok()).then_some(certified))
}

fn make(
    data_dir: &Path,
    authority: &Authority,
    names: &[String],
    now: Timestamp,
) -> Result<CertifiedKey, IdentityError> {
    let failed = |why: String| IdentityError::Make { what: "TLS certificate", why };
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| failed(error.to_string()))?;
    let certificate = authority.issue_server_certificate(names, &key, now, LIFE)?;
    let pem = format!("{}{}", pem_of(&certificate), authority.pem());
    // Key first: a chain without its key is made anew, which costs nothing.
    files::write_private(&data_dir.join("server.key"), key.serialize_pem().as_bytes())?;
    files::write_private(&data_dir.join("server.pem"), pem.as_bytes())?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| failed(error.to_string()))?;
    let signing = provider().key_provider.load_private_key(private).map_err(|error| failed(error.to_string()))?;
    tracing::info!(tls.names = names.join(", "), "made a TLS certificate");
    Ok(CertifiedKey::new(vec![certificate, authority.certificate().clone()], signing))
}

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (position, character) in text.chars().enumerate() {
        if position > 0 && position % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// TLS 1.2 and 1.3; client certificates of our authority, or none.
pub(super) fn server_config(
    authority: &Authority,
    certificate: Arc<ServerCertificate>,
) -> Result<ServerConfig, IdentityError> {
    let failed = |why: String| IdentityError::Make { what: "TLS configuration", why };
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).map_err(|error| failed(error.to_string()))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_client_cert_verifier(Arc::new(AlsoExpired(verifier)))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Resumption keeps nothing here: the state is in the ticket, sealed with a key of this process.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| failed(error.to_string()))?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// Lets a certificate in whose time is over, and nothing else that is wrong with it: a host that slept
/// long must be able to say who it is. What it may ask then is not decided here: whoever takes requests
/// looks at [`PeerCertificate::expires_at`], at each request.
#[derive(Debug)]
struct AlsoExpired(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AlsoExpired {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                let end = last_moment(end_entity).ok_or(CertificateError::BadEncoding)?;
                self.0.verify_client_cert(end_entity, intermediates, end)
            }
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }
}

fn last_moment(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let end = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(end)))
}

/// Who a client certificate of our authority is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The host.
    pub host: HostId,
    /// sha-256 of the public key (SubjectPublicKeyInfo).
    pub key: [u8; 32],
    /// When it expires; that may be over.
    pub expires_at: Timestamp,
}

/// Reads a verified client certificate.
pub fn peer_certificate(certificate: &CertificateDer<'_>) -> Option<PeerCertificate> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, parsed.public_key().raw).as_ref());
    Some(PeerCertificate {
        host: name.as_str().ok()?.parse().ok()?,
        key,
        expires_at: Timestamp::from_unix_millis(parsed.validity().not_after.timestamp().saturating_mul(1000)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_renewed_before_its_end_and_never_outlives_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_unix_millis(1_764_000_000_000);
        let later = |days: u64| start.after(Duration::from_secs(days * DAY));
        let names = ["localhost".to_owned()];
        let authority = Authority::load_or_create(folder.path(), start).unwrap();
        let certificate = ServerCertificate::load_or_create(folder.path(), &authority, &names, start).unwrap();
        let renew = |days| certificate.renew_when_due(folder.path(), &authority, &names, later(days)).unwrap();
        assert_eq!((renew(0), renew(336)), (false, false));
        assert!(renew(338), "less than 60 days are left");
        assert!(!renew(338));
        assert!(renew(3600));
        let shown = certificate.current();
        let (_, parsed) = x509_parser::parse_x509_certificate(shown.cert.first().unwrap()).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(authority.certificate()).unwrap();
        assert_eq!(parsed.validity().not_after, root.validity().not_after);
        // What is on disk is what is shown.
        let again = ServerCertificate::load_or_create(folder.path(), &authority, &names, later(3600)).unwrap();
        assert_eq!(again.current().cert, shown.cert);
    }
}
