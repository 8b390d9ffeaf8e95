//! The kernel is judged by what *runs*: a fixed image on disk closes nothing before the reboot, an
//! old image that neither runs nor would run is no finding.

use super::judge::{judge, state_of};
use super::sources::{order, source_of};
use fettle_domain::advisory::{Advisory, VulnId};
use fettle_domain::finding::{Verdict, VerdictState};
use fettle_domain::host::Kernel;
use fettle_domain::package::InstalledPackage;
use fettle_domain::reason::Reason;

/// Debian's kernel source package, as advisories name it.
pub(super) const SOURCE: &str = "linux";

/// The kernels of one host.
pub(super) struct Kernels<'a> {
    /// Installed images: package name and version.
    images: Vec<(&'a str, &'a str)>,
    /// Packages that only pull in the newest image (`linux-image-amd64`): an update goes through them.
    metas: Vec<&'a str>,
    newest: &'a str,
    /// Version of the running kernel, where it is one of the distribution's.
    running: Option<&'a str>,
    running_release: &'a str,
}

impl<'a> Kernels<'a> {
    /// `None` where no image is installed: a container or chroot, whose kernel belongs to another host.
    pub(super) fn of(packages: &'a [InstalledPackage], kernel: &'a Kernel) -> Option<Self> {
        let version = |installed: &'a InstalledPackage| source_of(&installed.package).1;
        let images: Vec<(&str, &str)> = packages
            .iter()
            .filter(|installed| is_image(installed))
            .map(|installed| (installed.package.name.as_str(), version(installed)))
            .collect();
        let newest = images.iter().map(|(_, version)| *version).max_by(|a, b| order(a, b))?;
        let metas = packages
            .iter()
            .filter(|installed| is_meta(installed))
            .map(|installed| installed.package.name.as_str())
            .collect();
        let own_image = || {
            let named = |name: &str| {
                let release = name.strip_prefix("linux-image-").unwrap_or_default();
                release.strip_suffix("-unsigned").unwrap_or(release) == kernel.running_release
            };
            images.iter().find(|(name, _)| named(name)).map(|(_, version)| *version)
        };
        let running = match kernel.running_version.as_str() {
            "" => own_image(),
            version => Some(version),
        };
        Some(Self { images, metas, newest, running, running_release: &kernel.running_release })
    }

    /// Adds all that verdicts rest on to a key.
    pub(super) fn key(&self, key: &mut String) {
        let mut add = |text: &str| {
            key.push('\n');
            key.push_str(text);
        };
        add(self.running_release);
        add(self.running.unwrap_or("-"));
        self.images.iter().for_each(|(name, version)| {
            add(name);
            add(version);
        });
        self.metas.iter().for_each(|name| add(name));
    }

    /// Whether the flaw is present, without reasons.
    pub(super) fn is_present(&self, advisories: &[Advisory]) -> bool {
        let present = |version: &str| state_of(version, advisories).is_present();
        present(self.newest) || self.running.is_some_and(present)
    }

    /// The verdict on one flaw.
    pub(super) fn verdict(&self, vulnerability: &VulnId, advisories: &[Advisory]) -> Verdict {
        let judged = |version: &str| judge(vulnerability, SOURCE, version, advisories);
        let on_disk = state_of(self.newest, advisories);
        let release = self.running_release;
        let mut verdict = match self.running {
            None => told(
                judged(self.newest),
                "match.kernel-running-unknown",
                format!(
                    "the running kernel {release} is not a package of this release; the newest installed one was judged"
                ),
            ),
            Some(running) => match (state_of(running, advisories), on_disk) {
                (now, VerdictState::Fixed | VerdictState::NotAffected) if now.is_present() => {
                    let mut verdict = told(
                        judged(running),
                        "match.kernel-reboot-needed",
                        format!(
                            "the kernel {} without the flaw is installed, but {release} ({running}) still runs: reboot",
                            self.newest
                        ),
                    );
                    verdict.state = VerdictState::RestartNeeded;
                    verdict
                }
                (now, on_disk) if !now.is_present() && on_disk.is_present() => told(
                    judged(self.newest),
                    "match.kernel-after-reboot",
                    format!(
                        "the running kernel {release} ({running}) does not have the flaw, the newest installed one ({}) does: it would come with the next reboot",
                        self.newest
                    ),
                ),
                _ => told(
                    judged(running),
                    "match.kernel-running",
                    format!("judged by the running kernel {release} ({running})"),
                ),
            },
        };
        self.name_packages(&mut verdict);
        self.name_old_images(&mut verdict, advisories);
        verdict
    }

    fn name_packages(&self, verdict: &mut Verdict) {
        let images = self.images.iter().filter(|(_, version)| *version == verdict.source_version).map(|(name, _)| name);
        verdict.packages = images.chain(&self.metas).map(|name| (*name).to_owned()).collect();
    }

    /// Old images on disk are no finding, but nobody should have to wonder about them.
    fn name_old_images(&self, verdict: &mut Verdict, advisories: &[Advisory]) {
        for (name, version) in &self.images {
            if *version != self.newest && Some(*version) != self.running && state_of(version, advisories).is_present() {
                verdict.reasons.push(Reason::new(
                    "match.kernel-old-image",
                    format!("{name} {version} is affected too, but neither runs nor is the newest: remove it when it is no longer wanted"),
                ));
            }
        }
    }
}

fn told(mut verdict: Verdict, topic: &str, text: String) -> Verdict {
    verdict.reasons.push(Reason::new(topic, text));
    verdict
}

/// `linux-image-6.1.0-18-amd64`, not the package `linux-image-amd64` that only depends on it, nor debug symbols.
pub(super) fn is_image(installed: &InstalledPackage) -> bool {
    kernel_name(installed)
        .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()) && !rest.ends_with("-dbg"))
}

fn is_meta(installed: &InstalledPackage) -> bool {
    kernel_name(installed)
        .is_some_and(|rest| !rest.starts_with(|first: char| first.is_ascii_digit()) && !rest.ends_with("-dbg"))
}

fn kernel_name(installed: &InstalledPackage) -> Option<&str> {
    let package = &installed.package;
    if source_of(package).0 == SOURCE { package.name.strip_prefix("linux-image-") } else { None }
}
