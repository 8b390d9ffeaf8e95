//! Golden transcripts: the sample feeds matched against a Debian 12 with its last point release and no
//! security updates since (the versions that the sample itself names for the suite `bookworm`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_domain::finding::{Verdict, VerdictState};
use fettle_domain::host::Kernel;
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_domain::version::Scheme;
use fettle_plugin::Document;
use fettle_process::gathering::{AdvisoryIndex, HostPicture, evaluate_host, present_on_host};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const TRACKER: &str = "../../samples/feeds/debian-tracker.json";

fn document() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(TRACKER)).unwrap()
}

fn index() -> AdvisoryIndex {
    let bytes = document();
    let document = Document { name: "debian-tracker.json", bytes: &bytes };
    let feeds = fettle_vendors::feeds();
    let tracker = feeds.iter().find(|feed| feed.recognises(document)).unwrap();
    AdvisoryIndex::new(tracker.read(document).unwrap().advisories)
}

/// One package of every source, in the newest version of these suites.
fn inventory(suites: &[&str]) -> Vec<InstalledPackage> {
    let tracker: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_slice(&document()).unwrap();
    let version = |flaws: &BTreeMap<String, Value>| {
        let repositories = flaws
            .values()
            .map(|flaw| &flaw["releases"]["bookworm"]["repositories"])
            .find(|versions| versions.is_object())?;
        let versions = suites.iter().filter_map(|suite| repositories[*suite].as_str());
        versions.max_by(|a, b| Scheme::Dpkg.compare(a, b).unwrap()).map(str::to_owned)
    };
    tracker
        .iter()
        .filter_map(|(source, flaws)| Some((source, version(flaws)?)))
        .map(|(source, version)| {
            let name = if source == "linux" { "linux-image-6.1.0-1-amd64" } else { source };
            InstalledPackage {
                package: PackageVersion {
                    ecosystem: Ecosystem::Debian,
                    name: name.to_owned(),
                    version: version.clone(),
                    architecture: "amd64".into(),
                    source: source.clone(),
                    source_version: version,
                },
                origin: "Debian:bookworm".into(),
                held: false,
                automatic: true,
                state: InstallState::Installed,
            }
        })
        .collect()
}

fn kernel() -> Kernel {
    Kernel { running_release: "6.1.0-1-amd64".into(), ..Kernel::default() }
}

fn transcript(verdicts: &[Verdict]) -> String {
    let mut sources: BTreeMap<&str, Vec<&Verdict>> = BTreeMap::new();
    verdicts.iter().for_each(|verdict| sources.entry(&verdict.source).or_default().push(verdict));
    let mut text = String::new();
    for (source, verdicts) in sources {
        let first = verdicts[0];
        writeln!(text, "{source} {}: {} present", first.source_version, verdicts.len()).unwrap();
        for verdict in verdicts.iter().take(3) {
            let fixed = verdict.fixed_version.as_deref().unwrap_or("-");
            writeln!(text, "  {} {} {fixed}", verdict.vulnerability, verdict.state.as_str()).unwrap();
            for reason in &verdict.reasons {
                writeln!(text, "    {}: {reason}", reason.topic).unwrap();
            }
        }
    }
    text
}

#[test]
fn a_point_release_without_security_updates() {
    let (packages, kernel) = (inventory(&["bookworm"]), kernel());
    let present = present_on_host(&index(), HostPicture { release: "bookworm", packages: &packages, kernel: &kernel });
    assert!(present.iter().all(|verdict| verdict.state == VerdictState::Affected && verdict.fixed_version.is_some()));
    insta::assert_snapshot!(transcript(&present));
}

#[test]
fn with_all_security_updates_nothing_of_the_sample_is_present() {
    let (packages, kernel) = (inventory(&["bookworm", "bookworm-security"]), kernel());
    let index = index();
    let host = HostPicture { release: "bookworm", packages: &packages, kernel: &kernel };
    assert_eq!(transcript(&present_on_host(&index, host)), "");
    let all = evaluate_host(&index, host);
    assert!(all.len() > 3_000, "{}", all.len());
    assert!(all.iter().all(|verdict| verdict.state == VerdictState::Fixed && !verdict.reasons.is_empty()));
}

#[test]
fn another_release_is_another_matter() {
    let (packages, kernel) = (inventory(&["bookworm"]), kernel());
    let host = HostPicture { release: "trixie", packages: &packages, kernel: &kernel };
    assert_eq!(evaluate_host(&index(), host), []);
}
