//! Step 2: what matters most (paper 3.2). Of the paper's four keys the first two are here, vendor
//! severity and exploit availability; criticality and exposure join with the groups that carry them.

use fettle_domain::advisory::VulnerabilityFacts;
use fettle_domain::finding::{Priority, Verdict};
use fettle_domain::reason::Reason;

/// The priority of a finding and why.
pub fn prioritise(verdict: &Verdict, facts: &VulnerabilityFacts) -> (Priority, Vec<Reason>) {
    let (severity, severity_reason) = severity(verdict, facts);
    let (exploit, exploit_reason) = exploit(facts);
    (Priority { severity, exploit }, vec![severity_reason, exploit_reason])
}

fn severity(verdict: &Verdict, facts: &VulnerabilityFacts) -> (u8, Reason) {
    let word = verdict.severity.to_ascii_lowercase();
    let by_word = match word.as_str() {
        "critical" => 5,
        "high" | "important" => 4,
        "medium" | "moderate" => 3,
        "low" => 2,
        "unimportant" | "negligible" => 1,
        _ => 0,
    };
    if by_word > 0 {
        return (by_word, Reason::new("priority.vendor-severity", format!("the vendor calls it {word}")));
    }
    match &facts.cvss {
        Some(cvss) => {
            let level = match cvss.score {
                score if score >= 9.0 => 5,
                score if score >= 7.0 => 4,
                score if score >= 4.0 => 3,
                score if score > 0.0 => 2,
                _ => 1,
            };
            (
                level,
                Reason::from_source("priority.cvss", format!("CVSS base score {:.1}", cvss.score), cvss.vector.clone()),
            )
        }
        None => unstated_severity(facts),
    }
}

/// Most flaws of a Debian release have no severity stated. One that is exploited must not end at the
/// bottom for that: real exploitation is taken as high, likely exploitation as medium.
fn unstated_severity(facts: &VulnerabilityFacts) -> (u8, Reason) {
    let assumed = |level, words: &str| {
        (level, Reason::new("priority.severity-assumed", format!("no feed states a severity; {words}")))
    };
    match (&facts.kev, facts.epss) {
        (Some(_), _) => assumed(4, "taken as high because it is exploited in the wild"),
        (None, Some(epss)) if epss.score >= 0.5 => assumed(3, "taken as medium because exploitation is likely"),
        _ => (0, Reason::new("priority.severity-unknown", "no feed states a severity")),
    }
}

fn exploit(facts: &VulnerabilityFacts) -> (u8, Reason) {
    if let Some(kev) = &facts.kev {
        let text = format!(
            "exploited in the wild, says CISA since {}{}",
            kev.date_added,
            if kev.ransomware { ", also by ransomware" } else { "" }
        );
        return (3, Reason::from_source("priority.known-exploited", text, "cisa-kev"));
    }
    match facts.epss {
        Some(epss) => {
            let level = match epss.score {
                score if score >= 0.5 => 2,
                score if score >= 0.1 => 1,
                _ => 0,
            };
            let text = format!("probability of exploitation within 30 days: {:.2} %", epss.score * 100.0);
            (level, Reason::from_source("priority.epss", text, "epss"))
        }
        None => (0, Reason::new("priority.exploit-unknown", "nothing is known of exploitation")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_domain::advisory::{Cvss, Epss, Kev, VulnId};
    use fettle_domain::finding::VerdictState;

    fn priority(severity: &str, facts: VulnerabilityFacts) -> Priority {
        let verdict = Verdict {
            vulnerability: VulnId("CVE-1".into()),
            source: "app".into(),
            source_version: "1".into(),
            packages: vec![],
            state: VerdictState::Affected,
            fixed_version: None,
            severity: severity.into(),
            reasons: vec![],
        };
        prioritise(&verdict, &facts).0
    }

    #[test]
    fn the_vendors_word_counts_before_the_score() {
        let cvss = || Some(Cvss { vector: String::new(), score: 9.8 });
        assert_eq!(priority("low", VulnerabilityFacts { cvss: cvss(), ..Default::default() }).severity, 2);
        assert_eq!(priority("not yet assigned", VulnerabilityFacts { cvss: cvss(), ..Default::default() }).severity, 5);
        assert_eq!(priority("", VulnerabilityFacts::default()).severity, 0);
    }

    #[test]
    fn what_is_exploited_is_not_left_at_the_bottom_for_want_of_a_severity() {
        let likely = VulnerabilityFacts { epss: Some(Epss { score: 0.6, percentile: 0.99 }), ..Default::default() };
        assert_eq!(priority("not yet assigned", likely.clone()), Priority { severity: 3, exploit: 2 });
        assert_eq!(priority("low", likely.clone()).severity, 2);
        let kev = Kev { date_added: "2024-01-01".into(), due_date: "2024-01-22".into(), ransomware: false };
        assert_eq!(priority("", VulnerabilityFacts { kev: Some(kev), ..likely }), Priority { severity: 4, exploit: 3 });
    }

    #[test]
    fn known_exploitation_counts_before_likelihood() {
        let epss = |score| VulnerabilityFacts { epss: Some(Epss { score, percentile: 0.5 }), ..Default::default() };
        assert_eq!(priority("", epss(0.05)).exploit, 0);
        assert_eq!(priority("", epss(0.1)).exploit, 1);
        assert_eq!(priority("", epss(0.9)).exploit, 2);
        let kev = Kev { date_added: "2024-01-01".into(), due_date: "2024-01-22".into(), ransomware: true };
        assert_eq!(priority("", VulnerabilityFacts { kev: Some(kev), ..epss(0.01) }).exploit, 3);
    }
}
