//! One's own API tokens.

use super::page::{page_of, place_text};
use super::{OpsError, Part};
use crate::access::{Actor, TOKEN_PREFIX, secret};
use crate::{AppState, clock};
use fettle_domain::access::Permission;
use fettle_domain::{ApiTokenId, UserId};
use fettle_store::Connection;
use fettle_store::page::Order;
use fettle_store::systems::api_token::{self, ApiToken, ApiTokenSort};
use fettle_store::systems::audit::{self, AuditRecord};
use fettle_wire::api::account::{Token, TokenCreate, TokenCreated, TokenList};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Longest life: 366 days.
const LONGEST_HOURS: u64 = 8784;
/// Tokens a user may have at once.
const MOST: u64 = 100;
/// Characters of a label.
const LONGEST_LABEL: usize = 100;

/// A page of one's own tokens; in the list's own order the newest first.
pub async fn list(state: &AppState, actor: &Actor, part: Part) -> Result<TokenList, OpsError> {
    actor.require(Permission::OwnAccount)?;
    let owner = owner(actor)?;
    let page = page_of(&part, Order::descending(ApiTokenSort::CreatedAt))?;
    let order = page.order;
    let (listed, total) = state
        .store
        .read(move |connection| Ok((api_token::list(connection, owner, &page)?, api_token::count(connection, owner)?)))
        .await?;
    let next = listed.next.as_ref().map(|place| place_text(order, place));
    Ok(TokenList { items: listed.items.iter().map(shown).collect(), next, total: Some(total) })
}

/// A further token. A token with scopes cannot make one that carries more.
pub async fn create(state: &AppState, actor: &Actor, request: TokenCreate) -> Result<TokenCreated, OpsError> {
    actor.require(Permission::OwnAccount)?;
    let (stored, created, entry) = fresh(actor, &request.label, request.scopes, request.hours, None)?;
    state
        .store
        .write(move |connection| {
            keep(connection, &stored)?;
            audit::append(connection, clock::now(), &entry)
        })
        .await?;
    Ok(created)
}

/// Revokes one; it ends at once.
pub async fn revoke(state: &AppState, actor: &Actor, id: &str) -> Result<Token, OpsError> {
    actor.require(Permission::OwnAccount)?;
    let owner = owner(actor)?;
    let id = parse_id(id)?;
    let entry = actor.record("token.revoke", id, json!({}));
    let token = state
        .store
        .write(move |connection| {
            let token = api_token::delete(connection, owner, id)?;
            audit::append(connection, clock::now(), &entry)?;
            Ok(token)
        })
        .await?;
    Ok(shown(&token))
}

/// A token ready to be kept, what to tell, and the audit entry.
pub(super) fn fresh(
    actor: &Actor,
    label: &str,
    scopes: Option<Vec<String>>,
    hours: u64,
    from: Option<IpAddr>,
) -> Result<((ApiToken, [u8; 32]), TokenCreated, AuditRecord), OpsError> {
    let label = label.trim();
    if label.is_empty() || label.chars().count() > LONGEST_LABEL || label.chars().any(char::is_control) {
        return Err(OpsError::invalid(
            "label",
            "it is empty, too long or not plain text",
            format!("1 to {LONGEST_LABEL} characters"),
        ));
    }
    if !(1..=LONGEST_HOURS).contains(&hours) {
        return Err(OpsError::invalid("hours", format!("{hours} is out of bounds"), format!("1 to {LONGEST_HOURS}")));
    }
    let scopes = scopes_of(actor, scopes)?;
    let secret = format!("{TOKEN_PREFIX}{}", secret::fresh()?);
    let now = clock::now();
    let token = ApiToken {
        id: clock::fresh(),
        user: owner(actor)?,
        label: label.to_owned(),
        scopes,
        created_at: now,
        expires_at: now.after(Duration::from_secs(hours * 3600)),
        used_at: None,
    };
    let told = shown(&token);
    let detail = json!({
        "label": told.label, "scopes": told.scopes, "expires": told.expires_at, "from": from.map(|address| address.to_string()),
    });
    let entry = actor.record("token.create", token.id, detail);
    let digest = secret::digest_of(&secret);
    Ok(((token, digest), TokenCreated { token: told, secret, user: actor.name.clone() }, entry))
}

/// Keeps it, unless the user has too many.
pub(super) fn keep(connection: &mut Connection, (token, digest): &(ApiToken, [u8; 32])) -> fettle_store::Result<()> {
    api_token::delete_ended(connection, token.created_at)?;
    if api_token::count(connection, token.user)? >= MOST {
        return Err(fettle_store::StoreError::conflict(format!(
            "the list of API tokens (a user may have {MOST}; revoke one first), which"
        )));
    }
    api_token::create(connection, token, digest)
}

/// Known names, within what the actor itself carries.
fn scopes_of(actor: &Actor, names: Option<Vec<String>>) -> Result<Option<BTreeSet<Permission>>, OpsError> {
    let Some(names) = names else { return Ok(actor.scopes.clone()) };
    let mut scopes = BTreeSet::new();
    for name in names {
        let permission = Permission::parse(&name).ok_or_else(|| {
            let known: Vec<&str> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
            let name: String = name.chars().take(40).collect();
            OpsError::invalid("scopes", format!("`{name}` is no permission"), known.join(", "))
        })?;
        actor.require(permission)?;
        scopes.insert(permission);
    }
    if scopes.is_empty() {
        return Err(OpsError::invalid(
            "scopes",
            "the list is empty: such a token could do nothing",
            "name at least one permission",
        ));
    }
    Ok(Some(scopes))
}

fn owner(actor: &Actor) -> Result<UserId, OpsError> {
    actor
        .user
        .ok_or_else(|| OpsError::Forbidden { why: "the server itself has no tokens".into(), advice: String::new() })
}

fn parse_id(text: &str) -> Result<ApiTokenId, OpsError> {
    text.parse().map_err(|error: fettle_domain::InvalidId| {
        OpsError::invalid("token", error, "an id as `fettle token list` prints it")
    })
}

fn shown(token: &ApiToken) -> Token {
    Token {
        id: token.id.to_string(),
        label: token.label.clone(),
        scopes: token.scopes.as_ref().map(|scopes| scopes.iter().map(ToString::to_string).collect()),
        created_at: token.created_at.to_string(),
        expires_at: token.expires_at.to_string(),
        last_used: token.used_at.map(|at| at.to_string()),
    }
}
