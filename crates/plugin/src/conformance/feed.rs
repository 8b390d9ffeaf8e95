//! What a feed promises: it knows its own documents, reads them always the same, and refuses what is cut.

use super::{Report, told};
use crate::protocol::FactMessage;
use crate::{Document, Feed, FeedContent};
use fettle_domain::advisory::Advisory;
use serde::{Deserialize, Serialize};

/// Documents that are nobody's.
const NONE_OF_IT: [(&str, &[u8]); 4] = [
    ("empty", b""),
    ("an empty object", b"{}"),
    ("text", b"Lorem ipsum dolor sit amet\n"),
    ("bytes", &[0, 159, 146, 150, 255, 254, 0, 0, 1, 2, 3]),
];

/// What a document holds, as `NAME.expected.json` has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Statements, in the order read.
    pub advisories: Vec<Advisory>,
    /// Facts, in the order read.
    pub facts: Vec<FactMessage>,
    /// Problems as `place: message`.
    pub problems: Vec<String>,
}

impl From<FeedContent> for Content {
    fn from(content: FeedContent) -> Self {
        let facts = content.facts.into_iter().map(|(vulnerability, facts)| FactMessage { vulnerability, facts });
        Self {
            advisories: content.advisories,
            facts: facts.collect(),
            problems: content.problems.into_iter().map(|it| format!("{}: {}", it.place, it.message)).collect(),
        }
    }
}

/// A real document and what it must be read as.
#[derive(Debug, Clone)]
pub struct FeedCase {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it holds.
    pub expected: Content,
}

impl FeedCase {
    fn document(&self) -> Document<'_> {
        Document { name: &self.name, bytes: &self.bytes }
    }
}

/// Tries a feed.
pub fn check_feed(feed: &dyn Feed, cases: &[FeedCase], report: &mut Report) {
    report.note("feed: its name is that of its manifest", same_name(feed));
    for (what, bytes) in NONE_OF_IT {
        let document = Document { name: "foreign", bytes };
        let taken = if feed.recognises(document) { Err("it takes it for its own".to_owned()) } else { Ok(()) };
        report.note(format!("feed: no document of its own: {what}"), taken);
    }
    report.note("feed: an empty document is an error", refuses(feed, Document { name: "empty", bytes: b"" }));
    if cases.is_empty() {
        report.leave_out("feed: golden documents", "no fixtures were given: --fixtures DIR");
    }
    for case in cases {
        let name = &case.name;
        let recognised =
            if feed.recognises(case.document()) { Ok(()) } else { Err("it does not recognise it".to_owned()) };
        report.note(format!("feed: {name} is recognised"), recognised);
        report.note(format!("feed: {name} is read as its golden file says"), golden(feed, case));
        let half = Document { name, bytes: case.bytes.get(..case.bytes.len() / 2).unwrap_or_default() };
        report.note(format!("feed: half of {name} is an error"), refuses(feed, half));
    }
}

fn same_name(feed: &dyn Feed) -> Result<(), String> {
    let (name, manifest) = (feed.name().0, feed.manifest().name);
    if name == manifest { Ok(()) } else { Err(format!("the feed says {name}, its manifest {manifest}")) }
}

fn refuses(feed: &dyn Feed, document: Document<'_>) -> Result<(), String> {
    match feed.read(document) {
        Err(error) if error.message.is_empty() => Err("the error says nothing".to_owned()),
        Err(_) => Ok(()),
        Ok(content) => Err(format!(
            "it was read: {} advisories, {} facts, {} problems",
            content.advisories.len(),
            content.facts.len(),
            content.problems.len()
        )),
    }
}

fn golden(feed: &dyn Feed, case: &FeedCase) -> Result<(), String> {
    let read = |time: &str| {
        feed.read(case.document()).map(Content::from).map_err(|error| format!("read the {time} time: {}", told(&error)))
    };
    let first = read("first")?;
    if let Some(other) = first.advisories.iter().find(|it| it.feed != feed.name()) {
        return Err(format!("{} speaks for the feed {}", other.record, other.feed));
    }
    if first != case.expected {
        return Err(difference(&first, &case.expected));
    }
    if read("second")? != first { Err("read twice, it holds two things".to_owned()) } else { Ok(()) }
}

fn difference(found: &Content, expected: &Content) -> String {
    let lines = |content: &Content| {
        serde_json::to_string_pretty(content).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (found_lines, expected_lines) = (lines(found), lines(expected));
    let first = found_lines.iter().zip(&expected_lines).position(|(a, b)| a != b);
    let place = first.unwrap_or(found_lines.len().min(expected_lines.len()));
    let at = |lines: &[String]| lines.get(place).map_or("nothing", |line| line.trim()).to_owned();
    format!("line {}: found {}, expected {}", place + 1, at(&found_lines), at(&expected_lines))
}
