//! The certificate authority: P-256, ten years, signs this server's certificate and the hosts'.

use super::{IdentityError, files};
use fettle_domain::{HostId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SerialNumber,
};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;

/// Clocks of hosts may be this far behind.
const SKEW: Duration = Duration::from_secs(24 * 3600);
const DAY: u64 = 24 * 3600;
/// Ten years.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3653 * DAY);
/// Longest certificate request; real ones have about 500 bytes.
const LONGEST_REQUEST: usize = 16 << 10;

/// The authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    not_after: OffsetDateTime,
}

impl Authority {
    pub(super) fn load_or_create(data_dir: &Path, now: Timestamp) -> Result<Self, IdentityError> {
        let (certificate_path, key_path) = (data_dir.join("authority.pem"), data_dir.join("authority.key"));
        let unreadable = |why: String| IdentityError::Unreadable { path: certificate_path.clone(), why };
        match (files::read_text(&certificate_path)?, files::read_text(&key_path)?) {
            (Some(pem), Some(key)) => {
                let key = KeyPair::from_pem(&key)
                    .map_err(|error| IdentityError::Unreadable { path: key_path.clone(), why: error.to_string() })?;
                Self::from_parts(pem, key).map_err(unreadable)
            }
            // The certificate is written last: a key alone is left by a crash between the two.
            (None, _) => {
                let (pem, key) = make(now)?;
                files::write_private(&key_path, key.serialize_pem().as_bytes())?;
                files::write_private(&certificate_path, pem.as_bytes())?;
                Self::from_parts(pem, key).map_err(unreadable)
            }
            (Some(_), None) => Err(IdentityError::Half { present: certificate_path, missing: key_path }),
        }
    }

    fn from_parts(pem: String, key: KeyPair) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|error| error.to_string())?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err("the certificate is not for the key in authority.key".to_owned());
        }
        let not_after = parsed.validity().not_after.to_datetime();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { issuer, certificate, pem, not_after })
    }

    pub(super) fn issue_client_certificate(
        &self,
        csr_pem: &str,
        host: HostId,
        now: Timestamp,
        life: Duration,
    ) -> Result<String, IdentityError> {
        let refused = |why: String| IdentityError::Request { why };
        let mut request = read_request(csr_pem)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&host.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = moment(now) - SKEW;
        params.not_after = (moment(now) + life).min(self.not_after);
        request.params = params;
        let certificate = request.signed_by(&self.issuer).map_err(|error| refused(error.to_string()))?;
        Ok(certificate.pem())
    }

    /// A certificate for the server itself, at most as long as the authority. DER.
    pub(super) fn issue_server_certificate(
        &self,
        names: &[String],
        key: &KeyPair,
        now: Timestamp,
        life: Duration,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let failed = |error: rcgen::Error| IdentityError::Make { what: "TLS certificate", why: error.to_string() };
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = common_name("fettle server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial()?);
        params.not_before = moment(now) - SKEW;
        params.not_after = (moment(now) + life).min(self.not_after);
        params.signed_by(key, &self.issuer).map(|certificate| certificate.der().clone()).map_err(failed)
    }

    /// PEM of the certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// DER of the certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// When it ends, in Unix seconds.
    pub(super) fn ends_at(&self) -> i64 {
        self.not_after.unix_timestamp()
    }

    /// sha-256 of the DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &self.certificate).as_ref());
        bytes
    }
}

/// Reads a request and checks that it is signed with its own key.
fn read_request(csr_pem: &str) -> Result<CertificateSigningRequestParams, IdentityError> {
    let refused = |why: String| IdentityError::Request { why };
    if csr_pem.len() > LONGEST_REQUEST {
        return Err(refused(format!("it is longer than {LONGEST_REQUEST} bytes")));
    }
    CertificateSigningRequestParams::from_pem(csr_pem).map_err(|error| refused(error.to_string()))
}

/// sha-256 of the public key (SubjectPublicKeyInfo) of a request.
pub(super) fn key_of_request(csr_pem: &str) -> Result<[u8; 32], IdentityError> {
    let request = read_request(csr_pem)?;
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, &request.public_key.subject_public_key_info()).as_ref());
    Ok(key)
}

fn make(now: Timestamp) -> Result<(String, KeyPair), IdentityError> {
    let failed = |error: rcgen::Error| IdentityError::Make { what: "certificate authority", why: error.to_string() };
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    // A part of the key's digest in the name: certificates of two servers are told apart by issuer.
    let mark: String =
        digest(&SHA256, key.public_key_raw()).as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = common_name(&format!("Fettle authority {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(serial()?);
    params.not_before = moment(now) - SKEW;
    params.not_after = moment(now) + AUTHORITY_LIFE;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn serial() -> Result<SerialNumber, IdentityError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IdentityError::Make { what: "serial number", why: "the system's random source refused".into() })?;
    // Positive and without leading zeros, as DER wants it.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn moment(now: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(now.unix_seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
