//! The Debian security tracker's JSON (<https://security-tracker.debian.org/tracker/data/json>):
//! source package → CVE → release → status.
//!
//! The document has some 70 MB, so it is walked record by record and never held as a tree of values.
//! Statuses are read as the tracker's own code writes them: `resolved` with `fixed_version` (`0`:
//! never affected), `open` with `nodsa`/`nodsa_reason` and `urgency`, `undetermined`.

use crate::reading::{self, Problems};
use fettle_domain::advisory::{Advisory, Disposition, FeedName, Statement, VulnId, VulnerabilityFacts};
use fettle_domain::package::Ecosystem;
use fettle_domain::version::Scheme;
use fettle_plugin::{Document, Feed, FeedContent, Manifest, Plugin, PluginError};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// Most source packages (2026: about 4,500 have entries).
const SOURCES: usize = 100_000;
/// Most statements (2026: about 350,000).
const STATEMENTS: usize = 5_000_000;
/// Most releases of one record (the tracker gives six or seven).
const RELEASES: usize = 64;

/// The Debian security tracker.
#[derive(Debug, Clone, Copy, Default)]
pub struct DebianTracker;

impl Plugin for DebianTracker {
    fn manifest(&self) -> Manifest {
        Manifest::new("debian-tracker", "Debian security tracker")
    }
}

impl Feed for DebianTracker {
    fn name(&self) -> FeedName {
        FeedName("debian-tracker".to_owned())
    }

    fn url(&self) -> &'static str {
        "https://security-tracker.debian.org/tracker/data/json"
    }

    fn recognises(&self, document: Document<'_>) -> bool {
        // The first record ends well within this, however long its description.
        let head = reading::head(document.bytes, 64 * 1024);
        let said = |word: &[u8]| reading::contains(head, word);
        reading::first_byte(head) == Some(b'{')
            && said(b"\"releases\"")
            && said(b"\"repositories\"")
            && said(b"\"urgency\"")
    }

    fn read(&self, document: Document<'_>) -> Result<FeedContent, PluginError> {
        let mut reader = Reader {
            document: document.name,
            feed: self.name(),
            content: FeedContent::default(),
            problems: Problems::new(document.name),
            described: HashSet::new(),
            excess: None,
        };
        let mut json = serde_json::Deserializer::from_slice(document.bytes);
        let walked = json.deserialize_map(&mut reader).and_then(|()| json.end());
        if let Some(error) = reader.excess {
            return Err(error);
        }
        walked.map_err(|error| reading::unusable(document.name, error))?;
        reader.problems.finish(&mut reader.content);
        Ok(reader.content)
    }
}

/// Walks the outer map; each source package's entry is taken as raw text first, so that one that is
/// no map at all spoils nothing but itself.
struct Reader<'a> {
    document: &'a str,
    feed: FeedName,
    content: FeedContent,
    problems: Problems<'a>,
    described: HashSet<String>,
    excess: Option<PluginError>,
}

impl<'de> Visitor<'de> for &mut Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of source packages")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut sources = 0;
        while let Some(source) = map.next_key::<String>()? {
            sources += 1;
            if sources > SOURCES {
                self.excess = Some(reading::too_much(self.document, "source packages", SOURCES));
            } else if self.content.advisories.len() > STATEMENTS {
                self.excess = Some(reading::too_much(self.document, "statements", STATEMENTS));
            }
            if self.excess.is_some() {
                map.next_value::<IgnoredAny>()?;
                return Err(serde::de::Error::custom("too much"));
            }
            let entry = map.next_value::<&RawValue>()?;
            self.source(&source, entry);
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow)]
    releases: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize)]
struct Release {
    status: String,
    #[serde(default)]
    fixed_version: Option<String>,
    #[serde(default)]
    urgency: Option<String>,
    #[serde(default)]
    nodsa: Option<String>,
    #[serde(default)]
    nodsa_reason: Option<String>,
}

impl Reader<'_> {
    fn source(&mut self, source: &str, entry: &RawValue) {
        if !reading::is_package_name(source) {
            return self.problems.note(source, "not a source package name");
        }
        match serde_json::from_str::<BTreeMap<String, &RawValue>>(entry.get()) {
            Ok(records) => records.into_iter().for_each(|(name, record)| self.record(source, &name, record)),
            Err(error) => self.problems.note(source, format!("not a map of vulnerabilities: {error}")),
        }
    }

    fn record(&mut self, source: &str, name: &str, raw: &RawValue) {
        let place = format!("{source}/{name}");
        if !reading::is_record_name(name) {
            return self.problems.note(&place, "not a name of a vulnerability");
        }
        let record: Record<'_> = match serde_json::from_str(raw.get()) {
            Ok(record) => record,
            Err(error) => return self.problems.note(&place, error.to_string()),
        };
        if record.releases.len() > RELEASES {
            return self.problems.note(&place, format!("more than {RELEASES} releases"));
        }
        for (release, raw) in record.releases {
            let place = format!("{place}/{release}");
            match self.statement(&release, raw) {
                Ok((statement, severity, note)) => self.content.advisories.push(Advisory {
                    feed: self.feed.clone(),
                    record: name.to_owned(),
                    vulnerability: VulnId(name.to_owned()),
                    aliases: Vec::new(),
                    ecosystem: Ecosystem::Debian,
                    release,
                    source: source.to_owned(),
                    statement,
                    severity,
                    note,
                    modified: None,
                }),
                Err(message) => self.problems.note(&place, message),
            }
        }
        self.describe(name, record.description);
    }

    fn statement(&self, release: &str, raw: &RawValue) -> Result<(Statement, String, String), String> {
        if !reading::is_codename(release) {
            return Err("not a release codename".to_owned());
        }
        let release: Release = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
        // Old entries carry the tracker's own mark of a guess: `low**`.
        let urgency = reading::clip(release.urgency.as_deref().unwrap_or_default().trim_end_matches('*'), 40);
        let note = reading::clip(release.nodsa.as_deref().unwrap_or_default(), reading::NOTE);
        let statement = match release.status.as_str() {
            "resolved" => resolved(release.fixed_version.as_deref())?,
            "open" => Statement::Unfixed { introduced: None, disposition: disposition(&release, &urgency) },
            "undetermined" => Statement::UnderInvestigation,
            other => return Err(format!("unknown status `{}`", reading::clip(other, 40))),
        };
        Ok((statement, urgency, note))
    }

    /// A flaw of several source packages is described once.
    fn describe(&mut self, name: &str, description: Option<String>) {
        let Some(description) = description.filter(|text| !text.is_empty()) else { return };
        if self.described.insert(name.to_owned()) {
            let description = reading::clip(&description, reading::DESCRIPTION);
            let facts = VulnerabilityFacts { description, ..VulnerabilityFacts::default() };
            self.content.facts.push((VulnId(name.to_owned()), facts));
        }
    }
}

fn resolved(fixed: Option<&str>) -> Result<Statement, String> {
    let fixed = fixed.ok_or("resolved, but without a fixed version")?;
    if fixed == "0" {
        return Ok(Statement::NotAffected);
    }
    if fixed.len() > reading::VERSION {
        return Err("the fixed version is longer than any real one".to_owned());
    }
    Scheme::Dpkg.validate(fixed).map_err(|error| error.to_string())?;
    Ok(Statement::Fixed { introduced: None, fixed: fixed.to_owned() })
}

/// The decision about an open flaw; end of life outweighs all, a decision of the team outweighs the urgency.
fn disposition(release: &Release, urgency: &str) -> Disposition {
    if urgency == "end-of-life" {
        return Disposition::EndOfLife;
    }
    match (release.nodsa_reason.as_deref(), &release.nodsa) {
        (Some("ignored"), _) => Disposition::Ignored,
        (Some("postponed"), _) => Disposition::Postponed,
        _ if urgency == "unimportant" => Disposition::Unimportant,
        (_, Some(_)) => Disposition::NoDsa,
        _ => Disposition::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FeedContent, PluginError> {
        DebianTracker.read(Document { name: "tracker.json", bytes: text.as_bytes() })
    }

    fn release(entry: &str) -> FeedContent {
        read(&format!(r#"{{"app":{{"CVE-2024-0001":{{"releases":{{"bookworm":{entry}}}}}}}}}"#)).unwrap()
    }

    fn stated(entry: &str) -> Statement {
        let content = release(entry);
        assert_eq!(content.problems, []);
        content.advisories[0].statement.clone()
    }

    #[test]
    fn every_status_of_the_tracker_has_its_own_statement() {
        let unfixed = |disposition| Statement::Unfixed { introduced: None, disposition };
        let cases = [
            (r#"{"status":"resolved","fixed_version":"0","urgency":"unimportant"}"#, Statement::NotAffected),
            (
                r#"{"status":"resolved","fixed_version":"1.2-3","urgency":"low"}"#,
                Statement::Fixed { introduced: None, fixed: "1.2-3".into() },
            ),
            (r#"{"status":"open","urgency":"not yet assigned"}"#, unfixed(Disposition::Pending)),
            (r#"{"status":"open","urgency":"unimportant"}"#, unfixed(Disposition::Unimportant)),
            (r#"{"status":"open","urgency":"end-of-life"}"#, unfixed(Disposition::EndOfLife)),
            (
                r#"{"status":"open","urgency":"low","nodsa":"Minor issue","nodsa_reason":""}"#,
                unfixed(Disposition::NoDsa),
            ),
            (r#"{"status":"open","nodsa":"Minor issue","nodsa_reason":"ignored"}"#, unfixed(Disposition::Ignored)),
            (r#"{"status":"open","nodsa":"Fix along","nodsa_reason":"postponed"}"#, unfixed(Disposition::Postponed)),
            (r#"{"status":"undetermined","urgency":"medium"}"#, Statement::UnderInvestigation),
        ];
        for (entry, statement) in cases {
            assert_eq!(stated(entry), statement, "{entry}");
        }
    }

    #[test]
    fn a_bad_record_is_named_and_the_others_stand() {
        let content = read(
            r#"{"app":{"CVE-2024-0001":{"releases":{"bookworm":{"status":"odd"},"trixie":{"status":"open"},"No Release":{"status":"open"}}},
                       "CVE-2024-0002":[],"x":{}},
                "b/d":{},"list":[1],
                "lib":{"CVE-2024-0003":{"releases":{"bookworm":{"status":"resolved","fixed_version":"1_0"},"sid":{"status":"resolved"}}}}}"#,
        )
        .unwrap();
        assert_eq!(content.advisories.len(), 1);
        let problems: Vec<String> = content.problems.iter().map(|p| format!("{}: {}", p.place, p.message)).collect();
        let wanted = [
            "tracker.json: app/CVE-2024-0001/No Release: not a release codename",
            "tracker.json: app/CVE-2024-0001/bookworm: unknown status `odd`",
            "tracker.json: app/CVE-2024-0002: ",
            "tracker.json: app/x: not a name of a vulnerability",
            "tracker.json: b/d: not a source package name",
            "tracker.json: list: not a map of vulnerabilities",
            "tracker.json: lib/CVE-2024-0003/bookworm: `1_0` is not a valid dpkg version",
            "tracker.json: lib/CVE-2024-0003/sid: resolved, but without a fixed version",
        ];
        assert_eq!(problems.len(), wanted.len(), "{problems:#?}");
        for (problem, wanted) in problems.iter().zip(wanted) {
            assert!(problem.starts_with(wanted), "{problem}");
        }
    }

    #[test]
    fn a_cut_document_is_refused_whole() {
        let whole = r#"{"app":{"CVE-2024-0001":{"releases":{"bookworm":{"status":"open"}}}}}"#;
        assert!(read(whole).is_ok());
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{}", &whole[..end]);
        }
        assert!(read(&format!("{whole}{{")).is_err());
        let error = read(&whole[..30]).unwrap_err();
        assert!(error.message.starts_with("cannot read tracker.json: EOF while parsing"), "{error}");
    }

    #[test]
    fn deep_nesting_and_endless_text_are_bounded() {
        let deep = format!(r#"{{"app":{}1{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(read(&deep).unwrap().problems.len(), 1);
        let long = "x".repeat(1_000_000);
        let content = read(&format!(
            r#"{{"app":{{"CVE-2024-0001":{{"description":"{long}","releases":{{"sid":{{"status":"open","nodsa":"{long}"}}}}}}}}}}"#
        ))
        .unwrap();
        assert!(content.facts[0].1.description.len() <= reading::DESCRIPTION);
        assert!(content.advisories[0].note.len() <= reading::NOTE);
    }
}
