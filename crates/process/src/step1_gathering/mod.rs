//! Step 1: which vulnerabilities are really present on a host (paper 3.1).
//!
//! [`AdvisoryIndex`] finds the statements on a source package of a release; [`present_on_host`] turns a
//! host's packages into verdicts on what is present there, [`verdict_on`] into the verdict on one flaw;
//! [`decide_findings`] turns verdicts into what happens to findings.

mod findings;
mod index;
mod judge;
mod kernel;
mod sources;

pub use findings::{ExistingFinding, FindingAction, decide_findings};
pub use index::{AdvisoryIndex, Statements};
pub use judge::{judge, state_of};
pub use sources::{source_of, sources_of};

use fettle_domain::advisory::{Advisory, VulnId};
use fettle_domain::finding::Verdict;
use fettle_domain::host::Kernel;
use fettle_domain::package::InstalledPackage;
use fettle_domain::reason::Reason;
use kernel::Kernels;
use sources::{Parts, by_source, order};

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
    evaluate(index, host, false)
}

/// The verdicts on what is present on a host: what a fleet asks, a small part of all verdicts.
pub fn present_on_host(index: &AdvisoryIndex, host: HostPicture<'_>) -> Vec<Verdict> {
    evaluate(index, host, true)
}

/// The verdict on one flaw in one source package; `None` where no feed speaks of it, or the host does
/// not have the package.
pub fn verdict_on(index: &AdvisoryIndex, host: HostPicture<'_>, source: &str, vulnerability: &VulnId) -> Option<Verdict> {
    let advisories = index.statements(host.release, source)?.get(vulnerability)?;
    if source == kernel::SOURCE {
        return Some(Kernels::of(host.packages, host.kernel)?.verdict(vulnerability, advisories));
    }
    let sources = by_source(host.packages);
    verdict_on_parts(source, sources.get(source)?, vulnerability, advisories)
}

/// The verdicts on one source package at one version, all of its binary packages being of that version.
pub fn evaluate_package(index: &AdvisoryIndex, release: &str, source: &str, version: &str, binaries: &[&str]) -> Vec<Verdict> {
    let parts = Parts::from([(version, binaries.to_vec())]);
    let statements = index.statements(release, source).into_iter().flatten();
    statements.filter_map(|(vulnerability, advisories)| verdict_on_parts(source, &parts, vulnerability, advisories)).collect()
}

fn evaluate(index: &AdvisoryIndex, host: HostPicture<'_>, present_only: bool) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (source, parts) in by_source(host.packages) {
        let Some(statements) = index.statements(host.release, source) else { continue };
        if source == kernel::SOURCE {
            let Some(kernels) = Kernels::of(host.packages, host.kernel) else { continue };
            let wanted = statements.iter().filter(|(_, advisories)| !present_only || kernels.is_present(advisories));
            verdicts.extend(wanted.map(|(vulnerability, advisories)| kernels.verdict(vulnerability, advisories)));
            continue;
        }
        let is_present = |advisories: &[Advisory]| parts.keys().any(|version| state_of(version, advisories).is_present());
        let wanted = statements.iter().filter(|(_, advisories)| !present_only || is_present(advisories));
        verdicts.extend(wanted.filter_map(|(vulnerability, advisories)| verdict_on_parts(source, &parts, vulnerability, advisories)));
    }
    verdicts
}

/// Parts of one source may be installed at different versions: the worst decides (of equals the
/// oldest), the affected packages are named, and the other versions told.
fn verdict_on_parts(source: &str, parts: &Parts<'_>, vulnerability: &VulnId, advisories: &[Advisory]) -> Option<Verdict> {
    let mut states: Vec<_> = parts.iter().map(|(version, binaries)| (*version, binaries, state_of(version, advisories))).collect();
    states.sort_by(|a, b| judge::rank(a.2).cmp(&judge::rank(b.2)).then_with(|| order(a.0, b.0)));
    let (version, _, worst) = *states.first()?;
    let mut verdict = judge(vulnerability, source, version, advisories);
    let concerned = |state: fettle_domain::finding::VerdictState| state == worst || (state.is_present() && worst.is_present());
    let named = states.iter().filter(|(_, _, state)| concerned(*state));
    verdict.packages = named.flat_map(|(_, binaries, _)| binaries.iter().map(|name| (*name).to_owned())).collect();
    verdict.packages.sort();
    verdict.packages.dedup();
    for (other, binaries, state) in states.iter().skip(1) {
        let text = format!("{} of the same source at version {other}: {}", binaries.join(", "), state.as_str());
        verdict.reasons.push(Reason::new("match.other-version", text));
    }
    Some(verdict)
}

#[cfg(test)]
mod tests;
