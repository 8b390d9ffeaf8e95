//! Vulnerability feeds.

use super::{Answer, Body, Endpoint, PathParam};
use crate::AppState;
use crate::access::Actor;
use crate::ops;
use axum::extract::State;
use axum::{Extension, Json};
use fettle_domain::access::Permission;
use fettle_wire::api::feed::{FeedList, FeedSyncRequest, FeedSyncView};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/feeds", Permission::FeedRead, "List feeds with the age of their data", list)
            .response::<FeedList>(),
        Endpoint::post(
            "/feeds/sync",
            Permission::FeedSync,
            "Load feeds from their publishers, a URL or a directory of the server",
            sync,
        )
        .request::<FeedSyncRequest>()
        .response::<FeedSyncView>(),
        Endpoint::get("/feeds/sync/{id}", Permission::FeedRead, "Show how far a load is", progress)
            .response::<FeedSyncView>(),
    ]
}

async fn list(State(state): State<AppState>, Extension(actor): Extension<Actor>) -> Answer<FeedList> {
    Ok(Json(ops::feed::list(&state, &actor).await?))
}

async fn sync(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<FeedSyncRequest>,
) -> Answer<FeedSyncView> {
    Ok(Json(ops::feed::sync(&state, &actor, request).await?))
}

async fn progress(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(id): PathParam<i64>,
) -> Answer<FeedSyncView> {
    Ok(Json(ops::feed::progress(&state, &actor, id).await?))
}
