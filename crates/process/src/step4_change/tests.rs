use super::*;
use fettle_domain::advisory::VulnId;
use fettle_domain::finding::VerdictState;
use fettle_domain::host::OsRelease;
use fettle_domain::machine::HostState;
use fettle_domain::package::Ecosystem;
use fettle_domain::plan::*;
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, FindingId, HostId, PlanId, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn host(number: u8) -> HostId {
    HostId::new(u64::from(number), [number; 10])
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1000)
}

fn need(source: &str, packages: &[&str], verdict: VerdictState, fixed: Option<&str>) -> Need {
    Need {
        finding: FindingId::new(7, [7; 10]),
        vulnerability: VulnId("CVE-2024-1".into()),
        source: source.into(),
        packages: packages.iter().map(|name| (*name).to_owned()).collect(),
        verdict,
        fixed_version: fixed.map(str::to_owned),
    }
}

fn installed(list: &[(&str, &str)]) -> BTreeMap<String, InstalledHere> {
    list.iter()
        .map(|(name, version)| {
            let ecosystem = if name.starts_with("port-") { Ecosystem::Generic } else { Ecosystem::Debian };
            let held = *version == "1-held";
            ((*name).to_owned(), InstalledHere { ecosystem, version: (*version).to_owned(), held })
        })
        .collect()
}

fn chosen(
    installed: &BTreeMap<String, InstalledHere>,
    needs: &[Need],
    packages: &[AskedPackage],
    state: HostState,
    read_only: bool,
) -> (Vec<String>, Vec<String>) {
    let target = Target { host: host(1), name: "web-1", state, read_only, installed, needs };
    let choice = choose(&target, packages, false);
    let wanted = choice.job.map_or_else(Vec::new, |job| {
        job.wanted
            .iter()
            .map(|wanted| match &wanted.version {
                WantedVersion::Exactly { version } => format!("{}={version}", wanted.name),
                WantedVersion::SourceAtLeast { version } => format!("{}>={version}", wanted.name),
                WantedVersion::Candidate => format!("{}*", wanted.name),
            })
            .collect()
    });
    (wanted, choice.reasons.into_iter().map(|reason| reason.topic).collect())
}

#[test]
fn findings_become_source_versions_and_the_highest_counts() {
    let needs = [
        need("openssl", &["libssl3", "openssl"], VerdictState::Affected, Some("3.0.15-1~deb12u1")),
        need("openssl", &["libssl3"], VerdictState::Affected, Some("3.0.17-1~deb12u2")),
        need("curl", &["curl"], VerdictState::Affected, None),
        need("glibc", &["libc6"], VerdictState::RestartNeeded, Some("2.36-9+deb12u9")),
    ];
    let (wanted, topics) = chosen(&installed(&[]), &needs, &[], HostState::Managed, false);
    assert_eq!(wanted, ["libssl3>=3.0.17-1~deb12u2", "openssl>=3.0.15-1~deb12u1"]);
    assert_eq!(topics, ["change.closes", "change.closes", "change.no-fix", "change.restart-only"]);
}

#[test]
fn a_kernel_comes_by_its_meta_package() {
    let needs = [need("linux", &["linux-image-6.1.0-18-amd64"], VerdictState::Affected, Some("6.1.159-1"))];
    let with_meta = installed(&[("linux-image-amd64", "6.1.76-1"), ("linux-image-6.1.0-18-amd64", "6.1.76-1")]);
    assert_eq!(chosen(&with_meta, &needs, &[], HostState::Managed, false).0, ["linux-image-amd64>=6.1.159-1"]);
    let without = installed(&[("linux-image-6.1.0-18-amd64", "6.1.76-1")]);
    assert_eq!(
        chosen(&without, &needs, &[], HostState::Managed, false),
        (vec![], vec!["change.kernel-without-meta".to_owned()])
    );
}

#[test]
fn one_job_is_one_package_managers() {
    let here = installed(&[("curl", "1"), ("port-a", "1"), ("port-b", "1")]);
    let asked = |names: &[&str]| -> Vec<AskedPackage> {
        names.iter().map(|name| AskedPackage { name: (*name).into(), version: None }).collect()
    };
    let job = |names: &[&str]| {
        let target = Target {
            host: host(1),
            name: "web-1",
            state: HostState::Managed,
            read_only: false,
            installed: &here,
            needs: &[],
        };
        choose(&target, &asked(names), false)
    };
    let ports = job(&["port-a", "port-b"]).job.unwrap();
    assert_eq!((ports.ecosystem, ports.wanted.len()), (Ecosystem::Generic, 2));
    let mixed = job(&["curl", "port-a"]);
    let topics: Vec<&str> = mixed.reasons.iter().map(|reason| reason.topic.as_str()).collect();
    assert_eq!(topics, ["change.asked-by-name", "change.other-ecosystem"]);
    let mixed = mixed.job.unwrap();
    assert_eq!((mixed.ecosystem, mixed.wanted.len()), (Ecosystem::Debian, 1));
}

#[test]
fn packages_are_updated_only_where_they_are_installed() {
    let packages = [
        AskedPackage { name: "curl".into(), version: None },
        AskedPackage { name: "nginx".into(), version: None },
        AskedPackage { name: "sudo".into(), version: Some("2".into()) },
        AskedPackage { name: "vim".into(), version: Some("1".into()) },
        AskedPackage { name: "zsh".into(), version: None },
    ];
    let here = installed(&[("curl", "1"), ("sudo", "1"), ("vim", "1"), ("zsh", "1-held")]);
    let (wanted, topics) = chosen(&here, &[], &packages, HostState::Silent, false);
    assert_eq!(wanted, ["curl*", "sudo=2", "zsh*"]);
    assert_eq!(
        topics,
        [
            "change.asked-by-name",
            "change.not-installed",
            "change.asked-by-name",
            "change.already",
            "change.held",
            "change.asked-by-name"
        ]
    );
}

#[test]
fn hosts_that_cannot_be_changed_are_left_out_with_the_reason() {
    let needs = [need("openssl", &["libssl3"], VerdictState::Affected, Some("3"))];
    for (state, read_only, topic) in [
        (HostState::Retired, false, "change.host-retired"),
        (HostState::Discovered, false, "change.host-unmanaged"),
        (HostState::Managed, true, "change.host-read-only"),
    ] {
        assert_eq!(chosen(&installed(&[]), &needs, &[], state, read_only), (vec![], vec![topic.to_owned()]));
    }
}

fn step(name: &str, from: Option<&str>, to: Option<&str>) -> PackageStep {
    PackageStep {
        name: name.into(),
        architecture: "amd64".into(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        asked: true,
        file: to.map(|to| PackageFile {
            name: format!("{name}_{to}_amd64.deb"),
            uri: "http://x/".into(),
            size: 10,
            sha256: "0".repeat(64),
        }),
    }
}

fn manifest(steps: Vec<PackageStep>) -> Manifest {
    Manifest { ecosystem: Ecosystem::Debian, steps, base_digest: "a".repeat(64), download_bytes: 10, disk_bytes: 0 }
}

fn job(names: &[&str], allow_removals: bool) -> Job {
    let wanted = names
        .iter()
        .map(|name| WantedPackage { name: (*name).to_owned(), version: WantedVersion::Candidate })
        .collect();
    Job { ecosystem: Ecosystem::Debian, wanted, allow_removals }
}

fn answer(number: u8, answer: Answer) -> HostAnswer {
    let job = if answer == Answer::LeftOut { None } else { Some(job(&["app"], false)) };
    let reasons = vec![Reason::new("change.asked-by-name", "app is asked for by name")];
    HostAnswer {
        host: host(number),
        host_name: format!("web-{number}"),
        os: OsRelease::default(),
        job,
        reasons,
        answer,
    }
}

fn possible() -> Answer {
    Answer::Given(RehearsalOutcome::Possible {
        manifest: manifest(vec![step("app", Some("1"), Some("2"))]),
        notes: vec![],
    })
}

fn draft() -> Draft {
    Draft {
        id: PlanId::new(1, [1; 10]),
        change: ChangeId::new(1, [2; 10]),
        acceptance: Acceptance { success_percent: 100, silence_seconds: 60 },
        restart_services: true,
        reboot: RebootPolicy::Never,
        checks: vec!["unit=app.service".parse().unwrap()],
        answer_until: at(100),
    }
}

#[test]
fn waits_for_answers_until_their_time_is_over() {
    let answers = || vec![answer(2, Answer::Awaited), answer(1, possible()), answer(3, Answer::LeftOut)];
    assert!(matches!(propose(&draft(), answers(), at(99)), Proposal::Wait(_)));
    let Proposal::Propose(plan) = propose(&draft(), answers(), at(100)) else { panic!("no plan") };
    assert_eq!(plan.hosts.iter().map(|host| host.host_name.as_str()).collect::<Vec<_>>(), ["web-1"]);
    let report: Vec<String> = plan.report.iter().map(ToString::to_string).collect();
    assert_eq!(report[0], "1 of 3 hosts can be changed");
    assert!(report[1].starts_with("web-2: its dry run was not answered until 1970-01-01T00:01:40Z"), "{report:?}");
    assert_eq!(report[3], "web-3: app is asked for by name");
}

#[test]
fn no_host_no_plan() {
    let impossible =
        Answer::Given(RehearsalOutcome::Impossible { reasons: vec![Reason::new("apt.held", "app is held")] });
    let answers = vec![answer(1, impossible), answer(2, Answer::Given(RehearsalOutcome::NothingToDo))];
    let Proposal::Reject(report) = propose(&draft(), answers, at(1)) else { panic!("a plan") };
    let texts: Vec<&str> = report.iter().map(|reason| reason.text.as_str()).collect();
    assert_eq!(texts, ["0 of 2 hosts can be changed", "web-1: app is held", "web-2: all that is wanted is so already"]);
}

/// One row a mistake that a manifest may carry.
#[test]
fn the_linter_knows_what_no_package_manager_should_answer() {
    let lint = |steps: Vec<PackageStep>, allow_removals: bool| -> Vec<String> {
        let plan = HostPlan {
            host: host(1),
            host_name: "web-1".into(),
            os: OsRelease::default(),
            manifest: manifest(steps),
            notes: vec![],
        };
        lint_host(&plan, &job(&["app"], allow_removals))
            .into_iter()
            .map(|lint| format!("{:?} {}", lint.level, lint.reason.topic))
            .collect()
    };
    let app = || step("app", Some("1"), Some("2"));
    assert_eq!(lint(vec![app()], false), [] as [&str; 0]);
    assert_eq!(lint(vec![], false), ["Error lint.empty", "Warning lint.not-brought"]);
    assert_eq!(lint(vec![app(), app()], false), ["Error lint.twice"]);
    assert_eq!(lint(vec![app(), step("old", Some("1"), None)], false), ["Error lint.removes"]);
    assert_eq!(lint(vec![app(), step("old", Some("1"), None)], true), ["Warning lint.removes"]);
    assert_eq!(lint(vec![app(), step("dpkg", Some("1"), None)], true), ["Error lint.removes-essential"]);
    assert_eq!(lint(vec![app(), step("x", None, None)], true), ["Error lint.no-versions"]);
    assert_eq!(lint(vec![step("app", Some("2"), Some("1"))], false), ["Warning lint.downgrade"]);
    assert_eq!(lint(vec![step("app", Some("2"), Some("2"))], false), ["Warning lint.same"]);
    assert_eq!(
        lint(vec![step("app; rm -rf /", Some("1"), Some("2"))], false),
        ["Error lint.text", "Warning lint.not-brought"]
    );
    assert_eq!(lint(vec![PackageStep { file: None, ..app() }], false), ["Error lint.no-file"]);
    let mut bad = app();
    bad.file.as_mut().unwrap().sha256 = "xyz".into();
    assert_eq!(lint(vec![bad], false), ["Error lint.no-digest"]);
    let mut bad = app();
    bad.file.as_mut().unwrap().name = "../../etc/cron.d/x".into();
    assert_eq!(lint(vec![bad], false), ["Error lint.file-name"]);
    let mut epoch = app();
    epoch.file.as_mut().unwrap().name = "app_1%3a2_amd64.deb".into();
    assert_eq!(lint(vec![epoch], false), [] as [&str; 0]);
}

fn plan_of(hosts: Vec<HostAnswer>) -> Plan {
    match propose(&draft(), hosts, at(1)) {
        Proposal::Propose(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

fn digest(plan: &Plan) -> String {
    // Any function of all bytes will do here; the server uses sha-256.
    let hash = |bytes: &[u8]| {
        format!(
            "{:016x}",
            bytes
                .iter()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
        )
    };
    plan_digest(plan, &hash).unwrap()
}

#[test]
fn the_digest_covers_everything_and_no_order_of_answers() {
    let plan = plan_of(vec![answer(1, possible()), answer(2, possible())]);
    assert_eq!(
        digest(&plan),
        digest(&Plan { report: plan.report.clone(), ..plan_of(vec![answer(2, possible()), answer(1, possible())]) })
    );
    let changed: [(&str, &dyn Fn(&mut Plan)); 6] = [
        ("a version", &|plan| plan.hosts[1].manifest.steps[0].to = Some("3".into())),
        ("a digest of a file", &|plan| plan.hosts[0].manifest.steps[0].file.as_mut().unwrap().sha256 = "1".repeat(64)),
        ("a host", &|plan| drop(plan.hosts.pop())),
        ("acceptance", &|plan| plan.acceptance.success_percent = 1),
        ("reboot", &|plan| plan.reboot = RebootPolicy::IfNeeded),
        ("report", &|plan| drop(plan.report.pop())),
    ];
    for (what, change) in changed {
        let mut other = plan.clone();
        change(&mut other);
        assert_ne!(digest(&plan), digest(&other), "{what} is not covered");
    }
}

#[test]
fn the_risk_names_what_is_heavy() {
    let risk = |steps: Vec<PackageStep>| {
        let outcome = Answer::Given(RehearsalOutcome::Possible { manifest: manifest(steps), notes: vec![] });
        let risk = assess(&plan_of(vec![answer(1, outcome)]));
        (risk.level, risk.reasons.into_iter().map(|reason| reason.text).collect::<Vec<_>>())
    };
    let app = || step("app", Some("1"), Some("2"));
    assert_eq!(risk(vec![app()]), (RiskLevel::Low, vec![]));
    let (level, reasons) = risk(vec![
        app(),
        step("linux-image-6.1.0-42-amd64", None, Some("6.1.159-1")),
        step("libssl3", Some("1"), Some("2")),
    ]);
    assert_eq!(level, RiskLevel::High);
    assert_eq!(
        reasons,
        [
            "the kernel is replaced (1 packages)",
            "a cryptographic library that many services use is replaced (1 packages)",
            "1 packages are new on their hosts"
        ]
    );
}

#[test]
fn a_manifest_covers_a_finding_by_package_and_version() {
    let manifest = manifest(vec![
        step("libssl3", Some("3.0.15-1"), Some("3.0.17-1~deb12u2+b1")),
        step("linux-image-6.1.0-42-amd64", None, Some("6.1.159-1")),
    ]);
    let packages = |name: &str| vec![name.to_owned()];
    assert!(covers(&manifest, "openssl", &packages("libssl3"), "3.0.17-1~deb12u2"));
    assert!(!covers(&manifest, "openssl", &packages("libssl3"), "3.0.17-1~deb12u3"));
    assert!(!covers(&manifest, "openssl", &packages("openssl"), "3.0.17-1~deb12u2"));
    assert!(covers(&manifest, "linux", &packages("linux-image-6.1.0-18-amd64"), "6.1.158-1"));
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::LeftOut),
        Just(Answer::Awaited),
        Just(Answer::Given(RehearsalOutcome::NothingToDo)),
        Just(Answer::Given(RehearsalOutcome::Impossible { reasons: vec![] })),
        ("[a-z;/ ]{0,6}", proptest::option::of("[0-9.~]{0,4}"), proptest::option::of("[0-9.~]{0,4}")).prop_map(
            |(name, from, to)| {
                let step = step(&name, from.as_deref(), to.as_deref());
                Answer::Given(RehearsalOutcome::Possible { manifest: manifest(vec![step]), notes: vec![] })
            }
        ),
        Just(possible()),
    ]
}

proptest! {
    #[test]
    fn a_plan_is_never_made_early_never_unsorted_never_with_a_bad_host(answers in proptest::collection::vec(any_answer(), 0..12), now in 0_i64..200) {
        let hosts: Vec<HostAnswer> = answers.into_iter().enumerate().map(|(index, kind)| answer(200 - u8::try_from(index).unwrap(), kind)).collect();
        let awaited = hosts.iter().any(|host| host.answer == Answer::Awaited);
        match propose(&draft(), hosts.clone(), at(now)) {
            Proposal::Wait(_) => prop_assert!(awaited && now < 100),
            Proposal::Reject(report) => prop_assert!(!report.is_empty()),
            Proposal::Propose(plan) => {
                prop_assert!(!awaited || now >= 100);
                prop_assert!(!plan.hosts.is_empty());
                prop_assert!(plan.hosts.is_sorted_by_key(|host| host.host));
                for host in &plan.hosts {
                    let errors = lint_host(host, &job(&["app"], false)).into_iter().filter(|lint| lint.level == LintLevel::Error).count();
                    prop_assert_eq!(errors, 0);
                }
            }
        }
    }
}
