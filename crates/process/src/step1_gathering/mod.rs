//! Step 1: which vulnerabilities are really present on a host (paper 3.1).
//!
//! [`AdvisoryIndex`] finds the statements on a source package of a release; [`source_groups`] takes a
//! host's packages apart by source package, and each [`SourceGroup`] gives its verdicts (the same for
//! every host that has the same of it); [`decide_findings`] turns verdicts into what happens to findings.

mod findings;
mod groups;
mod identity;
mod index;
mod judge;
mod kernel;
mod sources;

pub use findings::{ExistingFinding, FindingAction, Ranked, decide_findings};
pub use groups::{SourceGroup, source_groups};
pub use identity::{KnownChain, OtherHost, PresentedLink, Speaker, is_own_mac, likeness, same_machine, who_speaks};
pub use index::{AdvisoryIndex, Statements};
pub use judge::{judge, state_of};
pub use sources::{source_of, sources_of};

use fettle_domain::finding::Verdict;
use fettle_domain::host::Kernel;
use fettle_domain::package::InstalledPackage;

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
    source_groups(host).iter().flat_map(|group| group.all(index)).collect()
}

/// The verdicts on what is present on a host: what a fleet asks, a small part of all verdicts.
pub fn present_on_host(index: &AdvisoryIndex, host: HostPicture<'_>) -> Vec<Verdict> {
    source_groups(host).iter().flat_map(|group| group.present(index)).collect()
}

#[cfg(test)]
mod identity_tests;
#[cfg(test)]
mod tests;
