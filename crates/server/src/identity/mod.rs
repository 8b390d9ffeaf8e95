//! Who the server is: its certificate authority, its TLS certificate and the key that signs offers,
//! all in the data directory, readable by the server alone. Several servers over one PostgreSQL
//! share them: copy the folder.

mod authority;
mod error;
mod files;
mod names;
mod tls;

pub use authority::Authority;
pub use error::IdentityError;
pub use files::prepare_data_dir;
pub(crate) use names::is_name;
pub use names::server_names;
pub use tls::{PeerCertificate, peer_certificate};

use crate::clock;
use fettle_content::SigningKey;
use fettle_domain::{HostId, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tls::ServerCertificate;

/// A certificate that was just made for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificate {
    /// The certificate.
    pub pem: String,
    /// sha-256 of its public key (SubjectPublicKeyInfo).
    pub key: [u8; 32],
    /// When it expires.
    pub expires_at: Timestamp,
}

/// All of it, loaded.
pub struct Identity {
    authority: Authority,
    certificate: Arc<ServerCertificate>,
    data_dir: PathBuf,
    /// Signs the offers that agents obey.
    pub offer_key: SigningKey,
}

impl Identity {
    /// Loads what is there and makes what is not. `names` are the DNS names and addresses that the
    /// TLS certificate must cover.
    pub fn load_or_create(data_dir: &Path, names: &[String]) -> Result<Self, IdentityError> {
        let now = clock::now();
        let authority = Authority::load_or_create(data_dir, now)?;
        let certificate = Arc::new(ServerCertificate::load_or_create(data_dir, &authority, names, now)?);
        let offer_key = load_offer_key(data_dir)?;
        Ok(Self { authority, certificate, data_dir: data_dir.to_owned(), offer_key })
    }

    /// A client certificate for a host from its request: only the key of the request is used, the
    /// subject is the host's id. It lives for `life` from `now` on, at most as long as the authority.
    pub fn issue_client_certificate(
        &self,
        csr_pem: &str,
        host: HostId,
        now: Timestamp,
        life: Duration,
    ) -> Result<HostCertificate, IdentityError> {
        let pem = self.authority.issue_client_certificate(csr_pem, host, now, life)?;
        let unreadable = |why: String| IdentityError::Make { what: "certificate of a host", why };
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
        let peer = peer_certificate(&der).ok_or_else(|| unreadable("it names no host".to_owned()))?;
        Ok(HostCertificate { pem, key: peer.key, expires_at: peer.expires_at })
    }

    /// sha-256 of the public key (SubjectPublicKeyInfo) of a certificate request.
    pub(crate) fn key_of_request(&self, csr_pem: &str) -> Result<[u8; 32], IdentityError> {
        authority::key_of_request(csr_pem)
    }

    /// Certificate of the authority.
    pub fn authority_pem(&self) -> &str {
        self.authority.pem()
    }

    /// sha-256 of the authority's certificate (DER): what enrolment tokens pin.
    pub fn authority_fingerprint(&self) -> [u8; 32] {
        self.authority.fingerprint()
    }

    /// Makes a new TLS certificate when the present one is near its end or lacks a name. Whether it did.
    pub fn renew(&self, names: &[String]) -> Result<bool, IdentityError> {
        let days_left = (self.authority.ends_at() - clock::now().unix_seconds()) / (24 * 3600);
        if days_left < 365 {
            tracing::warn!(
                authority.days_left = days_left,
                "the certificate authority ends soon: plan a new server and enrol the hosts there"
            );
        }
        self.certificate.renew_when_due(&self.data_dir, &self.authority, names, clock::now())
    }

    /// What the listener shows and whom it believes.
    pub(crate) fn tls_config(&self) -> Result<rustls::ServerConfig, IdentityError> {
        tls::server_config(&self.authority, self.certificate.clone())
    }
}

fn load_offer_key(data_dir: &Path) -> Result<SigningKey, IdentityError> {
    let path = data_dir.join("offer.key");
    let bytes = match files::read(&path)? {
        Some(bytes) => bytes,
        None => {
            let bytes = SigningKey::generate()
                .map_err(|error| IdentityError::Make { what: "offer key", why: error.to_string() })?;
            files::write_private(&path, &bytes)?;
            bytes
        }
    };
    SigningKey::from_pkcs8(&bytes).map_err(|error| IdentityError::Unreadable { path, why: error.to_string() })
}
