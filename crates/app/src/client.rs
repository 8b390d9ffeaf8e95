//! The REST API's client: one server, whose authority is pinned by its fingerprint.

use crate::credentials::{self, Credentials};
use crate::failure::Failure;
use reqwest::{Method, Response};
use serde_json::Value;
use std::time::Duration;

/// Longest answer.
const ANSWER: usize = 64 << 20;
/// Longest wait for one.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest silence in a stream; the server gives a sign of life every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// A client of one server.
pub struct Client {
    http: reqwest::Client,
    server: String,
    token: Option<String>,
}

impl Client {
    /// With the kept sign-in.
    pub fn signed_in() -> Result<Self, Failure> {
        let Credentials { server, authority, token, .. } = credentials::load()?;
        let mut client = Self::pinned(&server, &authority)?;
        client.token = Some(token);
        Ok(client)
    }

    /// Without a sign-in; the authority must have this sha-256 (hex, colons allowed).
    pub fn pinned(server: &str, authority: &str) -> Result<Self, Failure> {
        let pin = fingerprint(authority)?;
        let config = fettle_agent::pinned_tls(pin).map_err(Failure::failed)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("fettle/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::failed(chain(&error)))?;
        Ok(Self { http, server: server.trim_end_matches('/').to_owned(), token: None })
    }

    /// GET.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        self.ask(Method::GET, path, query, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::POST, path, &[], Some(body)).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask(Method::PATCH, path, &[], Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::DELETE, path, &[], None).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let answer = self.send(method, path, query, body, Some(PATIENCE)).await?;
        let bytes = read(answer, &self.server).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::failed(format!("{} sent no JSON: {error}", self.server)))
    }

    /// A stream of server-sent events behind a number: `each` gets event name and data, and says whether to go on.
    pub async fn events(
        &self,
        path: &str,
        after: u64,
        mut each: impl FnMut(&str, &str) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let silent = |_| Failure::new(6, format!("{} has been silent for {} s", self.server, SILENCE.as_secs()));
        let query = [("after", after.to_string())];
        let asked = self.send(Method::GET, path, &query, None, None);
        let mut answer = tokio::time::timeout(SILENCE, asked).await.map_err(silent)??;
        let mut buffer: Vec<u8> = Vec::new();
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let chunk = tokio::time::timeout(SILENCE, answer.chunk()).await.map_err(silent)?;
            let Some(chunk) = chunk.map_err(|error| self.unreachable(&error))? else { return Ok(()) };
            buffer.extend_from_slice(&chunk);
            if buffer.len() > ANSWER {
                return Err(Failure::failed(format!("{} sends a line without end", self.server)));
            }
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end_matches(['\r', '\n']);
                if let Some(text) = line.strip_prefix("event:") {
                    name = text.trim_start().to_owned();
                } else if let Some(text) = line.strip_prefix("data:") {
                    data.push_str(text.strip_prefix(' ').unwrap_or(text));
                } else if line.is_empty() && !data.is_empty() {
                    let go_on = each(&name, &data)?;
                    name.clear();
                    data.clear();
                    if !go_on {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
        limit: Option<Duration>,
    ) -> Result<Response, Failure> {
        let mut url = format!("{}/api/v1{path}", self.server);
        for (index, (name, value)) in query.iter().enumerate() {
            url.push_str(if index == 0 { "?" } else { "&" });
            url.push_str(&format!("{name}={}", escape(value)));
        }
        let mut request = self.http.request(method, url);
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let bytes = read(answer, &self.server).await?;
        Err(Failure::of_problem(status, &serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let causes = chain(error);
        let advice = if causes.contains("authority") || causes.contains("certificate") {
            "The server shows another certificate authority than the one you trust. If it was set up anew, sign in again with the fingerprint that it prints at its start; else somebody sits in between."
        } else {
            "Is the server running, and is the address right? (fettle server run prints it)"
        };
        Failure::new(6, format!("cannot reach {}: {causes}", self.server)).advise(advice)
    }
}

async fn read(mut answer: Response, server: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| Failure::new(6, format!("{server} broke off: {}", chain(&error))))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER {
            return Err(Failure::failed(format!("{server} answers with more than {} MB", ANSWER >> 20))
                .advise("Ask for less: --limit"));
        }
    }
    Ok(bytes)
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Percent-encodes a part of a path or query.
pub fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The 32 bytes of a fingerprint in hex, with or without colons.
pub fn fingerprint(text: &str) -> Result<[u8; 32], Failure> {
    let wrong = || {
        Failure::usage(format!("`{text}` is no fingerprint"))
            .advise("It has 64 hexadecimal digits, as `fettle server run` prints them (colons are fine).")
    };
    let digits: Vec<u32> = text
        .trim_start_matches("sha256:")
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |sum, digit| sum * 16 + u8::try_from(*digit).unwrap_or(0)))
        .collect();
    if digits.len() != 64 {
        return Err(wrong());
    }
    bytes.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_with_and_without_colons() {
        let plain = "00ff".repeat(16);
        let colons: String = plain
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).into_owned())
            .collect::<Vec<_>>()
            .join(":");
        assert_eq!(fingerprint(&plain).unwrap(), fingerprint(&colons).unwrap());
        assert!(fingerprint("abc").is_err());
        assert!(fingerprint(&"zz".repeat(32)).is_err());
    }

    #[test]
    fn parts_of_addresses_are_escaped() {
        assert_eq!(escape("a b/ü"), "a%20b%2F%C3%BC");
    }
}
