//! People who may sign in.

use crate::page::{Listed, Page, Query, sort_columns};
use crate::{Connection, Result, Row, StoreError};
use fettle_domain::access::Role;
use fettle_domain::{Timestamp, UserId};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Id.
    pub id: UserId,
    /// Name, unique.
    pub name: String,
    /// Role.
    pub role: Role,
    /// PHC string of the password.
    pub password: String,
    /// The password is a one-time one.
    pub password_change_required: bool,
    /// May not sign in.
    pub disabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last sign-in.
    pub last_sign_in: Option<Timestamp>,
    /// Grows with each change.
    pub generation: i64,
}

const COLUMNS: &str =
    "id, name, role, password, password_change_required, disabled, created_at, last_sign_in, generation";

fn user(row: &Row) -> Result<User> {
    let role = row.text(2)?;
    Ok(User {
        id: row.id(0)?,
        name: row.text(1)?.to_owned(),
        role: Role::parse(role).ok_or_else(|| StoreError::Corrupt { what: format!("role `{role}` of a user") })?,
        password: row.text(3)?.to_owned(),
        password_change_required: row.bool(4)?,
        disabled: row.bool(5)?,
        created_at: row.time(6)?,
        last_sign_in: row.time_or_null(7)?,
        generation: row.int(8)?,
    })
}

/// Makes a user. A name that is taken is a `Duplicate`.
pub fn create(connection: &mut Connection, user: &User) -> Result<()> {
    connection.execute(
        "INSERT INTO user_account (id, name, role, password, password_change_required, disabled, created_at, last_sign_in, generation) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)",
        &[
            user.id.into(),
            (&user.name).into(),
            user.role.as_str().into(),
            (&user.password).into(),
            user.password_change_required.into(),
            user.disabled.into(),
            user.created_at.into(),
            user.last_sign_in.into(),
        ],
    )?;
    Ok(())
}

/// By name.
pub fn get(connection: &mut Connection, name: &str) -> Result<Option<User>> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM user_account WHERE name = ?1"), &[name.into()])?;
    row.map(|row| user(&row)).transpose()
}

/// By id.
pub fn get_by_id(connection: &mut Connection, id: UserId) -> Result<Option<User>> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM user_account WHERE id = ?1"), &[id.into()])?;
    row.map(|row| user(&row)).transpose()
}

sort_columns! {
    /// What a list of users can be sorted by. There are few: only the name has an index.
    UserSort {
        /// Name.
        Name = "name" [text "name"],
        /// Role.
        Role = "role" [text "role", text "name"],
        /// When it was made.
        CreatedAt = "created_at" [number "created_at", id "id"],
        /// Last sign-in; who never signed in is before all others.
        LastSignIn = "last_sign_in" [number "COALESCE(last_sign_in, 0)", id "id"],
    }
}

/// A page of users.
pub fn list(connection: &mut Connection, page: &Page<UserSort>) -> Result<Listed<User>> {
    Query::new(COLUMNS, "user_account").page(connection, page, user)
}

/// How many there are.
pub fn count(connection: &mut Connection) -> Result<u64> {
    let row = connection.query_one("SELECT COUNT(*) FROM user_account", &[])?;
    row.map_or(Ok(0), |row| row.int(0)).map(|count| u64::try_from(count).unwrap_or(0))
}

/// How many administrators may sign in.
pub fn count_administrators(connection: &mut Connection) -> Result<u64> {
    let row =
        connection.query_one("SELECT COUNT(*) FROM user_account WHERE role = 'administrator' AND disabled = 0", &[])?;
    row.map_or(Ok(0), |row| row.int(0)).map(|count| u64::try_from(count).unwrap_or(0))
}

/// Writes role, password, its state and whether it is disabled, against the generation it was read with.
pub fn update(connection: &mut Connection, user: &User) -> Result<()> {
    let changed = connection.execute(
        "UPDATE user_account SET role = ?3, password = ?4, password_change_required = ?5, disabled = ?6, generation = generation + 1 \
         WHERE id = ?1 AND generation = ?2",
        &[
            user.id.into(),
            user.generation.into(),
            user.role.as_str().into(),
            (&user.password).into(),
            user.password_change_required.into(),
            user.disabled.into(),
        ],
    )?;
    if changed == 0 { Err(StoreError::conflict(format!("user {}", user.name))) } else { Ok(()) }
}

/// Keeps the moment of a sign-in; no reason for a conflict.
pub fn signed_in(connection: &mut Connection, id: UserId, at: Timestamp) -> Result<()> {
    connection.execute("UPDATE user_account SET last_sign_in = ?2 WHERE id = ?1", &[id.into(), at.into()])?;
    Ok(())
}
