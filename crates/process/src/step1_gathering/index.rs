//! Statements by release and source package, so that a package looks at what concerns it alone.

use fettle_domain::advisory::{Advisory, VulnId};
use std::collections::{BTreeMap, HashMap};

/// Statements on one source package of one release, by vulnerability.
pub type Statements = BTreeMap<VulnId, Vec<Advisory>>;

/// All statements of all feeds.
#[derive(Debug, Default)]
pub struct AdvisoryIndex {
    releases: HashMap<String, HashMap<String, Statements>>,
    count: usize,
}

impl AdvisoryIndex {
    /// Indexes statements.
    pub fn new(advisories: impl IntoIterator<Item = Advisory>) -> Self {
        let mut index = Self::default();
        for advisory in advisories {
            index.count += 1;
            index
                .releases
                .entry(advisory.release.clone())
                .or_default()
                .entry(advisory.source.clone())
                .or_default()
                .entry(advisory.vulnerability.clone())
                .or_default()
                .push(advisory);
        }
        index
    }

    /// What is stated on a source package of a release.
    pub fn statements(&self, release: &str, source: &str) -> Option<&Statements> {
        self.releases.get(release)?.get(source)
    }

    /// How many statements there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether no feed was loaded.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
