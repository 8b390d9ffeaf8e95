//! The census (paper 3.1.1): machines become hosts, and hosts say what they are and what they have.
//!
//! `enrol` takes machines in, `renew` gives them their next certificate, `check_in` takes reports (and
//! `chain` sees when two machines report under one name); these write in groups and keep nothing that
//! grows with the fleet on the path of one request.

mod chain;
mod check_in;
mod enrol;
mod import;
mod intake;
mod likeness;
mod renew;
mod sweep;

pub(crate) use import::take as import;
pub use intake::Intake;

use crate::AppState;
use crate::room::{self, Room};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::post;

/// Longest enrolment.
const ENROL_BODY: usize = 256 << 10;
/// Longest check-in: 50,000 packages whole.
const CHECK_IN_BODY: usize = 32 << 20;

/// `POST /agent/v1/enrol`, `/renew`, `/clone` and `/check-in`.
pub fn routes() -> Router<AppState> {
    let room = Room::new("check-in", CHECK_IN_BODY);
    Router::new()
        .route("/agent/v1/enrol", post(enrol::enrol).layer(DefaultBodyLimit::max(ENROL_BODY)))
        .route("/agent/v1/renew", post(renew::renew).layer(DefaultBodyLimit::max(ENROL_BODY)))
        .route("/agent/v1/clone", post(renew::copy).layer(DefaultBodyLimit::max(ENROL_BODY)))
        .route(
            "/agent/v1/check-in",
            post(check_in::check_in)
                .layer(DefaultBodyLimit::max(CHECK_IN_BODY))
                .layer(from_fn_with_state(room, room::take)),
        )
}

/// Writes signs of life and sweeps what nobody has any more, until the server ends. Called once.
pub async fn run(state: AppState) {
    tokio::join!(intake::run(state.clone()), sweep::run(state));
}
