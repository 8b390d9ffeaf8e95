//! One GET over plain HTTP/1.1 (RFC 9112), no more than a health check needs: no redirects, no
//! cookies, no compression, a limit of time for all of it and of bytes for what is read.

use fettle_domain::health::Seen;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest head of an answer, and what is read of its body.
const MOST_HEAD: usize = 16 << 10;
const MOST_BODY: usize = 256 << 10;
const CHUNK: usize = 8 << 10;

/// What is asked, and what the answer must be.
pub(super) struct Request<'a> {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) path: &'a str,
    pub(super) host: &'a Option<String>,
    pub(super) status: Option<u16>,
    pub(super) contains: &'a Option<String>,
    pub(super) limit: Duration,
}

/// Asks once.
pub(super) fn get(request: &Request<'_>) -> Seen {
    let begun = Instant::now();
    let asked = format!("GET http://{}{}", SocketAddr::new(request.address, request.port), request.path);
    match exchange(request, begun + request.limit) {
        Ok(answer) => answer.judge(request, &asked, begun.elapsed()),
        Err(why) => Seen::fails(format!("{asked}: {why}")),
    }
}

struct Answer {
    status: u16,
    found: bool,
    /// Not all of the body was read.
    cut: bool,
}

impl Answer {
    fn judge(&self, request: &Request<'_>, asked: &str, took: Duration) -> Seen {
        let took = took.as_millis();
        let good = match request.status {
            Some(wanted) => self.status == wanted,
            None => (200..300).contains(&self.status),
        };
        if !good {
            let wanted = request.status.map_or("200 to 299".to_owned(), |status| status.to_string());
            let redirect = if (300..400).contains(&self.status) { "; redirects are not followed" } else { "" };
            return Seen::fails(format!("{asked} answered {} in {took} ms, wanted is {wanted}{redirect}", self.status));
        }
        match request.contains {
            Some(text) if !self.found => {
                let part = if self.cut { format!(" in its first {MOST_BODY} bytes") } else { String::new() };
                Seen::fails(format!("{asked} answered {} without `{text}`{part}", self.status))
            }
            Some(text) => Seen::holds(format!("{asked} answered {} with `{text}` in {took} ms", self.status)),
            None => Seen::holds(format!("{asked} answered {} in {took} ms", self.status)),
        }
    }
}

fn exchange(request: &Request<'_>, end: Instant) -> Result<Answer, String> {
    let socket = SocketAddr::new(request.address, request.port);
    let mut stream =
        TcpStream::connect_timeout(&socket, left(end)?).map_err(|error| format!("no connection: {error}"))?;
    let host = request.host.clone().unwrap_or_else(|| socket.to_string());
    let text = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fettle-health\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        request.path
    );
    stream
        .set_write_timeout(Some(left(end)?))
        .and_then(|()| stream.write_all(text.as_bytes()))
        .map_err(|error| format!("cannot send: {error}"))?;
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            break at;
        }
        if bytes.len() >= MOST_HEAD {
            return Err(format!("the head of the answer is longer than {MOST_HEAD} bytes"));
        }
        if !read_more(&mut stream, &mut bytes, end)? {
            return Err("the connection was closed before an answer".to_owned());
        }
    };
    let head = String::from_utf8_lossy(bytes.get(..head_end).unwrap_or_default()).into_owned();
    let status = status_of(&head).ok_or_else(|| "the answer is no HTTP".to_owned())?;
    let Some(wanted) = request.contains else { return Ok(Answer { status, found: false, cut: false }) };
    let mut body = Body::of(&head, bytes.split_off((head_end + 4).min(bytes.len())));
    loop {
        let text = body.text();
        if find(&text, wanted.as_bytes()).is_some() {
            return Ok(Answer { status, found: true, cut: false });
        }
        if body.is_whole() {
            return Ok(Answer { status, found: false, cut: false });
        }
        if body.raw.len() >= MOST_BODY {
            return Ok(Answer { status, found: false, cut: true });
        }
        if !read_more(&mut stream, &mut body.raw, end)? {
            return Ok(Answer { status, found: false, cut: false });
        }
    }
}

/// Time that is left; `Err` when there is none: a zero would mean "for ever".
fn left(end: Instant) -> Result<Duration, String> {
    let left = end.saturating_duration_since(Instant::now());
    if left < Duration::from_millis(1) { Err(too_slow()) } else { Ok(left) }
}

fn too_slow() -> String {
    "no whole answer within the time limit".to_owned()
}

/// Reads some; false at the end.
fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>, end: Instant) -> Result<bool, String> {
    use std::io::ErrorKind as K;
    let mut buffer = [0_u8; CHUNK];
    loop {
        stream.set_read_timeout(Some(left(end)?)).map_err(|error| error.to_string())?;
        match stream.read(&mut buffer) {
            Ok(length) => {
                bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
                return Ok(length > 0);
            }
            Err(error) if error.kind() == K::Interrupted => {}
            Err(error) if matches!(error.kind(), K::WouldBlock | K::TimedOut) => return Err(too_slow()),
            Err(error) => return Err(format!("the connection broke: {error}")),
        }
    }
}

fn status_of(head: &str) -> Option<u16> {
    let mut words = head.lines().next()?.split(' ');
    let version = words.next()?;
    let status = words.next()?;
    (version.starts_with("HTTP/1.") && status.len() == 3).then(|| status.parse().ok())?
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len().max(1)).position(|window| window == wanted)
}

/// A body as it comes in.
struct Body {
    raw: Vec<u8>,
    chunked: bool,
    length: Option<usize>,
}

impl Body {
    fn of(head: &str, raw: Vec<u8>) -> Self {
        let header = |wanted: &str| {
            head.lines().skip(1).find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_ascii_lowercase())
            })
        };
        let chunked = header("transfer-encoding").is_some_and(|value| value.ends_with("chunked"));
        Self { raw, chunked, length: header("content-length").and_then(|value| value.parse().ok()) }
    }

    /// What has come so far, without the marks of its chunks.
    fn text(&self) -> std::borrow::Cow<'_, [u8]> {
        if self.chunked { chunks(&self.raw).0.into() } else { self.raw.as_slice().into() }
    }

    fn is_whole(&self) -> bool {
        if self.chunked { chunks(&self.raw).1 } else { self.length.is_some_and(|length| self.raw.len() >= length) }
    }
}

/// The content of the chunks so far, and whether the last has come.
fn chunks(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    while let Some(line) = find(raw, b"\r\n") {
        let size = raw.get(..line).unwrap_or_default();
        let size = String::from_utf8_lossy(size);
        let size = size.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else { return (text, true) };
        if size == 0 {
            return (text, true);
        }
        let rest = raw.get(line + 2..).unwrap_or_default();
        text.extend_from_slice(rest.get(..size.min(rest.len())).unwrap_or_default());
        match rest.get(size.saturating_add(2)..) {
            Some(next) => raw = next,
            None => return (text, false),
        }
    }
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(chunks(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), (b"abcde".to_vec(), true));
        assert_eq!(chunks(b"3\r\nab"), (b"ab".to_vec(), false));
        assert_eq!(chunks(b""), (vec![], false));
        assert_eq!(chunks(b"zz\r\nab"), (vec![], true));
        assert_eq!(chunks(b"ffffffffffffffff\r\nab"), (b"ab".to_vec(), false));
    }

    #[test]
    fn only_http_has_a_status() {
        assert_eq!(status_of("HTTP/1.1 204 No Content\r\nX: y"), Some(204));
        for other in ["", "HTTP/1.1", "HTTP/2 200", "SSH-2.0-x 200", "HTTP/1.1 20x OK", "HTTP/1.1 2000 OK"] {
            assert_eq!(status_of(other), None, "{other}");
        }
    }
}
