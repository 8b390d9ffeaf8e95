//! Room for the bodies that hosts send: twenty thousand inventories that come at once would fill the
//! memory, so only as many are read as there is room for. The others wait in their senders' buffers.
//!
//! A host has one message of a kind under way at a time, and what is short has a room of its own: a
//! host that promises much and sends nothing holds up itself, not the fleet.

use crate::PeerHost;
use crate::problem::Refusal;
use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fettle_domain::HostId;
use fettle_wire::api::problem::kind;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Bytes of bodies in memory at once; what is made of them takes about as much again.
const ROOM: usize = 128 << 20;
/// Room is counted in these.
const PIECE: usize = 1 << 10;

/// Signs of life and most differences are shorter.
const SHORT: usize = 32 << 10;
/// Bytes of short bodies at once.
const SHORT_ROOM: usize = 32 << 20;
/// Seconds after which a host with a message under way may try again.
const AGAIN: u64 = 10;

/// What is left of the room for one kind of message, and who speaks.
#[derive(Clone)]
pub(crate) struct Room {
    /// What the messages are called (`check-in`).
    kind: &'static str,
    /// Longest body.
    longest: usize,
    long: Arc<Semaphore>,
    short: Arc<Semaphore>,
    speaking: Arc<Mutex<HashSet<HostId>>>,
}

impl Room {
    /// For messages of one kind, with their longest body in bytes.
    pub(crate) fn new(kind: &'static str, longest: usize) -> Self {
        Self {
            kind,
            longest,
            long: Arc::new(Semaphore::new(ROOM / PIECE)),
            short: Arc::new(Semaphore::new(SHORT_ROOM / PIECE)),
            speaking: Arc::default(),
        }
    }
}

/// A host's turn to speak, until dropped.
struct Turn {
    host: HostId,
    speaking: Arc<Mutex<HashSet<HostId>>>,
}

impl Turn {
    /// `None` while the host has a message of this kind under way.
    fn take(host: HostId, speaking: &Arc<Mutex<HashSet<HostId>>>) -> Option<Self> {
        let first = speaking.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
        first.then(|| Self { host, speaking: speaking.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.speaking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.host);
    }
}

fn twice(host: HostId, what: &str) -> Refusal {
    let mut refusal = Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        kind::TOO_MANY,
        "One message of a kind at a time",
        format!("another {what} of {host} is still under way"),
    )
    .advise("Two agents with one identity may run: `fettle agent status` tells on each machine.");
    refusal.0.retry_after = AGAIN;
    refusal
}

/// Takes room for the request's body until it is answered.
pub(crate) async fn take(State(room): State<Room>, request: Request, next: Next) -> Response {
    let host = match request.extensions().get::<PeerHost>().copied().unwrap_or(PeerHost(None)).require() {
        Ok(peer) => peer.host,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(_turn) = Turn::take(host, &room.speaking) else { return twice(host, room.kind).into_response() };
    let Some(length) = request.body().size_hint().exact() else {
        return Refusal::new(
            StatusCode::LENGTH_REQUIRED,
            kind::INVALID,
            "The body's length is not told",
            "the request has no content-length",
        )
        .into_response();
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(room.longest);
    let pieces = u32::try_from(length.div_ceil(PIECE)).unwrap_or(u32::MAX);
    // Closed never; without a permit the request would only be read without its room.
    let room = if length <= SHORT { room.short } else { room.long };
    let _seat = room.acquire_many(pieces).await;
    next.run(request).await
}
