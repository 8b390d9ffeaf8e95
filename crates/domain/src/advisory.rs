//! Advisories: what publishers state about vulnerabilities, as read from their feeds.

use crate::package::Ecosystem;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A feed by its stable name: `debian-tracker`, `osv-debian`, `cisa-kev`, `epss`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeedName(pub String);

impl fmt::Display for FeedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The public name of a flaw: a CVE id, or the publisher's own id where no CVE was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VulnId(pub String);

impl fmt::Display for VulnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One publisher's statement about one vulnerability in one source package of one release.
///
/// The unit that matching works on; a feed document becomes many. (Debian tracker: package × CVE ×
/// release; OSV: `affected[]` entry × CVE alias.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisory {
    /// Who says it.
    pub feed: FeedName,
    /// The publisher's own id of the record (`CVE-2024-5535`, `DSA-5764-1`).
    pub record: String,
    /// The flaw.
    pub vulnerability: VulnId,
    /// Other public names of the flaw, as this publisher gives them.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Where the package name lives.
    pub ecosystem: Ecosystem,
    /// Release codename the statement holds for (`bookworm`).
    pub release: String,
    /// Source package name.
    pub source: String,
    /// What is stated.
    pub statement: Statement,
    /// The publisher's own severity word (`high`, `not yet assigned`, …); empty when none.
    #[serde(default)]
    pub severity: String,
    /// The publisher's own words about its decision (tracker `nodsa`: `Minor issue`); empty when none.
    #[serde(default)]
    pub note: String,
    /// Last change, where the publisher tells.
    #[serde(default)]
    pub modified: Option<Timestamp>,
}

/// What a publisher says about a source package of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Statement {
    /// Versions from `introduced` (absent: from the first) below `fixed` are affected.
    Fixed {
        /// First affected version; absent means all before the fix.
        introduced: Option<String>,
        /// First version that is not affected.
        fixed: String,
    },
    /// Versions from `introduced` (absent: from the first) up to and including `last` are affected;
    /// which version is the first without the flaw is not stated (OSV `last_affected`).
    LastAffected {
        /// First affected version; absent means all up to the last.
        introduced: Option<String>,
        /// Last affected version.
        last: String,
    },
    /// Affected and no fixed version exists (yet).
    Unfixed {
        /// First affected version; absent means all.
        introduced: Option<String>,
        /// Why there will be none, or none soon.
        disposition: Disposition,
    },
    /// Never affected in this release (Debian tracker: fixed version `0`; VEX `not_affected`).
    NotAffected,
    /// The publisher does not know yet (tracker `undetermined`; VEX `under_investigation`).
    UnderInvestigation,
}

/// The publisher's decision about a flaw that has no fix in a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// A fix is to be expected.
    Pending,
    /// No advisory will be issued for it alone (tracker `no-dsa`): minor, may come with a point release.
    NoDsa,
    /// Fix put off to a later advisory (tracker `postponed`).
    Postponed,
    /// Will not be fixed (tracker `ignored`).
    Ignored,
    /// Not a security matter in practice (tracker urgency `unimportant`).
    Unimportant,
    /// The package or release gets no more security support.
    EndOfLife,
}

/// What is known about a flaw itself, whichever package has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VulnerabilityFacts {
    /// What it is, in the publisher's words; empty when unknown.
    #[serde(default)]
    pub description: String,
    /// CVSS vector text and base score (0.0 to 10.0), the highest version known.
    #[serde(default)]
    pub cvss: Option<Cvss>,
    /// EPSS: probability of exploitation within 30 days and percentile, both 0.0 to 1.0 (first.org/epss).
    #[serde(default)]
    pub epss: Option<Epss>,
    /// CISA KEV entry: exploited in the wild.
    #[serde(default)]
    pub kev: Option<Kev>,
}

/// A CVSS score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cvss {
    /// Vector text, `CVSS:3.1/AV:N/…`.
    pub vector: String,
    /// Base score, 0.0 to 10.0.
    pub score: f64,
}

/// An EPSS score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epss {
    /// Probability of exploitation in the next 30 days, 0.0 to 1.0.
    pub score: f64,
    /// Share of all scored flaws with the same or a lower score, 0.0 to 1.0.
    pub percentile: f64,
}

/// A Known Exploited Vulnerabilities entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kev {
    /// When CISA added it (YYYY-MM-DD).
    pub date_added: String,
    /// When US federal agencies must have closed it (YYYY-MM-DD).
    pub due_date: String,
    /// Known to be used in ransomware campaigns.
    pub ransomware: bool,
}
