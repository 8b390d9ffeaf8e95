//! Step 1: which vulnerabilities are really present on a host (paper 3.1).
//!
//! [`AdvisoryIndex`] finds the statements on a source package of a release; [`evaluate_host`] turns a
//! host's packages into verdicts; [`decide_findings`] turns verdicts into what happens to findings.

mod findings;
mod index;
mod judge;
mod kernel;

pub use findings::{ExistingFinding, FindingAction, decide_findings};
pub use index::AdvisoryIndex;
pub use judge::judge;

use fettle_domain::finding::Verdict;
use fettle_domain::host::Kernel;
use fettle_domain::package::InstalledPackage;
use fettle_domain::version::Scheme;
use std::collections::BTreeMap;

/// What matching needs to know of a host.
#[derive(Debug, Clone, Copy)]
pub struct HostPicture<'a> {
    /// Release codename, such as `bookworm`.
    pub release: &'a str,
    /// Everything installed.
    pub packages: &'a [InstalledPackage],
    /// What runs and what would run.
    pub kernel: &'a Kernel,
}

/// Every verdict on a host, sorted by source package and vulnerability. Sources that no feed speaks
/// of have none.
pub fn evaluate_host(index: &AdvisoryIndex, host: HostPicture<'_>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (source, versions) in by_source(host.packages) {
        let Some(statements) = index.statements(host.release, source) else { continue };
        if source == kernel::SOURCE {
            verdicts.extend(kernel::evaluate(statements, host.packages, host.kernel));
            continue;
        }
        // Parts of one source at different versions: the oldest decides, the others are named.
        let Some(oldest) = oldest(&versions) else { continue };
        for (vulnerability, advisories) in statements {
            let mut verdict = judge(vulnerability, source, oldest, advisories);
            verdict.packages = versions.get(oldest).cloned().unwrap_or_default();
            verdicts.push(verdict);
        }
    }
    verdicts
}

/// Source package → source version → binary packages.
fn by_source(packages: &[InstalledPackage]) -> BTreeMap<&str, BTreeMap<&str, Vec<String>>> {
    let mut sources: BTreeMap<&str, BTreeMap<&str, Vec<String>>> = BTreeMap::new();
    for installed in packages {
        let package = &installed.package;
        let binaries = sources.entry(&package.source).or_default().entry(&package.source_version).or_default();
        if !binaries.contains(&package.name) {
            binaries.push(package.name.clone());
        }
    }
    sources
}

fn oldest<'a>(versions: &BTreeMap<&'a str, Vec<String>>) -> Option<&'a str> {
    versions.keys().copied().min_by(|a, b| {
        // An unreadable version cannot be ordered; it then counts as equal and text order decides.
        Scheme::Dpkg.compare(a, b).unwrap_or(std::cmp::Ordering::Equal)
    })
}

#[cfg(test)]
mod tests;
