//! Server-sent events (HTML standard, section 9.2) as a body: a task writes, the connection reads. When
//! the reader goes away the task ends.

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use hyper::body::Frame;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces that wait for a slow reader; then the writer waits.
const WAITING: usize = 16;
/// A comment is sent after so much silence, so that both ends notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Where the writer puts events.
pub(super) struct Sender(mpsc::Sender<Bytes>);

impl Sender {
    /// Sends one event. `false`: nobody reads any more.
    pub(super) async fn event(&self, id: u64, kind: &str, json: &str) -> bool {
        // JSON carries no line break, so one `data:` line is enough.
        self.0.send(Bytes::from(format!("id: {id}\nevent: {kind}\ndata: {json}\n\n"))).await.is_ok()
    }

    /// Waits for `work`, with signs of life meanwhile. `None`: nobody reads any more.
    pub(super) async fn alive<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                answer = &mut work => return Some(answer),
                () = self.0.closed() => return None,
                () = tokio::time::sleep(KEEP_ALIVE) => self.0.send(Bytes::from_static(b": alive\n\n")).await.ok()?,
            }
        }
    }
}

struct Stream(mpsc::Receiver<Bytes>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A response whose events `write` sends.
pub(super) fn response<F, W>(write: W) -> Response
where
    W: FnOnce(Sender) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(write(Sender(sender)));
    let mut response = Response::new(Body::new(Stream(receiver)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
