//! One golden example of every message between hosts and server: read back it is the same value,
//! printed it is the same text. A change here is a change of the protocol.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_domain::host::{Kernel, OsRelease};
use fettle_domain::machine::{DeploymentEvent, TaskState};
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_domain::plan::*;
use fettle_domain::reason::Reason;
use fettle_domain::*;
use fettle_wire::agent::*;
use fettle_wire::log::{LogLine, LogPart, LogReply, LogStream};
use fettle_wire::offer::*;
use fettle_wire::scan::{Machine, Scan};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::Path;

fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "{name}: the message changed; run `cargo xtask golden` and read the difference");
    let read: T = serde_json::from_str(&golden).unwrap();
    assert_eq!(&read, value, "{name} does not read back");
    // An unknown field of a newer peer is ignored.
    let mut newer: serde_json::Value = serde_json::from_str(&golden).unwrap();
    if let Some(object) = newer.as_object_mut() {
        object.insert("field_of_a_newer_peer".into(), serde_json::json!({ "a": [1] }));
        let read: T = serde_json::from_value(newer).unwrap();
        assert_eq!(&read, value, "{name} does not ignore unknown fields");
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis((1_764_000_000 + seconds) * 1000)
}
fn host() -> HostId {
    HostId::new(1_764_000_000_000, [1; 10])
}
fn deployment() -> DeploymentId {
    DeploymentId::new(1_764_000_000_000, [2; 10])
}
fn rehearsal() -> RehearsalId {
    RehearsalId::new(1_764_000_000_000, [3; 10])
}

fn log_request() -> LogRequestId {
    LogRequestId::new(1_764_000_000_000, [6; 10])
}

fn facts() -> HostFacts {
    HostFacts {
        name: "web-1".into(),
        fqdn: "web-1.example.org".into(),
        addresses: vec!["192.0.2.10".into(), "2001:db8::10".into()],
        macs: vec!["02:00:00:00:00:01".into()],
        os: OsRelease {
            id: "debian".into(),
            version_id: "12".into(),
            codename: "bookworm".into(),
            pretty_name: "Debian GNU/Linux 12 (bookworm)".into(),
        },
        kernel: Kernel {
            running_release: "6.1.0-18-amd64".into(),
            running_version: "6.1.76-1".into(),
            newest_installed_release: "6.1.0-42-amd64".into(),
            newest_installed_version: "6.1.159-1".into(),
        },
        boot_id: "5f8f2c86-6a5c-4b8e-9f5c-0d1c1f4a2b3c".into(),
        architecture: "amd64".into(),
        virtualisation: "kvm".into(),
        location: "rack 7".into(),
        tags: vec!["web".into()],
        reboot_pending: vec!["kernel 6.1.0-42-amd64 is installed, 6.1.0-18-amd64 runs".into()],
        read_only: false,
        machine_id: "3f0b".repeat(8),
        product_uuid: "77ac".repeat(8),
    }
}

fn installed(version: &str, origin: &str) -> InstalledPackage {
    InstalledPackage {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: "libssl3".into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: "openssl".into(),
            source_version: version.into(),
        },
        origin: origin.into(),
        held: false,
        automatic: true,
        state: InstallState::Installed,
    }
}

fn manifest() -> Manifest {
    Manifest {
        ecosystem: Ecosystem::Debian,
        steps: vec![PackageStep {
            name: "libssl3".into(),
            architecture: "amd64".into(),
            from: Some("3.0.17-1~deb12u2".into()),
            to: Some("3.0.17-1~deb12u3".into()),
            asked: true,
            file: Some(PackageFile {
                name: "libssl3_3.0.17-1~deb12u3_amd64.deb".into(),
                uri: "http://deb.example.org/pool/libssl3_3.0.17-1~deb12u3_amd64.deb".into(),
                size: 2_023_424,
                sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            }),
        }],
        base_digest: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
        download_bytes: 2_023_424,
        disk_bytes: 4096,
    }
}

#[test]
fn golden_enrolment() {
    golden(
        "enrol-request",
        &EnrolRequest {
            token: "fettle1.AAAA.secret".into(),
            csr: "-----BEGIN CERTIFICATE REQUEST-----\n".into(),
            agent_version: "0.1.0".into(),
            facts: facts(),
        },
    );
    golden(
        "enrol-reply",
        &EnrolReply {
            host: host(),
            certificate: "-----BEGIN CERTIFICATE-----\n".into(),
            authority: "-----BEGIN CERTIFICATE-----\n".into(),
            offer_keys: vec!["MCowBQYDK2VwAyEA".into()],
            server_time: at(0),
        },
    );
}

#[test]
fn golden_renewal_and_clone() {
    let csr = || "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned();
    golden("renew-request", &RenewRequest { csr: csr() });
    golden("renew-reply", &RenewReply { certificate: "-----BEGIN CERTIFICATE-----\n".into(), server_time: at(0) });
    golden("clone-request", &CloneRequest { csr: csr(), agent_version: "0.1.0".into(), facts: facts() });
    golden(
        "clone-reply",
        &CloneReply {
            host: host(),
            certificate: "-----BEGIN CERTIFICATE-----\n".into(),
            change: Envelope {
                payload_type: HOST_CHANGE_TYPE.into(),
                payload: "e30=".into(),
                signatures: vec![EnvelopeSignature { keyid: "c".repeat(64), sig: "AAAA".into() }],
            },
            server_time: at(0),
        },
    );
    golden(
        "host-change",
        &HostChange { former: host(), host: HostId::new(1_764_000_000_001, [1; 10]), issued_at: at(0) },
    );
}

#[test]
fn golden_check_in() {
    let digests = SectionDigests { facts: "f".repeat(64), packages: "a".repeat(64), services: "5".repeat(64) };
    golden(
        "check-in-unchanged",
        &CheckIn {
            agent_version: "0.1.0".into(),
            time: at(0),
            digests: digests.clone(),
            chain: Some(Chain { previous: "0a".repeat(16), link: "1b".repeat(16) }),
            facts: None,
            packages: None,
            services: None,
        },
    );
    golden(
        "check-in-whole",
        &CheckIn {
            agent_version: "0.1.0".into(),
            time: at(0),
            digests: digests.clone(),
            chain: Some(Chain { previous: String::new(), link: "0a".repeat(16) }),
            facts: Some(facts()),
            packages: Some(PackagesReport::Complete {
                packages: vec![installed("3.0.17-1~deb12u2", "Debian:bookworm")],
            }),
            services: Some(vec![Service {
                unit: "ssh.service".into(),
                executable: "/usr/sbin/sshd".into(),
                package: "openssh-server".into(),
                listens: vec!["tcp 0.0.0.0:22".into()],
                restart_pending: true,
                outdated_packages: vec!["libssl3".into()],
            }]),
        },
    );
    golden(
        "check-in-difference",
        &CheckIn {
            agent_version: "0.1.0".into(),
            time: at(0),
            digests,
            chain: None,
            facts: None,
            packages: Some(PackagesReport::Difference {
                base: "b".repeat(64),
                removed: vec![installed("3.0.17-1~deb12u2", "Debian:bookworm")],
                added: vec![installed("3.0.17-1~deb12u3", "Debian:bookworm-security")],
            }),
            services: None,
        },
    );
    golden(
        "check-in-reply-unsettled",
        &CheckInReply { want: vec![Section::Facts], chain_unsettled: true, next_seconds: 300, server_time: at(1) },
    );
    golden(
        "check-in-reply",
        &CheckInReply { want: vec![Section::Packages], chain_unsettled: false, next_seconds: 300, server_time: at(1) },
    );
}

#[test]
fn golden_work() {
    let job = Job {
        ecosystem: Ecosystem::Debian,
        wanted: vec![WantedPackage {
            name: "libssl3".into(),
            version: WantedVersion::SourceAtLeast { version: "3.0.17-1~deb12u3".into() },
        }],
        allow_removals: false,
    };
    let envelope = Envelope {
        payload_type: OFFER_TYPE.into(),
        payload: "e30=".into(),
        signatures: vec![EnvelopeSignature { keyid: "c".repeat(64), sig: "AAAA".into() }],
    };
    golden(
        "work",
        &Work {
            cursor: 42,
            items: vec![
                WorkItem::Rehearse { rehearsal: rehearsal(), job },
                WorkItem::Offer { envelope },
                WorkItem::Withdraw { deployment: deployment() },
                WorkItem::SendLog { request: log_request(), deployment: deployment(), from: 1, most_bytes: 1 << 20 },
            ],
        },
    );
    golden(
        "offer",
        &Offer {
            action: OfferAction::Deploy,
            deployment: deployment(),
            host: host(),
            change: ChangeId::new(1_764_000_000_000, [4; 10]),
            plan: PlanId::new(1_764_000_000_000, [5; 10]),
            plan_digest: "d".repeat(64),
            approvals: vec![Approval { by: "bea".into(), at: at(10) }],
            manifest: manifest(),
            restart_services: true,
            reboot: RebootPolicy::Never,
            checks: vec![
                "http=http://127.0.0.1:8080/health,status=200,contains=ok,within=30s".parse().expect("a check"),
                "command=shop-self-test,when=always,name=the shop sells".parse().expect("a check"),
            ],
            window_start: at(20),
            window_end: at(3620),
            expires: at(7200),
            issued_at: at(15),
            sequence: 7,
        },
    );
}

#[test]
fn golden_log() {
    let line = |number: u64, stream, text: &str| LogLine {
        number,
        at: at(40),
        task: "install".into(),
        stream,
        text: text.into(),
    };
    golden(
        "log-part",
        &LogPart {
            request: log_request(),
            from: 1,
            lines: vec![
                line(1, LogStream::Output, "Setting up libssl3 (3.0.17-1~deb12u3) ..."),
                line(2, LogStream::Error, "password=***"),
                line(90, LogStream::Fettle, "[3 lines could not be written down: the disk refused them]"),
            ],
            last: true,
            missing: String::new(),
        },
    );
    golden("log-reply", &LogReply { next: 91, wanted: false, most_bytes: 1_047_900 });
}

#[test]
fn golden_scan() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scan.json");
    let scan = Scan {
        format: fettle_wire::scan::FORMAT.into(),
        version: fettle_wire::scan::VERSION,
        made_at: at(50),
        made_by: "fettle 0.1.0".into(),
        user: "joe".into(),
        missing: vec!["the UUID of the hardware (needs root)".into()],
        machine: Machine { id: "e".repeat(64), product_uuid: String::new() },
        digests: SectionDigests { facts: "a".repeat(64), packages: "b".repeat(64), services: "c".repeat(64) },
        facts: facts(),
        packages: vec![installed("3.0.11-1~deb12u2", "Debian:bookworm")],
        services: vec![],
    };
    let text = serde_json::to_string_pretty(&scan).unwrap() + "\n";
    if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "the form of the file changed: does its version have to?");
    assert_eq!(serde_json::from_str::<Scan>(&golden).unwrap(), scan);
    // Files are not messages between peers of two versions: what is unknown in one is a mistake.
    let surprising = golden.replacen("\"format\"", "\"surprise\": 1, \"format\"", 1);
    assert!(serde_json::from_str::<Scan>(&surprising).is_err());
}

#[test]
fn golden_report() {
    let entry = |sequence, body| ReportEntry { sequence, at: at(30), body };
    golden(
        "report",
        &Report {
            link: "1b".repeat(16),
            entries: vec![
                entry(
                    1,
                    ReportBody::Rehearsal {
                        rehearsal: rehearsal(),
                        outcome: RehearsalOutcome::Possible {
                            manifest: manifest(),
                            notes: vec![Reason::new(
                                "apt.conffile-edited",
                                "/etc/ssl/openssl.cnf was edited: it is kept",
                            )],
                        },
                    },
                ),
                entry(
                    2,
                    ReportBody::Deployment {
                        deployment: deployment(),
                        event: DeploymentEvent::Accept,
                        reasons: vec![],
                    },
                ),
                entry(
                    3,
                    ReportBody::Task {
                        deployment: deployment(),
                        number: 5,
                        name: "install".into(),
                        state: TaskState::Doing,
                        reasons: vec![],
                    },
                ),
                entry(4, ReportBody::Output { deployment: deployment(), lines: vec!["Setting up libssl3".into()] }),
                entry(
                    5,
                    ReportBody::Refused {
                        deployment: None,
                        reasons: vec![Reason::from_source("offer.signature", "no key this host trusts", "offer")],
                    },
                ),
            ],
        },
    );
    golden("report-reply", &ReportReply { acknowledged: 5 });
}
