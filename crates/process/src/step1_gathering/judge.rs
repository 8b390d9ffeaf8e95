//! One vulnerability, one source version, all statements on it: one verdict with its reasons.
//!
//! First where each statement stands to the version, without words ([`Stance`]): a fleet asks this
//! millions of times. Words are made for what is shown.

use super::sources::order;
use fettle_domain::advisory::{Advisory, Disposition, FeedName, Statement, VulnId};
use fettle_domain::finding::{Verdict, VerdictState};
use fettle_domain::reason::Reason;
use fettle_domain::version::{InvalidVersion, Scheme};
use std::cmp::Ordering;

/// The distribution's own word: it knows its back-ports, upstream ranges do not.
const DISTRIBUTION_FEEDS: &[&str] = &["debian-tracker"];
/// Statements of the deciding feed that are told beside the decisive one.
const ALSO_TOLD: usize = 5;

/// Where one statement stands to one version.
enum Stance<'a> {
    NeverAffected,
    UnderInvestigation,
    BeforeIntroduction(&'a str),
    BelowFix(&'a str),
    HasFix(&'a str, Ordering),
    UpToLast(&'a str),
    AboveLast(&'a str),
    Unfixed(Disposition),
    Unreadable(InvalidVersion),
}

impl<'a> Stance<'a> {
    fn of(version: &str, statement: &'a Statement) -> Self {
        Self::try_of(version, statement).unwrap_or_else(Stance::Unreadable)
    }

    fn try_of(version: &str, statement: &'a Statement) -> Result<Self, InvalidVersion> {
        let compare = |bound: &str| Scheme::Dpkg.compare(version, bound);
        let introduced = match statement {
            Statement::NotAffected => return Ok(Stance::NeverAffected),
            Statement::UnderInvestigation => return Ok(Stance::UnderInvestigation),
            Statement::Fixed { introduced, .. }
            | Statement::LastAffected { introduced, .. }
            | Statement::Unfixed { introduced, .. } => introduced.as_deref().filter(|introduced| *introduced != "0"),
        };
        if let Some(introduced) = introduced {
            if compare(introduced)?.is_lt() {
                return Ok(Stance::BeforeIntroduction(introduced));
            }
        }
        Ok(match statement {
            Statement::Fixed { fixed, .. } => match compare(fixed)? {
                Ordering::Less => Stance::BelowFix(fixed),
                above => Stance::HasFix(fixed, above),
            },
            Statement::LastAffected { last, .. } => {
                if compare(last)?.is_gt() {
                    Stance::AboveLast(last)
                } else {
                    Stance::UpToLast(last)
                }
            }
            Statement::Unfixed { disposition, .. } => Stance::Unfixed(*disposition),
            Statement::NotAffected => Stance::NeverAffected,
            Statement::UnderInvestigation => Stance::UnderInvestigation,
        })
    }

    /// The state it comes to. What the publisher calls unimportant is affected, and ignored.
    fn state(&self, advisory: &Advisory) -> VerdictState {
        match self {
            Stance::NeverAffected | Stance::BeforeIntroduction(_) => VerdictState::NotAffected,
            Stance::UnderInvestigation | Stance::Unreadable(_) => VerdictState::UnderInvestigation,
            Stance::HasFix(..) | Stance::AboveLast(_) => VerdictState::Fixed,
            Stance::BelowFix(_) | Stance::UpToLast(_) if advisory.severity == "unimportant" => VerdictState::Ignored,
            Stance::BelowFix(_) | Stance::UpToLast(_) => VerdictState::Affected,
            Stance::Unfixed(disposition) => VerdictState::of_disposition(*disposition),
        }
    }

    fn fixed_version(&self) -> Option<&'a str> {
        match self {
            Stance::BelowFix(fixed) | Stance::HasFix(fixed, _) => Some(fixed),
            _ => None,
        }
    }

    /// Topic and sentence.
    fn words(&self, source: &str, version: &str, release: &str) -> (&'static str, String) {
        match self {
            Stance::NeverAffected => ("match.never-affected", format!("{source} was never affected in {release}")),
            Stance::UnderInvestigation => (
                "match.under-investigation",
                format!("the publisher does not know yet whether {source} in {release} is affected"),
            ),
            Stance::BeforeIntroduction(introduced) => (
                "match.before-introduction",
                format!("{source} {version} is below {introduced}, the first affected version (dpkg ordering)"),
            ),
            Stance::BelowFix(fixed) => (
                "match.version-below-fix",
                format!("{source} {version} is below {fixed}, the first fixed version in {release} (dpkg ordering)"),
            ),
            Stance::HasFix(fixed, Ordering::Equal) => (
                "match.version-has-fix",
                format!("{source} {version} is the first fixed version in {release} ({fixed})"),
            ),
            Stance::HasFix(fixed, _) => (
                "match.version-has-fix",
                format!("{source} {version} is above {fixed}, the first fixed version in {release} (dpkg ordering)"),
            ),
            Stance::UpToLast(last) => (
                "match.up-to-last-affected",
                format!(
                    "{source} {version} is not above {last}, the last affected version in {release} (dpkg ordering)"
                ),
            ),
            Stance::AboveLast(last) => (
                "match.above-last-affected",
                format!("{source} {version} is above {last}, the last affected version in {release} (dpkg ordering)"),
            ),
            Stance::Unfixed(disposition) => {
                let (topic, words) = disposition_words(*disposition);
                (topic, format!("{source} {version} is affected in {release}: {words}"))
            }
            Stance::Unreadable(error) => ("match.version-unreadable", format!("cannot compare: {error}")),
        }
    }
}

fn disposition_words(disposition: Disposition) -> (&'static str, &'static str) {
    match disposition {
        Disposition::Pending => ("match.no-fix-yet", "no fixed version is published yet"),
        Disposition::NoDsa => ("match.no-dsa", "a minor issue: no advisory of its own, a point release may fix it"),
        Disposition::Postponed => ("match.postponed", "the fix is put off to a later advisory"),
        Disposition::Ignored => ("match.ignored", "the security team decided not to fix it"),
        Disposition::Unimportant => ("match.unimportant", "not a security matter in practice, says the security team"),
        Disposition::EndOfLife => ("match.end-of-life", "no more security support"),
    }
}

/// Among statements of one feed, what shows the flaw present counts before what does not.
pub(super) fn rank(state: VerdictState) -> u8 {
    match state {
        VerdictState::Affected | VerdictState::RestartNeeded => 0,
        VerdictState::EndOfLife => 1,
        VerdictState::Ignored => 2,
        VerdictState::UnderInvestigation => 3,
        VerdictState::Fixed => 4,
        VerdictState::NotAffected => 5,
    }
}

/// The decisive statement of one feed. Of several that find the version affected, the highest fixed
/// version decides: only that closes them all (a regression update fixes what the first one left).
fn decisive<'a>(version: &str, advisories: &'a [Advisory], feed: &FeedName) -> Option<(&'a Advisory, Stance<'a>)> {
    let mut best: Option<(&Advisory, Stance<'_>)> = None;
    for advisory in advisories.iter().filter(|advisory| advisory.feed == *feed) {
        let stance = Stance::of(version, &advisory.statement);
        let better = best.as_ref().is_none_or(|(held, held_stance)| {
            let ranks = rank(stance.state(advisory)).cmp(&rank(held_stance.state(held)));
            ranks.then_with(|| highest_first(stance.fixed_version(), held_stance.fixed_version())).is_lt()
        });
        if better {
            best = Some((advisory, stance));
        }
    }
    best
}

fn highest_first(a: Option<&str>, b: Option<&str>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => order(b, a),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// Whose word counts first.
fn authority(feed: &FeedName) -> (bool, &str) {
    (!DISTRIBUTION_FEEDS.contains(&feed.0.as_str()), &feed.0)
}

/// The state that [`judge`] would give, without its reasons.
pub fn state_of(version: &str, advisories: &[Advisory]) -> VerdictState {
    advisories
        .iter()
        .map(|advisory| &advisory.feed)
        .min_by_key(|feed| authority(feed))
        .and_then(|feed| decisive(version, advisories, feed))
        .map_or(VerdictState::UnderInvestigation, |(advisory, stance)| stance.state(advisory))
}

/// The verdict on one source version. `advisories` are all statements of all feeds on this
/// vulnerability in this source package and release.
pub fn judge(vulnerability: &VulnId, source: &str, version: &str, advisories: &[Advisory]) -> Verdict {
    let mut feeds: Vec<&FeedName> = advisories.iter().map(|advisory| &advisory.feed).collect();
    feeds.sort_by_key(|feed| authority(feed));
    feeds.dedup();
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
    for (place, feed) in feeds.into_iter().enumerate() {
        let Some((advisory, stance)) = decisive(version, advisories, feed) else { continue };
        if place == 0 {
            decide(&mut verdict, advisory, &stance);
            also_stated(&mut verdict, advisories, advisory);
        } else {
            compare(&mut verdict, advisory, &stance);
        }
    }
    if verdict.reasons.is_empty() {
        verdict.reasons.push(Reason::new("match.no-statement", "no feed speaks of it"));
    }
    verdict
}

fn record_of(advisory: &Advisory) -> String {
    format!("{}: {}", advisory.feed, advisory.record)
}

/// The first feed's decisive statement makes the verdict.
fn decide(verdict: &mut Verdict, advisory: &Advisory, stance: &Stance<'_>) {
    verdict.state = stance.state(advisory);
    verdict.fixed_version = stance.fixed_version().map(str::to_owned);
    verdict.severity = advisory.severity.clone();
    let (topic, text) = stance.words(&verdict.source, &verdict.source_version, &advisory.release);
    verdict.reasons.push(Reason::from_source(topic, text, record_of(advisory)));
    if verdict.state == VerdictState::Ignored && matches!(stance, Stance::BelowFix(_) | Stance::UpToLast(_)) {
        let (topic, words) = disposition_words(Disposition::Unimportant);
        verdict.reasons.push(Reason::from_source(topic, words, record_of(advisory)));
    }
    if matches!(stance, Stance::Unfixed(_)) && !advisory.note.is_empty() && advisory.note.len() <= 400 {
        let text = format!("the publisher's words: {}", advisory.note);
        verdict.reasons.push(Reason::from_source("match.note", text, record_of(advisory)));
    }
}

/// Further statements of the deciding feed, as of several advisories on one flaw.
fn also_stated(verdict: &mut Verdict, advisories: &[Advisory], decisive: &Advisory) {
    let others = advisories.iter().filter(|other| other.feed == decisive.feed && !std::ptr::eq(*other, decisive));
    for other in others.take(ALSO_TOLD) {
        let stance = Stance::of(&verdict.source_version, &other.statement);
        let (_, text) = stance.words(&verdict.source, &verdict.source_version, &other.release);
        verdict.reasons.push(Reason::from_source(
            "match.also-stated",
            format!("also stated: {text}"),
            record_of(other),
        ));
    }
}

/// Another feed's word is kept beside: it confirms, or it says otherwise and does not count.
fn compare(verdict: &mut Verdict, advisory: &Advisory, stance: &Stance<'_>) {
    let (_, words) = stance.words(&verdict.source, &verdict.source_version, &advisory.release);
    let state = stance.state(advisory);
    let reason = if state == verdict.state {
        Reason::from_source("match.confirmed", format!("another feed says the same: {words}"), record_of(advisory))
    } else {
        let text = format!("another feed says {}: {words}; the distribution's own word counts", state.as_str());
        Reason::from_source("match.conflict", text, record_of(advisory))
    };
    verdict.reasons.push(reason);
    if verdict.severity.is_empty() {
        verdict.severity = advisory.severity.clone();
    }
}
