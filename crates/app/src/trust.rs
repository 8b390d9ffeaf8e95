//! The first sign-in to a server: a person compares what it shows with what it printed at its start, and
//! says whether to trust it. Nothing is sent before that: the connection ends with the certificates.

use crate::failure::Failure;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Longest wait for the certificates.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks whether to trust what the server shows; the fingerprint of its authority.
pub async fn ask(server: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("the authority of {server} is not known yet, and nobody is here to be asked")).advise(
            "Name the fingerprint that the server prints at its start (--ca-fingerprint), or on its own machine its data directory (--data).",
        ));
    }
    let authority = shown(server).await?;
    let fingerprint = fettle_content::sha256_hex(&authority);
    let mut error = std::io::stderr();
    write!(
        error,
        "The authority of {server} is not known yet. It shows the one with this sha-256:\n  {}\n\
         Compare it with the line `Authority` that the server printed at its start, or on the server with\n  \
         openssl x509 -noout -fingerprint -sha256 -in authority.pem   (in its data directory)\n\
         Trust this server? [y/N] ",
        colons(&fingerprint)
    )?;
    error.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(fingerprint);
    }
    Err(Failure::failed(format!("{server} is not trusted: nothing was sent to it")).advise(
        "If the two differ, somebody sits in between, or it is another server than you think. If you cannot compare them, ask who runs it.",
    ))
}

/// As the server prints it: `28:49:26:…`.
fn colons(hex: &str) -> String {
    let digits: Vec<char> = hex.to_ascii_uppercase().chars().collect();
    digits.chunks(2).map(|pair| pair.iter().collect::<String>()).collect::<Vec<_>>().join(":")
}

/// The certificate of the authority that a server shows.
async fn shown(server: &str) -> Result<CertificateDer<'static>, Failure> {
    let chain = Arc::new(Chain(OnceLock::new()));
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Failure::failed)?
        .dangerous()
        .with_custom_certificate_verifier(chain.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(Failure::failed)?;
    let refused = http.get(server).send().await;
    match (chain.0.get().and_then(|chain| chain.last()), refused) {
        (Some(authority), _) => Ok(authority.clone()),
        (None, Err(error)) if chain.0.get().is_none() => Err(Failure::new(6, format!("cannot reach {server}: {}", crate::client::chain(&error)))
            .advise("Is the server running, and is the address right? (fettle server run prints it)")),
        (None, _) => Err(Failure::failed(format!("{server} shows no authority of its own: it is no Fettle server"))
            .advise("Sign in at the address that the server prints at its start. What ends its TLS for it (a proxy) cannot be used.")),
    }
}

/// Notes the certificates behind the server's own, and refuses: nobody trusts them yet.
#[derive(Debug)]
struct Chain(OnceLock<Vec<CertificateDer<'static>>>);

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // One connection is made; of a second one nothing would be believed either.
        let _ = self.0.set(intermediates.iter().map(|certificate| certificate.clone().into_owned()).collect());
        Err(Error::General("nobody was asked yet".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("nobody was asked yet".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("nobody was asked yet".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
