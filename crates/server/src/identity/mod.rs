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
pub use tls::peer_host;

use crate::clock;
use fettle_content::SigningKey;
use fettle_domain::HostId;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tls::ServerCertificate;

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
    /// subject is the host's id.
    pub fn issue_client_certificate(&self, csr_pem: &str, host: HostId) -> Result<String, IdentityError> {
        self.authority.issue_client_certificate(csr_pem, host, clock::now())
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
