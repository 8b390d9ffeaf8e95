//! Sign-in, sign-out, one's own password.

use super::{OpsError, token};
use crate::access::limit::Try;
use crate::access::session::{self, Session};
use crate::access::{Actor, password, secret};
use crate::{AppState, clock};
use axum::http::HeaderMap;
use fettle_domain::access::Permission;
use fettle_store::StoreError;
use fettle_store::systems::audit::{self, AuditRecord};
use fettle_store::systems::session as stored;
use fettle_store::systems::user::{self, User};
use fettle_wire::api::account::{LoginRequest, TokenCreated, WhoAmI};
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

/// Signs a browser in: a new session with a new secret. A session the browser had before ends.
pub async fn sign_in(
    state: &AppState,
    address: IpAddr,
    headers: &HeaderMap,
    name: &str,
    password: &str,
) -> Result<Session, OpsError> {
    let (user, tried) = prove_for_use(state, address, name, password).await?;
    let former = session::current(state, headers).await?;
    let now = clock::now();
    let secret = secret::fresh()?;
    let hours = Duration::from_secs(state.settings.sign_in.session_hours.saturating_mul(3600));
    let fresh = stored::Session {
        id: clock::fresh(),
        user: user.id,
        secret_digest: secret::digest_of(&secret),
        created_at: now,
        seen_at: now,
        expires_at: now.after(hours),
    };
    let actor = Actor { user: Some(user.id), name: user.name.clone(), role: user.role, scopes: None };
    let session = Session::new(fresh.id, actor.clone(), secret);
    let entry = actor.record("session.sign-in", fresh.id, json!({ "from": address.to_string() }));
    state
        .store
        .write(move |connection| {
            still_the_same(connection, &user)?;
            tried.was_right(connection)?;
            if let Some(former) = &former {
                stored::delete(connection, former.id)?;
            }
            stored::create(connection, &fresh)?;
            user::signed_in(connection, user.id, now)?;
            audit::append(connection, now, &entry)
        })
        .await?;
    Ok(session)
}

/// Signs a browser out.
pub async fn sign_out(state: &AppState, session: &Session) -> Result<(), OpsError> {
    let id = session.id;
    let entry = session.actor.record("session.sign-out", id, json!({}));
    state
        .store
        .write(move |connection| {
            stored::delete(connection, id)?;
            audit::append(connection, clock::now(), &entry)
        })
        .await?;
    Ok(())
}

/// User and password become an API token.
pub async fn login(state: &AppState, address: IpAddr, request: LoginRequest) -> Result<TokenCreated, OpsError> {
    let (user, tried) = prove_for_use(state, address, &request.user, &request.password).await?;
    let actor = Actor { user: Some(user.id), name: user.name.clone(), role: user.role, scopes: None };
    let label = if request.label.is_empty() { "fettle login".to_owned() } else { request.label };
    let hours = request.hours.unwrap_or(state.settings.sign_in.session_hours);
    let (stored, created, entry) = token::fresh(&actor, &label, request.scopes, hours, Some(address))?;
    let now = clock::now();
    state
        .store
        .write(move |connection| {
            still_the_same(connection, &user)?;
            tried.was_right(connection)?;
            user::signed_in(connection, user.id, now)?;
            token::keep(connection, &stored)?;
            audit::append(connection, now, &entry)
        })
        .await?;
    Ok(created)
}

/// Changes one's own password, a one-time one too. All sessions and tokens of the user end.
pub async fn change_password(
    state: &AppState,
    address: IpAddr,
    name: &str,
    current: &str,
    new: &str,
) -> Result<(), OpsError> {
    let (mut user, tried) = prove(state, address, name, current).await?;
    password::judge(new, &user.name, state.settings.sign_in.password_length)?;
    if new == current {
        return Err(OpsError::invalid("new", "it is the present password", "Choose another one."));
    }
    user.password = state.passwords.hash(new).await?;
    user.password_change_required = false;
    let now = clock::now();
    let entry = AuditRecord {
        actor: user.name.clone(),
        action: "user.change-password",
        object: user.name.clone(),
        detail: json!({}),
    };
    state
        .store
        .write(move |connection| {
            // Against the generation that was proved: a password that was reset meanwhile wins.
            user::update(connection, &user)?;
            tried.was_right(connection)?;
            session::end_all(connection, user.id)?;
            audit::append(connection, now, &entry)
        })
        .await?;
    Ok(())
}

/// Who asks.
pub fn whoami(actor: &Actor) -> Result<WhoAmI, OpsError> {
    actor.require(Permission::OwnAccount)?;
    let permissions = Permission::ALL.into_iter().filter(|permission| actor.may(*permission));
    Ok(WhoAmI {
        user: actor.name.clone(),
        role: actor.role.to_string(),
        permissions: permissions.map(|permission| permission.to_string()).collect(),
        scoped: actor.scopes.is_some(),
    })
}

/// The user whose password this is. Unknown names, wrong passwords and accounts that were shut out
/// take the same time and say the same.
async fn prove(state: &AppState, address: IpAddr, name: &str, password: &str) -> Result<(User, Try), OpsError> {
    let name = super::user::normal(name);
    let tried = Try::begin(state, &name, address).await?;
    let user = state.store.read(move |connection| user::get(connection, &name)).await?;
    let right = state.passwords.verify(password, user.as_ref().map(|user| user.password.as_str())).await?;
    match user {
        Some(user) if right && !user.disabled => Ok((user, tried)),
        known => {
            note_refusal(state, address, known.as_ref()).await?;
            Err(OpsError::Unauthenticated { why: "the user name or the password is wrong".to_owned() })
        }
    }
}

/// The same for more than changing the password: a one-time password opens nothing else.
async fn prove_for_use(state: &AppState, address: IpAddr, name: &str, password: &str) -> Result<(User, Try), OpsError> {
    let (user, tried) = prove(state, address, name, password).await?;
    if user.password_change_required {
        state.store.write(move |connection| tried.was_right(connection)).await?;
        return Err(OpsError::PasswordChangeRequired { user: user.name });
    }
    Ok((user, tried))
}

/// A refused sign-in leaves an entry, with the name only when it is one: people type passwords there.
async fn note_refusal(state: &AppState, address: IpAddr, known: Option<&User>) -> Result<(), OpsError> {
    let object = known.map_or("an unknown user", |user| user.name.as_str()).to_owned();
    tracing::info!(user.name = %object, peer.address = %address, "sign-in refused");
    let entry = AuditRecord {
        actor: "server".to_owned(),
        action: "session.refuse",
        object,
        detail: json!({ "from": address.to_string() }),
    };
    state.store.write(move |connection| audit::append(connection, clock::now(), &entry)).await?;
    Ok(())
}

/// Nobody changed the password or shut the user out while it was being proved.
fn still_the_same(connection: &mut fettle_store::Connection, proved: &User) -> fettle_store::Result<()> {
    match user::get_by_id(connection, proved.id)? {
        Some(now) if now.password == proved.password && !now.disabled => Ok(()),
        _ => Err(StoreError::conflict(format!("user {}", proved.name))),
    }
}
