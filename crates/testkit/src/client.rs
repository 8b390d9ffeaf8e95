//! A plain HTTP client over TLS that trusts the test's authority and shows whatever it was given.

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A certificate and its key, both PEM.
pub type ClientCertificate = (String, String);

/// TLS that trusts one authority and shows a certificate, or none.
pub fn tls(authority_pem: &str, certificate: Option<&ClientCertificate>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority_pem.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match certificate {
        None => builder.with_no_client_auth(),
        Some((pem, key)) => {
            let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    }
}

/// Asks one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    tls: rustls::ClientConfig,
    base: String,
    headers: HeaderMap,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null when it is none.
    pub json: Value,
}

impl Reply {
    /// The stable type of a problem document without its prefix; empty when it is none.
    pub fn problem(&self) -> &str {
        self.json["type"].as_str().and_then(|kind| kind.strip_prefix("urn:fettle:problem:")).unwrap_or_default()
    }

    /// The JSON of a success; panics with the whole answer otherwise.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self.json
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// For `https://…`.
    pub fn new(base: &str, tls: rustls::ClientConfig) -> Self {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .build()
            .unwrap();
        Self { http, tls, base: base.to_owned(), headers: HeaderMap::new() }
    }

    /// The same with new connections: after a restart of the server the kept ones are dead.
    #[must_use]
    pub fn reconnected(&self) -> Self {
        Self { headers: self.headers.clone(), ..Self::new(&self.base, self.tls.clone()) }
    }

    /// The same with a header on every request.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        self
    }

    /// The same with an API token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// A request with a body of any kind.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Result<Reply, reqwest::Error> {
        let mut request = self
            .http
            .request(method.parse::<Method>().unwrap(), format!("{}{path}", self.base))
            .headers(self.headers.clone());
        if !content_type.is_empty() {
            request = request.header("content-type", content_type).body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, headers, text, json })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", "").await.unwrap()
    }

    /// Any method with a JSON body.
    pub async fn json(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(method, path, "application/json", body.to_string()).await.unwrap()
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.json("POST", path, body).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, "", "").await.unwrap()
    }

    /// The status line and headers only, for streams.
    pub async fn open(&self, method: &str, path: &str) -> u16 {
        let request = self
            .http
            .request(method.parse::<Method>().unwrap(), format!("{}{path}", self.base))
            .headers(self.headers.clone());
        request.send().await.unwrap().status().as_u16()
    }
}
