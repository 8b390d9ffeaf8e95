//! The audit log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who did what to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Position in the chain, from 1, without gaps.
    pub sequence: u64,
    /// When.
    pub at: String,
    /// Who: a user name, `host …` or `server`.
    pub actor: String,
    /// What: stable dotted name, such as `host.revoke`.
    pub action: String,
    /// To what.
    pub object: String,
    /// Particulars.
    pub detail: serde_json::Value,
    /// Lowercase hex sha-256 over the former entry's digest and this entry.
    pub digest: String,
}

/// Entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditList {
    /// Of this page.
    pub items: Vec<AuditEntry>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages.
    pub total: Option<u64>,
}

/// What a walk over the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditVerdict {
    /// Whether every entry follows from the one before it.
    pub intact: bool,
    /// Entries that were checked.
    pub checked: u64,
    /// Digest of the last entry that holds: write it down elsewhere, and compare later.
    pub head: String,
    /// First entry that does not hold.
    pub broken_at: Option<u64>,
    /// What is wrong with it.
    pub why: String,
}
