//! Sessions of browsers. The secret is in the cookie alone; the store has its digest, and the token
//! against forged requests is derived from it. A new sign-in makes a new secret and ends the old
//! session, so that a secret planted before is worth nothing.

use super::Actor;
use crate::ops::OpsError;
use crate::{AppState, clock};
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fettle_domain::{SessionId, Timestamp, UserId};
use fettle_store::systems::{api_token, login_attempt, session};
use ring::hmac;
use std::time::Duration;

/// `__Host-`: only over TLS, only from this very host, for all paths.
pub const COOKIE: &str = "__Host-fettle_session";
/// How exactly the last request is kept.
const SEEN_STEP: Duration = Duration::from_secs(60);

/// A signed-in browser.
#[derive(Clone)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// Who.
    pub actor: Actor,
    secret: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, {})", self.id, self.actor.name)
    }
}

impl Session {
    pub(crate) fn new(id: SessionId, actor: Actor, secret: String) -> Self {
        Self { id, actor, secret }
    }

    /// What each unsafe request must carry, as form field `csrf` or header `x-fettle-csrf`.
    pub fn csrf_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.key(), CSRF))
    }

    /// Whether this is that token; compared in constant time.
    pub fn is_csrf_token(&self, token: &str) -> bool {
        URL_SAFE_NO_PAD.decode(token).is_ok_and(|bytes| hmac::verify(&self.key(), CSRF, &bytes).is_ok())
    }

    /// `Set-Cookie` that keeps the session in the browser.
    pub fn cookie(&self) -> Result<HeaderValue, OpsError> {
        HeaderValue::from_str(&format!("{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict", self.secret))
            .map_err(|_| OpsError::Unavailable { why: "cannot make a cookie".to_owned() })
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes())
    }
}

const CSRF: &[u8] = b"fettle cross-site token v1";

/// `Set-Cookie` that forgets it.
pub fn forgetting_cookie() -> HeaderValue {
    HeaderValue::from_static("__Host-fettle_session=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// The secret in the request's cookie, when it has the form of one.
pub(crate) fn secret_of(headers: &HeaderMap) -> Option<&str> {
    let cookies =
        headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let secret = cookies.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('=')).next()?;
    let plain =
        secret.len() == 43 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    plain.then_some(secret)
}

/// The session a request belongs to, with the role its user has now; `None` when there is none or
/// it has ended.
pub async fn current(state: &AppState, headers: &HeaderMap) -> Result<Option<Session>, OpsError> {
    let Some(secret) = secret_of(headers) else { return Ok(None) };
    let digest = super::secret::digest_of(secret);
    let Some((found, user)) = state.store.read(move |connection| session::get(connection, &digest)).await? else {
        return Ok(None);
    };
    let now = clock::now();
    let over = found.expires_at <= now || found.seen_at < idle_since(state, now);
    if over || user.disabled || user.password_change_required {
        return Ok(None);
    }
    if found.seen_at.until(now) >= SEEN_STEP {
        let kept = state.store.write(move |connection| session::seen(connection, found.id, now)).await;
        super::only_noted(kept);
    }
    let actor = Actor { user: Some(user.id), name: user.name, role: user.role, scopes: None };
    Ok(Some(Session::new(found.id, actor, secret.to_owned())))
}

fn idle_since(state: &AppState, now: Timestamp) -> Timestamp {
    let minutes = i64::try_from(state.settings.sign_in.idle_minutes).unwrap_or(i64::MAX / 60_000);
    Timestamp::from_unix_millis(now.unix_millis().saturating_sub(minutes.saturating_mul(60_000)))
}

/// Forgets sessions, tokens and counters whose time is over.
pub(crate) async fn forget_ended(state: &AppState) -> Result<(), OpsError> {
    let now = clock::now();
    let idle = idle_since(state, now);
    state
        .store
        .write(move |connection| {
            session::delete_ended(connection, now, idle)?;
            api_token::delete_ended(connection, now)?;
            login_attempt::delete_ended(connection, now)?;
            Ok(())
        })
        .await?;
    Ok(())
}

/// Ends all sessions and tokens of a user: its password changed, or it was shut out.
pub(crate) fn end_all(connection: &mut fettle_store::Connection, user: UserId) -> fettle_store::Result<()> {
    session::delete_of_user(connection, user)?;
    api_token::delete_of_user(connection, user)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_domain::access::Role;

    fn session(secret: &str) -> Session {
        let actor = Actor { user: None, name: "ada".into(), role: Role::Viewer, scopes: None };
        Session::new(clock::fresh(), actor, secret.to_owned())
    }

    #[test]
    fn the_csrf_token_belongs_to_one_session() {
        let (one, two) = (session("a"), session("b"));
        assert!(one.is_csrf_token(&one.csrf_token()));
        assert!(!one.is_csrf_token(&two.csrf_token()));
        assert!(!one.is_csrf_token("") && !one.is_csrf_token("%%%"));
    }

    #[test]
    fn only_a_well_formed_secret_is_taken_from_the_cookie() {
        let secret = "A".repeat(43);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(text).unwrap());
            secret_of(&headers).map(str::to_owned)
        };
        assert_eq!(read(&format!("a=b; {COOKIE}={secret}; c=d")), Some(secret.clone()));
        assert_eq!(read(&format!("{COOKIE}={secret}A")), None);
        assert_eq!(read(&format!("{COOKIE}x={secret}")), None);
        assert_eq!(read("fettle_session=x"), None);
    }
}
