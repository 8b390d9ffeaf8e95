//! The running kernel and the newest installed one.

use crate::disk::files;
use fettle_domain::host::Kernel;
use fettle_domain::version::Scheme;
use std::cmp::Ordering;

/// Release of the kernel image that a package of this name carries (`linux-image-6.1.0-18-amd64`);
/// `None` for meta-packages (`linux-image-amd64`), debug symbols and everything else.
pub(crate) fn image_release(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    let release = release.strip_prefix("unsigned-").unwrap_or(release);
    let release = release.strip_suffix("-unsigned").unwrap_or(release);
    let carries = release.starts_with(|first: char| first.is_ascii_digit())
        && release.contains('.')
        && !release.ends_with("-dbg");
    carries.then_some(release)
}

/// What runs and what would run. The running kernel counts as this root's when the root is live, or
/// when the very kernel is installed in it.
pub(super) fn collect(live: bool, installed: &[(String, String)]) -> Kernel {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let version = uname.version().to_string_lossy().into_owned();
    describe(live, &release, &version, &files::text("/proc/version"), installed)
}

fn describe(live: bool, release: &str, version: &str, proc_version: &str, installed: &[(String, String)]) -> Kernel {
    let mut kernel = Kernel::default();
    if live || installed.iter().any(|(candidate, _)| candidate == release) {
        kernel.running_release = release.to_owned();
        kernel.running_version =
            debian_version(version).or_else(|| debian_version(proc_version)).unwrap_or_default().to_owned();
    }
    let newest = installed.iter().max_by(|a, b| {
        by_version(&a.1, &b.1)
            // Of two flavours of one version the one that runs would run again.
            .then_with(|| (a.0 == release).cmp(&(b.0 == release)))
            .then_with(|| by_version(&a.0, &b.0))
    });
    if let Some((release, version)) = newest {
        kernel.newest_installed_release.clone_from(release);
        kernel.newest_installed_version.clone_from(version);
    }
    kernel
}

/// The package version in Debian's `uname -v`: `#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)`.
fn debian_version(text: &str) -> Option<&str> {
    let version = text.split(" Debian ").nth(1)?.split_whitespace().next()?;
    Scheme::Dpkg.validate(version).is_ok().then_some(version)
}

/// Whether a reboot would bring a newer kernel; unknown versions say no.
pub(super) fn newer_is_installed(kernel: &Kernel) -> bool {
    let (running, newest) = (&kernel.running_version, &kernel.newest_installed_version);
    !running.is_empty() && !newest.is_empty() && matches!(Scheme::Dpkg.compare(newest, running), Ok(Ordering::Greater))
}

fn by_version(a: &str, b: &str) -> Ordering {
    Scheme::Dpkg.compare(a, b).unwrap_or_else(|_| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNAME: &str = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)";

    fn installed(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(release, version)| ((*release).to_owned(), (*version).to_owned())).collect()
    }

    #[test]
    fn kernel_images_are_told_from_their_kin() {
        assert_eq!(image_release("linux-image-6.1.0-18-amd64"), Some("6.1.0-18-amd64"));
        assert_eq!(image_release("linux-image-6.1.0-18-amd64-unsigned"), Some("6.1.0-18-amd64"));
        for other in [
            "linux-image-amd64",
            "linux-image-6.1.0-18-amd64-dbg",
            "linux-headers-6.1.0-18-amd64",
            "linux-image-cloud-amd64",
        ] {
            assert_eq!(image_release(other), None, "{other}");
        }
    }

    #[test]
    fn newest_is_by_version_and_pending_when_newer_than_running() {
        let list =
            installed(&[("6.1.0-9-amd64", "6.1.27-1"), ("6.1.0-18-amd64", "6.1.76-1"), ("6.1.0-20-amd64", "6.1.85-1")]);
        let kernel = describe(true, "6.1.0-18-amd64", UNAME, "", &list);
        assert_eq!(kernel.running_version, "6.1.76-1");
        assert_eq!(kernel.newest_installed_release, "6.1.0-20-amd64");
        assert!(newer_is_installed(&kernel));
        let same = describe(true, "6.1.0-18-amd64", UNAME, "", &list[..2]);
        assert!(!newer_is_installed(&same));
    }

    #[test]
    fn same_release_rebuilt_is_pending_too() {
        let kernel = describe(true, "6.1.0-18-amd64", UNAME, "", &installed(&[("6.1.0-18-amd64", "6.1.76-2")]));
        assert!(newer_is_installed(&kernel));
    }

    #[test]
    fn a_foreign_kernel_has_no_package_version() {
        let kernel = describe(true, "6.8.0-custom", "#3 SMP Tue", "Linux version 6.8.0 (gcc)", &[]);
        assert_eq!((kernel.running_release.as_str(), kernel.running_version.as_str()), ("6.8.0-custom", ""));
        assert!(!newer_is_installed(&kernel));
    }

    #[test]
    fn another_root_has_the_running_kernel_only_when_it_is_installed_there() {
        let other = describe(false, "6.1.0-18-amd64", UNAME, "", &installed(&[("6.1.0-20-amd64", "6.1.85-1")]));
        assert_eq!(other.running_release, "");
        let own = describe(false, "6.1.0-18-amd64", UNAME, "", &installed(&[("6.1.0-18-amd64", "6.1.76-1")]));
        assert_eq!(own.running_version, "6.1.76-1");
    }
}
