//! The packages of one source on a host: the unit that is matched, and the same on many hosts.

use super::index::AdvisoryIndex;
use super::judge::{self, judge, state_of};
use super::kernel::{self, Kernels};
use super::sources::{Parts, by_source, order};
use super::{HostPicture, Statements};
use fettle_domain::advisory::{Advisory, VulnId};
use fettle_domain::finding::Verdict;
use fettle_domain::reason::Reason;

/// Everything that a host has of one source package.
pub struct SourceGroup<'a> {
    release: &'a str,
    source: &'a str,
    held: Held<'a>,
}

enum Held<'a> {
    Kernels(Kernels<'a>),
    Parts(Parts<'a>),
}

/// A host's packages by source package, sorted. The kernel's is left out where it is not the host's own.
pub fn source_groups(host: HostPicture<'_>) -> Vec<SourceGroup<'_>> {
    by_source(host.packages)
        .into_iter()
        .filter_map(|(source, parts)| {
            let held = if source == kernel::SOURCE {
                Held::Kernels(Kernels::of(host.packages, host.kernel)?)
            } else {
                Held::Parts(parts)
            };
            Some(SourceGroup { release: host.release, source, held })
        })
        .collect()
}

impl SourceGroup<'_> {
    /// The source package.
    pub fn source(&self) -> &str {
        self.source
    }

    /// Text that is equal for two groups, of whatever hosts, exactly when their verdicts are.
    pub fn key(&self) -> String {
        let mut key = format!("{}\n{}", self.release, self.source);
        match &self.held {
            Held::Kernels(kernels) => kernels.key(&mut key),
            Held::Parts(parts) => {
                for (version, binaries) in parts {
                    key.push('\n');
                    key.push_str(version);
                    for binary in binaries {
                        key.push(' ');
                        key.push_str(binary);
                    }
                }
            }
        }
        key
    }

    /// Every verdict, by vulnerability.
    pub fn all(&self, index: &AdvisoryIndex) -> Vec<Verdict> {
        self.verdicts(index, |_| true)
    }

    /// The verdicts on what is present.
    pub fn present(&self, index: &AdvisoryIndex) -> Vec<Verdict> {
        self.verdicts(index, |advisories| match &self.held {
            Held::Kernels(kernels) => kernels.is_present(advisories),
            Held::Parts(parts) => parts.keys().any(|version| state_of(version, advisories).is_present()),
        })
    }

    /// The verdict on one flaw; `None` where no feed speaks of it.
    pub fn verdict_on(&self, index: &AdvisoryIndex, vulnerability: &VulnId) -> Option<Verdict> {
        let advisories = self.statements(index)?.get(vulnerability)?;
        self.verdict(vulnerability, advisories)
    }

    fn statements<'i>(&self, index: &'i AdvisoryIndex) -> Option<&'i Statements> {
        index.statements(self.release, self.source)
    }

    fn verdicts(&self, index: &AdvisoryIndex, wanted: impl Fn(&[Advisory]) -> bool) -> Vec<Verdict> {
        let statements = self.statements(index).into_iter().flatten();
        statements
            .filter(|(_, advisories)| wanted(advisories))
            .filter_map(|(vulnerability, advisories)| self.verdict(vulnerability, advisories))
            .collect()
    }

    fn verdict(&self, vulnerability: &VulnId, advisories: &[Advisory]) -> Option<Verdict> {
        match &self.held {
            Held::Kernels(kernels) => Some(kernels.verdict(vulnerability, advisories)),
            Held::Parts(parts) => verdict_on_parts(self.source, parts, vulnerability, advisories),
        }
    }
}

/// Parts of one source may be installed at different versions: the worst decides (of equals the
/// oldest), the affected packages are named, and the other versions told.
fn verdict_on_parts(
    source: &str,
    parts: &Parts<'_>,
    vulnerability: &VulnId,
    advisories: &[Advisory],
) -> Option<Verdict> {
    let mut states: Vec<_> =
        parts.iter().map(|(version, binaries)| (*version, binaries, state_of(version, advisories))).collect();
    states.sort_by(|a, b| judge::rank(a.2).cmp(&judge::rank(b.2)).then_with(|| order(a.0, b.0)));
    let (version, _, worst) = *states.first()?;
    let mut verdict = judge(vulnerability, source, version, advisories);
    let named = states.iter().filter(|(_, _, state)| *state == worst || (state.is_present() && worst.is_present()));
    verdict.packages = named.flat_map(|(_, binaries, _)| binaries.iter().map(|name| (*name).to_owned())).collect();
    verdict.packages.sort();
    verdict.packages.dedup();
    for (other, binaries, state) in states.iter().skip(1) {
        let text = format!("{} of the same source at version {other}: {}", binaries.join(", "), state.as_str());
        verdict.reasons.push(Reason::new("match.other-version", text));
    }
    Some(verdict)
}
