//! The plugin traits: small, object-safe, values in and values out. `vendors` implements them;
//! `server` and `agent` call them and do all fetching, opening and capping themselves.
//!
//! A plugin may also be another program: `protocol` is what is said, `host` starts and asks it behind the same
//! traits, `author` makes a program of a trait, and `conformance` tries any of them out (docs/protocol.md).
//!
//! Absent on purpose: network, store, any vendor's name.

pub mod author;
pub mod conformance;
pub mod digest;
pub mod error;
pub mod feed;
pub mod host;
pub mod protocol;
pub mod provider;
pub mod scratch;

pub use error::{ErrorKind, PluginError};
pub use feed::{Document, Feed, FeedContent, Problem};
pub use provider::{
    Applied, Candidate, ConffilePolicy, Provider, ProviderContext, ProviderEvents, ResourceLimits, Step, StepRequest,
};

/// What a plugin says of itself, and what it needs to be called at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Stable name, such as `apt` or `debian-tracker`.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Commands that must be present on the host (providers only).
    pub commands: Vec<String>,
    /// Whether acting (not reading) needs root.
    pub root: bool,
}

impl Manifest {
    /// A plugin that needs neither commands nor root.
    pub fn new(name: &str, title: &str) -> Self {
        Self { name: name.to_owned(), title: title.to_owned(), commands: Vec::new(), root: false }
    }
}

/// What every plugin can say.
pub trait Plugin: Send + Sync {
    /// Who it is and what it needs.
    fn manifest(&self) -> Manifest;
}
