//! Who does something.

use crate::ops::OpsError;
use fettle_domain::UserId;
use fettle_domain::access::{Permission, Role};
use fettle_store::systems::audit::AuditRecord;
use std::collections::BTreeSet;

/// A signed-in person, possibly through a token with fewer permissions, or the server itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user; `None` for the server itself.
    pub user: Option<UserId>,
    /// Name, as it stands in the audit log.
    pub name: String,
    /// Role at this moment.
    pub role: Role,
    /// What an API token narrows the role to.
    pub scopes: Option<BTreeSet<Permission>>,
}

impl Actor {
    /// The server, acting by itself.
    pub fn server() -> Self {
        Self { user: None, name: "server".to_owned(), role: Role::Administrator, scopes: None }
    }

    /// Whether this permission is carried.
    pub fn may(&self, permission: Permission) -> bool {
        self.role.may(permission) && self.scopes.as_ref().is_none_or(|scopes| scopes.contains(&permission))
    }

    /// The permission, or the refusal that says whose lack it is.
    pub fn require(&self, permission: Permission) -> Result<(), OpsError> {
        if self.may(permission) {
            return Ok(());
        }
        let who = if self.role.may(permission) {
            "this API token's scopes do not carry".to_owned()
        } else {
            format!("the role {} does not carry", self.role)
        };
        Err(OpsError::Denied { permission, who })
    }

    /// An audit entry of this actor. `action` is a stable dotted name (`host.revoke`), `object` the
    /// id or name acted on.
    pub fn record(
        &self,
        action: &'static str,
        object: impl std::fmt::Display,
        detail: serde_json::Value,
    ) -> AuditRecord {
        AuditRecord { actor: self.name.clone(), action, object: object.to_string(), detail }
    }
}
