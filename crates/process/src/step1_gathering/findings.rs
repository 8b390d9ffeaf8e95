//! What happens to the findings of a host after its verdicts are known. A finding closes only here,
//! and only because an inventory shows the flaw gone.

use fettle_domain::FindingId;
use fettle_domain::advisory::VulnId;
use fettle_domain::finding::{Verdict, VerdictState};
use fettle_domain::machine::FindingState;
use fettle_domain::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};

/// What the store has of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExistingFinding {
    /// Its id.
    pub id: FindingId,
    /// The flaw.
    pub vulnerability: VulnId,
    /// Source package.
    pub source: String,
    /// Where it stands.
    pub state: FindingState,
    /// The last verdict's state.
    pub verdict: VerdictState,
    /// The last verdict's source version.
    pub source_version: String,
    /// The last verdict's fixed version.
    pub fixed_version: Option<String>,
}

/// What is to be done with a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindingAction {
    /// Present and not known yet.
    Open {
        /// The evidence.
        verdict: Verdict,
    },
    /// Still present, by other evidence than before.
    Update {
        /// Which.
        id: FindingId,
        /// The new evidence.
        verdict: Verdict,
    },
    /// Proved gone.
    Prove {
        /// Which.
        id: FindingId,
        /// The proof.
        reasons: Vec<Reason>,
        /// Source version that proves it; empty when the package is gone.
        source_version: String,
        /// The verdict's state.
        verdict: VerdictState,
    },
    /// Was proved gone and is present again.
    Regress {
        /// Which.
        id: FindingId,
        /// The evidence.
        verdict: Verdict,
    },
    /// No feed states it any more (withdrawn, rejected), or it was never affected after all.
    Dismiss {
        /// Which.
        id: FindingId,
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Was dismissed and is stated again.
    Reinstate {
        /// Which.
        id: FindingId,
        /// The evidence.
        verdict: Verdict,
    },
}

/// Compares verdicts with what the store has. `installed_sources` are all source packages of the
/// host; `outdated_sources` those whose replaced files a running service still uses.
pub fn decide_findings(
    existing: &[ExistingFinding],
    verdicts: Vec<Verdict>,
    installed_sources: &BTreeSet<String>,
    outdated_sources: &BTreeSet<String>,
) -> Vec<FindingAction> {
    let mut known: BTreeMap<(String, VulnId), &ExistingFinding> =
        existing.iter().map(|finding| ((finding.source.clone(), finding.vulnerability.clone()), finding)).collect();
    let mut actions = Vec::new();
    for verdict in verdicts {
        match known.remove(&(verdict.source.clone(), verdict.vulnerability.clone())) {
            None if verdict.state.is_present() => actions.push(FindingAction::Open { verdict }),
            None => {}
            Some(finding) => actions.extend(compare(finding, verdict, outdated_sources)),
        }
    }
    actions.extend(known.into_values().filter_map(|finding| unstated(finding, installed_sources)));
    actions
}

fn compare(finding: &ExistingFinding, mut verdict: Verdict, outdated: &BTreeSet<String>) -> Option<FindingAction> {
    let id = finding.id;
    let closed = finding.state == FindingState::Verified;
    if verdict.state.is_present() {
        return match finding.state {
            FindingState::Verified => Some(FindingAction::Regress { id, verdict }),
            FindingState::NotAffected => Some(FindingAction::Reinstate { id, verdict }),
            _ if same_evidence(finding, &verdict) => None,
            _ => Some(FindingAction::Update { id, verdict }),
        };
    }
    match verdict.state {
        VerdictState::Fixed if !closed && outdated.contains(&finding.source) => {
            verdict.state = VerdictState::RestartNeeded;
            verdict.reasons.push(Reason::new(
                "match.service-restart-needed",
                format!("{} {} is installed, but a running service still uses the replaced files: restart it", verdict.source, verdict.source_version),
            ));
            (!same_evidence(finding, &verdict)).then_some(FindingAction::Update { id, verdict })
        }
        VerdictState::Fixed if !closed && finding.state != FindingState::NotAffected => Some(FindingAction::Prove {
            id,
            reasons: verdict.reasons,
            source_version: verdict.source_version,
            verdict: VerdictState::Fixed,
        }),
        VerdictState::NotAffected if finding.state != FindingState::NotAffected && !closed => {
            Some(FindingAction::Dismiss { id, reasons: verdict.reasons })
        }
        VerdictState::UnderInvestigation if !closed && !same_evidence(finding, &verdict) => {
            Some(FindingAction::Update { id, verdict })
        }
        _ => None,
    }
}

fn same_evidence(finding: &ExistingFinding, verdict: &Verdict) -> bool {
    finding.verdict == verdict.state
        && finding.source_version == verdict.source_version
        && finding.fixed_version == verdict.fixed_version
}

/// A finding that no verdict speaks of any more.
fn unstated(finding: &ExistingFinding, installed: &BTreeSet<String>) -> Option<FindingAction> {
    if matches!(finding.state, FindingState::Verified | FindingState::NotAffected) {
        return None;
    }
    if !installed.contains(&finding.source) {
        let text = format!("no package of {} is installed any more", finding.source);
        return Some(FindingAction::Prove {
            id: finding.id,
            reasons: vec![Reason::new("match.package-gone", text)],
            source_version: String::new(),
            verdict: VerdictState::NotAffected,
        });
    }
    Some(FindingAction::Dismiss {
        id: finding.id,
        reasons: vec![Reason::new("match.withdrawn", "no feed states it any more: withdrawn or rejected")],
    })
}
