//! One's own API tokens.

use super::endpoint::{AFTER, LIMIT, Page, sort};
use super::{Answer, Body, Endpoint, Params, PathParam, QueryField};
use crate::AppState;
use crate::access::Actor;
use crate::ops;
use axum::extract::State;
use axum::{Extension, Json};
use fettle_domain::access::Permission;
use fettle_wire::api::account::{Token, TokenCreate, TokenCreated, TokenList};

const QUERY: &[QueryField] = &[
    sort("created_at, label, expires_at or last_used; with `-` before it the greatest first; -created_at when absent"),
    AFTER,
    LIMIT,
];

pub(super) fn endpoints() -> Vec<Endpoint> {
    use Permission::OwnAccount;
    vec![
        Endpoint::get("/tokens", OwnAccount, "List one's own API tokens", list).query(QUERY).response::<TokenList>(),
        Endpoint::post("/tokens", OwnAccount, "Make a further API token", create)
            .request::<TokenCreate>()
            .response::<TokenCreated>(),
        Endpoint::delete("/tokens/{token}", OwnAccount, "Revoke one of one's own API tokens", revoke)
            .response::<Token>(),
    ]
}

async fn list(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Params(page): Params<Page>,
) -> Answer<TokenList> {
    Ok(Json(ops::token::list(&state, &actor, page.into()).await?))
}

async fn create(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<TokenCreate>,
) -> Answer<TokenCreated> {
    Ok(Json(ops::token::create(&state, &actor, request).await?))
}

async fn revoke(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(token): PathParam<String>,
) -> Answer<Token> {
    Ok(Json(ops::token::revoke(&state, &actor, &token).await?))
}
