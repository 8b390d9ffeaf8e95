//! For who owns the data directory: an API token of a local operator, without a password. The
//! directory is the root of trust anyway; what is done with it stands in the audit log.

use crate::access::{Actor, TOKEN_PREFIX, password, secret};
use crate::{ServerError, clock};
use fettle_domain::ApiTokenId;
use fettle_domain::access::Role;
use fettle_store::systems::api_token::{self, ApiToken};
use fettle_store::systems::{audit, user};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Name of the local operator.
pub const LOCAL_OPERATOR: &str = "local";
/// Life of its tokens.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A token of the local operator (made when missing): its secret and its id. The server may run.
pub fn local_token(data_dir: &Path, database_url: Option<&str>) -> Result<(String, ApiTokenId), ServerError> {
    let store = crate::run::open_existing(data_dir, database_url)?;
    let text = format!("{TOKEN_PREFIX}{}", secret::fresh()?);
    let digest = secret::digest_of(&text);
    // Nobody knows this password: the user signs in by token only.
    let unknown = password::hash_now(&secret::fresh()?)?;
    let (now, id): (_, ApiTokenId) = (clock::now(), clock::fresh());
    store.write_blocking(move |connection| {
        let owner = match user::get(connection, LOCAL_OPERATOR)? {
            Some(account) => account.id,
            None => {
                let account = user::User {
                    id: clock::fresh(),
                    name: LOCAL_OPERATOR.to_owned(),
                    role: Role::Operator,
                    password: unknown,
                    password_change_required: false,
                    disabled: false,
                    created_at: now,
                    last_sign_in: None,
                    generation: 1,
                };
                user::create(connection, &account)?;
                let detail = json!({ "role": account.role.as_str(), "by": "command on the server's machine" });
                audit::append(connection, now, &Actor::server().record("user.create", LOCAL_OPERATOR, detail))?;
                account.id
            }
        };
        let token = ApiToken {
            id,
            user: owner,
            label: "command on the server's machine".to_owned(),
            scopes: None,
            created_at: now,
            expires_at: now.after(LIFE),
            used_at: None,
        };
        api_token::delete_ended(connection, now)?;
        api_token::create(connection, &token, &digest)?;
        let detail = json!({ "user": LOCAL_OPERATOR, "by": "command on the server's machine" });
        audit::append(connection, now, &Actor::server().record("token.create", id, detail))
    })?;
    Ok((text, id))
}
