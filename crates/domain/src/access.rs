//! Who may do what: roles and the permissions they carry.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a person is for. Roles do not contain each other: an approver cannot create changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything, users included.
    Administrator,
    /// Hosts, feeds, and creating, starting, cancelling and undoing changes.
    Operator,
    /// Reading, approving and rejecting.
    Approver,
    /// Reading.
    Viewer,
}

impl Role {
    /// All roles, strongest first.
    pub const ALL: [Role; 4] = [Role::Administrator, Role::Operator, Role::Approver, Role::Viewer];

    /// The stable text of this role.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Administrator => "administrator",
            Role::Operator => "operator",
            Role::Approver => "approver",
            Role::Viewer => "viewer",
        }
    }

    /// The role of this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether this role carries the permission.
    pub fn may(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Role::Administrator => true,
            Role::Operator => !matches!(permission, P::ChangeApprove | P::UserManage),
            Role::Approver => matches!(
                permission,
                P::HostRead
                    | P::FindingRead
                    | P::FeedRead
                    | P::ChangeRead
                    | P::ChangeApprove
                    | P::AuditRead
                    | P::OwnAccount
            ),
            Role::Viewer => matches!(
                permission,
                P::HostRead | P::FindingRead | P::FeedRead | P::ChangeRead | P::AuditRead | P::OwnAccount
            ),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One kind of act. Every endpoint names the one it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// See hosts and their inventories.
    HostRead,
    /// Make enrolment tokens.
    HostEnrol,
    /// Revoke a host, change its groups.
    HostManage,
    /// See findings and vulnerabilities.
    FindingRead,
    /// See the state of feeds.
    FeedRead,
    /// Load feeds.
    FeedSync,
    /// See changes, rollouts, deployments and their output.
    ChangeRead,
    /// Create changes.
    ChangeCreate,
    /// Approve or reject changes.
    ChangeApprove,
    /// Start, cancel and undo changes.
    ChangeRun,
    /// See and verify the audit log.
    AuditRead,
    /// Create users, change their roles.
    UserManage,
    /// One's own password, sessions and API tokens.
    OwnAccount,
}

impl Permission {
    /// All permissions.
    pub const ALL: [Permission; 13] = [
        Permission::HostRead,
        Permission::HostEnrol,
        Permission::HostManage,
        Permission::FindingRead,
        Permission::FeedRead,
        Permission::FeedSync,
        Permission::ChangeRead,
        Permission::ChangeCreate,
        Permission::ChangeApprove,
        Permission::ChangeRun,
        Permission::AuditRead,
        Permission::UserManage,
        Permission::OwnAccount,
    ];

    /// The stable text of this permission; also the scope of an API token.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::HostRead => "host-read",
            Permission::HostEnrol => "host-enrol",
            Permission::HostManage => "host-manage",
            Permission::FindingRead => "finding-read",
            Permission::FeedRead => "feed-read",
            Permission::FeedSync => "feed-sync",
            Permission::ChangeRead => "change-read",
            Permission::ChangeCreate => "change-create",
            Permission::ChangeApprove => "change-approve",
            Permission::ChangeRun => "change-run",
            Permission::AuditRead => "audit-read",
            Permission::UserManage => "user-manage",
            Permission::OwnAccount => "own-account",
        }
    }

    /// The permission of this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
