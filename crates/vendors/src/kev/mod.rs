//! CISA's catalogue of known exploited vulnerabilities, JSON
//! (<https://www.cisa.gov/known-exploited-vulnerabilities-catalog>).

use crate::reading::{self, Problems};
use fettle_domain::advisory::{FeedName, Kev, VulnId, VulnerabilityFacts};
use fettle_plugin::{Document, Feed, FeedContent, Manifest, Plugin, PluginError};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Most entries (2026: about 1,500).
const ENTRIES: usize = 100_000;

/// The KEV catalogue.
#[derive(Debug, Clone, Copy, Default)]
pub struct CisaKev;

impl Plugin for CisaKev {
    fn manifest(&self) -> Manifest {
        Manifest::new("cisa-kev", "CISA known exploited vulnerabilities")
    }
}

#[derive(Deserialize)]
struct Catalogue<'a> {
    #[serde(default)]
    count: Option<u64>,
    #[serde(borrow)]
    vulnerabilities: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "cveID")]
    cve: String,
    date_added: String,
    due_date: String,
    #[serde(default)]
    known_ransomware_campaign_use: Option<String>,
}

impl Feed for CisaKev {
    fn name(&self) -> FeedName {
        FeedName("cisa-kev".to_owned())
    }

    fn url(&self) -> &'static str {
        "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json"
    }

    fn recognises(&self, document: Document<'_>) -> bool {
        let head = reading::head(document.bytes, 8 * 1024);
        let said = |word: &[u8]| reading::contains(head, word);
        // The JSON schema of the catalogue, which CISA serves beside it, names the same words.
        reading::first_byte(head) == Some(b'{')
            && said(b"\"catalogVersion\"")
            && said(b"\"vulnerabilities\"")
            && !said(b"\"$schema\"")
    }

    fn read(&self, document: Document<'_>) -> Result<FeedContent, PluginError> {
        let catalogue: Catalogue<'_> =
            serde_json::from_slice(document.bytes).map_err(|error| reading::unusable(document.name, error))?;
        let entries = catalogue.vulnerabilities;
        if entries.len() > ENTRIES {
            return Err(reading::too_much(document.name, "entries", ENTRIES));
        }
        let mut content = FeedContent::default();
        let mut problems = Problems::new(document.name);
        if let Some(count) = catalogue.count.filter(|count| usize::try_from(*count) != Ok(entries.len())) {
            problems.note("count", format!("the catalogue says {count} entries, it has {}", entries.len()));
        }
        for (index, raw) in entries.iter().enumerate() {
            match entry(raw) {
                Ok(fact) => content.facts.push(fact),
                Err(message) => problems.note(&format!("vulnerabilities[{index}]"), message),
            }
        }
        problems.finish(&mut content);
        Ok(content)
    }
}

fn entry(raw: &RawValue) -> Result<(VulnId, VulnerabilityFacts), String> {
    let entry: Entry = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    if !reading::is_cve(&entry.cve) {
        return Err(format!("`{}` is not a CVE id", reading::clip(&entry.cve, 40)));
    }
    for date in [&entry.date_added, &entry.due_date] {
        if !is_date(date) {
            return Err(format!("{}: `{}` is not a date (YYYY-MM-DD)", entry.cve, reading::clip(date, 40)));
        }
    }
    let kev = Kev {
        date_added: entry.date_added,
        due_date: entry.due_date,
        ransomware: entry.known_ransomware_campaign_use.as_deref() == Some("Known"),
    };
    Ok((VulnId(entry.cve), VulnerabilityFacts { kev: Some(kev), ..VulnerabilityFacts::default() }))
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(index, b)| if matches!(index, 4 | 7) { b == b'-' } else { b.is_ascii_digit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FeedContent, PluginError> {
        CisaKev.read(Document { name: "kev.json", bytes: text.as_bytes() })
    }

    #[test]
    fn entries_become_facts_and_bad_ones_are_named() {
        let content = read(
            r#"{"catalogVersion":"2024.12.18","count":4,"vulnerabilities":[
                {"cveID":"CVE-2021-4034","dateAdded":"2022-06-27","dueDate":"2022-07-18","knownRansomwareCampaignUse":"Known","cwes":["CWE-787"]},
                {"cveID":"CVE-2021-4034x","dateAdded":"2022-06-27","dueDate":"2022-07-18"},
                {"cveID":"CVE-2021-4035","dateAdded":"soon","dueDate":"2022-07-18"}, 7]}"#,
        )
        .unwrap();
        let kev = content.facts[0].1.kev.clone().unwrap();
        assert_eq!((content.facts.len(), kev.date_added.as_str(), kev.ransomware), (1, "2022-06-27", true));
        let places: Vec<&str> = content.problems.iter().map(|p| p.place.as_str()).collect();
        assert_eq!(
            places,
            ["kev.json: vulnerabilities[1]", "kev.json: vulnerabilities[2]", "kev.json: vulnerabilities[3]"]
        );
        let short = read(r#"{"catalogVersion":"1","count":2,"vulnerabilities":[]}"#).unwrap();
        assert_eq!(short.problems[0].message, "the catalogue says 2 entries, it has 0");
    }

    #[test]
    fn a_cut_catalogue_is_refused() {
        assert!(read(r#"{"catalogVersion":"1","vulnerabilities":[{"cveID":"#).is_err());
        assert!(read(r#"{"catalogVersion":"1"}"#).is_err());
        assert!(read("").is_err());
    }
}
