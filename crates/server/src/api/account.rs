//! Sign-in of programs, one's own password, who one is.

use super::frame::Address;
use super::{Answer, Body, Endpoint, Needs};
use crate::AppState;
use crate::access::Actor;
use crate::ops;
use axum::extract::State;
use axum::{Extension, Json};
use fettle_domain::access::Permission;
use fettle_wire::api::account::{LoginRequest, PasswordRequest, TokenCreated, WhoAmI};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("/login", Needs::Nothing, "Turn user and password into an API token", login)
            .request::<LoginRequest>()
            .response::<TokenCreated>(),
        Endpoint::post("/password", Needs::Nothing, "Change one's own password", password).request::<PasswordRequest>(),
        Endpoint::get("/whoami", Permission::OwnAccount, "Say who is signed in", whoami).response::<WhoAmI>(),
    ]
}

async fn login(
    State(state): State<AppState>,
    Extension(address): Address,
    Body(request): Body<LoginRequest>,
) -> Answer<TokenCreated> {
    Ok(Json(ops::account::login(&state, address.0, request).await?))
}

async fn password(
    State(state): State<AppState>,
    Extension(address): Address,
    Body(request): Body<PasswordRequest>,
) -> Answer<serde_json::Value> {
    ops::account::change_password(&state, address.0, &request.user, &request.current, &request.new).await?;
    Ok(Json(serde_json::json!({})))
}

async fn whoami(Extension(actor): Extension<Actor>) -> Answer<WhoAmI> {
    Ok(Json(ops::account::whoami(&actor)?))
}
