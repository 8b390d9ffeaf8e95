//! Room for bodies: twenty thousand inventories that come at once would fill the memory, so only as
//! many are read as there is room for. The others wait in their senders' buffers.

use super::CHECK_IN_BODY;
use crate::problem::Refusal;
use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use fettle_wire::api::problem::kind;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bytes of bodies in memory at once; what is made of them takes about as much again.
const ROOM: usize = 128 << 20;
/// Room is counted in these.
const PIECE: usize = 1 << 10;

/// What is left of the room.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM / PIECE)))
    }
}

/// Takes room for the request's body until it is answered.
pub(super) async fn take(State(room): State<Room>, request: Request, next: Next) -> Response {
    let Some(length) = request.body().size_hint().exact() else {
        return Refusal::new(
            StatusCode::LENGTH_REQUIRED,
            kind::INVALID,
            "The body's length is not told",
            "the request has no content-length",
        )
        .into_response();
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(CHECK_IN_BODY);
    let pieces = u32::try_from(length.div_ceil(PIECE)).unwrap_or(u32::MAX);
    // Closed never; without a permit the request would only be read without its room.
    let _seat = room.0.acquire_many(pieces).await;
    next.run(request).await
}
