//! What happens to the findings of a host after its verdicts are known. A finding closes only here,
//! and only because an inventory shows the flaw gone.

use fettle_domain::FindingId;
use fettle_domain::advisory::VulnId;
use fettle_domain::finding::{Priority, Verdict, VerdictState};
use fettle_domain::machine::FindingState;
use fettle_domain::reason::Reason;
use std::collections::{BTreeMap, BTreeSet};

/// A verdict with its place in the order of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    /// What matching says.
    pub verdict: Verdict,
    /// How urgent it is.
    pub priority: Priority,
}

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
    /// The last priority.
    pub priority: Priority,
}

/// What is to be done with a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindingAction {
    /// Present and not known yet.
    Open {
        /// The evidence.
        evidence: Ranked,
    },
    /// Still there, by other evidence or of other urgency than before.
    Update {
        /// Which.
        id: FindingId,
        /// The new evidence.
        evidence: Ranked,
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
        evidence: Ranked,
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
        evidence: Ranked,
    },
}

/// Compares verdicts with what the store has. `installed_sources` are all source packages of the
/// host; `outdated_sources` those whose replaced files a running service still uses. Verdicts on what
/// is not present matter only for findings that exist.
pub fn decide_findings<'a>(
    existing: &[ExistingFinding],
    verdicts: impl IntoIterator<Item = &'a Ranked>,
    installed_sources: &BTreeSet<String>,
    outdated_sources: &BTreeSet<String>,
) -> Vec<FindingAction> {
    let mut known: BTreeMap<(&str, &VulnId), &ExistingFinding> =
        existing.iter().map(|finding| ((finding.source.as_str(), &finding.vulnerability), finding)).collect();
    let mut actions = Vec::new();
    for ranked in verdicts {
        match known.remove(&(ranked.verdict.source.as_str(), &ranked.verdict.vulnerability)) {
            None if ranked.verdict.state.is_present() => actions.push(FindingAction::Open { evidence: ranked.clone() }),
            None => {}
            Some(finding) => actions.extend(compare(finding, ranked, outdated_sources)),
        }
    }
    actions.extend(known.into_values().filter_map(|finding| unstated(finding, installed_sources)));
    actions
}

fn compare(finding: &ExistingFinding, ranked: &Ranked, outdated: &BTreeSet<String>) -> Option<FindingAction> {
    let id = finding.id;
    if ranked.verdict.state.is_present() {
        return match finding.state {
            FindingState::Verified => Some(FindingAction::Regress { id, evidence: ranked.clone() }),
            FindingState::NotAffected => Some(FindingAction::Reinstate { id, evidence: ranked.clone() }),
            _ => update(finding, ranked.clone()),
        };
    }
    if matches!(finding.state, FindingState::Verified | FindingState::NotAffected) {
        return None;
    }
    match ranked.verdict.state {
        VerdictState::Fixed if outdated.contains(&finding.source) => update(finding, restart_needed(ranked.clone())),
        VerdictState::Fixed => Some(prove(id, &ranked.verdict)),
        // Another version than before: the inventory shows it. The same version: the publisher says so.
        VerdictState::NotAffected if ranked.verdict.source_version != finding.source_version => {
            Some(prove(id, &ranked.verdict))
        }
        VerdictState::NotAffected => Some(FindingAction::Dismiss { id, reasons: ranked.verdict.reasons.clone() }),
        _ => update(finding, ranked.clone()),
    }
}

fn prove(id: FindingId, verdict: &Verdict) -> FindingAction {
    FindingAction::Prove {
        id,
        reasons: verdict.reasons.clone(),
        source_version: verdict.source_version.clone(),
        verdict: verdict.state,
    }
}

fn restart_needed(mut ranked: Ranked) -> Ranked {
    let verdict = &mut ranked.verdict;
    verdict.state = VerdictState::RestartNeeded;
    let text = format!(
        "{} {} is installed, but a running service still uses the replaced files: restart it",
        verdict.source, verdict.source_version
    );
    verdict.reasons.push(Reason::new("match.service-restart-needed", text));
    ranked
}

/// New evidence, unless it is the same as before.
fn update(finding: &ExistingFinding, evidence: Ranked) -> Option<FindingAction> {
    let same = finding.verdict == evidence.verdict.state
        && finding.source_version == evidence.verdict.source_version
        && finding.fixed_version == evidence.verdict.fixed_version
        && finding.priority == evidence.priority;
    (!same).then_some(FindingAction::Update { id: finding.id, evidence })
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
