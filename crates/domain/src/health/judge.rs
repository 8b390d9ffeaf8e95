//! From what was seen before and is seen now to verdicts with their reasons.

use super::{HealthCheck, Seen, When};
use crate::reason::Reason;

/// Where a deployment stands when its checks are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is changed yet.
    Before,
    /// Installed, but services may still run the former version: what is only for afterwards does not
    /// count yet.
    Between,
    /// Restarted and, where needed, rebooted.
    After,
}

/// One check with what was seen of it.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Which.
    pub check: &'a HealthCheck,
    /// Who asks for it: what its reasons rest on.
    pub source: &'a str,
    /// Before the change; `None` when it was not looked at then.
    pub before: Option<&'a Seen>,
    /// Now.
    pub now: &'a Seen,
}

/// What is made of all looks of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Checks that fail the deployment.
    pub failures: Vec<Reason>,
    /// The others: what holds, and what was bad before.
    pub notes: Vec<Reason>,
}

impl HealthCheck {
    /// Whether the check counts in a phase, given how it was before. What was bad before is looked at
    /// once more at the end, to be told, but never waited for.
    pub fn counts(&self, phase: Phase, before: Option<&Seen>) -> bool {
        match phase {
            Phase::Before => self.when.is_before(),
            Phase::Between => match self.when {
                When::Both => before.is_some_and(|seen| seen.holds),
                When::Always => true,
                When::Before | When::After => false,
            },
            Phase::After => self.when != When::Before,
        }
    }

    /// Whether it fails the deployment when it does not hold now.
    pub fn blames(&self, phase: Phase, before: Option<&Seen>) -> bool {
        match (phase, self.when) {
            (Phase::Before, when) => when.is_required_before(),
            (_, When::Both) => before.is_some_and(|seen| seen.holds),
            (_, When::After | When::Always) => true,
            (_, When::Before) => false,
        }
    }
}

/// Judges.
pub fn judge(phase: Phase, looks: &[Look<'_>]) -> Judgement {
    let mut judgement = Judgement::default();
    for Look { check, source, before, now } in looks {
        if !check.counts(phase, *before) {
            continue;
        }
        let was_good = before.map(|seen| seen.holds);
        let failed = !now.holds && check.blames(phase, *before);
        let (topic, said) = match (phase, now.holds, was_good) {
            (Phase::Before, true, _) => ("health.holds", "holds before the change"),
            (Phase::Before, false, _) if failed => {
                ("health.required-before", "must hold before the change begins, and does not")
            }
            (Phase::Before, false, _) => ("health.bad-before", "is bad already before the change"),
            (_, true, Some(false)) => ("health.mended", "was bad before and holds now"),
            (_, true, _) => ("health.holds", "holds"),
            (_, false, Some(true)) => ("health.broken", "held before the change and does not now"),
            (_, false, _) if failed => ("health.not-met", "must hold after the change, and does not"),
            (_, false, _) => ("health.bad-before", "was bad before and still is, which is not blamed on the change"),
        };
        let reason = Reason::from_source(topic, format!("{}: {said}: {}", check.name, now.evidence), *source);
        if failed { judgement.failures.push(reason) } else { judgement.notes.push(reason) }
    }
    judgement
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdict of one check in a phase: `!topic` when it fails the deployment, empty when it does not count.
    fn verdict(when: When, phase: Phase, before: Option<bool>, now: bool) -> String {
        let mut check: HealthCheck = "port=80".parse().unwrap();
        check.when = when;
        let seen = |holds| Seen { holds, evidence: "evidence".to_owned() };
        let (before, now) = (before.map(seen), seen(now));
        let judged = judge(phase, &[Look { check: &check, source: "the change", before: before.as_ref(), now: &now }]);
        for reason in judged.failures.iter().chain(&judged.notes) {
            assert!(reason.text.starts_with("port tcp:80: ") && reason.text.ends_with(": evidence"), "{}", reason.text);
        }
        let failures = judged.failures.iter().map(|reason| format!("!{}", reason.topic));
        failures.chain(judged.notes.iter().map(|reason| reason.topic.clone())).collect()
    }

    #[test]
    fn every_verdict() {
        use Phase as P;
        use When as W;
        let table = [
            (W::Before, P::Before, None, true, "health.holds"),
            (W::Before, P::Before, None, false, "!health.required-before"),
            (W::Before, P::Between, Some(true), false, ""),
            (W::Before, P::After, Some(true), false, ""),
            (W::After, P::Before, None, false, ""),
            (W::After, P::Between, None, false, ""),
            (W::After, P::After, None, true, "health.holds"),
            (W::After, P::After, None, false, "!health.not-met"),
            (W::Both, P::Before, None, true, "health.holds"),
            (W::Both, P::Before, None, false, "health.bad-before"),
            (W::Both, P::Between, Some(true), true, "health.holds"),
            (W::Both, P::Between, Some(true), false, "!health.broken"),
            (W::Both, P::Between, Some(false), false, ""),
            (W::Both, P::After, Some(true), true, "health.holds"),
            (W::Both, P::After, Some(true), false, "!health.broken"),
            (W::Both, P::After, Some(false), false, "health.bad-before"),
            (W::Both, P::After, Some(false), true, "health.mended"),
            (W::Always, P::Before, None, false, "!health.required-before"),
            (W::Always, P::Between, Some(true), false, "!health.broken"),
            (W::Always, P::After, Some(true), false, "!health.broken"),
            (W::Always, P::After, Some(true), true, "health.holds"),
        ];
        for (when, phase, before, now, wanted) in table {
            assert_eq!(verdict(when, phase, before, now), wanted, "{when:?} {phase:?} {before:?} {now}");
        }
    }
}
