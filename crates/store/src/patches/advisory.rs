//! Advisories, kept as one set a feed, release and source package: a new document of a feed rewrites
//! only the sets that really changed.

use crate::{Connection, Result, StoreError, Value};
use fettle_domain::advisory::{Advisory, FeedName, VulnId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Rows in one statement; well below both databases' limits on parameters.
const ROWS: usize = 500;

/// All statements of one feed on one source package of one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvisorySet {
    /// Release codename.
    pub release: String,
    /// Source package.
    pub source: String,
    /// sha-256 of `body`.
    pub digest: String,
    /// JSON array of [`Advisory`].
    pub body: String,
    /// Every vulnerability in it.
    pub mentions: BTreeSet<VulnId>,
}

/// Groups statements into sets. `digest` is the caller's sha-256 in lowercase hex.
pub fn advisory_sets(advisories: Vec<Advisory>, digest: impl Fn(&[u8]) -> String) -> Result<Vec<AdvisorySet>> {
    let mut groups: BTreeMap<(String, String), Vec<Advisory>> = BTreeMap::new();
    for advisory in advisories {
        groups.entry((advisory.release.clone(), advisory.source.clone())).or_default().push(advisory);
    }
    groups
        .into_iter()
        .map(|((release, source), mut group)| {
            group.sort_by(|a, b| (&a.vulnerability, &a.record).cmp(&(&b.vulnerability, &b.record)));
            let body = serde_json::to_string(&group)
                .map_err(|error| StoreError::Refused { cause: format!("cannot write advisories as JSON: {error}") })?;
            let mentions = group.iter().map(|advisory| advisory.vulnerability.clone()).collect();
            Ok(AdvisorySet { release, source, digest: digest(body.as_bytes()), body, mentions })
        })
        .collect()
}

/// Makes these sets the feed's data, whole. Returns how many sets changed.
pub fn advisory_replace(connection: &mut Connection, feed: &FeedName, sets: &[AdvisorySet]) -> Result<u64> {
    let mut old: HashMap<(String, String), String> = HashMap::new();
    for row in connection
        .query("SELECT release_name, source, digest FROM advisory_set WHERE feed = ?1", &[(&feed.0).into()])?
    {
        old.insert((row.text(0)?.to_owned(), row.text(1)?.to_owned()), row.text(2)?.to_owned());
    }
    let mut changed = Vec::new();
    for set in sets {
        let before = old.remove(&(set.release.clone(), set.source.clone()));
        if before.as_ref() != Some(&set.digest) {
            if before.is_some() {
                delete(connection, feed, &set.release, &set.source)?;
            }
            changed.push(set);
        }
    }
    for (release, source) in old.keys() {
        delete(connection, feed, release, source)?;
    }
    for chunk in changed.chunks(ROWS) {
        insert_sets(connection, feed, chunk)?;
    }
    let mentions: Vec<(&VulnId, &AdvisorySet)> =
        changed.iter().flat_map(|set| set.mentions.iter().map(move |mention| (mention, *set))).collect();
    for chunk in mentions.chunks(ROWS) {
        insert_mentions(connection, feed, chunk)?;
    }
    Ok((changed.len() + old.len()) as u64)
}

fn delete(connection: &mut Connection, feed: &FeedName, release: &str, source: &str) -> Result<()> {
    let key: [Value; 3] = [(&feed.0).into(), release.into(), source.into()];
    connection.execute("DELETE FROM advisory_mention WHERE feed = ?1 AND release_name = ?2 AND source = ?3", &key)?;
    connection.execute("DELETE FROM advisory_set WHERE feed = ?1 AND release_name = ?2 AND source = ?3", &key)?;
    Ok(())
}

fn insert_sets(connection: &mut Connection, feed: &FeedName, sets: &[&AdvisorySet]) -> Result<()> {
    let mut values: Vec<Value> = vec![(&feed.0).into()];
    for set in sets {
        values.extend([(&set.release).into(), (&set.source).into(), (&set.digest).into(), (&set.body).into()]);
    }
    let rows = numbered_rows(sets.len(), 4, "?1, ", 2);
    connection.execute(
        &format!("INSERT INTO advisory_set (feed, release_name, source, digest, body) VALUES {rows}"),
        &values,
    )?;
    Ok(())
}

fn insert_mentions(connection: &mut Connection, feed: &FeedName, mentions: &[(&VulnId, &AdvisorySet)]) -> Result<()> {
    let mut values: Vec<Value> = vec![(&feed.0).into()];
    for (vulnerability, set) in mentions {
        values.extend([(&vulnerability.0).into(), (&set.release).into(), (&set.source).into()]);
    }
    let rows = numbered_rows(mentions.len(), 3, "?1, ", 2);
    connection.execute(
        &format!("INSERT INTO advisory_mention (feed, vulnerability, release_name, source) VALUES {rows}"),
        &values,
    )?;
    Ok(())
}

/// `(?1, ?2, ?3), (?1, ?4, ?5)`: rows of `width` values numbered from `start`, each after the common text `first`.
pub(crate) fn numbered_rows(rows: usize, width: usize, first: &str, start: usize) -> String {
    (0..rows)
        .map(|row| {
            let numbers: Vec<String> = (0..width).map(|column| format!("?{}", start + row * width + column)).collect();
            format!("({first}{})", numbers.join(", "))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// Every statement of every feed on these releases, set by set, for the index in memory.
pub fn advisory_each(
    connection: &mut Connection,
    releases: &[String],
    mut each: impl FnMut(Vec<Advisory>),
) -> Result<()> {
    for release in releases {
        let mut after: [String; 2] = Default::default();
        loop {
            let [feed, source] = &after;
            let rows = connection.query(
                "SELECT feed, source, body FROM advisory_set
                 WHERE release_name = ?1 AND (feed, source) > (?2, ?3) ORDER BY feed, source LIMIT 1000",
                &[release.into(), feed.into(), source.into()],
            )?;
            let Some(last) = rows.last() else { break };
            after = [last.text(0)?.to_owned(), last.text(1)?.to_owned()];
            for row in &rows {
                each(parse(row.text(2)?)?);
            }
        }
    }
    Ok(())
}

/// Every statement on one vulnerability, by feed, release and source.
pub fn advisory_of_vulnerability(connection: &mut Connection, vulnerability: &VulnId) -> Result<Vec<Advisory>> {
    let rows = connection.query(
        "SELECT s.body FROM advisory_mention m JOIN advisory_set s
           ON s.feed = m.feed AND s.release_name = m.release_name AND s.source = m.source
         WHERE m.vulnerability = ?1 ORDER BY m.feed, m.release_name, m.source LIMIT 500",
        &[(&vulnerability.0).into()],
    )?;
    let mut found = Vec::new();
    for row in &rows {
        found.extend(parse(row.text(0)?)?.into_iter().filter(|advisory| advisory.vulnerability == *vulnerability));
    }
    Ok(found)
}

fn parse(body: &str) -> Result<Vec<Advisory>> {
    serde_json::from_str(body).map_err(|error| StoreError::Corrupt { what: format!("advisory_set.body: {error}") })
}
