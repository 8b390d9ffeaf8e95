//! TLS: which server certificates are believed. Before enrolment the one authority whose fingerprint
//! stands in the token, afterwards the one authority of the identity; the public web's never.

use crate::clock;
use fettle_domain::Timestamp;
use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Keys and certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not what it should be.
    #[error("the {what} cannot be read: {why}")]
    Unreadable {
        /// Which part (`certificate of the authority`).
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// rustls refused the set.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] Error),
}

/// The server shows no certificate of the authority that the token names.
#[derive(Debug, thiserror::Error)]
#[error("the server does not show the authority that the token names")]
pub(crate) struct WrongAuthority;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// sha-256 of a certificate's DER.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Vec<u8> {
    digest(&SHA256, certificate.as_ref()).as_ref().to_vec()
}

/// The only certificate of a PEM text, or the first one.
pub(crate) fn certificate(pem: &str, what: &'static str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| TlsError::Unreadable { what, why: error.to_string() })
}

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|error| TlsError::Unreadable { what, why: error.to_string() })?;
    if all.is_empty() {
        return Err(TlsError::Unreadable { what, why: "it holds no certificate".to_owned() });
    }
    Ok(all)
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| TlsError::Unreadable { what: "key of this host", why: error.to_string() })
}

/// For the first contact: pins the authority, shows no certificate.
pub fn pinned(authority: [u8; 32]) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = PinnedAuthority { authority, provider: provider.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// For all later contacts: only this authority, and our certificate is shown.
pub(crate) fn mutual(authority: &str, own: &str, own_key: &str) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(authority, "certificate of the authority")? {
        roots.add(root)?;
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(own, "certificate of this host")?, key(own_key)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What a certificate that was shown by a server said of its time, when that time is not now.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<Option<Validity>>);

impl Shown {
    /// Whether a moment lies in the time of the certificate that was shown.
    pub(crate) fn covers(&self, moment: Timestamp) -> bool {
        clock::lock(&self.0).is_some_and(|validity| validity.from <= moment && moment <= validity.until)
    }
}

/// As [`mutual`], but the server's certificate may be out of its time: to learn by how far the clocks
/// differ, and for nothing else. Name, authority and signatures count as always.
pub(crate) fn mutual_whatever_the_time(
    authority: &str,
    own: &str,
    own_key: &str,
) -> Result<(ClientConfig, Arc<Shown>), TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(authority, "certificate of the authority")? {
        roots.add(root)?;
    }
    let shown = Arc::new(Shown::default());
    let normal = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(WhateverTheTime { normal, shown: shown.clone() }))
        .with_client_auth_cert(certificates(own, "certificate of this host")?, key(own_key)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, shown))
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// The time of a certificate (PEM).
pub(crate) fn validity(pem: &str) -> Result<Validity, TlsError> {
    let der = certificate(pem, "certificate of this host")?;
    validity_of(&der)
        .ok_or_else(|| TlsError::Unreadable { what: "certificate of this host", why: "it is no X.509".to_owned() })
}

fn validity_of(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let moment = |time: x509_parser::time::ASN1Time| Timestamp::from_unix_millis(time.timestamp().saturating_mul(1000));
    Some(Validity { from: moment(parsed.validity().not_before), until: moment(parsed.validity().not_after) })
}

/// Whether a certificate is for this key.
pub(crate) fn belong_together(own: &str, own_key: &str) -> Result<(), TlsError> {
    let chain = certificates(own, "certificate of this host")?;
    let signing = provider().key_provider.load_private_key(key(own_key)?)?;
    Ok(CertifiedKey::new(chain, signing).keys_match()?)
}

#[derive(Debug)]
struct WhateverTheTime {
    normal: Arc<WebPkiServerVerifier>,
    shown: Arc<Shown>,
}

impl ServerCertVerifier for WhateverTheTime {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let validity = validity_of(end_entity).ok_or(CertificateError::BadEncoding)?;
        *clock::lock(&self.shown.0) = Some(validity);
        let last = u64::try_from(validity.until.unix_seconds()).map_err(|_| CertificateError::BadEncoding)?;
        let then = UnixTime::since_unix_epoch(Duration::from_secs(last));
        self.normal.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, then)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.normal.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.normal.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.normal.supported_verify_schemes()
    }
}

/// Believes a chain when the certificate with the pinned digest is in it, and it alone as the root
/// proves the server's certificate: name, time and signatures included.
#[derive(Debug)]
struct PinnedAuthority {
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| fingerprint(certificate) == self.authority)
            .ok_or_else(|| CertificateError::Other(OtherError(Arc::new(WrongAuthority))))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let normal = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        normal.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
