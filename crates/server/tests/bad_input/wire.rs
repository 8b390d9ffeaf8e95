//! Bytes over TLS without an HTTP client between: bodies that are cut, or that drip.

use fettle_testkit::TestServer;
use fettle_testkit::client::{ClientCertificate, tls};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const LIMIT: Duration = Duration::from_secs(30);

/// A connection with or without a certificate.
pub struct Wire(TlsStream<TcpStream>);

impl Wire {
    pub async fn open(server: &TestServer, certificate: Option<&ClientCertificate>) -> Self {
        let connector = TlsConnector::from(Arc::new(tls(server.state.identity.authority_pem(), certificate)));
        let tcp = TcpStream::connect(server.announcement.listen).await.unwrap();
        Self(connector.connect(ServerName::try_from("127.0.0.1").unwrap(), tcp).await.unwrap())
    }

    /// What ends a connection with this certificate: the server's alert, in the words of TLS.
    ///
    /// In TLS 1.3 the client has finished before the server has looked at its certificate, so the alert
    /// comes with the first answer. (An HTTP client may find the connection closed and not say why.)
    pub async fn alert(server: &TestServer, certificate: &ClientCertificate, request: &str) -> String {
        let mut wire = Self::open(server, Some(certificate)).await;
        wire.write(format!("{request} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(LIMIT, wire.0.read_to_end(&mut answer)).await.expect("the server hangs up");
        let error = read.expect_err("the connection ends with an alert");
        assert!(answer.is_empty(), "no byte of an answer");
        error.to_string()
    }

    /// The head of a POST that promises `length` bytes, and the first of them.
    pub async fn post(&mut self, path: &str, length: usize, first: &str) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{first}"
        );
        self.0.write_all(head.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Our half ends; what the server still says until it hangs up.
    pub async fn end(mut self) -> String {
        self.0.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A peer that resets has said all it wanted to say.
        let _ = tokio::time::timeout(LIMIT, self.0.read_to_end(&mut answer)).await.expect("the server hangs up");
        String::from_utf8_lossy(&answer).into_owned()
    }
}
