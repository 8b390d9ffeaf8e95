//! The inventory: facts, packages and services with their digests, asked for only when something
//! changed, and sent as the difference to what the server has.

use crate::config::Config;
use crate::disk::StateDir;
use crate::disk::files;
use crate::disk::state::{self, StateError};
use crate::facts::{self, PackageSummary};
use crate::services::{PackageOwner, ServiceScan};
use fettle_content::Hasher;
use fettle_domain::package::InstalledPackage;
use fettle_plugin::{PluginError, Provider, ProviderContext, ProviderEvents, ResourceLimits};
use fettle_wire::agent::{HostFacts, PackagesReport, SectionDigests, Service};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for one provider to list what is installed.
const LISTING_LIMIT: Duration = Duration::from_secs(300);
/// Cap of the file that keeps what the server has.
const LONGEST_KEPT: u64 = 64 << 20;

/// Everything a host reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// Digests of the three parts.
    pub digests: SectionDigests,
    /// What the host is.
    pub facts: HostFacts,
    /// What is installed, sorted.
    pub packages: Vec<InstalledPackage>,
    /// What runs, sorted.
    pub services: Vec<Service>,
}

/// Takes an inventory of this host now (`fettle agent inventory`). Changes nothing, needs no state.
pub fn inventory(
    root: &Path,
    providers: &[Arc<dyn Provider>],
    owner: Option<&dyn PackageOwner>,
) -> Result<Inventory, PluginError> {
    let packages = list_packages(root, providers)?;
    let facts = facts::collect(root, &Config::default(), &PackageSummary::of(&packages), false);
    let services = ServiceScan::default().services(root, owner);
    let digests =
        SectionDigests { facts: digest_of(&facts), packages: digest_of(&packages), services: digest_of(&services) };
    Ok(Inventory { digests, facts, packages, services })
}

/// What one look at the host gave. The packages are there only when they had to be listed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) digests: SectionDigests,
    pub(crate) facts: HostFacts,
    pub(crate) services: Vec<Service>,
    pub(crate) packages: Option<Vec<InstalledPackage>>,
    /// Why the packages could not be listed. The host still gives a sign of life.
    pub(crate) trouble: Option<String>,
}

/// Looks at the host and remembers as little as possible between two looks.
pub(crate) struct Watch {
    root: PathBuf,
    config: Config,
    read_only: bool,
    providers: Vec<Arc<dyn Provider>>,
    owner: Option<Arc<dyn PackageOwner>>,
    scan: ServiceScan,
    last: Option<LastListing>,
}

struct LastListing {
    marks: Option<Vec<FileMark>>,
    digest: String,
    summary: PackageSummary,
}

/// What tells that a file changed without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileMark {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Watch {
    pub(crate) fn new(
        root: &Path,
        config: Config,
        read_only: bool,
        providers: Vec<Arc<dyn Provider>>,
        owner: Option<Arc<dyn PackageOwner>>,
    ) -> Self {
        Self { root: root.to_owned(), config, read_only, providers, owner, scan: ServiceScan::default(), last: None }
    }

    /// Looks now. Packages are listed only when their database changed, or when `listed` asks.
    pub(crate) fn look(&mut self, listed: bool) -> Snapshot {
        let marks = self.marks();
        let unchanged = self.last.as_ref().is_some_and(|last| marks.is_some() && last.marks == marks);
        let (packages, trouble) = if unchanged && !listed {
            (None, None)
        } else {
            match list_packages(&self.root, &self.providers) {
                Ok(packages) => (Some(packages), None),
                Err(error) => (None, Some(format!("{error} {}", error.advice).trim_end().to_owned())),
            }
        };
        if let Some(packages) = &packages {
            let digest = digest_of(packages);
            if self.last.as_ref().is_none_or(|last| last.digest != digest) {
                self.scan.packages_changed();
            }
            // The marks are those from before the listing: what changed meanwhile is seen next time.
            self.last = Some(LastListing { marks, digest, summary: PackageSummary::of(packages) });
        }
        let (digest, summary) =
            self.last.as_ref().map(|last| (last.digest.clone(), last.summary.clone())).unwrap_or_default();
        let facts = facts::collect(&self.root, &self.config, &summary, self.read_only);
        let services = self.scan.services(&self.root, self.owner.as_deref());
        let digests = SectionDigests { facts: digest_of(&facts), packages: digest, services: digest_of(&services) };
        Snapshot { digests, facts, services, packages, trouble }
    }

    /// Marks of all database files; `None` when a provider cannot name its own.
    fn marks(&self) -> Option<Vec<FileMark>> {
        let mut marks = Vec::new();
        for provider in &self.providers {
            let files = provider.database_files();
            if files.is_empty() {
                return None;
            }
            marks.extend(files.iter().map(|file| mark(&self.root.join(file.trim_start_matches('/')))));
        }
        Some(marks)
    }
}

fn mark(path: &Path) -> FileMark {
    std::fs::metadata(path).map_or(FileMark { inode: 0, size: 0, modified: (0, 0) }, |found| FileMark {
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
    })
}

/// What all providers list, sorted.
pub(crate) fn list_packages(
    root: &Path,
    providers: &[Arc<dyn Provider>],
) -> Result<Vec<InstalledPackage>, PluginError> {
    let context = ProviderContext {
        root: root.to_owned(),
        events: &Silent,
        deadline: Instant::now() + LISTING_LIMIT,
        lock_patience: Duration::ZERO,
        limits: ResourceLimits::default(),
    };
    let mut all = Vec::new();
    for provider in providers {
        all.extend(provider.inventory(&context)?);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// For calls whose events nobody follows.
pub(crate) struct Silent;

impl ProviderEvents for Silent {
    fn output(&self, line: &str) {
        tracing::debug!(provider.output = line, "provider");
    }

    fn progress(&self, _percent: u8, _what: &str) {}
}

/// Lowercase hex sha-256 of the JSON of a value, without holding the JSON.
pub(crate) fn digest_of<T: Serialize + ?Sized>(value: &T) -> String {
    struct Into(Hasher);
    impl Write for Into {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = Into(Hasher::default());
    // Writing into a hasher cannot fail, and our own types always serialise.
    let _ = serde_json::to_writer(&mut hasher, value);
    hasher.0.finish()
}

/// What the server has of this host, kept on disk so that only differences need be sent.
pub(crate) struct Acknowledged {
    digests_path: PathBuf,
    packages_path: PathBuf,
    digests: SectionDigests,
}

impl Acknowledged {
    pub(crate) fn load(state: &StateDir) -> Self {
        let digests_path = state.acknowledged_digests();
        // Unreadable means unknown: everything is sent again.
        let digests = state::read_json(&digests_path, 64 << 10).ok().flatten().unwrap_or_default();
        Self { digests_path, packages_path: state.acknowledged_packages(), digests }
    }

    pub(crate) fn digests(&self) -> &SectionDigests {
        &self.digests
    }

    /// The packages as the server needs them: the difference when it has the former set and the
    /// difference is worth it, else all.
    pub(crate) fn report(&self, packages: Vec<InstalledPackage>) -> PackagesReport {
        let former: Option<Vec<InstalledPackage>> = state::read_json(&self.packages_path, LONGEST_KEPT).ok().flatten();
        match former.filter(|former| digest_of(former) == self.digests.packages) {
            Some(former) => difference(&self.digests.packages, &former, packages),
            None => PackagesReport::Complete { packages },
        }
    }

    /// The server has all this now. The packages are written before the digest that vouches for them.
    pub(crate) fn store(
        &mut self,
        digests: SectionDigests,
        packages: Option<&[InstalledPackage]>,
    ) -> Result<(), StateError> {
        if digests == self.digests {
            return Ok(());
        }
        if let Some(packages) = packages {
            state::write_json(&self.packages_path, &packages)?;
        }
        state::write_json(&self.digests_path, &digests)?;
        self.digests = digests;
        Ok(())
    }

    /// The server has nothing that we know of.
    pub(crate) fn forget(&mut self) -> Result<(), StateError> {
        self.digests = SectionDigests::default();
        Ok(files::remove(&self.digests_path)?)
    }
}

/// Merges two sorted lists.
fn difference(base: &str, former: &[InstalledPackage], now: Vec<InstalledPackage>) -> PackagesReport {
    let gone: Vec<&InstalledPackage> = former.iter().filter(|one| now.binary_search(one).is_err()).collect();
    let new: Vec<&InstalledPackage> = now.iter().filter(|one| former.binary_search(one).is_err()).collect();
    if (gone.len() + new.len()) * 2 > now.len().max(1) {
        return PackagesReport::Complete { packages: now };
    }
    PackagesReport::Difference {
        base: base.to_owned(),
        removed: gone.into_iter().cloned().collect(),
        added: new.into_iter().cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_domain::package::{Ecosystem, InstallState, PackageVersion};
    use proptest::prelude::*;

    fn package(name: &str, version: &str) -> InstalledPackage {
        InstalledPackage {
            package: PackageVersion {
                ecosystem: Ecosystem::Debian,
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: "amd64".to_owned(),
                source: name.to_owned(),
                source_version: version.to_owned(),
            },
            origin: String::new(),
            held: false,
            automatic: false,
            state: InstallState::Installed,
        }
    }

    proptest! {
        #[test]
        fn base_and_difference_make_the_new_set(
            former in proptest::collection::btree_set(("[a-f]{1,2}", "[1-3]"), 0..40),
            now in proptest::collection::btree_set(("[a-f]{1,2}", "[1-3]"), 0..40),
        ) {
            let list = |set: &std::collections::BTreeSet<(String, String)>| {
                let mut list: Vec<_> = set.iter().map(|(name, version)| package(name, version)).collect();
                list.sort();
                list
            };
            let (former, now) = (list(&former), list(&now));
            let rebuilt = match difference("base", &former, now.clone()) {
                PackagesReport::Complete { packages } => packages,
                PackagesReport::Difference { base, removed, added } => {
                    prop_assert_eq!(base, "base");
                    let mut all: Vec<_> = former.iter().filter(|one| !removed.contains(one)).cloned().collect();
                    prop_assert_eq!(all.len() + removed.len(), former.len(), "only what was there is removed");
                    all.extend(added);
                    all.sort();
                    all
                }
            };
            prop_assert_eq!(rebuilt, now);
        }
    }

    #[test]
    fn digest_is_that_of_the_json() {
        let list = vec![package("a", "1")];
        assert_eq!(digest_of(&list), fettle_content::sha256_hex(&serde_json::to_vec(&list).unwrap()));
    }

    #[test]
    fn a_base_the_server_does_not_have_leads_to_a_complete_report() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let mut kept = Acknowledged::load(&state);
        let mut many: Vec<_> = (0..20).map(|n| package(&format!("p{n:02}"), "1")).collect();
        assert!(matches!(kept.report(many.clone()), PackagesReport::Complete { .. }));
        let digests = SectionDigests { packages: digest_of(&many), ..SectionDigests::default() };
        kept.store(digests, Some(&many)).unwrap();
        many[3] = package("p03", "2");
        let kept = Acknowledged::load(&state);
        let PackagesReport::Difference { removed, added, .. } = kept.report(many.clone()) else { panic!("complete") };
        assert_eq!((removed, added), (vec![package("p03", "1")], vec![package("p03", "2")]));
        std::fs::write(state.acknowledged_packages(), b"[]").unwrap();
        assert!(matches!(kept.report(many), PackagesReport::Complete { .. }));
    }
}
