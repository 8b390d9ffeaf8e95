//! The built-in feeds on real documents: the samples of the project always, the bigger collection
//! beside the checkout where it is.

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
