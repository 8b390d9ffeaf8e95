use super::*;
use fettle_domain::FindingId;
use fettle_domain::advisory::{Advisory, Disposition, FeedName, Statement, VulnId};
use fettle_domain::finding::{Priority, VerdictState};
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
        (
            Statement::Fixed { introduced: Some("2.0".into()), fixed: "3.0".into() },
            VerdictState::NotAffected,
            "match.before-introduction",
        ),
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
    let verdicts =
        evaluate(vec![advisory("debian-tracker", "app", "CVE-1", fixed("1.0-1"))], &[package], &Kernel::default());
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
            advisory(
                "osv-debian",
                "app",
                "CVE-1",
                Statement::Fixed { introduced: Some("1.0".into()), fixed: "1.5".into() },
            ),
            advisory(
                "osv-debian",
                "app",
                "CVE-1",
                Statement::Fixed { introduced: Some("2.0".into()), fixed: "2.3".into() },
            ),
        ]
    };
    for (version, state) in [
        ("0.9", VerdictState::NotAffected),
        ("1.2", VerdictState::Affected),
        ("1.7", VerdictState::Fixed),
        ("2.1", VerdictState::Affected),
        ("2.3", VerdictState::Fixed),
    ] {
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

    let foreign = Kernel { running_release: "6.9.0-cloud".into(), ..Kernel::default() };
    let verdict = &evaluate(statement(), &both, &foreign)[0];
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
        priority: NO_PRIORITY,
    }
}

const NO_PRIORITY: Priority = Priority { severity: 0, exploit: 0 };

fn ranked(verdicts: Vec<Verdict>) -> Vec<Ranked> {
    verdicts.into_iter().map(|verdict| Ranked { verdict, priority: NO_PRIORITY }).collect()
}

fn decide(finding: Option<ExistingFinding>, version: &str, outdated: bool) -> Vec<FindingAction> {
    let verdicts = evaluate(
        vec![advisory("debian-tracker", "app", "CVE-1", fixed("1.0-2"))],
        &[installed("app", "app", version)],
        &Kernel::default(),
    );
    let sources = BTreeSet::from(["app".to_owned()]);
    let outdated = if outdated { sources.clone() } else { BTreeSet::new() };
    decide_findings(finding.as_slice(), &ranked(verdicts), &sources, &outdated)
}

#[test]
fn findings_open_close_and_come_back_by_evidence_alone() {
    assert!(matches!(decide(None, "1.0-1", false)[..], [FindingAction::Open { .. }]));
    assert_eq!(decide(None, "1.0-2", false), []);
    assert_eq!(decide(Some(existing(FindingState::Open)), "1.0-1", false), []);
    for state in [FindingState::Open, FindingState::Planned, FindingState::Remediated] {
        assert!(matches!(decide(Some(existing(state)), "1.0-2", false)[..], [FindingAction::Prove { .. }]), "{state}");
    }
    assert!(matches!(
        decide(Some(existing(FindingState::Verified)), "1.0-1", false)[..],
        [FindingAction::Regress { .. }]
    ));
    assert_eq!(decide(Some(existing(FindingState::Verified)), "1.0-2", false), []);
}

#[test]
fn a_fix_that_does_not_run_yet_closes_nothing() {
    let actions = decide(Some(existing(FindingState::Remediated)), "1.0-2", true);
    match &actions[..] {
        [FindingAction::Update { evidence, .. }] => assert_eq!(evidence.verdict.state, VerdictState::RestartNeeded),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_removed_package_proves_and_a_withdrawn_record_dismisses() {
    let open = [existing(FindingState::Open)];
    let gone = decide_findings(&open, &[], &BTreeSet::new(), &BTreeSet::new());
    assert!(matches!(gone[..], [FindingAction::Prove { .. }]));
    let withdrawn = decide_findings(&open, &[], &BTreeSet::from(["app".to_owned()]), &BTreeSet::new());
    assert!(matches!(withdrawn[..], [FindingAction::Dismiss { .. }]));
}

#[test]
fn another_urgency_is_new_evidence() {
    let mut evidence = ranked(evaluate(
        vec![advisory("debian-tracker", "app", "CVE-1", fixed("1.0-2"))],
        &[installed("app", "app", "1.0-1")],
        &Kernel::default(),
    ));
    evidence[0].priority = Priority { severity: 4, exploit: 3 };
    let sources = BTreeSet::from(["app".to_owned()]);
    let actions = decide_findings(&[existing(FindingState::Planned)], &evidence, &sources, &BTreeSet::new());
    assert!(matches!(actions[..], [FindingAction::Update { .. }]));
}

#[test]
fn not_affected_by_version_is_proof_and_by_statement_is_dismissal() {
    let act = |statement: Statement, version: &str| {
        let verdicts = evaluate(
            vec![advisory("debian-tracker", "app", "CVE-1", statement)],
            &[installed("app", "app", version)],
            &Kernel::default(),
        );
        decide_findings(
            &[existing(FindingState::Open)],
            &ranked(verdicts),
            &BTreeSet::from(["app".to_owned()]),
            &BTreeSet::new(),
        )
    };
    let interval = Statement::Fixed { introduced: Some("1.0-1".into()), fixed: "1.0-2".into() };
    assert!(matches!(act(interval, "0.9-1")[..], [FindingAction::Prove { .. }]));
    assert!(matches!(act(Statement::NotAffected, "1.0-1")[..], [FindingAction::Dismiss { .. }]));
}

#[test]
fn groups_with_the_same_key_have_the_same_verdicts_and_others_another_key() {
    let one = [
        installed("app", "app", "1.0"),
        installed("libapp", "app", "1.1"),
        signed("linux-image-6.1.0-1-amd64", "6.1.1-1"),
    ];
    let kernel = kernel("6.1.1-1");
    let keys = |release: &str, packages: &[InstalledPackage], kernel: &Kernel| -> Vec<String> {
        source_groups(HostPicture { release, packages, kernel }).iter().map(SourceGroup::key).collect()
    };
    let base = keys("bookworm", &one, &kernel);
    assert_eq!(base.len(), 2);
    assert_eq!(keys("bookworm", &one.clone(), &kernel.clone()), base);
    let others = [
        keys("trixie", &one, &kernel),
        keys("bookworm", &[installed("app", "app", "1.1"), one[1].clone(), one[2].clone()], &kernel),
        keys("bookworm", &[installed("app2", "app", "1.0"), one[1].clone(), one[2].clone()], &kernel),
    ];
    assert!(others.iter().all(|other| other[0] != base[0]));
    assert_ne!(keys("bookworm", &one, &Kernel { running_version: "6.1.0-1".into(), ..kernel.clone() })[1], base[1]);
}

fn signed(name: &str, version: &str) -> InstalledPackage {
    let mut package = installed(name, "linux-signed-amd64", version);
    package.package.source_version = version.replace('-', "+");
    package
}

#[test]
fn signed_kernel_images_are_matched_as_the_source_that_the_tracker_names() {
    let statement = || vec![advisory("debian-tracker", "linux", "CVE-1", fixed("6.1.80-1"))];
    let packages = [
        signed("linux-image-6.1.0-18-amd64", "6.1.76-1"),
        signed("linux-image-amd64", "6.1.76-1"),
        installed("linux-libc-dev", "linux", "6.1.76-1"),
    ];
    // `uname -v` told no version: the image of the running release has one.
    let verdict = &evaluate(statement(), &packages, &kernel(""))[0];
    assert_eq!(
        (verdict.source.as_str(), verdict.source_version.as_str(), verdict.state),
        ("linux", "6.1.76-1", VerdictState::Affected)
    );
    assert_eq!(verdict.packages, ["linux-image-6.1.0-18-amd64", "linux-image-amd64"]);
    assert_eq!(sources_of(&packages).into_iter().collect::<Vec<_>>(), ["linux"]);
    assert!(sources_of(&packages[2..]).is_empty());
    let mut other = packages[0].clone();
    other.package.ecosystem = Ecosystem::Generic;
    assert!(sources_of(&[other]).is_empty(), "Debian's statements do not speak of another manager's packages");
}

#[test]
fn an_affected_kernel_that_would_run_after_a_reboot_is_a_finding() {
    let statement = vec![advisory(
        "debian-tracker",
        "linux",
        "CVE-1",
        Statement::Fixed { introduced: Some("6.1.80-1".into()), fixed: "6.1.90-1".into() },
    )];
    let packages = [signed("linux-image-6.1.0-18-amd64", "6.1.76-1"), signed("linux-image-6.1.0-20-amd64", "6.1.85-1")];
    let verdict = &evaluate(statement, &packages, &kernel("6.1.76-1"))[0];
    assert_eq!((verdict.state, verdict.source_version.as_str()), (VerdictState::Affected, "6.1.85-1"));
    assert!(verdict.reasons.iter().any(|reason| reason.topic == "match.kernel-after-reboot"));
}

#[test]
fn parts_at_different_versions_are_all_looked_at() {
    let statement = vec![advisory(
        "osv-debian",
        "app",
        "CVE-1",
        Statement::Fixed { introduced: Some("1.5".into()), fixed: "1.8".into() },
    )];
    let packages =
        [installed("app", "app", "1.6"), installed("app-doc", "app", "1.0"), installed("libapp1", "app", "1.7")];
    let verdict = &evaluate(statement, &packages, &Kernel::default())[0];
    assert_eq!((verdict.state, verdict.source_version.as_str()), (VerdictState::Affected, "1.6"));
    assert_eq!(verdict.packages, ["app", "libapp1"]);
    assert!(
        verdict.reasons.iter().any(|reason| reason.text == "app-doc of the same source at version 1.0: not-affected")
    );
}

#[test]
fn of_several_advisories_the_highest_fix_closes_the_flaw() {
    let mut first = advisory("osv-debian", "app", "CVE-1", fixed("1.0-2"));
    first.record = "DSA-1-1".into();
    let mut regression = advisory("osv-debian", "app", "CVE-1", fixed("1.0-3"));
    regression.record = "DSA-1-2".into();
    let verdict = &evaluate(vec![first, regression], &[installed("app", "app", "1.0-1")], &Kernel::default())[0];
    assert_eq!(verdict.fixed_version.as_deref(), Some("1.0-3"));
    assert_eq!(verdict.reasons[0].source, "osv-debian: DSA-1-2");
    assert_eq!(verdict.reasons[1].source, "osv-debian: DSA-1-1");
}

#[test]
fn what_the_publisher_calls_unimportant_is_ignored_even_with_a_fix() {
    let mut statement = advisory("debian-tracker", "app", "CVE-1", fixed("1.0-2"));
    statement.severity = "unimportant".into();
    let verdict = &evaluate(vec![statement], &[installed("app", "app", "1.0-1")], &Kernel::default())[0];
    assert_eq!((verdict.state, verdict.fixed_version.as_deref()), (VerdictState::Ignored, Some("1.0-2")));
    assert!(verdict.reasons.iter().any(|reason| reason.topic == "match.unimportant"));
}

#[test]
fn the_publishers_words_are_told_with_its_decision() {
    let mut statement = advisory("debian-tracker", "app", "CVE-1", unfixed(Disposition::NoDsa));
    statement.note = "Minor issue".into();
    let verdict = &evaluate(vec![statement], &[installed("app", "app", "1.0-1")], &Kernel::default())[0];
    assert!(verdict.reasons.iter().any(|reason| reason.text == "the publisher's words: Minor issue"));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn version() -> impl Strategy<Value = String> {
        "[0-3]\\.[0-3](-[0-2](\\+deb12u[12])?)?"
    }

    fn statement() -> impl Strategy<Value = Statement> {
        let introduced = || proptest::option::of(version());
        prop_oneof![
            (introduced(), version()).prop_map(|(introduced, fixed)| Statement::Fixed { introduced, fixed }),
            (introduced(), version()).prop_map(|(introduced, last)| Statement::LastAffected { introduced, last }),
            introduced().prop_map(|introduced| Statement::Unfixed { introduced, disposition: Disposition::NoDsa }),
            introduced().prop_map(|introduced| Statement::Unfixed { introduced, disposition: Disposition::Pending }),
            Just(Statement::NotAffected),
            Just(Statement::UnderInvestigation),
        ]
    }

    fn statements() -> impl Strategy<Value = Vec<Advisory>> {
        let feed = prop_oneof![Just("debian-tracker"), Just("osv-debian"), Just("other")];
        proptest::collection::vec((feed, statement()), 1..6).prop_map(|all| {
            all.into_iter().map(|(feed, statement)| advisory(feed, "app", "CVE-1", statement)).collect()
        })
    }

    proptest! {
        /// The quick answer is the one that is explained.
        #[test]
        fn state_and_verdict_agree(version in version(), statements in statements()) {
            let verdict = judge(&VulnId("CVE-1".into()), "app", &version, &statements);
            prop_assert_eq!(verdict.state, state_of(&version, &statements));
            prop_assert!(!verdict.reasons.is_empty());
        }

        /// The order in which feeds were loaded decides nothing.
        #[test]
        fn the_order_of_statements_does_not_matter(version in version(), statements in statements()) {
            let mut reversed = statements.clone();
            reversed.reverse();
            let vulnerability = VulnId("CVE-1".into());
            let (a, b) = (judge(&vulnerability, "app", &version, &statements), judge(&vulnerability, "app", &version, &reversed));
            prop_assert_eq!((a.state, a.fixed_version), (b.state, b.fixed_version));
        }

        /// Installing the version that the verdict names leaves no feed of first authority that says "below fix".
        #[test]
        fn the_fixed_version_closes_the_finding(version in version(), statements in statements()) {
            let only_fixes: Vec<Advisory> = statements.into_iter().filter(|a| matches!(a.statement, Statement::Fixed { introduced: None, .. })).collect();
            let verdict = judge(&VulnId("CVE-1".into()), "app", &version, &only_fixes);
            if let (true, Some(fixed)) = (verdict.state.is_present(), verdict.fixed_version) {
                prop_assert_eq!(state_of(&fixed, &only_fixes), VerdictState::Fixed);
            }
        }

        /// What is present is exactly the present part of everything.
        #[test]
        fn present_is_the_present_part_of_all(a in version(), b in version(), statements in statements()) {
            let index = AdvisoryIndex::new(statements);
            let packages = [installed("app", "app", &a), installed("libapp", "app", &b)];
            let kernel = Kernel::default();
            let host = HostPicture { release: "bookworm", packages: &packages, kernel: &kernel };
            let all: Vec<Verdict> = evaluate_host(&index, host).into_iter().filter(|verdict| verdict.state.is_present()).collect();
            prop_assert_eq!(present_on_host(&index, host), all);
        }
    }
}
