//! The log that a host keeps of a deployment: masked, bounded, sent when a person asks for it.

use fettle_domain::{LogRequestId, Timestamp};
use serde::{Deserialize, Serialize};

/// One line. Numbers begin at 1 and grow by one: a gap is what the host had to cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number in the log of its deployment.
    pub number: u64,
    /// When it was written, by the host's clock.
    pub at: Timestamp,
    /// Task that wrote it (`install`); empty before the first.
    pub task: String,
    /// Where it comes from.
    pub stream: LogStream,
    /// The line, secrets masked, without control characters.
    pub text: String,
}

/// Where a line of a log comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    /// Standard output of the package manager and its scripts.
    Output,
    /// Their standard error.
    Error,
    /// Fettle itself.
    Fettle,
}

/// A part of a kept log on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPart {
    /// Whose answer this is.
    pub request: LogRequestId,
    /// Number of the first line that was asked for: where the part before ended.
    pub from: u64,
    /// Lines in order of their numbers.
    pub lines: Vec<LogLine>,
    /// Nothing follows.
    pub last: bool,
    /// Why there are no lines; empty when there are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub missing: String,
}

/// Answer to a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReply {
    /// Number of the first line that the server does not have.
    pub next: u64,
    /// Whether anybody still waits for more.
    pub wanted: bool,
    /// Bytes of text that may still be sent.
    pub most_bytes: u64,
}
