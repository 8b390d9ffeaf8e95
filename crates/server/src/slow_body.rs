//! A request's body with a limit on how long it may take: who drips bytes holds a connection, but
//! not a handler and its buffers.

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// Time for a whole body; 32 MB within it need 550 kB a second.
const LIMIT: Duration = Duration::from_secs(60);

/// See above. The timer is made only when a body is not there at once: most are, and have none.
pub(crate) struct SlowBody {
    body: Incoming,
    limit: Option<Pin<Box<Sleep>>>,
}

impl SlowBody {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, limit: None }
    }
}

impl Body for SlowBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(LIMIT)));
        match limit.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the body took too long".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
