//! Users.

use super::endpoint::{AFTER, LIMIT, Page, sort};
use super::{Answer, Body, Endpoint, Params, PathParam, QueryField};
use crate::AppState;
use crate::access::Actor;
use crate::ops;
use axum::extract::State;
use axum::{Extension, Json};
use fettle_domain::access::Permission;
use fettle_wire::api::account::{UserChange, UserChanged, UserCreate, UserCreated, UserList};

const QUERY: &[QueryField] = &[
    sort("name (when absent), role, created_at or last_sign_in; with `-` before it the greatest first"),
    AFTER,
    LIMIT,
];

pub(super) fn endpoints() -> Vec<Endpoint> {
    use Permission::UserManage;
    vec![
        Endpoint::get("/users", UserManage, "List users", list).query(QUERY).response::<UserList>(),
        Endpoint::post("/users", UserManage, "Make a user with a one-time password", create)
            .request::<UserCreate>()
            .response::<UserCreated>(),
        Endpoint::patch(
            "/users/{name}",
            UserManage,
            "Change a user's role, shut out or let in, or make a new one-time password",
            change,
        )
        .request::<UserChange>()
        .response::<UserChanged>(),
    ]
}

async fn list(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Params(page): Params<Page>,
) -> Answer<UserList> {
    Ok(Json(ops::user::list(&state, &actor, page.into()).await?))
}

async fn create(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<UserCreate>,
) -> Answer<UserCreated> {
    Ok(Json(ops::user::create(&state, &actor, request).await?))
}

async fn change(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(name): PathParam<String>,
    Body(request): Body<UserChange>,
) -> Answer<UserChanged> {
    Ok(Json(ops::user::change(&state, &actor, &name, request).await?))
}
