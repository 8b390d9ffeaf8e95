//! The whole log of a deployment, fetched from its host when a person asks for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a request for a log stands, with a page of its lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WholeLog {
    /// Whose log.
    pub deployment: String,
    /// Its host's id.
    pub host: String,
    /// Its host's name.
    pub host_name: String,
    /// `not-asked`, `asked`, `arriving`, `complete` or `missing`.
    pub state: String,
    /// Who asked; empty when nobody did.
    pub asked_by: String,
    /// When.
    pub asked_at: Option<String>,
    /// When the last part came.
    pub heard_at: Option<String>,
    /// When the server forgets it; the log itself stays on the host.
    pub expires_at: Option<String>,
    /// When the host last spoke.
    pub host_last_seen: String,
    /// What is waited for, or why there is nothing; empty when it is complete.
    pub waiting_for: String,
    /// Bytes that are here.
    pub bytes: u64,
    /// A page of lines, in order.
    pub lines: Vec<WholeLogLine>,
    /// Pass it as `after`; absent when no later line is here.
    pub next: Option<String>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WholeLogLine {
    /// Its number in the log, from 1.
    pub number: u64,
    /// When, by the host's clock.
    pub at: String,
    /// Task that wrote it (`install`); empty before the first.
    pub task: String,
    /// `output`, `error` or `fettle`.
    pub stream: String,
    /// The line, secrets masked.
    pub text: String,
}
