//! Users, sign-in and API tokens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/login`: user and password become an API token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// What the token is for, as `fettle` lists it.
    #[serde(default)]
    pub label: String,
    /// Hours until it expires; the server's session length when absent.
    #[serde(default)]
    pub hours: Option<u64>,
    /// Permissions it carries; all of the user's role when absent.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
}

impl std::fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoginRequest({}, …)", self.user)
    }
}

/// `POST /api/v1/password`: changes one's own password; also the way to change a one-time password,
/// so it needs no sign-in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordRequest {
    /// User name.
    pub user: String,
    /// The present password.
    pub current: String,
    /// The new one.
    pub new: String,
}

impl std::fmt::Debug for PasswordRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PasswordRequest({}, …)", self.user)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    /// User name.
    pub user: String,
    /// Role.
    pub role: String,
    /// What may be asked with this session or token.
    pub permissions: Vec<String>,
    /// Whether an API token's scopes narrow the role.
    pub scoped: bool,
}

/// `POST /api/v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCreate {
    /// User name: lower-case letters, digits, `.`, `_`, `-`; up to 64.
    pub name: String,
    /// `administrator`, `operator`, `approver` or `viewer`.
    pub role: String,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Role.
    pub role: String,
    /// May not sign in.
    pub disabled: bool,
    /// Has a one-time password.
    pub password_change_required: bool,
    /// When it was made.
    pub created_at: String,
    /// Last sign-in, if any.
    pub last_sign_in: Option<String>,
}

/// A new user, and its one-time password, said only here.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserCreated {
    /// The user.
    pub user: User,
    /// To be handed over, and changed at the first sign-in.
    pub one_time_password: String,
}

/// `PATCH /api/v1/users/{name}`: what is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// New role.
    #[serde(default)]
    pub role: Option<String>,
    /// Shut out or let in again.
    #[serde(default)]
    pub disabled: Option<bool>,
    /// Make a new one-time password.
    #[serde(default)]
    pub reset_password: bool,
}

/// A user as changed, with the new one-time password when one was asked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserChanged {
    /// The user.
    pub user: User,
    /// To be handed over, and changed at the first sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_time_password: Option<String>,
}

/// Users by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserList {
    /// Of this page.
    pub items: Vec<User>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages.
    pub total: Option<u64>,
}

/// `POST /api/v1/tokens`: a further API token for oneself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// What it is for.
    pub label: String,
    /// Permissions it carries; all of the role when absent.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
    /// Hours until it expires, 1 to 8784.
    pub hours: u64,
}

/// An API token; its secret is said only once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Id.
    pub id: String,
    /// What it is for.
    pub label: String,
    /// Permissions it carries; all of the role when absent.
    pub scopes: Option<Vec<String>>,
    /// When it was made.
    pub created_at: String,
    /// When it ends.
    pub expires_at: String,
    /// When it was last used, to the hour.
    pub last_used: Option<String>,
}

/// A new API token with its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenCreated {
    /// The token.
    pub token: Token,
    /// `fettle_…`, for the `Authorization: Bearer` header. Said only here.
    pub secret: String,
    /// Whom it speaks for.
    pub user: String,
}

/// One's own API tokens, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// Of this page.
    pub items: Vec<Token>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages.
    pub total: Option<u64>,
}
