//! The conformance suite on every built-in plug-in, in-process and over the protocol, and on the foreign examples.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

#[path = "../../vendors/tests/support/mod.rs"]
mod support;

use fettle_plugin::conformance::{Content, Fixtures, ProviderCase, Report, check_feed, check_provider, over_stdio};
use fettle_plugin::host::{Launch, StdioFeed};
use fettle_plugin::{Document, Feed};
use fettle_vendors::debian::provider::AptProvider;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn workspace(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(inside)
}

fn fixtures_of(name: &str) -> PathBuf {
    workspace("crates/vendors/fixtures").join(name)
}

/// `fettle plugin serve NAME`.
fn served(name: &str, scratch: &Path) -> Launch {
    let arguments = ["plugin", "serve", name].map(Into::into);
    Launch::trial(Path::new(env!("CARGO_BIN_EXE_fettle")), &arguments, scratch)
}

fn example(name: &str, scratch: &Path) -> Launch {
    Launch::trial(&workspace("examples/plugins").join(name).canonicalize().unwrap(), &[], scratch)
}

/// Nothing failed, nothing was left out.
fn assert_whole(report: &Report, checks: usize) {
    println!("{report}");
    assert_eq!(report.counts(), (checks, 0, 0), "{report}");
}

/// Writes what a feed reads beside its documents, when golden files are made anew.
fn write_golden(feed: &dyn Feed, folder: &Path) {
    if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_none() {
        return;
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.is_file() || name.ends_with(".expected.json") || name == "README.md" {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let content = Content::from(feed.read(Document { name: &name, bytes: &bytes }).unwrap());
        let text = serde_json::to_string_pretty(&content).unwrap() + "\n";
        std::fs::write(folder.join(format!("{name}.expected.json")), text).unwrap();
    }
}

#[test]
fn golden_every_built_in_feed_conforms_in_process_and_over_stdio() {
    let scratch = tempfile::tempdir().unwrap();
    for feed in fettle_vendors::feeds() {
        let folder = fixtures_of(&feed.name().0);
        write_golden(feed.as_ref(), &folder);
        let fixtures = Fixtures::load(&folder).unwrap();
        assert!(fixtures.feed[0].expected != Content::default(), "{}: the golden file is empty", feed.name());
        let mut report = Report::default();
        check_feed(feed.as_ref(), &fixtures.feed, &mut report);
        assert_whole(&report, 9);
        assert_whole(&over_stdio(&served(&feed.name().0, scratch.path()), &fixtures), 25);
    }
}

/// A case on a throwaway machine.
fn apt_case(host: &support::Host) -> ProviderCase {
    let names = ["fettle-demo-app", "fettle-demo-conf", "fettle-demo-daemon"];
    let wanted: Vec<_> = names.map(|name| support::at_least(name, "1.0-1+deb12u1")).to_vec();
    ProviderCase {
        root: host.root.clone(),
        folder: host.folder.join("deployment"),
        job: support::job(&wanted),
        kept: None,
    }
}

#[test]
fn the_apt_provider_conforms_in_process() {
    let Some(testbed) = support::demo() else { return };
    let host = support::Host::new(testbed);
    let mut report = Report::default();
    check_provider(&AptProvider::new(), Some(&apt_case(&host)), &mut report);
    assert_whole(&report, 18);
}

#[test]
fn the_apt_provider_conforms_over_stdio() {
    let Some(testbed) = support::demo() else { return };
    let host = support::Host::new(testbed);
    let scratch = tempfile::tempdir().unwrap();
    let fixtures = Fixtures { provider: Some(apt_case(&host)), ..Fixtures::default() };
    assert_whole(&over_stdio(&served("apt", scratch.path()), &fixtures), 36);
}

#[test]
fn golden_the_foreign_feed_conforms() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = workspace("examples/plugins/usn-fixtures");
    let launch = example("usn", scratch.path());
    let feed = StdioFeed::connect(launch.clone()).unwrap();
    write_golden(&feed, &folder);
    let fixtures = Fixtures::load(&folder).unwrap();
    // Each release, source package and CVE of three notices.
    assert_eq!(fixtures.feed[0].expected.advisories.len(), 4 * 2 + 1 + (5 + 4) * 6);
    assert_whole(&over_stdio(&launch, &fixtures), 25);
}

#[test]
fn the_foreign_provider_conforms_and_brings_every_file_back() {
    let scratch = tempfile::tempdir().unwrap();
    let fixtures = Fixtures::load(&workspace("examples/plugins/ports-fixtures")).unwrap();
    let root = fixtures.provider.as_ref().unwrap().root.clone();
    let before = files(&root);
    assert!(before.contains_key(Path::new("usr/local/share/hello/old.txt")), "{before:?}");
    assert_whole(&over_stdio(&example("ports", scratch.path()), &fixtures), 36);
    assert_eq!(files(&root), before, "installed and undone seven times, four times killed in between");
}

#[test]
fn the_examples_are_short() {
    for name in ["ports", "usn"] {
        let text = std::fs::read_to_string(workspace("examples/plugins").join(name)).unwrap();
        assert!(text.lines().count() < 150, "{name}");
        assert!(text.lines().all(|line| line.len() <= 140), "{name}");
    }
}

/// Every file with its content and mode.
fn files(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mode = entry.metadata().unwrap().permissions().mode();
                found.insert(path.strip_prefix(root).unwrap().to_owned(), (mode, std::fs::read(&path).unwrap()));
            }
        }
    }
    found
}
