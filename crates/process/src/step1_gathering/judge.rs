//! One vulnerability, one source version, all statements on it: one verdict with its reasons.

use fettle_domain::advisory::{Advisory, Disposition, Statement, VulnId};
use fettle_domain::finding::{Verdict, VerdictState};
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;
use std::cmp::Ordering;

/// The distribution's own word: it knows its back-ports, upstream ranges do not.
const DISTRIBUTION_FEEDS: &[&str] = &["debian-tracker"];

/// What one feed's statements come to.
struct Opinion {
    state: VerdictState,
    fixed_version: Option<String>,
    severity: String,
    reasons: Vec<Reason>,
    source: String,
}

/// The verdict on one source version. `advisories` are all statements of all feeds on this
/// vulnerability in this source package and release.
pub fn judge(vulnerability: &VulnId, source: &str, version: &str, advisories: &[Advisory]) -> Verdict {
    let mut opinions = by_feed(advisories).into_iter().map(|statements| opinion(source, version, &statements));
    let first = opinions.next();
    let others: Vec<Opinion> = opinions.collect();
    let mut verdict = Verdict {
        vulnerability: vulnerability.clone(),
        source: source.to_owned(),
        source_version: version.to_owned(),
        packages: Vec::new(),
        state: VerdictState::UnderInvestigation,
        fixed_version: None,
        severity: String::new(),
        reasons: Vec::new(),
    };
    let Some(first) = first else {
        verdict.reasons.push(Reason::new("match.no-statement", "no feed speaks of it"));
        return verdict;
    };
    verdict.state = first.state;
    verdict.fixed_version = first.fixed_version;
    verdict.severity = first.severity;
    verdict.reasons = first.reasons;
    for other in others {
        let agrees = other.state == verdict.state;
        let topic = if agrees { "match.confirmed" } else { "match.conflict" };
        let words = other.reasons.first().map(|reason| reason.text.clone()).unwrap_or_default();
        let text = if agrees {
            format!("another feed says the same: {words}")
        } else {
            format!("another feed says {}: {words}; the distribution's own word counts", other.state.as_str())
        };
        if verdict.severity.is_empty() {
            verdict.severity = other.severity;
        }
        verdict.reasons.push(Reason::from_source(topic, text, other.source));
    }
    verdict
}

/// Statements grouped by feed, the distribution's own first.
fn by_feed(advisories: &[Advisory]) -> Vec<Vec<&Advisory>> {
    let mut groups: Vec<Vec<&Advisory>> = Vec::new();
    for advisory in advisories {
        match groups.iter_mut().find(|group| group.first().is_some_and(|first| first.feed == advisory.feed)) {
            Some(group) => group.push(advisory),
            None => groups.push(vec![advisory]),
        }
    }
    groups.sort_by_key(|group| {
        let feed = group.first().map(|advisory| advisory.feed.0.clone()).unwrap_or_default();
        (!DISTRIBUTION_FEEDS.contains(&feed.as_str()), feed)
    });
    groups
}

/// One feed's statements: affected when any of them covers the version.
fn opinion(source: &str, version: &str, statements: &[&Advisory]) -> Opinion {
    let mut best: Option<Opinion> = None;
    for advisory in statements {
        let candidate = one(source, version, advisory);
        let better = best.as_ref().is_none_or(|best| rank(candidate.state) < rank(best.state));
        if better {
            best = Some(candidate);
        }
    }
    best.unwrap_or_else(|| Opinion {
        state: VerdictState::UnderInvestigation,
        fixed_version: None,
        severity: String::new(),
        reasons: Vec::new(),
        source: String::new(),
    })
}

/// Among statements of one feed, what shows the flaw present counts before what does not.
fn rank(state: VerdictState) -> u8 {
    match state {
        VerdictState::Affected | VerdictState::RestartNeeded => 0,
        VerdictState::Ignored => 1,
        VerdictState::EndOfLife => 2,
        VerdictState::UnderInvestigation => 3,
        VerdictState::Fixed => 4,
        VerdictState::NotAffected => 5,
    }
}

fn one(source: &str, version: &str, advisory: &Advisory) -> Opinion {
    let release = &advisory.release;
    let record = format!("{}: {}", advisory.feed, advisory.record);
    let (state, fixed_version, topic, text) = match &advisory.statement {
        Statement::NotAffected => (
            VerdictState::NotAffected,
            None,
            "match.never-affected",
            format!("{source} was never affected in {release}"),
        ),
        Statement::UnderInvestigation => (
            VerdictState::UnderInvestigation,
            None,
            "match.under-investigation",
            format!("the publisher does not know yet whether {source} in {release} is affected"),
        ),
        Statement::LastAffected { introduced, last } => {
            up_to(source, version, release, introduced.as_deref(), last)
        }
        Statement::Fixed { introduced, fixed } => interval(source, version, release, introduced.as_deref(), fixed),
        Statement::Unfixed { introduced, disposition } => {
            unfixed(source, version, release, introduced.as_deref(), *disposition)
        }
    };
    Opinion {
        state,
        fixed_version,
        severity: advisory.severity.clone(),
        reasons: vec![Reason::from_source(topic, text, record.clone())],
        source: record,
    }
}

type Judged = (VerdictState, Option<String>, &'static str, String);

fn interval(source: &str, version: &str, release: &str, introduced: Option<&str>, fixed: &str) -> Judged {
    if let Some(judged) = before_introduction(source, version, introduced) {
        return judged;
    }
    match Scheme::Dpkg.compare(version, fixed) {
        Ok(Ordering::Less) => (
            VerdictState::Affected,
            Some(fixed.to_owned()),
            "match.version-below-fix",
            format!("{source} {version} is below {fixed}, the first fixed version in {release} (dpkg ordering)"),
        ),
        Ok(order) => (
            VerdictState::Fixed,
            Some(fixed.to_owned()),
            "match.version-has-fix",
            format!(
                "{source} {version} is {} {fixed}, the first fixed version in {release} (dpkg ordering)",
                if order == Ordering::Equal { "exactly" } else { "above" }
            ),
        ),
        Err(error) => unreadable(&error.to_string()),
    }
}

fn up_to(source: &str, version: &str, release: &str, introduced: Option<&str>, last: &str) -> Judged {
    if let Some(judged) = before_introduction(source, version, introduced) {
        return judged;
    }
    match Scheme::Dpkg.compare(version, last) {
        Ok(Ordering::Greater) => (
            VerdictState::Fixed,
            None,
            "match.above-last-affected",
            format!("{source} {version} is above {last}, the last affected version in {release} (dpkg ordering)"),
        ),
        Ok(_) => (
            VerdictState::Affected,
            None,
            "match.up-to-last-affected",
            format!("{source} {version} is not above {last}, the last affected version in {release} (dpkg ordering)"),
        ),
        Err(error) => unreadable(&error.to_string()),
    }
}

fn unfixed(source: &str, version: &str, release: &str, introduced: Option<&str>, disposition: Disposition) -> Judged {
    if let Some(judged) = before_introduction(source, version, introduced) {
        return judged;
    }
    let (topic, words) = match disposition {
        Disposition::Pending => ("match.no-fix-yet", "no fixed version is published yet"),
        Disposition::NoDsa => ("match.no-dsa", "a minor issue: no advisory of its own, a point release may fix it"),
        Disposition::Postponed => ("match.postponed", "the fix is put off to a later advisory"),
        Disposition::Ignored => ("match.ignored", "the security team decided not to fix it"),
        Disposition::Unimportant => ("match.unimportant", "not a security matter in practice, says the security team"),
        Disposition::EndOfLife => ("match.end-of-life", "no more security support"),
    };
    (VerdictState::of_disposition(disposition), None, topic, format!("{source} {version} is affected in {release}: {words}"))
}

fn before_introduction(source: &str, version: &str, introduced: Option<&str>) -> Option<Judged> {
    let introduced = introduced.filter(|introduced| *introduced != "0")?;
    match Scheme::Dpkg.compare(version, introduced) {
        Ok(Ordering::Less) => Some((
            VerdictState::NotAffected,
            None,
            "match.before-introduction",
            format!("{source} {version} is below {introduced}, the first affected version (dpkg ordering)"),
        )),
        Ok(_) => None,
        Err(error) => Some(unreadable(&error.to_string())),
    }
}

fn unreadable(error: &str) -> Judged {
    (VerdictState::UnderInvestigation, None, "match.version-unreadable", format!("cannot compare: {error}"))
}
