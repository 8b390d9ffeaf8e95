//! `docs/protocol.md` is the contract: it carries a hash of the message types, and what it shows is what is said.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

use fettle_plugin::conformance::Fixtures;
use fettle_plugin::digest::sha256_hex;
use fettle_plugin::host::{Launch, Session};
use fettle_plugin::scratch;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn workspace(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(inside)
}

fn document() -> String {
    std::fs::read_to_string(workspace("docs/protocol.md")).unwrap()
}

/// The source files of the messages, and the types in them that travel; none named: all.
const TYPES: &[(&str, &[&str])] = &[
    ("crates/plugin/src/protocol.rs", &[]),
    ("crates/plugin/src/provider.rs", &["Candidate", "ConffilePolicy", "Step", "StepRequest", "Applied"]),
    ("crates/domain/src/package.rs", &["Ecosystem", "PackageVersion", "InstalledPackage", "Flat", "InstallState"]),
    (
        "crates/domain/src/plan.rs",
        &["Job", "WantedPackage", "WantedVersion", "Manifest", "PackageStep", "PackageFile", "RehearsalOutcome"],
    ),
    (
        "crates/domain/src/advisory.rs",
        &["FeedName", "VulnId", "Advisory", "Statement", "Disposition", "VulnerabilityFacts", "Cvss", "Epss", "Kev"],
    ),
    ("crates/domain/src/reason.rs", &["Reason"]),
];

/// The definitions with their attributes, without comments and layout.
fn definitions() -> String {
    let mut all = String::new();
    for (file, names) in TYPES {
        let source = std::fs::read_to_string(workspace(file)).unwrap();
        let mut found = Vec::new();
        let (mut attributes, mut item, mut name) = (String::new(), String::new(), None::<String>);
        for line in source.lines() {
            let code = line.split("//").next().unwrap_or_default().trim_end();
            if name.is_none() {
                if code.starts_with("#[") {
                    attributes.push_str(code);
                    continue;
                }
                let rest = code.strip_prefix("pub ").unwrap_or(code);
                let named = rest.strip_prefix("struct ").or_else(|| rest.strip_prefix("enum "));
                let Some(named) = named else {
                    // A docstring may stand between; anything else ends what an attribute belongs to.
                    if !line.trim_start().starts_with("//") {
                        attributes.clear();
                    }
                    continue;
                };
                let end = named.find(|c: char| !c.is_alphanumeric()).unwrap_or(named.len());
                name = Some(named[..end].to_owned());
                item = std::mem::take(&mut attributes);
            }
            item.push_str(code);
            if line == "}" || code.ends_with(';') && item.matches('{').count() == item.matches('}').count() {
                let name = name.take().unwrap();
                if names.is_empty() || names.contains(&name.as_str()) {
                    all.extend(item.chars().filter(|c| !c.is_whitespace()));
                    all.push('\n');
                    found.push(name);
                }
            }
        }
        for name in *names {
            assert!(found.iter().any(|it| it == name), "{file} has no type {name} any more");
        }
        assert!(!found.is_empty(), "{file}");
    }
    all
}

#[test]
fn golden_the_document_knows_the_message_types() {
    let definitions = definitions();
    for part in [
        "pubstructRequest{pubv:u32,pubid:u64,",
        "pubenumStatement{",
        "#[serde(transparent)]pubstructVulnId(pubString);",
    ] {
        assert!(definitions.contains(part), "{part} is not found in\n{definitions}");
    }
    let line = format!("Message types: `{}`", sha256_hex(definitions.as_bytes()));
    let text = document();
    let known = text.lines().find(|line| line.starts_with("Message types: ")).unwrap();
    if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
        std::fs::write(workspace("docs/protocol.md"), text.replace(known, &line)).unwrap();
        return;
    }
    assert_eq!(
        known, line,
        "the message types changed: change docs/protocol.md as well, then `cargo xtask golden` for this line"
    );
}

/// The text of a fenced block.
fn block(name: &str) -> String {
    let text = document();
    let start = format!("```{name}\n");
    let from = text.find(&start).unwrap_or_else(|| panic!("no block {name}")) + start.len();
    let rest = &text[from..];
    rest[..rest.find("```").unwrap()].to_owned()
}

/// Says what the host says and compares what the plug-in says, as JSON, events included.
fn replay(session: &mut Session, transcript: &str, fill: impl Fn(&str) -> String) {
    let mut lines = transcript.lines();
    let hello: Value = serde_json::from_str(lines.next().unwrap().strip_prefix("plug-in ").unwrap()).unwrap();
    let said = serde_json::to_value(session.hello().unwrap()).unwrap();
    assert_eq!(said["name"], hello["hello"]["name"]);
    assert_eq!(said["versions"], hello["hello"]["versions"]);
    for line in lines {
        if let Some(host) = line.strip_prefix("host    ") {
            let text = fill(host);
            let _: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            session.write_raw(text.as_bytes());
            continue;
        }
        let wanted = fill(line.strip_prefix("plug-in ").unwrap());
        let said = session.read_raw(Instant::now() + Duration::from_secs(30)).unwrap();
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(json(&said), json(wanted.as_bytes()));
    }
}

fn start(name: &str, scratch: &Path) -> Session {
    let program = workspace("examples/plugins").join(name).canonicalize().unwrap();
    Session::start(&Launch::trial(&program, &[], scratch), Instant::now() + Duration::from_secs(30)).unwrap()
}

#[test]
fn the_feeds_transcript_is_what_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = start("usn", folder.path());
    let bytes = block("document");
    let document = scratch::put(session.scratch(), bytes.as_bytes()).unwrap();
    let answer = block("answer");
    let fill = |text: &str| {
        text.replace("DOCUMENT", &document.sha256)
            .replace("SIZE", &document.size.to_string())
            .replace("ANSWER", &sha256_hex(answer.as_bytes()))
    };
    replay(&mut session, &block("transcript usn"), fill);
    let lies = session.scratch().join(sha256_hex(answer.as_bytes()));
    assert_eq!(std::fs::read_to_string(lies).unwrap(), answer);
    session.finish().unwrap();
}

#[test]
fn the_providers_transcript_is_what_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Fixtures::load(&workspace("examples/plugins/ports-fixtures")).unwrap();
    let case = fixtures.provider.as_ref().unwrap();
    let file = std::fs::read(case.root.join("var/ports/libgreet_2.2.tar.gz")).unwrap();
    let state = "hello all 1.0 installed\nlibgreet all 2.1 installed\n";
    let manifest = block("manifest")
        .replace("FILE-SIZE", &file.len().to_string())
        .replace("FILE-DIGEST", &sha256_hex(&file))
        .replace("BASE-DIGEST", &sha256_hex(state.as_bytes()));
    let fill = |text: &str| {
        text.replace("MANIFEST", manifest.trim())
            .replace("ROOT", &case.root.display().to_string())
            .replace("FOLDER", &case.folder.display().to_string())
    };
    let mut session = start("ports", folder.path());
    replay(&mut session, &block("transcript ports"), fill);
    session.finish().unwrap();
    let text = std::fs::read_to_string(case.root.join("usr/local/lib/libgreet.txt")).unwrap();
    assert_eq!(text, "greet 2.1\n");
}
