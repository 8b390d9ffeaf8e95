//! Findings and vulnerabilities.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReasonView {
    /// Stable dotted name, such as `match.version-below-fix`.
    pub topic: String,
    /// One sentence.
    pub text: String,
    /// The record, policy or report it rests on; may be empty.
    pub source: String,
}

/// What `fettle explain` says of anything: sentences, most decisive first, and what is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// What is explained, as an id.
    pub id: String,
    /// One line: what it is and where it stands.
    pub summary: String,
    /// Why.
    pub reasons: Vec<ReasonView>,
    /// What has to happen next, or is being waited for.
    pub waiting_for: Vec<String>,
    /// Its history, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// One event of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// When.
    pub at: String,
    /// What happened.
    pub event: String,
    /// Who or what did it.
    pub actor: String,
    /// Why.
    pub reasons: Vec<ReasonView>,
}

/// A finding in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindingSummary {
    /// Its id.
    pub id: String,
    /// Host id.
    pub host: String,
    /// Host name; empty when it reported none.
    pub host_name: String,
    /// The flaw.
    pub vulnerability: String,
    /// Source package.
    pub source: String,
    /// Source version on the host.
    pub source_version: String,
    /// Binary packages of it.
    pub packages: Vec<String>,
    /// Where it stands: open, planned, remediated, verified, mitigated, accepted, not-affected.
    pub state: String,
    /// What matching says: affected, restart-needed, ignored, end-of-life, under-investigation, fixed, not-affected.
    pub verdict: String,
    /// First version that closes it; absent when none is published.
    pub fixed_version: Option<String>,
    /// The publisher's severity word.
    pub severity: String,
    /// Severity level: unknown, negligible, low, medium, high, critical.
    pub level: String,
    /// Exploited in the wild (CISA KEV).
    pub exploited: bool,
    /// EPSS level 0 to 3 as prioritised.
    pub exploit_level: u8,
    /// When first seen.
    pub first_seen: String,
    /// When last changed.
    pub changed_at: String,
}

/// A page of findings, most urgent first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindingList {
    /// Of this page.
    pub items: Vec<FindingSummary>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages, where it is cheap to know.
    pub total: Option<u64>,
}

/// One finding with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindingDetail {
    /// As in lists.
    pub summary: FindingSummary,
    /// What is known of the flaw.
    pub facts: VulnerabilityFactsView,
    /// Why it is open or closed.
    pub reasons: Vec<ReasonView>,
    /// Its history, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// What is known of a flaw, whatever package has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VulnerabilityFactsView {
    /// In the publisher's words; may be empty.
    pub description: String,
    /// CVSS base score, 0.0 to 10.0.
    pub cvss_score: Option<f64>,
    /// CVSS vector.
    pub cvss_vector: Option<String>,
    /// Probability of exploitation within 30 days, 0.0 to 1.0.
    pub epss_score: Option<f64>,
    /// EPSS percentile, 0.0 to 1.0.
    pub epss_percentile: Option<f64>,
    /// When CISA listed it as exploited (YYYY-MM-DD).
    pub kev_date_added: Option<String>,
    /// When US federal agencies must have closed it (YYYY-MM-DD).
    pub kev_due_date: Option<String>,
    /// Known from ransomware campaigns.
    pub kev_ransomware: Option<bool>,
}

/// One vulnerability: facts and what each feed says. Its hosts: `GET /api/v1/findings?vulnerability=…`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VulnerabilityDetail {
    /// Its name.
    pub id: String,
    /// What is known of it.
    pub facts: VulnerabilityFactsView,
    /// Hosts that have it open.
    pub hosts: u64,
    /// What each feed says, by feed, release and source package.
    pub statements: Vec<StatementView>,
}

/// One publisher's statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementView {
    /// Feed.
    pub feed: String,
    /// The publisher's record.
    pub record: String,
    /// Release codename.
    pub release: String,
    /// Source package.
    pub source: String,
    /// In words.
    pub statement: String,
    /// First fixed version, if any.
    pub fixed_version: Option<String>,
    /// The publisher's severity word.
    pub severity: String,
}

/// How many findings there are of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingCountView {
    /// State.
    pub state: String,
    /// Verdict.
    pub verdict: String,
    /// Severity level.
    pub level: String,
    /// A fix is published.
    pub fixable: bool,
    /// Exploited in the wild.
    pub exploited: bool,
    /// How many.
    pub findings: u64,
}

/// Counts of all kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingCounts {
    /// One a kind.
    pub items: Vec<FindingCountView>,
}
