//! Feeds: a publisher's documents become advisories and facts about vulnerabilities.

use crate::{Plugin, PluginError};
use fettle_domain::advisory::{Advisory, FeedName, VulnId, VulnerabilityFacts};

/// A document as the host fetched, unpacked and capped it.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// File name or archive member name, for messages.
    pub name: &'a str,
    /// The plain bytes.
    pub bytes: &'a [u8],
}

/// What one document holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeedContent {
    /// Statements about packages.
    pub advisories: Vec<Advisory>,
    /// Facts about flaws, whatever package has them.
    pub facts: Vec<(VulnId, VulnerabilityFacts)>,
    /// Records that could not be read; the others stand.
    pub problems: Vec<Problem>,
}

/// A record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Document and place in it (`tracker.json: openssl/CVE-2024-1`).
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

/// A publisher of vulnerability data.
pub trait Feed: Plugin {
    /// Its stable name.
    fn name(&self) -> FeedName;

    /// Where the publisher serves it; the host fetches.
    fn url(&self) -> &str;

    /// Whether this document is one of this feed, judged by its name and content alone.
    fn recognises(&self, document: Document<'_>) -> bool;

    /// Reads one document. A record that is wrong becomes a problem; a document that is cut or no
    /// document of this feed at all is an error, and the last good data stays in use.
    fn read(&self, document: Document<'_>) -> Result<FeedContent, PluginError>;
}
