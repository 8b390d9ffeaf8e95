//! What tests share: databases of both kinds, a real server on a free port with clients of every
//! kind. A dev-dependency and nothing else; here a failure may panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[cfg(feature = "server")]
pub mod client;
pub mod database;
#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "server")]
pub use client::{Client, Reply};
pub use database::{TestDatabase, on_both};
#[cfg(feature = "server")]
pub use server::{EnrolledHost, Setup, TestServer};

/// Waits until `condition` holds, at most `limit`; panics with `what` when it does not.
#[cfg(feature = "server")]
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    limit: std::time::Duration,
    mut condition: impl FnMut() -> F,
) {
    let end = std::time::Instant::now() + limit;
    while !condition().await {
        assert!(std::time::Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
