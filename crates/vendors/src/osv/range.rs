//! OSV ranges: events on a line of versions become intervals.

use crate::reading;
use fettle_domain::advisory::{Disposition, Statement};
use fettle_domain::version::Scheme;
use serde::Deserialize;
use std::cmp::Ordering;

/// Most events of one entry.
const EVENTS: usize = 10_000;
/// Most single versions that are taken one by one, where no range is given.
const VERSIONS: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct Range {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    events: Vec<Event>,
}

/// Exactly one field is set (OSV schema); `limit` bounds enumeration only and is left out.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    introduced: Option<String>,
    #[serde(default)]
    fixed: Option<String>,
    #[serde(default)]
    last_affected: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Introduced,
    Fixed,
    LastAffected,
}

/// What the ranges state; without a range that this ordering understands, the single versions.
pub(super) fn statements(
    ranges: &[Range],
    versions: &[String],
    disposition: Disposition,
) -> Result<Vec<Statement>, String> {
    let mut statements = Vec::new();
    let ours = ranges.iter().filter(|range| range.kind == "ECOSYSTEM");
    let mut understood = false;
    for range in ours {
        understood = true;
        statements.extend(intervals(&range.events, disposition)?);
    }
    if understood {
        return Ok(statements);
    }
    if versions.is_empty() {
        return Err("it has neither a range of type ECOSYSTEM nor versions".to_owned());
    }
    if versions.len() > VERSIONS {
        return Err(format!("more than {VERSIONS} versions"));
    }
    versions
        .iter()
        .map(|version| {
            check(version)?;
            Ok(Statement::LastAffected { introduced: Some(version.clone()), last: version.clone() })
        })
        .collect()
}

/// Sorts the events along the version line, as the schema's evaluation does, and closes intervals.
fn intervals(events: &[Event], disposition: Disposition) -> Result<Vec<Statement>, String> {
    if events.len() > EVENTS {
        return Err(format!("more than {EVENTS} events"));
    }
    let mut marks: Vec<(&str, Mark)> = Vec::new();
    for event in events {
        let each = [
            (&event.introduced, Mark::Introduced),
            (&event.fixed, Mark::Fixed),
            (&event.last_affected, Mark::LastAffected),
        ];
        for (version, mark) in each {
            if let Some(version) = version {
                check(version)?;
                marks.push((version, mark));
            }
        }
    }
    marks.sort_by(|(a, _), (b, _)| order(a, b));
    let mut statements = Vec::new();
    let mut open: Option<&str> = None;
    for (version, mark) in marks {
        match (mark, open) {
            (Mark::Introduced, None) => open = Some(version),
            // A second start within an interval, or an end of none, adds nothing.
            (Mark::Introduced, Some(_)) | (_, None) => {}
            (Mark::Fixed, Some(start)) => {
                statements.push(match order(start, version) {
                    Ordering::Less => Statement::Fixed { introduced: from(start), fixed: version.to_owned() },
                    _ => Statement::NotAffected,
                });
                open = None;
            }
            (Mark::LastAffected, Some(start)) => {
                statements.push(Statement::LastAffected { introduced: from(start), last: version.to_owned() });
                open = None;
            }
        }
    }
    if let Some(start) = open {
        statements.push(Statement::Unfixed { introduced: from(start), disposition });
    }
    if statements.is_empty() {
        return Err("the range has no `introduced`".to_owned());
    }
    Ok(statements)
}

/// OSV's `0` means: before all versions.
fn from(start: &str) -> Option<String> {
    (start != "0").then(|| start.to_owned())
}

fn order(a: &str, b: &str) -> Ordering {
    match (a == "0", b == "0") {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        // Both were checked.
        (false, false) => Scheme::Dpkg.compare(a, b).unwrap_or(Ordering::Equal),
    }
}

fn check(version: &str) -> Result<(), String> {
    if version.len() > reading::VERSION {
        return Err("a version is longer than any real one".to_owned());
    }
    Scheme::Dpkg.validate(version).map_err(|error| error.to_string())
}
