//! Distribution (paper 5.6): hands out what hosts are to do, and takes in what became of it.
//!
//! `work` answers the agents' long polls, `outstanding` makes the items from what the store says,
//! `order` signs, `report` takes reports in, `log` the logs that people asked for, `watch` wakes agents for work that other servers made.
//! Nothing is decided here.

mod log;
mod order;
mod outstanding;
mod report;
mod take;
mod watch;
mod work;

pub use watch::run;

use crate::AppState;
use crate::room::{self, Room};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

/// Longest report: the agent's batches are an eighth of it; one dry run may be as long as the rest.
const REPORT_BODY: usize = 8 << 20;
/// Longest part of a log: the agent's are a quarter of it with their JSON.
const LOG_BODY: usize = 2 << 20;

/// `GET /agent/v1/work`, `POST /agent/v1/report` and `POST /agent/v1/log`.
pub fn routes() -> Router<AppState> {
    let room = Room::new("report", REPORT_BODY);
    let log_room = Room::new("part of a log", LOG_BODY);
    Router::new()
        .route("/agent/v1/work", get(work::work))
        .route(
            "/agent/v1/report",
            post(report::report).layer(DefaultBodyLimit::max(REPORT_BODY)).layer(from_fn_with_state(room, room::take)),
        )
        .route(
            "/agent/v1/log",
            post(log::log).layer(DefaultBodyLimit::max(LOG_BODY)).layer(from_fn_with_state(log_room, room::take)),
        )
}
