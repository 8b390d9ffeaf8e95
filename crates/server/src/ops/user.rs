//! Users and their roles. A change takes effect with the next request: role and state are read
//! with each.

use super::page::{page_of, place_text};
use super::{OpsError, Part};
use crate::access::{Actor, secret, session};
use crate::{AppState, clock};
use fettle_domain::access::{Permission, Role};
use fettle_store::StoreError;
use fettle_store::page::Order;
use fettle_store::systems::audit;
use fettle_store::systems::user::{self, User, UserSort};
use fettle_wire::api::account::{User as Shown, UserChange, UserChanged, UserCreate, UserCreated, UserList};
use serde_json::json;

/// A page of users; in the list's own order by name.
pub async fn list(state: &AppState, actor: &Actor, part: Part) -> Result<UserList, OpsError> {
    actor.require(Permission::UserManage)?;
    let page = page_of(&part, Order::ascending(UserSort::Name))?;
    let order = page.order;
    let (listed, total) =
        state.store.read(move |connection| Ok((user::list(connection, &page)?, user::count(connection)?))).await?;
    let next = listed.next.as_ref().map(|place| place_text(order, place));
    Ok(UserList { items: listed.items.iter().map(shown).collect(), next, total: Some(total) })
}

/// A new user with a one-time password, said only in the answer.
pub async fn create(state: &AppState, actor: &Actor, request: UserCreate) -> Result<UserCreated, OpsError> {
    actor.require(Permission::UserManage)?;
    let name = valid_name(&request.name)?;
    let role = valid_role(&request.role)?;
    let one_time_password = secret::one_time_password()?;
    let now = clock::now();
    let account = User {
        id: clock::fresh(),
        name: name.clone(),
        role,
        password: state.passwords.hash(&one_time_password).await?,
        password_change_required: true,
        disabled: false,
        created_at: now,
        last_sign_in: None,
        generation: 1,
    };
    let told = shown(&account);
    let entry = actor.record("user.create", &name, json!({ "role": role.as_str() }));
    let made = state
        .store
        .write(move |connection| {
            user::create(connection, &account)?;
            audit::append(connection, now, &entry)
        })
        .await;
    match made {
        Err(StoreError::Duplicate { .. }) => Err(OpsError::conflict(format!("there is already a user {name}"))),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(UserCreated { user: told, one_time_password }),
    }
}

/// Another role, shut out or let in, or a new one-time password. The last administrator stays one.
pub async fn change(state: &AppState, actor: &Actor, name: &str, request: UserChange) -> Result<UserChanged, OpsError> {
    actor.require(Permission::UserManage)?;
    let role = request.role.as_deref().map(valid_role).transpose()?;
    if role.is_none() && request.disabled.is_none() && !request.reset_password {
        return Err(OpsError::invalid(
            "role",
            "nothing is to be changed",
            "give `role`, `disabled` or `reset_password`",
        ));
    }
    let one_time_password = if request.reset_password { Some(secret::one_time_password()?) } else { None };
    let password = match &one_time_password {
        Some(password) => Some(state.passwords.hash(password).await?),
        None => None,
    };
    let name = normal(name);
    let detail =
        json!({ "role": request.role, "disabled": request.disabled, "reset_password": request.reset_password });
    let entry = actor.record("user.change", &name, detail);
    let changed = state
        .store
        .write(move |connection| {
            let mut account =
                user::get(connection, &name)?.ok_or_else(|| StoreError::not_found(format!("user {name}")))?;
            let was_administrator = account.role == Role::Administrator && !account.disabled;
            account.role = role.unwrap_or(account.role);
            account.disabled = request.disabled.unwrap_or(account.disabled);
            if let Some(password) = password {
                account.password = password;
                account.password_change_required = true;
            }
            let stays = account.role == Role::Administrator && !account.disabled;
            if was_administrator && !stays && user::count_administrators(connection)? <= 1 {
                return Ok(Err(OpsError::conflict(format!(
                    "{name} is the last administrator: make another one first"
                ))));
            }
            user::update(connection, &account)?;
            if request.reset_password || account.disabled {
                session::end_all(connection, account.id)?;
            }
            audit::append(connection, clock::now(), &entry)?;
            Ok(Ok(account))
        })
        .await??;
    Ok(UserChanged { user: shown(&changed), one_time_password })
}

/// Names are compared in this form.
pub(super) fn normal(name: &str) -> String {
    name.trim().to_lowercase().chars().take(100).collect()
}

fn valid_name(name: &str) -> Result<String, OpsError> {
    let name = normal(name);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    // `server` acts in the audit log, `local` is who owns the data directory.
    let reserved = name == "server" || name == crate::LOCAL_OPERATOR;
    if first && name.len() <= 64 && name.bytes().all(plain) && !reserved {
        return Ok(name);
    }
    Err(OpsError::invalid(
        "name",
        "it is not usable as a user name",
        "Begin with a letter; then letters, digits, `.`, `_`, `-`; up to 64; not `server` or `local`.",
    ))
}

fn valid_role(text: &str) -> Result<Role, OpsError> {
    Role::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        let text: String = text.chars().take(40).collect();
        OpsError::invalid("role", format!("`{text}` is no role"), known.join(", "))
    })
}

fn shown(user: &User) -> Shown {
    Shown {
        id: user.id.to_string(),
        name: user.name.clone(),
        role: user.role.to_string(),
        disabled: user.disabled,
        password_change_required: user.password_change_required,
        created_at: user.created_at.to_string(),
        last_sign_in: user.last_sign_in.map(|at| at.to_string()),
    }
}
