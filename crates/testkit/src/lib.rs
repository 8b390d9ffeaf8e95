//! What tests share: databases of both kinds, a real server on a free port with clients of every
//! kind. A dev-dependency and nothing else; here a failure may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod client;
pub mod database;
pub mod server;

pub use client::{Client, Reply};
pub use database::{TestDatabase, on_both};
pub use server::{Setup, TestServer};

use std::time::{Duration, Instant};

/// Waits until `condition` holds, at most `limit`; panics with `what` when it does not.
pub async fn eventually<F: Future<Output = bool>>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
