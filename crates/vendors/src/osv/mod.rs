//! OSV records of the Debian ecosystem (<https://ossf.github.io/osv-schema/>), one JSON document a
//! record, as in `all.zip`: `DSA-…`, `DLA-…`, `DEBIAN-CVE-…`.

mod cvss;
mod range;

use crate::reading::{self, Problems};
use fettle_domain::Timestamp;
use fettle_domain::advisory::{Advisory, Cvss, Disposition, FeedName, Statement, VulnId, VulnerabilityFacts};
use fettle_domain::package::Ecosystem;
use fettle_plugin::{Document, Feed, FeedContent, Manifest, Plugin, PluginError};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Biggest record, in bytes (the biggest real ones list every version of a kernel: under 2 MB).
const RECORD: usize = 16 << 20;
/// Most `affected` entries of one record.
const AFFECTED: usize = 10_000;
/// Most names in `aliases`, `upstream` or `related` (a kernel DLA names some hundreds).
const NAMES: usize = 5_000;

/// OSV records for Debian.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsvDebian;

impl Plugin for OsvDebian {
    fn manifest(&self) -> Manifest {
        Manifest::new("osv-debian", "OSV records for Debian")
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    id: String,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    details: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    upstream: Vec<String>,
    #[serde(default)]
    related: Vec<String>,
    #[serde(default)]
    withdrawn: Option<String>,
    #[serde(default)]
    modified: Option<String>,
    #[serde(default)]
    severity: Vec<Severity>,
    #[serde(borrow, default)]
    affected: Vec<&'a RawValue>,
}

/// As much of a record as tells whose it is.
#[derive(Deserialize)]
struct Sketch {
    affected: Vec<SketchAffected>,
}

#[derive(Deserialize)]
struct SketchAffected {
    #[serde(default)]
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Severity {
    #[serde(rename = "type")]
    kind: String,
    score: String,
}

#[derive(Deserialize)]
struct Affected {
    package: Option<Package>,
    #[serde(default)]
    ranges: Vec<range::Range>,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    ecosystem_specific: Option<EcosystemSpecific>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    ecosystem: String,
}

impl Package {
    fn is_debian(&self) -> bool {
        self.ecosystem == "Debian" || self.ecosystem.starts_with("Debian:")
    }
}

#[derive(Deserialize)]
struct EcosystemSpecific {
    #[serde(default)]
    urgency: Option<String>,
}

impl Feed for OsvDebian {
    fn name(&self) -> FeedName {
        FeedName("osv-debian".to_owned())
    }

    fn url(&self) -> &'static str {
        "https://osv-vulnerabilities.storage.googleapis.com/Debian/all.zip"
    }

    fn recognises(&self, document: Document<'_>) -> bool {
        if document.bytes.len() > RECORD || reading::first_byte(document.bytes) != Some(b'{') {
            return false;
        }
        let said = |word: &[u8]| reading::contains(document.bytes, word);
        if !(said(b"\"Debian") && said(b"\"ecosystem\"") && said(b"\"affected\"")) {
            return false;
        }
        match serde_json::from_slice::<Sketch>(document.bytes) {
            Ok(sketch) => {
                sketch.affected.iter().filter_map(|affected| affected.package.as_ref()).any(Package::is_debian)
            }
            // Cut or otherwise wrong: to be read, so that it is told.
            Err(_) => said(b"\"id\"") && said(b"\"modified\""),
        }
    }

    fn read(&self, document: Document<'_>) -> Result<FeedContent, PluginError> {
        if document.bytes.len() > RECORD {
            return Err(reading::too_much(document.name, "bytes", RECORD));
        }
        let mut content = FeedContent::default();
        let mut problems = Problems::new(document.name);
        match serde_json::from_slice::<Record<'_>>(document.bytes) {
            Ok(record) => self.record(record, &mut content, &mut problems),
            Err(error) if error.is_eof() => return Err(reading::unusable(document.name, error)),
            // One record of many (a member of the archive): the others stand.
            Err(error) => problems.note("record", error.to_string()),
        }
        problems.finish(&mut content);
        Ok(content)
    }
}

impl OsvDebian {
    fn record(&self, record: Record<'_>, content: &mut FeedContent, problems: &mut Problems<'_>) {
        if !reading::is_record_name(&record.id) {
            return problems.note("id", format!("`{}` is not a record id", reading::clip(&record.id, 40)));
        }
        if record.withdrawn.is_some() {
            return;
        }
        let names = [&record.aliases, &record.upstream, &record.related];
        if record.affected.len() > AFFECTED || names.iter().any(|names| names.len() > NAMES) {
            return problems.note(&record.id, "more entries or names than any real record");
        }
        let vulnerabilities = vulnerabilities(&record);
        for (index, raw) in record.affected.iter().enumerate() {
            let place = format!("{}/affected[{index}]", record.id);
            match affected(raw) {
                Ok(Some(entry)) => self.advisories(&record, &vulnerabilities, &entry, content),
                Ok(None) => {}
                Err(message) => problems.note(&place, message),
            }
        }
        content.facts.extend(facts(&record, &vulnerabilities));
    }

    fn advisories(&self, record: &Record<'_>, vulnerabilities: &[VulnId], entry: &Entry, content: &mut FeedContent) {
        for vulnerability in vulnerabilities {
            let aliases =
                record.aliases.iter().filter(|alias| **alias != vulnerability.0 && reading::is_record_name(alias));
            for statement in &entry.statements {
                content.advisories.push(Advisory {
                    feed: self.name(),
                    record: record.id.clone(),
                    vulnerability: vulnerability.clone(),
                    // Of an advisory on many flaws, the other flaws are no other names of this one.
                    aliases: aliases.clone().filter(|alias| !reading::is_cve(alias)).cloned().collect(),
                    ecosystem: Ecosystem::Debian,
                    release: entry.release.to_owned(),
                    source: entry.source.clone(),
                    statement: statement.clone(),
                    severity: entry.urgency.clone(),
                    note: reading::clip(record.summary.as_deref().unwrap_or_default(), reading::NOTE),
                    modified: record.modified.as_deref().and_then(Timestamp::parse),
                });
            }
        }
    }
}

/// What one `affected` entry comes to.
struct Entry {
    release: &'static str,
    source: String,
    urgency: String,
    statements: Vec<Statement>,
}

/// Reads an entry; `None` when it is of another ecosystem.
fn affected(raw: &RawValue) -> Result<Option<Entry>, String> {
    let affected: Affected = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    let package = affected.package.ok_or("it names no package")?;
    if !package.is_debian() {
        return Ok(None);
    }
    let number = package.ecosystem.strip_prefix("Debian:").unwrap_or_default();
    let release = codename(number)
        .ok_or_else(|| format!("`{}` is not a release this reader knows", reading::clip(&package.ecosystem, 40)))?;
    if !reading::is_package_name(&package.name) {
        return Err(format!("`{}` is not a source package name", reading::clip(&package.name, 40)));
    }
    let urgency = affected.ecosystem_specific.and_then(|specific| specific.urgency).unwrap_or_default();
    let urgency = reading::clip(&urgency, 40);
    let disposition = match urgency.as_str() {
        "unimportant" => Disposition::Unimportant,
        "end-of-life" => Disposition::EndOfLife,
        _ => Disposition::Pending,
    };
    let statements = range::statements(&affected.ranges, &affected.versions, disposition)?;
    Ok(Some(Entry { release, source: package.name, urgency, statements }))
}

/// Codename of a Debian release number, as the ecosystem name carries it.
fn codename(number: &str) -> Option<&'static str> {
    Some(match number.strip_suffix(".0").unwrap_or(number) {
        "3" => "woody",
        "3.1" => "sarge",
        "4" => "etch",
        "5" => "lenny",
        "6" => "squeeze",
        "7" => "wheezy",
        "8" => "jessie",
        "9" => "stretch",
        "10" => "buster",
        "11" => "bullseye",
        "12" => "bookworm",
        "13" => "trixie",
        "14" => "forky",
        "15" => "duke",
        _ => return None,
    })
}

/// The flaws a record speaks of, by their public names.
///
/// `DEBIAN-CVE-…` is about that CVE alone. A DSA or DLA names its CVEs in `upstream` (newer records),
/// `aliases` (the oldest) or `related`; one without any is a flaw by its own name.
fn vulnerabilities(record: &Record<'_>) -> Vec<VulnId> {
    let named = record.id.strip_prefix("DEBIAN-").unwrap_or(&record.id);
    if reading::is_cve(named) {
        return vec![VulnId(named.to_owned())];
    }
    let cves = |names: &[&Vec<String>]| -> Vec<VulnId> {
        let mut cves: Vec<VulnId> = names
            .iter()
            .flat_map(|names| names.iter())
            .filter(|name| reading::is_cve(name))
            .cloned()
            .map(VulnId)
            .collect();
        cves.sort();
        cves.dedup();
        cves
    };
    let stated = cves(&[&record.aliases, &record.upstream]);
    let stated = if stated.is_empty() { cves(&[&record.related]) } else { stated };
    if stated.is_empty() { vec![VulnId(record.id.clone())] } else { stated }
}

/// Facts on the flaw itself: only a record about one flaw alone has any.
fn facts(record: &Record<'_>, vulnerabilities: &[VulnId]) -> Option<(VulnId, VulnerabilityFacts)> {
    let [vulnerability] = vulnerabilities else { return None };
    if record.id.starts_with("DSA-") || record.id.starts_with("DLA-") {
        return None;
    }
    let description = record.details.as_deref().or(record.summary.as_deref()).unwrap_or_default();
    let description = reading::clip(description, reading::DESCRIPTION);
    let cvss =
        record.severity.iter().filter(|severity| severity.kind == "CVSS_V3").find_map(|severity| {
            Some(Cvss { score: cvss::base_score(&severity.score)?, vector: severity.score.clone() })
        });
    if description.is_empty() && cvss.is_none() {
        return None;
    }
    Some((vulnerability.clone(), VulnerabilityFacts { description, cvss, ..VulnerabilityFacts::default() }))
}

#[cfg(test)]
mod tests;
