//! What agents ask (`/agent/v1`): each component brings its own routes.

use crate::{AppState, PeerHost, headers};
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};

/// The only path that needs no certificate: it gives one.
const ENROL: &str = "/agent/v1/enrol";

/// All of them, with one layer around: each layer costs every waiting agent some memory.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .merge(crate::census::routes())
        .merge(crate::distribute::routes())
        .method_not_allowed_fallback(crate::api::method_not_allowed)
        .layer(middleware::from_fn(around))
}

/// No component can forget it: a certificate of our authority, or nothing but enrolment.
async fn around(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerHost>().copied().unwrap_or(PeerHost(None));
    if request.uri().path() != ENROL {
        if let Err(refusal) = peer.require() {
            return refusal.at(request.uri().path()).into_response();
        }
    }
    headers::add(request, next).await
}
