//! Findings: this vulnerability is present on this host, by this evidence.

use crate::advisory::{Disposition, VulnId};
use crate::reason::Reason;
use serde::{Deserialize, Serialize};

/// What matching says about one vulnerability in one source package of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The flaw.
    pub vulnerability: VulnId,
    /// Source package it sits in.
    pub source: String,
    /// Source version compared.
    pub source_version: String,
    /// Binary packages of that source installed on the host.
    pub packages: Vec<String>,
    /// The answer.
    pub state: VerdictState,
    /// First version that closes it, where one is published.
    pub fixed_version: Option<String>,
    /// The publisher's severity word.
    pub severity: String,
    /// Every step that led here, most decisive first.
    pub reasons: Vec<Reason>,
}

/// States kept apart, so that nobody mistakes one for another (words of CSAF-VEX where it has them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictState {
    /// Affected; `fixed_version` tells whether an update exists.
    Affected,
    /// Affected, and the fixed version is installed but not yet running (kernel, services): restart needed.
    RestartNeeded,
    /// Affected, and the vendor decided against an advisory for now, or for ever.
    Ignored,
    /// Affected, and no more support: there will be no fix.
    EndOfLife,
    /// The vendor does not know yet.
    UnderInvestigation,
    /// The installed version has the fix.
    Fixed,
    /// Never affected in this release.
    NotAffected,
}

impl VerdictState {
    /// All states.
    pub const ALL: [VerdictState; 7] = [
        VerdictState::Affected,
        VerdictState::RestartNeeded,
        VerdictState::Ignored,
        VerdictState::EndOfLife,
        VerdictState::UnderInvestigation,
        VerdictState::Fixed,
        VerdictState::NotAffected,
    ];

    /// The stable text of this state.
    pub fn as_str(self) -> &'static str {
        match self {
            VerdictState::Affected => "affected",
            VerdictState::RestartNeeded => "restart-needed",
            VerdictState::Ignored => "ignored",
            VerdictState::EndOfLife => "end-of-life",
            VerdictState::UnderInvestigation => "under-investigation",
            VerdictState::Fixed => "fixed",
            VerdictState::NotAffected => "not-affected",
        }
    }

    /// The state of this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether the flaw is present on the host (a finding exists).
    pub fn is_present(self) -> bool {
        matches!(
            self,
            VerdictState::Affected | VerdictState::RestartNeeded | VerdictState::Ignored | VerdictState::EndOfLife
        )
    }

    /// The state of an affected package with no fix, by the vendor's decision.
    pub fn of_disposition(disposition: Disposition) -> Self {
        match disposition {
            Disposition::Pending => VerdictState::Affected,
            Disposition::NoDsa | Disposition::Postponed | Disposition::Ignored | Disposition::Unimportant => {
                VerdictState::Ignored
            }
            Disposition::EndOfLife => VerdictState::EndOfLife,
        }
    }
}

/// Order of work, highest first (the paper's four keys, section 3.2: vendor severity, exploit
/// availability, asset criticality, exposure). Larger is more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Priority {
    /// 0 unknown, 1 negligible, 2 low, 3 medium, 4 high, 5 critical.
    pub severity: u8,
    /// 0 nothing known, 1 some likelihood (EPSS ≥ 0.1), 2 likely (EPSS ≥ 0.5), 3 exploited in the wild (KEV).
    pub exploit: u8,
}
