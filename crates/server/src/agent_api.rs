//! What agents ask (`/agent/v1`): each component brings its own routes.

use crate::AppState;
use axum::Router;

/// All of them. Every route but enrolment checks [`crate::PeerHost`] by itself.
pub(crate) fn routes() -> Router<AppState> {
    Router::new().merge(crate::census::routes())
}
