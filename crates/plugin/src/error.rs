//! Typed errors of plugins: the caller decides by kind, a person reads message and advice.

use serde::{Deserialize, Serialize};

/// What kind of refusal it is. Closed: unknown kinds from foreign plugins decode to `Failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// This plugin cannot do that at all.
    Unsupported,
    /// It does not apply to the present state (the world has changed, nothing to do).
    NotApplicable,
    /// The input is wrong.
    InvalidInput,
    /// Not now: lock held, mirror away, disk full. Worth another try.
    Unavailable,
    /// Not allowed: permission, signature, policy.
    Denied,
    /// Tried and failed.
    Failed,
}

/// An error of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PluginError {
    /// Kind, for the caller's decision.
    pub kind: ErrorKind,
    /// What happened, to what.
    pub message: String,
    /// What to do next, for a person; may be empty.
    pub advice: String,
    /// Output or deeper causes, most telling first, each bounded to a few lines.
    pub causes: Vec<String>,
}

impl PluginError {
    /// An error with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), advice: String::new(), causes: Vec::new() }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// The same with a deeper cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }
}
