//! From a request's credentials to an actor: an API token, or a session with the proof that our own
//! page asks.

use super::{Actor, cross_site, secret, session};
use crate::ops::OpsError;
use crate::{AppState, clock};
use axum::http::{HeaderMap, Method, header};
use fettle_store::systems::api_token;
use std::time::Duration;

/// What API tokens begin with, so that a leaked one is recognised.
pub const TOKEN_PREFIX: &str = "fettle_";
/// How exactly the last use is kept.
const USED_STEP: Duration = Duration::from_secs(3600);

pub(crate) async fn authenticate(state: &AppState, method: &Method, headers: &HeaderMap) -> Result<Actor, OpsError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let bearer = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, token) = bearer.ok_or_else(|| unauthenticated("the Authorization header is not `Bearer TOKEN`"))?;
        return by_token(state, token.trim()).await;
    }
    let session = session::current(state, headers).await?;
    let session = session.ok_or_else(|| unauthenticated("nobody is signed in, or the session has ended"))?;
    if !cross_site::is_safe(method) {
        cross_site::check(headers, &session, None)?;
    }
    Ok(session.actor)
}

async fn by_token(state: &AppState, token: &str) -> Result<Actor, OpsError> {
    let gone = || unauthenticated("the API token is unknown, revoked or expired");
    if !token.starts_with(TOKEN_PREFIX) || token.len() > 100 {
        return Err(gone());
    }
    let digest = secret::digest_of(token);
    let (found, user) =
        state.store.read(move |connection| api_token::get(connection, &digest)).await?.ok_or_else(gone)?;
    let now = clock::now();
    if found.expires_at <= now || user.disabled || user.password_change_required {
        return Err(gone());
    }
    if found.used_at.is_none_or(|used| used.until(now) >= USED_STEP) {
        let kept = state.store.write(move |connection| api_token::used(connection, found.id, now)).await;
        super::only_noted(kept);
    }
    Ok(Actor { user: Some(user.id), name: user.name, role: user.role, scopes: found.scopes })
}

fn unauthenticated(why: &str) -> OpsError {
    OpsError::Unauthenticated { why: why.to_owned() }
}
