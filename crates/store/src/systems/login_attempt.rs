//! Wrong passwords, counted by account and by address, so that guessing is slow on every server.

use crate::{Connection, Result};
use fettle_domain::Timestamp;

/// Failures of a subject within the window that is open now, and when it ends.
pub fn get(connection: &mut Connection, subject: &str, now: Timestamp) -> Result<(u32, Timestamp)> {
    let row = connection.query_one(
        "SELECT failures, window_ends FROM login_attempt WHERE subject = ?1 AND window_ends > ?2",
        &[subject.into(), now.into()],
    )?;
    row.map_or(Ok((0, now)), |row| Ok((u32::try_from(row.int(0)?).unwrap_or(u32::MAX), row.time(1)?)))
}

/// Counts one try; the first after a window opens a new one. Returns the count with it.
pub fn count(connection: &mut Connection, subject: &str, now: Timestamp, window_ends: Timestamp) -> Result<u32> {
    let row = connection.query_one(
        "INSERT INTO login_attempt (subject, failures, window_ends) VALUES (?1, 1, ?3) \
         ON CONFLICT (subject) DO UPDATE SET \
         failures = CASE WHEN login_attempt.window_ends > ?2 THEN login_attempt.failures + 1 ELSE 1 END, \
         window_ends = CASE WHEN login_attempt.window_ends > ?2 THEN login_attempt.window_ends ELSE excluded.window_ends END \
         RETURNING failures",
        &[subject.into(), now.into(), window_ends.into()],
    )?;
    row.map_or(Ok(1), |row| Ok(u32::try_from(row.int(0)?).unwrap_or(u32::MAX)))
}

/// Forgets a subject: it proved itself.
pub fn forget(connection: &mut Connection, subject: &str) -> Result<()> {
    connection.execute("DELETE FROM login_attempt WHERE subject = ?1", &[subject.into()])?;
    Ok(())
}

/// Takes one try back: it was right.
pub fn take_back(connection: &mut Connection, subject: &str) -> Result<()> {
    connection.execute(
        "UPDATE login_attempt SET failures = failures - 1 WHERE subject = ?1 AND failures > 0",
        &[subject.into()],
    )?;
    Ok(())
}

/// Forgets windows that are over. How many.
pub fn delete_ended(connection: &mut Connection, now: Timestamp) -> Result<u64> {
    connection.execute("DELETE FROM login_attempt WHERE window_ends <= ?1", &[now.into()])
}
