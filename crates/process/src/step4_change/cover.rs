//! Which findings a manifest is going to close. An expectation only: findings close by inventory.

use fettle_domain::plan::Manifest;
use fettle_domain::version::Scheme;
use std::cmp::Ordering;

/// Whether the manifest brings a package of the finding (`source`, `packages`) to its fixed version.
pub fn covers(manifest: &Manifest, source: &str, packages: &[String], fixed_version: &str) -> bool {
    manifest.steps.iter().any(|step| {
        let Some(to) = &step.to else { return false };
        // Each kernel version is a package of its own name.
        let kernel = source == "linux" && step.name.starts_with("linux-image-");
        (kernel || packages.contains(&step.name)) && reaches(to, fixed_version)
    })
}

/// Compares a binary version with a source version: what a binary rebuild appends does not count.
fn reaches(binary: &str, fixed: &str) -> bool {
    let source = binary.rsplit_once("+b").filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let source = source.map_or(binary, |(source, _)| source);
    matches!(Scheme::Dpkg.compare(source, fixed), Ok(Ordering::Equal | Ordering::Greater))
}
