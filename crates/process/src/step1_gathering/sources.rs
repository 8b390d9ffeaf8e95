//! From the binary packages a host has to the source packages that publishers speak of.

use super::kernel;
use fettle_domain::package::{Ecosystem, InstalledPackage, PackageVersion};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Binary packages of one source by their source version.
pub(super) type Parts<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Source package and source version in the words of advisories.
///
/// Debian builds signed kernel images from packages of their own (`linux-signed-amd64 6.1.76+1`); the
/// security tracker speaks of `linux`, whose version (`6.1.76-1`) is the one the image itself carries.
pub fn source_of(package: &PackageVersion) -> (&str, &str) {
    if package.source.starts_with("linux-signed-") {
        (kernel::SOURCE, &package.version)
    } else {
        (&package.source, &package.source_version)
    }
}

/// Whether publishers' statements, which go by release and source package, speak of this package. Those of
/// `generic` do not: `curl` of a ports folder is not Debian's `curl`, and no feed says whose it is.
fn is_spoken_of(installed: &InstalledPackage) -> bool {
    installed.package.ecosystem == Ecosystem::Debian
}

/// All source packages of a host whose flaws are this host's. Without a kernel image, the kernel is not
/// among them: that of a container belongs to its host.
pub fn sources_of(packages: &[InstalledPackage]) -> BTreeSet<&str> {
    let spoken_of = packages.iter().filter(|installed| is_spoken_of(installed));
    let mut sources: BTreeSet<&str> = spoken_of.map(|installed| source_of(&installed.package).0).collect();
    if !packages.iter().any(kernel::is_image) {
        sources.remove(kernel::SOURCE);
    }
    sources
}

/// Source package → source version → binary packages.
pub(super) fn by_source(packages: &[InstalledPackage]) -> BTreeMap<&str, Parts<'_>> {
    let mut sources: BTreeMap<&str, Parts<'_>> = BTreeMap::new();
    for installed in packages.iter().filter(|installed| is_spoken_of(installed)) {
        let (source, version) = source_of(&installed.package);
        let binaries = sources.entry(source).or_default().entry(version).or_default();
        if !binaries.contains(&installed.package.name.as_str()) {
            binaries.push(&installed.package.name);
        }
    }
    sources
}

/// dpkg's ordering; an unreadable version cannot be ordered and counts as equal, text decides then.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    fettle_domain::version::Scheme::Dpkg.compare(a, b).unwrap_or(Ordering::Equal).then_with(|| a.cmp(b))
}
