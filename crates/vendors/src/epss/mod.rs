//! FIRST's Exploit Prediction Scoring System, the daily CSV (<https://www.first.org/epss>).
//!
//! Three layouts exist: with and without the comment line, and (model version 1) without percentiles,
//! which are then computed from the scores as FIRST defines them.

use crate::reading::{self, Problems};
use fettle_domain::advisory::{self, FeedName, VulnId, VulnerabilityFacts};
use fettle_plugin::{Document, Feed, FeedContent, Manifest, Plugin, PluginError};

/// Most rows (2026: about 310,000).
const ROWS: usize = 3_000_000;
/// Longest line, in bytes (real ones have under 40).
const LINE: usize = 400;

/// The EPSS scores.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epss;

impl Plugin for Epss {
    fn manifest(&self) -> Manifest {
        Manifest::new("epss", "FIRST exploit prediction scores")
    }
}

impl Feed for Epss {
    fn name(&self) -> FeedName {
        FeedName("epss".to_owned())
    }

    fn url(&self) -> &'static str {
        "https://epss.empiricalsecurity.com/epss_scores-current.csv.gz"
    }

    fn recognises(&self, document: Document<'_>) -> bool {
        let head = reading::head(document.bytes, 1024);
        head.starts_with(b"cve,epss")
            || (head.starts_with(b"#model_version") && reading::contains(head, b"\ncve,epss"))
            || (head.starts_with(b"#model_version") && reading::contains(head, b"\r\ncve,epss"))
    }

    fn read(&self, document: Document<'_>) -> Result<FeedContent, PluginError> {
        let text = std::str::from_utf8(document.bytes).map_err(|error| reading::unusable(document.name, error))?;
        // The publisher ends every line; a last line without its end may be a number cut in half.
        if !text.ends_with('\n') {
            return Err(reading::unusable(document.name, "its last line has no end"));
        }
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        let with_percentile = match lines.next() {
            Some((_, "cve,epss,percentile")) => true,
            Some((_, "cve,epss")) => false,
            _ => return Err(reading::unusable(document.name, "its header is not `cve,epss,percentile`")),
        };
        let mut content = FeedContent::default();
        let mut problems = Problems::new(document.name);
        let mut rows: Vec<(VulnId, f64, Option<f64>)> = Vec::new();
        for (index, line) in lines {
            if rows.len() >= ROWS {
                return Err(reading::too_much(document.name, "rows", ROWS));
            }
            match row(line, with_percentile) {
                Ok(row) => rows.push(row),
                Err(message) => problems.note(&format!("line {}", index + 1), message),
            }
        }
        content.facts = facts(rows);
        problems.finish(&mut content);
        Ok(content)
    }
}

fn row(line: &str, with_percentile: bool) -> Result<(VulnId, f64, Option<f64>), String> {
    if line.len() > LINE {
        return Err("the line is longer than any real one".to_owned());
    }
    let mut columns = line.split(',');
    let cve = columns.next().unwrap_or_default();
    if !reading::is_cve(cve) {
        return Err(format!("`{}` is not a CVE id", reading::clip(cve, 40)));
    }
    let score = share(columns.next(), "score")?;
    let percentile = if with_percentile { Some(share(columns.next(), "percentile")?) } else { None };
    match columns.next() {
        None => Ok((VulnId(cve.to_owned()), score, percentile)),
        Some(_) => Err("more columns than the header".to_owned()),
    }
}

fn share(text: Option<&str>, what: &str) -> Result<f64, String> {
    let text = text.ok_or_else(|| format!("no {what}"))?;
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err(format!("the {what} `{}` is not between 0 and 1", reading::clip(text, 40))),
    }
}

fn facts(rows: Vec<(VulnId, f64, Option<f64>)>) -> Vec<(VulnId, VulnerabilityFacts)> {
    let mut scores: Vec<f64> = Vec::new();
    if rows.iter().any(|(_, _, percentile)| percentile.is_none()) {
        scores = rows.iter().map(|(_, score, _)| *score).collect();
        scores.sort_by(f64::total_cmp);
    }
    let all = scores.len().max(1);
    rows.into_iter()
        .map(|(cve, score, percentile)| {
            // Share of all scored flaws with the same or a lower score.
            let computed = || scores.partition_point(|other| *other <= score) as f64 / all as f64;
            let epss = advisory::Epss { score, percentile: percentile.unwrap_or_else(computed) };
            (cve, VulnerabilityFacts { epss: Some(epss), ..VulnerabilityFacts::default() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FeedContent, PluginError> {
        Epss.read(Document { name: "epss.csv", bytes: text.as_bytes() })
    }

    #[test]
    fn all_three_layouts_are_read() {
        let third = read("#model_version:v2023.03.01,score_date:2023-03-07T00:00:00+0000\ncve,epss,percentile\nCVE-2020-5902,0.97567,0.99995\n").unwrap();
        let epss = third.facts[0].1.epss.unwrap();
        assert_eq!((epss.score, epss.percentile), (0.97567, 0.99995));
        let second = read("cve,epss,percentile\r\nCVE-2020-5902,0.65117,0.9981063485700858\r\n").unwrap();
        assert_eq!(second.facts.len(), 1);
        let first = read("cve,epss\nCVE-2020-5902,0.65117\nCVE-2018-19571,0.04773\n").unwrap();
        let percentiles: Vec<f64> = first.facts.iter().map(|(_, facts)| facts.epss.unwrap().percentile).collect();
        assert_eq!(percentiles, [1.0, 0.5]);
    }

    #[test]
    fn bad_rows_are_named_and_the_others_stand() {
        let content = read("cve,epss,percentile\nCVE-2020-5902,1.5,0.9\nnonsense,0.1,0.1\nCVE-2020-5903,NaN,0.9\nCVE-2020-5904,0.1\nCVE-2020-5905,0.1,0.2,0.3\nCVE-2020-5906,0.1,0.2\n").unwrap();
        assert_eq!(content.facts.len(), 1);
        let problems: Vec<String> = content.problems.iter().map(|p| format!("{}: {}", p.place, p.message)).collect();
        assert_eq!(
            problems,
            [
                "epss.csv: line 2: the score `1.5` is not between 0 and 1",
                "epss.csv: line 3: `nonsense` is not a CVE id",
                "epss.csv: line 4: the score `NaN` is not between 0 and 1",
                "epss.csv: line 5: no percentile",
                "epss.csv: line 6: more columns than the header",
            ]
        );
    }

    #[test]
    fn a_cut_or_foreign_document_is_refused() {
        assert!(read("cve,epss,percentile\nCVE-2020-5902,0.97").unwrap_err().message.contains("no end"));
        assert!(read("a,b,c\n1,2,3\n").is_err());
        assert!(read("").is_err());
    }
}
