//! The kernel is judged by what *runs*: a fixed image on disk closes nothing before the reboot, an
//! old image that neither runs nor would run is no finding.

use super::index::Statements;
use super::judge::judge;
use fettle_domain::finding::{Verdict, VerdictState};
use fettle_domain::host::Kernel;
use fettle_domain::package::InstalledPackage;
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;

/// Debian's kernel source package.
pub(super) const SOURCE: &str = "linux";

pub(super) fn evaluate(statements: &Statements, packages: &[InstalledPackage], kernel: &Kernel) -> Vec<Verdict> {
    let images: Vec<&InstalledPackage> = packages.iter().filter(|package| is_image(package)).collect();
    let newest = images.iter().map(|image| image.package.source_version.as_str()).max_by(|a, b| {
        Scheme::Dpkg.compare(a, b).unwrap_or(std::cmp::Ordering::Equal)
    });
    // No image installed: a container or chroot, whose kernel belongs to another host.
    let Some(newest) = newest else { return Vec::new() };
    statements
        .iter()
        .map(|(vulnerability, advisories)| {
            let on_disk = judge(vulnerability, SOURCE, newest, advisories);
            let mut verdict = match kernel.running_version.as_str() {
                "" => with_reason(on_disk, Reason::new(
                    "match.kernel-running-unknown",
                    format!("the running kernel {} is not a package of this release; the newest installed one was judged", kernel.running_release),
                )),
                running => running_verdict(judge(vulnerability, SOURCE, running, advisories), on_disk, kernel),
            };
            verdict.packages = images
                .iter()
                .filter(|image| image.package.source_version == verdict.source_version)
                .map(|image| image.package.name.clone())
                .collect();
            name_old_images(&mut verdict, &images, kernel, newest, |version| judge(vulnerability, SOURCE, version, advisories));
            verdict
        })
        .collect()
}

/// `linux-image-6.1.0-18-amd64`, not the meta package `linux-image-amd64`.
fn is_image(package: &InstalledPackage) -> bool {
    package.package.source == SOURCE
        && package
            .package
            .name
            .strip_prefix("linux-image-")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn running_verdict(running: Verdict, on_disk: Verdict, kernel: &Kernel) -> Verdict {
    let release = &kernel.running_release;
    if running.state.is_present() && on_disk.state == VerdictState::Fixed {
        let text = format!(
            "the fixed kernel {} is installed, but {release} ({}) still runs: reboot",
            on_disk.source_version, running.source_version
        );
        let mut verdict = with_reason(running, Reason::new("match.kernel-reboot-needed", text));
        verdict.state = VerdictState::RestartNeeded;
        return verdict;
    }
    let text = format!("judged by the running kernel {release} ({})", running.source_version);
    with_reason(running, Reason::new("match.kernel-running", text))
}

fn with_reason(mut verdict: Verdict, reason: Reason) -> Verdict {
    verdict.reasons.push(reason);
    verdict
}

/// Old images on disk are no finding, but nobody should have to wonder about them.
fn name_old_images(
    verdict: &mut Verdict,
    images: &[&InstalledPackage],
    kernel: &Kernel,
    newest: &str,
    judge: impl Fn(&str) -> Verdict,
) {
    for image in images {
        let version = image.package.source_version.as_str();
        if version != newest && version != kernel.running_version && judge(version).state.is_present() {
            verdict.reasons.push(Reason::new(
                "match.kernel-old-image",
                format!("{} {version} is affected too, but neither runs nor is the newest: remove it when it is no longer wanted", image.package.name),
            ));
        }
    }
}
