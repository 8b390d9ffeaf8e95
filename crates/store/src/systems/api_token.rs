//! API tokens.

use crate::page::{Listed, Page, Query, sort_columns};
use crate::systems::user::{self, User};
use crate::{Connection, Result, Row, StoreError};
use fettle_domain::access::Permission;
use fettle_domain::{ApiTokenId, Timestamp, UserId};
use std::collections::BTreeSet;

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Id.
    pub id: ApiTokenId,
    /// Whom it speaks for.
    pub user: UserId,
    /// What it is for.
    pub label: String,
    /// What it narrows the role to; `None` for nothing.
    pub scopes: Option<BTreeSet<Permission>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Last use, to the hour.
    pub used_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, user_id, label, scopes, created_at, expires_at, used_at";

fn token(row: &Row) -> Result<ApiToken> {
    let scopes = row.text_or_null(3)?.map(scopes_from).transpose()?;
    Ok(ApiToken {
        id: row.id(0)?,
        user: row.id(1)?,
        label: row.text(2)?.to_owned(),
        scopes,
        created_at: row.time(4)?,
        expires_at: row.time(5)?,
        used_at: row.time_or_null(6)?,
    })
}

fn scopes_from(text: &str) -> Result<BTreeSet<Permission>> {
    // A permission that this program does not know (any more) grants nothing.
    let names: Vec<String> =
        serde_json::from_str(text).map_err(|_| StoreError::Corrupt { what: "scopes of an API token".into() })?;
    Ok(names.iter().filter_map(|name| Permission::parse(name)).collect())
}

fn scopes_text(scopes: &BTreeSet<Permission>) -> String {
    let names: Vec<&str> = scopes.iter().map(|permission| permission.as_str()).collect();
    serde_json::Value::from(names).to_string()
}

/// Makes a token.
pub fn create(connection: &mut Connection, token: &ApiToken, secret_digest: &[u8; 32]) -> Result<()> {
    connection.execute(
        "INSERT INTO api_token (id, user_id, label, secret_digest, scopes, created_at, expires_at, used_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            token.id.into(),
            token.user.into(),
            (&token.label).into(),
            secret_digest.as_slice().into(),
            token.scopes.as_ref().map(scopes_text).into(),
            token.created_at.into(),
            token.expires_at.into(),
            token.used_at.into(),
        ],
    )?;
    Ok(())
}

/// The token of a secret, and its user as it is now. Whether it has expired is the caller's to say.
pub fn get(connection: &mut Connection, secret_digest: &[u8; 32]) -> Result<Option<(ApiToken, User)>> {
    let row = connection.query_one(
        &format!("SELECT {COLUMNS} FROM api_token WHERE secret_digest = ?1"),
        &[secret_digest.as_slice().into()],
    )?;
    let Some(row) = row else { return Ok(None) };
    let token = token(&row)?;
    Ok(user::get_by_id(connection, token.user)?.map(|user| (token, user)))
}

sort_columns! {
    /// What a user's tokens can be sorted by. A user has few.
    ApiTokenSort {
        /// When it was made.
        CreatedAt = "created_at" [number "created_at", id "id"],
        /// What it is for.
        Label = "label" [text "label", id "id"],
        /// When it ends.
        ExpiresAt = "expires_at" [number "expires_at", id "id"],
        /// Last use; what was never used is before all others.
        LastUsed = "last_used" [number "COALESCE(used_at, 0)", id "id"],
    }
}

/// A page of a user's tokens.
pub fn list(connection: &mut Connection, user: UserId, page: &Page<ApiTokenSort>) -> Result<Listed<ApiToken>> {
    let mut query = Query::new(COLUMNS, "api_token");
    let user = query.bind(user);
    query.only(format!("user_id = {user}"));
    query.page(connection, page, token)
}

/// How many a user has.
pub fn count(connection: &mut Connection, user: UserId) -> Result<u64> {
    let row = connection.query_one("SELECT COUNT(*) FROM api_token WHERE user_id = ?1", &[user.into()])?;
    row.map_or(Ok(0), |row| row.int(0)).map(|count| u64::try_from(count).unwrap_or(0))
}

/// Keeps that it was used.
pub fn used(connection: &mut Connection, id: ApiTokenId, at: Timestamp) -> Result<()> {
    connection.execute("UPDATE api_token SET used_at = ?2 WHERE id = ?1", &[id.into(), at.into()])?;
    Ok(())
}

/// Revokes one of a user's tokens; what it was.
pub fn delete(connection: &mut Connection, user: UserId, id: ApiTokenId) -> Result<ApiToken> {
    let row = connection.query_one(
        &format!("SELECT {COLUMNS} FROM api_token WHERE id = ?1 AND user_id = ?2"),
        &[id.into(), user.into()],
    )?;
    let found = row.map(|row| token(&row)).transpose()?.ok_or_else(|| StoreError::not_found(id))?;
    connection.execute("DELETE FROM api_token WHERE id = ?1", &[id.into()])?;
    Ok(found)
}

/// Revokes all of a user. How many.
pub fn delete_of_user(connection: &mut Connection, user: UserId) -> Result<u64> {
    connection.execute("DELETE FROM api_token WHERE user_id = ?1", &[user.into()])
}

/// Forgets expired ones. How many.
pub fn delete_ended(connection: &mut Connection, now: Timestamp) -> Result<u64> {
    connection.execute("DELETE FROM api_token WHERE expires_at <= ?1", &[now.into()])
}
