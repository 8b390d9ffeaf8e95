//! The pages: rendered on the server, readable without script. A page parses, calls one operation
//! (or a few), renders. No query of its own, nothing from elsewhere.

mod form;
mod layout;
mod page;
mod part;
mod sorting;
mod visitor;

use crate::AppState;
use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::{get, post};

/// All pages.
pub fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(page::overview::show))
        .route("/sign-in", get(page::sign_in::form).post(page::sign_in::submit))
        .route("/first-password", post(page::sign_in::first_password))
        .route("/sign-out", post(page::sign_in::sign_out))
        .route("/hosts", get(page::host::list))
        .route("/hosts/{host}", get(page::host::show))
        .route("/hosts/{host}/revoke", post(page::host::revoke))
        .route("/hosts/{host}/accept", post(page::identity::accept))
        .route("/hosts/{host}/merge", post(page::identity::merge))
        .route("/hosts/{host}/dismiss", post(page::identity::dismiss))
        .route("/enrol", get(page::host::enrol_form).post(page::host::enrol))
        .route("/findings", get(page::finding::list))
        .route("/findings/{id}", get(page::finding::show))
        .route("/vulnerabilities/{id}", get(page::finding::vulnerability))
        .route("/changes", get(page::change::list).post(page::change::create))
        .route("/changes/new", get(page::change::form))
        .route("/changes/{id}", get(page::change::show))
        .route("/changes/{id}/{verb}", post(page::change::act))
        .route("/deployments/{id}", get(page::change::deployment))
        .route("/deployments/{id}/log", get(page::log::show).post(page::log::fetch))
        .route("/audit", get(page::audit::list))
        .route("/feeds", get(page::feed::list).post(page::feed::sync))
        .route("/users", get(page::user::list).post(page::user::create))
        .route("/users/{name}/{verb}", post(page::user::act))
        .route("/account", get(page::account::show))
        .route("/account/tokens", post(page::account::create))
        .route("/account/tokens/{id}/revoke", post(page::account::revoke))
        .route("/assets/fettle.css", get(|| asset("text/css; charset=utf-8", include_str!("assets/fettle.css"))))
        .route("/assets/fettle.js", get(|| asset("text/javascript; charset=utf-8", include_str!("assets/fettle.js"))))
}

/// For addresses that lead nowhere.
pub async fn not_found() -> axum::response::Response {
    visitor::PageError(crate::ops::OpsError::not_found("this page")).into_response()
}

async fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text)
}
