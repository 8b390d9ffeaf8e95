//! The table as a router: authentication and permission before each handler, limits, and
//! a problem document for everything that is not there.

use super::{Endpoint, Needs, PREFIX, endpoints};
use crate::access::authenticate;
use crate::problem::Refusal;
use crate::{AppState, PeerHost};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Json, Router};
use fettle_wire::api::problem::kind;
use serde_json::Value;
use std::sync::LazyLock;

/// The API with everything around it.
pub(crate) fn router(state: &AppState) -> Router<AppState> {
    let mut router = Router::new();
    for endpoint in endpoints() {
        router = router.route(&format!("{PREFIX}{}", endpoint.path), guarded(endpoint, state));
    }
    router.route(&format!("{PREFIX}/openapi.json"), get(document))
}

/// Made once: the table does not change while the server runs.
async fn document() -> Json<&'static Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(super::openapi_document);
    Json(&DOCUMENT)
}

fn guarded(endpoint: Endpoint, state: &AppState) -> MethodRouter<AppState> {
    let guard = Guard { state: state.clone(), needs: endpoint.needs };
    endpoint
        .handler
        .layer(DefaultBodyLimit::max(endpoint.body_limit))
        .route_layer(middleware::from_fn_with_state(guard, check))
}

#[derive(Clone)]
struct Guard {
    state: AppState,
    needs: Needs,
}

/// Nobody reaches a handler without what its row in the table asks for.
async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let host = request.extensions().get::<PeerHost>().and_then(|peer| peer.0);
    if host.is_some() {
        let refusal = Refusal::new(
            StatusCode::FORBIDDEN,
            kind::DENIED,
            "Not allowed",
            "the certificate of a host opens nothing in the API",
        )
        .advise("Hosts use /agent/v1. People sign in, without a client certificate.");
        return refusal.at(&path).into_response();
    }
    if let Needs::Permission(permission) = guard.needs {
        let actor = match authenticate(&guard.state, request.method(), request.headers()).await {
            Ok(actor) => actor,
            Err(error) => return Refusal::from(error).at(&path).into_response(),
        };
        if let Err(error) = actor.require(permission) {
            return Refusal::from(error).at(&path).into_response();
        }
        request.extensions_mut().insert(actor);
    }
    next.run(request).await
}

/// For paths of the API that are not there.
pub(crate) async fn not_found(uri: Uri) -> Response {
    Refusal::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, "Not there", "this path does not exist")
        .advise("All paths of the API stand in /api/v1/openapi.json.")
        .at(uri.path())
        .into_response()
}

/// For paths that are there, but not with this method.
pub(crate) async fn method_not_allowed(uri: Uri) -> Response {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        kind::METHOD,
        "Not with this method",
        "this path exists, but not with this method",
    )
    .advise("All paths and methods of the API stand in /api/v1/openapi.json.")
    .at(uri.path())
    .into_response()
}

/// Where a request came from, for handlers that limit tries.
pub(crate) type Address = Extension<crate::listener::PeerAddress>;
