//! Whether the server can work, for load balancers and supervisors. Tells nothing that is ours.

use crate::AppState;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use fettle_store::systems::user;
use serde_json::json;
use std::time::Duration;

/// Time the database gets to answer.
const LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn routes() -> Router<AppState> {
    Router::new().route("/healthz", get(healthz))
}

async fn healthz(State(state): State<AppState>) -> Response {
    let database = tokio::time::timeout(LIMIT, state.store.read(user::count_administrators)).await;
    if state.shutdown.is_requested() {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "stopping" }))).into_response()
    } else if matches!(database, Ok(Ok(_))) {
        Json(json!({ "status": "ok" })).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "the database does not answer" }))).into_response()
    }
}
