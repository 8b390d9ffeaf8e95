use super::*;
use fettle_domain::FindingId;
use fettle_domain::advisory::{Advisory, Disposition, FeedName, Statement, VulnId};
use fettle_domain::finding::VerdictState;
use fettle_domain::machine::FindingState;
use fettle_domain::package::{Ecosystem, InstallState, PackageVersion};
use std::collections::BTreeSet;

fn advisory(feed: &str, source: &str, cve: &str, statement: Statement) -> Advisory {
    Advisory {
        feed: FeedName(feed.into()),
        record: cve.into(),
        vulnerability: VulnId(cve.into()),
        aliases: vec![],
        ecosystem: Ecosystem::Debian,
        release: "bookworm".into(),
        source: source.into(),
        statement,
        severity: String::new(),
        modified: None,
        note: String::new(),
    }
}

fn fixed(version: &str) -> Statement {
    Statement::Fixed { introduced: None, fixed: version.into() }
}

fn unfixed(disposition: Disposition) -> Statement {
    Statement::Unfixed { introduced: None, disposition }
}

fn installed(name: &str, source: &str, version: &str) -> InstalledPackage {
    InstalledPackage {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: source.into(),
            source_version: version.into(),
        },
        origin: String::new(),
        held: false,
        automatic: false,
        state: InstallState::Installed,
    }
}

fn evaluate(advisories: Vec<Advisory>, packages: &[InstalledPackage], kernel: &Kernel) -> Vec<Verdict> {
    evaluate_host(&AdvisoryIndex::new(advisories), HostPicture { release: "bookworm", packages, kernel })
}

#[test]
fn states_are_kept_apart() {
    let table = [
        (fixed("1.0-1+deb12u1"), VerdictState::Affected, "match.version-below-fix"),
        (fixed("1.0-1"), VerdictState::Fixed, "match.version-has-fix"),
        (fixed("1.0~rc1-1"), VerdictState::Fixed, "match.version-has-fix"),
        (Statement::NotAffected, VerdictState::NotAffected, "match.never-affected"),
        (Statement::UnderInvestigation, VerdictState::UnderInvestigation, "match.under-investigation"),
        (unfixed(Disposition::Pending), VerdictState::Affected, "match.no-fix-yet"),
        (unfixed(Disposition::NoDsa), VerdictState::Ignored, "match.no-dsa"),
        (unfixed(Disposition::Postponed), VerdictState::Ignored, "match.postponed"),
        (unfixed(Disposition::Ignored), VerdictState::Ignored, "match.ignored"),
        (unfixed(Disposition::Unimportant), VerdictState::Ignored, "match.unimportant"),
        (unfixed(Disposition::EndOfLife), VerdictState::EndOfLife, "match.end-of-life"),
        (Statement::Fixed { introduced: Some("2.0".into()), fixed: "3.0".into() }, VerdictState::NotAffected, "match.before-introduction"),
        (fixed("not a version"), VerdictState::UnderInvestigation, "match.version-unreadable"),
    ];
    for (statement, state, topic) in table {
        let verdicts = evaluate(
            vec![advisory("debian-tracker", "app", "CVE-1", statement.clone())],
            &[installed("app", "app", "1.0-1")],
            &Kernel::default(),
        );
        assert_eq!(verdicts[0].state, state, "{statement:?}");
        assert_eq!(verdicts[0].reasons[0].topic, topic, "{statement:?}");
        assert_eq!(verdicts[0].reasons[0].source, "debian-tracker: CVE-1");
    }
}

#[test]
fn a_binary_rebuild_is_compared_by_its_source_version() {
    let mut package = installed("app", "app", "1.0-1+b1");
    package.package.source_version = "1.0-1".into();
    let verdicts = evaluate(
        vec![advisory("debian-tracker", "app", "CVE-1", fixed("1.0-1"))],
        &[package],
        &Kernel::default(),
    );
    assert_eq!(verdicts[0].state, VerdictState::Fixed);
}

#[test]
fn the_distributions_own_word_counts_and_the_conflict_is_told() {
    let verdicts = evaluate(
        vec![
            advisory("osv-debian", "app", "CVE-1", fixed("2.0-1")),
            advisory("debian-tracker", "app", "CVE-1", Statement::NotAffected),
        ],
        &[installed("app", "app", "1.0-1")],
        &Kernel::default(),
    );
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0].state, VerdictState::NotAffected);
    assert!(verdicts[0].reasons.iter().any(|reason| reason.topic == "match.conflict"), "{:?}", verdicts[0].reasons);
}

#[test]
fn several_intervals_of_one_feed_are_one_opinion() {
    let statements = || {
        vec![
            advisory("osv-debian", "app", "CVE-1", Statement::Fixed { introduced: Some("1.0".into()), fixed: "1.5".into() }),
            advisory("osv-debian", "app", "CVE-1", Statement::Fixed { introduced: Some("2.0".into()), fixed: "2.3".into() }),
        ]
    };
    for (version, state) in
        [("0.9", VerdictState::NotAffected), ("1.2", VerdictState::Affected), ("1.7", VerdictState::Fixed), ("2.1", VerdictState::Affected), ("2.3", VerdictState::Fixed)]
    {
        let verdicts = evaluate(statements(), &[installed("app", "app", version)], &Kernel::default());
        assert_eq!(verdicts[0].state, state, "{version}");
    }
}

fn kernel(running: &str) -> Kernel {
    Kernel { running_release: "6.1.0-18-amd64".into(), running_version: running.into(), ..Kernel::default() }
}

#[test]
fn the_running_kernel_decides() {
    let statement = || vec![advisory("debian-tracker", "linux", "CVE-1", fixed("6.1.80-1"))];
    let old = installed("linux-image-6.1.0-18-amd64", "linux", "6.1.76-1");
    let new = installed("linux-image-6.1.0-20-amd64", "linux", "6.1.85-1");
    let both = [old.clone(), new.clone()];

    let verdict = &evaluate(statement(), &both, &kernel("6.1.76-1"))[0];
    assert_eq!(verdict.state, VerdictState::RestartNeeded);
    assert_eq!(verdict.packages, ["linux-image-6.1.0-18-amd64"]);

    let verdict = &evaluate(statement(), &both, &kernel("6.1.85-1"))[0];
    assert_eq!(verdict.state, VerdictState::Fixed);
    assert!(verdict.reasons.iter().any(|reason| reason.topic == "match.kernel-old-image"));

    let verdict = &evaluate(statement(), std::slice::from_ref(&old), &kernel("6.1.76-1"))[0];
    assert_eq!(verdict.state, VerdictState::Affected);

    let verdict = &evaluate(statement(), &both, &kernel(""))[0];
    assert_eq!(verdict.state, VerdictState::Fixed);
    assert!(verdict.reasons.iter().any(|reason| reason.topic == "match.kernel-running-unknown"));
}

#[test]
fn a_container_has_no_kernel_of_its_own() {
    let headers = installed("linux-libc-dev", "linux", "6.1.76-1");
    let verdicts = evaluate(
        vec![advisory("debian-tracker", "linux", "CVE-1", fixed("6.1.80-1"))],
        &[headers],
        &kernel("6.1.76-1"),
    );
    assert_eq!(verdicts, []);
}

fn existing(state: FindingState) -> ExistingFinding {
    ExistingFinding {
        id: FindingId::new(1, [0; 10]),
        vulnerability: VulnId("CVE-1".into()),
        source: "app".into(),
        state,
        verdict: VerdictState::Affected,
        source_version: "1.0-1".into(),
        fixed_version: Some("1.0-2".into()),
    }
}

fn decide(finding: Option<ExistingFinding>, version: &str, outdated: bool) -> Vec<FindingAction> {
    let verdicts = evaluate(
        vec![advisory("debian-tracker", "app", "CVE-1", fixed("1.0-2"))],
        &[installed("app", "app", version)],
        &Kernel::default(),
    );
    let sources = BTreeSet::from(["app".to_owned()]);
    let outdated = if outdated { sources.clone() } else { BTreeSet::new() };
    decide_findings(finding.as_slice(), verdicts, &sources, &outdated)
}

#[test]
fn findings_open_close_and_come_back_by_evidence_alone() {
    assert!(matches!(decide(None, "1.0-1", false)[..], [FindingAction::Open { .. }]));
    assert_eq!(decide(None, "1.0-2", false), []);
    assert_eq!(decide(Some(existing(FindingState::Open)), "1.0-1", false), []);
    for state in [FindingState::Open, FindingState::Planned, FindingState::Remediated] {
        assert!(matches!(decide(Some(existing(state)), "1.0-2", false)[..], [FindingAction::Prove { .. }]), "{state}");
    }
    assert!(matches!(decide(Some(existing(FindingState::Verified)), "1.0-1", false)[..], [FindingAction::Regress { .. }]));
    assert_eq!(decide(Some(existing(FindingState::Verified)), "1.0-2", false), []);
}

#[test]
fn a_fix_that_does_not_run_yet_closes_nothing() {
    let actions = decide(Some(existing(FindingState::Remediated)), "1.0-2", true);
    match &actions[..] {
        [FindingAction::Update { verdict, .. }] => assert_eq!(verdict.state, VerdictState::RestartNeeded),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_removed_package_proves_and_a_withdrawn_record_dismisses() {
    let open = [existing(FindingState::Open)];
    let gone = decide_findings(&open, vec![], &BTreeSet::new(), &BTreeSet::new());
    assert!(matches!(gone[..], [FindingAction::Prove { .. }]));
    let withdrawn = decide_findings(&open, vec![], &BTreeSet::from(["app".to_owned()]), &BTreeSet::new());
    assert!(matches!(withdrawn[..], [FindingAction::Dismiss { .. }]));
}
