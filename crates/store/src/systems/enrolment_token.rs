//! Enrolment tokens: how a machine becomes a host. The secret is never stored, only its sha-256.

use crate::{Connection, Result};
use fettle_domain::{EnrolmentTokenId, GroupId, Timestamp};

/// A token as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// Its id.
    pub id: EnrolmentTokenId,
    /// New hosts join it.
    pub group: Option<GroupId>,
    /// Uses left.
    pub uses_left: i64,
    /// Worthless afterwards.
    pub expires_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// What came of using a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenUse {
    /// One use was taken; new hosts join the group.
    Taken(EnrolmentTokenId, Option<GroupId>),
    /// No such token.
    Unknown,
    /// No uses left.
    UsedUp,
    /// Its time is over.
    Expired,
}

/// Notes a token.
pub fn enrolment_token_create(connection: &mut Connection, token: &EnrolmentToken, secret_digest: &[u8]) -> Result<()> {
    connection.execute(
        "INSERT INTO enrolment_token (id, secret_digest, group_id, uses_left, expires_at, created_by, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[
            token.id.into(),
            secret_digest.into(),
            token.group.into(),
            token.uses_left.into(),
            token.expires_at.into(),
            (&token.created_by).into(),
            token.created_at.into(),
        ],
    )?;
    Ok(())
}

/// Takes one use of the token with this digest. Looking up by digest leaks nothing of the secret.
pub fn enrolment_token_use(connection: &mut Connection, secret_digest: &[u8], now: Timestamp) -> Result<TokenUse> {
    let taken = connection.query_one(
        "UPDATE enrolment_token SET uses_left = uses_left - 1 WHERE secret_digest = ?1 AND uses_left > 0 AND expires_at > ?2
         RETURNING id, group_id",
        &[secret_digest.into(), now.into()],
    )?;
    match taken {
        Some(row) => Ok(TokenUse::Taken(row.id(0)?, row.id_or_null(1)?)),
        None => enrolment_token_check(connection, secret_digest, now),
    }
}

/// What would come of using it, without using it.
pub fn enrolment_token_check(connection: &mut Connection, secret_digest: &[u8], now: Timestamp) -> Result<TokenUse> {
    let row = connection.query_one(
        "SELECT id, group_id, uses_left, expires_at FROM enrolment_token WHERE secret_digest = ?1",
        &[secret_digest.into()],
    )?;
    Ok(match row {
        None => TokenUse::Unknown,
        Some(row) if row.time(3)? <= now => TokenUse::Expired,
        Some(row) if row.int(2)? <= 0 => TokenUse::UsedUp,
        Some(row) => TokenUse::Taken(row.id(0)?, row.id_or_null(1)?),
    })
}

/// Tokens that still work, newest first.
pub fn enrolment_token_list(connection: &mut Connection, now: Timestamp) -> Result<Vec<EnrolmentToken>> {
    let rows = connection.query(
        "SELECT id, group_id, uses_left, expires_at, created_by, created_at FROM enrolment_token
         WHERE uses_left > 0 AND expires_at > ?1 ORDER BY id DESC LIMIT 500",
        &[now.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(EnrolmentToken {
                id: row.id(0)?,
                group: row.id_or_null(1)?,
                uses_left: row.int(2)?,
                expires_at: row.time(3)?,
                created_by: row.text(4)?.to_owned(),
                created_at: row.time(5)?,
            })
        })
        .collect()
}

/// Takes a token back: it reads as used up. Whether it was there.
pub fn enrolment_token_revoke(connection: &mut Connection, id: EnrolmentTokenId) -> Result<bool> {
    Ok(connection.execute("UPDATE enrolment_token SET uses_left = 0 WHERE id = ?1", &[id.into()])? > 0)
}
