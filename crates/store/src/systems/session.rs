//! Signed-in browsers.

use crate::systems::user::{self, User};
use crate::{Connection, Result};
use fettle_domain::{SessionId, Timestamp, UserId};

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// sha-256 of the secret in the cookie.
    pub secret_digest: [u8; 32],
    /// When it began.
    pub created_at: Timestamp,
    /// Last request, to the minute.
    pub seen_at: Timestamp,
    /// Ends then in any case.
    pub expires_at: Timestamp,
}

/// Makes a session.
pub fn create(connection: &mut Connection, session: &Session) -> Result<()> {
    connection.execute(
        "INSERT INTO session (id, user_id, secret_digest, created_at, seen_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        &[
            session.id.into(),
            session.user.into(),
            session.secret_digest.as_slice().into(),
            session.created_at.into(),
            session.seen_at.into(),
            session.expires_at.into(),
        ],
    )?;
    Ok(())
}

/// The session of a secret, and its user as it is now. Whether it has ended is the caller's to say.
pub fn get(connection: &mut Connection, secret_digest: &[u8; 32]) -> Result<Option<(Session, User)>> {
    let row = connection.query_one(
        "SELECT id, user_id, created_at, seen_at, expires_at FROM session WHERE secret_digest = ?1",
        &[secret_digest.as_slice().into()],
    )?;
    let Some(row) = row else { return Ok(None) };
    let session = Session {
        id: row.id(0)?,
        user: row.id(1)?,
        secret_digest: *secret_digest,
        created_at: row.time(2)?,
        seen_at: row.time(3)?,
        expires_at: row.time(4)?,
    };
    Ok(user::get_by_id(connection, session.user)?.map(|user| (session, user)))
}

/// Keeps that it was used.
pub fn seen(connection: &mut Connection, id: SessionId, at: Timestamp) -> Result<()> {
    connection.execute("UPDATE session SET seen_at = ?2 WHERE id = ?1 AND seen_at < ?2", &[id.into(), at.into()])?;
    Ok(())
}

/// Ends one.
pub fn delete(connection: &mut Connection, id: SessionId) -> Result<()> {
    connection.execute("DELETE FROM session WHERE id = ?1", &[id.into()])?;
    Ok(())
}

/// Ends all of a user. How many.
pub fn delete_of_user(connection: &mut Connection, user: UserId) -> Result<u64> {
    connection.execute("DELETE FROM session WHERE user_id = ?1", &[user.into()])
}

/// Forgets those whose time is over, or that were not used since `idle_since`. How many.
pub fn delete_ended(connection: &mut Connection, now: Timestamp, idle_since: Timestamp) -> Result<u64> {
    connection.execute("DELETE FROM session WHERE expires_at <= ?1 OR seen_at < ?2", &[now.into(), idle_since.into()])
}
