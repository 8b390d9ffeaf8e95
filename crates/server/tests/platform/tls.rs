//! The handshake: who is let in, and what a refused one can read.

use fettle_domain::HostId;
use fettle_server::clock;
use fettle_testkit::client::tls;
use fettle_testkit::{Client, TestServer};
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Of certificates.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// All causes of an error in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(" / {cause} {cause:?}"));
        next = cause.source();
    }
    text
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_with_an_alert() {
    let (server, other) = (TestServer::start(), TestServer::start());
    let stranger = other.host_certificate(clock::fresh());
    let authority = server.state.identity.authority_pem();
    // Many times: the alert must not be lost in a reset of the connection.
    for _ in 0..20 {
        let client = Client::new(&server.url(), tls(authority, Some(&stranger)));
        let error =
            client.send("POST", "/agent/v1/check-in", "application/json", "x".repeat(100_000)).await.unwrap_err();
        let text = chain(&error);
        assert!(text.contains("AlertReceived(UnknownCA)") || text.contains("AlertReceived(DecryptError)"), "{text}");
    }
    // A certificate of this authority is no passport for the other way round either.
    let client = Client::new(&server.url(), tls(other.state.identity.authority_pem(), None));
    let text = chain(&client.send("GET", "/healthz", "", "").await.unwrap_err());
    assert!(text.contains("InvalidCertificate"), "{text}");
}

#[tokio::test]
async fn the_servers_own_certificate_makes_nobody_a_host() {
    let server = TestServer::start();
    let pem = std::fs::read_to_string(server.data_dir().join("server.pem")).unwrap();
    let key = std::fs::read_to_string(server.data_dir().join("server.key")).unwrap();
    let client = Client::new(&server.url(), tls(server.state.identity.authority_pem(), Some(&(pem, key))));
    assert!(client.send("GET", "/healthz", "", "").await.is_err());
}

#[test]
fn the_chain_shows_the_authority_so_that_it_can_be_pinned() {
    let server = TestServer::start();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut roots = rustls::RootCertStore::empty();
        let config = tls(server.state.identity.authority_pem(), None);
        drop(config);
        use rustls::pki_types::pem::PemObject as _;
        roots
            .add(
                rustls::pki_types::CertificateDer::from_pem_slice(server.state.identity.authority_pem().as_bytes())
                    .unwrap(),
            )
            .unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut connection = rustls::ClientConnection::new(Arc::new(config), "127.0.0.1".try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect(server.announcement.listen).unwrap();
        let mut stream = rustls::Stream::new(&mut connection, &mut socket);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        // The server says close_notify, so the end is no error.
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let chain = connection.peer_certificates().unwrap();
        assert_eq!(chain.len(), 2);
        let digest = ring::digest::digest(&ring::digest::SHA256, &chain[1]);
        assert_eq!(digest.as_ref(), server.state.identity.authority_fingerprint());
    }
}

#[test]
fn a_certificate_names_its_host_and_nothing_that_was_asked_for() {
    let server = TestServer::start();
    let host: HostId = clock::fresh();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut wish = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    wish.distinguished_name.push(rcgen::DnType::CommonName, clock::fresh::<HostId>().to_string());
    wish.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wish.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
    let pem = server.state.identity.issue_client_certificate(&csr, host, clock::now(), LIFE).unwrap().pem;
    use rustls::pki_types::pem::PemObject as _;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(fettle_server::identity::peer_certificate(&der).map(|peer| peer.host), Some(host));
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!parsed.is_ca());
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    assert_eq!(parsed.subject().to_string(), format!("CN={host}"));

    let mut forged = csr.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    for bad in ["", "nonsense", &"x".repeat(100_000), &String::from_utf8(forged).unwrap()] {
        let error = server.state.identity.issue_client_certificate(bad, host, clock::now(), LIFE).unwrap_err();
        assert!(error.to_string().starts_with("the certificate request cannot be used"), "{error}");
    }
}

#[test]
fn noise_and_overlong_headers_hurt_nobody() {
    let server = TestServer::start();
    let mut socket = TcpStream::connect(server.announcement.listen).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // An alert, and the end.
    let _ = socket.read_to_end(&mut answer);
    assert!(answer.len() < 100, "{answer:?}");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let long = server.client().with("x-long", &"x".repeat(60_000));
    assert_eq!(runtime.block_on(long.send("GET", "/healthz", "", "")).unwrap().status, 431);
    assert_eq!(runtime.block_on(server.client().get("/healthz")).status, 200);
}
