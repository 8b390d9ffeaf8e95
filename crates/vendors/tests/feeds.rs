//! The built-in feeds on real documents: the samples of the project always, the bigger collection
//! beside the checkout where it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_domain::advisory::Statement;
use fettle_plugin::{Document, FeedContent};
use fettle_vendors::feeds;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/feeds");
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/feeds");

/// The names of the feeds that take the document for theirs.
fn owners(document: Document<'_>) -> Vec<String> {
    feeds().iter().filter(|feed| feed.recognises(document)).map(|feed| feed.name().0).collect()
}

fn read(name: &str, bytes: &[u8]) -> (String, FeedContent) {
    let document = Document { name, bytes };
    assert_eq!(owners(document).len(), 1, "{name}: {:?}", owners(document));
    let feeds = feeds();
    let feed = feeds.iter().find(|feed| feed.recognises(document)).unwrap();
    (feed.name().0, feed.read(document).unwrap())
}

fn plain(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), into),
            Ok(_) => into.push(entry.path()),
            Err(_) => {}
        }
    }
}

#[test]
fn the_samples_of_the_project_are_read_without_a_problem() {
    let mut read_by = BTreeMap::new();
    for name in ["debian-tracker.json", "epss_scores.csv", "known_exploited_vulnerabilities.json"] {
        let (feed, content) = read(name, &plain(&Path::new(SAMPLES).join(name)));
        assert_eq!(content.problems, [], "{name}");
        read_by.insert(feed, (content.advisories.len(), content.facts.len()));
    }
    assert!(read_by["debian-tracker"].0 > 2_000, "{read_by:?}");
    assert!(read_by["epss"].1 > 1_000, "{read_by:?}");
    assert!(read_by["cisa-kev"].1 > 10, "{read_by:?}");
}

#[test]
fn no_feed_takes_a_document_that_is_none_of_its_own() {
    let foreign: [&[u8]; 6] = [
        b"",
        b"{}",
        b"[1, 2]",
        br#"{"$schema":"x","title":"CISA Catalog","properties":{"catalogVersion":{},"vulnerabilities":{}}}"#,
        br#"{"id":"GHSA-1","modified":"2024","affected":[{"package":{"ecosystem":"npm","name":"Debian"}}]}"#,
        b"cve;score\nCVE-1;2\n",
    ];
    for bytes in foreign {
        assert!(owners(Document { name: "x", bytes }).is_empty(), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn real_tracker_documents_beside_the_checkout() {
    let folder = Path::new(SHARED).join("debian");
    if !folder.is_dir() {
        return;
    }
    let (_, content) = read("tracker-json-a.json", &plain(&folder.join("tracker-json-a.json")));
    assert_eq!((content.advisories.len(), content.problems.len()), (8, 0));
    let ignored = content.advisories.iter().filter(|a| matches!(a.statement, Statement::Unfixed { .. })).count();
    assert_eq!(ignored, 2);
    let (_, content) = read("tracker-json-b.json", &plain(&folder.join("tracker-json-b.json")));
    assert_eq!((content.advisories.len(), content.problems.len()), (18, 0));
}

/// Whatever stands in the collection (all vendors, some broken on purpose): nothing panics, and each
/// document belongs to at most one feed.
#[test]
fn the_whole_collection_beside_the_checkout_harms_nothing() {
    let mut all = Vec::new();
    files(Path::new(SHARED), &mut all);
    for path in all {
        let bytes = plain(&path);
        let name = path.display().to_string();
        let document = Document { name: &name, bytes: &bytes };
        assert!(owners(document).len() <= 1, "{name}: {:?}", owners(document));
        for feed in feeds() {
            let _ = feed.read(document);
        }
    }
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    const TRACKER: &str = r#"{"app":{"CVE-2024-0001":{"description":"x","releases":{"bookworm":{"status":"resolved","repositories":{},"fixed_version":"1.0-1","urgency":"low"},"sid":{"status":"open","urgency":"high","nodsa":"n","nodsa_reason":"postponed"}}}}}"#;
    const OSV: &str = r#"{"id":"DSA-1-1","modified":"2024-01-01T00:00:00Z","upstream":["CVE-2024-0001"],"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],"affected":[{"package":{"name":"app","ecosystem":"Debian:12"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1.0-1"},{"introduced":"2"},{"last_affected":"3"}]}],"versions":["1"]}]}"#;
    const KEV: &str = r#"{"catalogVersion":"1","count":1,"vulnerabilities":[{"cveID":"CVE-2024-0001","dateAdded":"2024-01-01","dueDate":"2024-01-22"}]}"#;
    const EPSS: &str = "#model_version:v1,score_date:2024\ncve,epss,percentile\nCVE-2024-0001,0.5,0.9\n";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// A document with bytes changed, cut out or doubled: read, refused, or told, but never a panic,
        /// and what is read obeys the words' own rules.
        #[test]
        fn a_damaged_document_never_makes_a_reader_fall(
            which in 0..4_usize,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
        ) {
            let mut bytes = [TRACKER, OSV, KEV, EPSS][which].as_bytes().to_vec();
            for (place, byte, kind) in damage {
                let place = place.index(bytes.len().max(1));
                match kind {
                    0 if place < bytes.len() => bytes[place] = byte,
                    1 => bytes.truncate(place),
                    2 => bytes.insert(place.min(bytes.len()), byte),
                    _ => bytes.extend_from_within(place.min(bytes.len())..),
                }
            }
            for feed in feeds() {
                let document = Document { name: "damaged", bytes: &bytes };
                let _ = feed.recognises(document);
                let Ok(content) = feed.read(document) else { continue };
                for advisory in content.advisories {
                    prop_assert!(!advisory.source.is_empty() && !advisory.release.is_empty() && !advisory.vulnerability.0.is_empty());
                    if let Statement::Fixed { fixed, .. } = &advisory.statement {
                        prop_assert!(fettle_domain::version::Scheme::Dpkg.validate(fixed).is_ok());
                    }
                }
                for (_, facts) in content.facts {
                    prop_assert!(facts.epss.is_none_or(|epss| (0.0..=1.0).contains(&epss.score)));
                    prop_assert!(facts.cvss.is_none_or(|cvss| (0.0..=10.0).contains(&cvss.score)));
                }
            }
        }
    }
}
