//! Why something is as it is: reasons are data, kept with each decision and told by `fettle explain`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One step in a chain of reasons, most decisive first. `topic` is a stable dotted name for
/// programs, `text` one sentence for people, `source` where it can be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable dotted name, such as `match.version-below-fix`.
    pub topic: String,
    /// One sentence in words, with the values compared.
    pub text: String,
    /// The feed record, policy or report it rests on; empty when it rests on arithmetic alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

impl Reason {
    /// A reason that rests on no outside record.
    pub fn new(topic: &str, text: impl Into<String>) -> Self {
        Self { topic: topic.to_owned(), text: text.into(), source: String::new() }
    }

    /// A reason with the record it rests on.
    pub fn from_source(topic: &str, text: impl Into<String>, source: impl Into<String>) -> Self {
        Self { topic: topic.to_owned(), text: text.into(), source: source.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.source.is_empty() {
            write!(f, " [{}]", self.source)?;
        }
        Ok(())
    }
}
