//! What the host says of itself, read from its files and the kernel's, without root.

mod kernel;
mod machine;
mod network;

pub(crate) use kernel::image_release;
pub(crate) use network::addresses;

use crate::config::Config;
use crate::disk::files;
use fettle_domain::host::{Kernel, OsRelease};
use fettle_domain::package::{InstallState, InstalledPackage};
use fettle_wire::agent::HostFacts;
use std::collections::BTreeMap;
use std::path::Path;

/// What the facts need to know of the installed packages; small, so that the list itself need not
/// stay in memory between inventories.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PackageSummary {
    /// The architecture most packages have, as the package manager names it.
    pub(crate) architecture: String,
    /// Installed kernel images: release and package version.
    pub(crate) kernels: Vec<(String, String)>,
}

impl PackageSummary {
    pub(crate) fn of(packages: &[InstalledPackage]) -> Self {
        let mut architectures: BTreeMap<&str, usize> = BTreeMap::new();
        let mut kernels = Vec::new();
        for installed in packages {
            let package = &installed.package;
            if !matches!(package.architecture.as_str(), "all" | "noarch" | "any") {
                *architectures.entry(&package.architecture).or_default() += 1;
            }
            if installed.state == InstallState::Installed
                && let Some(release) = kernel::image_release(&package.name)
            {
                kernels.push((release.to_owned(), package.version.clone()));
            }
        }
        let architecture = architectures
            .into_iter()
            .max_by_key(|(_, count)| *count)
            .map_or_else(String::new, |(name, _)| name.to_owned());
        Self { architecture, kernels }
    }
}

/// Everything a host says of itself.
pub(crate) fn collect(root: &Path, config: &Config, packages: &PackageSummary, read_only: bool) -> HostFacts {
    let live = is_live(root);
    let name = host_name(root, live);
    let virtualisation = machine::virtualisation(Path::new("/"));
    let kernel = kernel::collect(live, &packages.kernels);
    HostFacts {
        fqdn: fqdn(root, &name),
        name,
        addresses: addresses(),
        macs: network::macs(Path::new("/sys/class/net")),
        os: os_release(root),
        reboot_pending: reboot_pending(root, &kernel, &virtualisation),
        machine_id: machine::machine_id(root),
        product_uuid: if live { machine::product_uuid(root, &virtualisation) } else { String::new() },
        kernel,
        boot_id: boot_id(),
        architecture: if packages.architecture.is_empty() {
            machine::architecture()
        } else {
            packages.architecture.clone()
        },
        virtualisation,
        location: config.location.clone(),
        tags: sorted(config.tags.clone()),
        read_only,
    }
}

/// The kernel that runs and the newest installed one; nothing in a container, whose kernel is its host's.
pub(crate) fn kernel(root: &Path, packages: &PackageSummary) -> Kernel {
    if machine::virtualisation(Path::new("/")) == "container" {
        return Kernel::default();
    }
    kernel::collect(is_live(root), &packages.kernels)
}

/// Whether the root is the one this process runs in, not an image or another tree.
pub(crate) fn is_live(root: &Path) -> bool {
    root.canonicalize().is_ok_and(|root| root == Path::new("/"))
}

/// The kernel's boot id: changes with each boot.
pub(crate) fn boot_id() -> String {
    files::text("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

pub(crate) fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort_unstable();
    list.dedup();
    list
}

/// A tree that is not running has the name in its own file; the running one has the kernel's.
fn host_name(root: &Path, live: bool) -> String {
    let own = files::text(root.join("etc/hostname"));
    let own = own.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    match own {
        Some(name) if !live => name.to_owned(),
        _ => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    }
}

/// The first name with a dot that `/etc/hosts` gives this host; no question to the network.
fn fqdn(root: &Path, name: &str) -> String {
    if name.contains('.') {
        return name.to_owned();
    }
    let hosts = files::text(root.join("etc/hosts"));
    hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>())
        .filter(|names| names.contains(&name))
        .find_map(|names| {
            names.into_iter().find(|candidate| candidate.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
        })
        .unwrap_or_default()
        .to_owned()
}

/// os-release(5) of the root.
pub(crate) fn os_release(root: &Path) -> OsRelease {
    let mut text = files::text(root.join("etc/os-release"));
    if text.is_empty() {
        text = files::text(root.join("usr/lib/os-release"));
    }
    let mut os = OsRelease::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let value = value.trim().trim_matches(|quote| quote == '"' || quote == '\'').to_owned();
        match key.trim() {
            "ID" => os.id = value,
            "VERSION_ID" => os.version_id = value,
            "VERSION_CODENAME" => os.codename = value,
            "PRETTY_NAME" => os.pretty_name = value,
            _ => {}
        }
    }
    os
}

/// Why the host should be rebooted.
fn reboot_pending(root: &Path, kernel: &Kernel, virtualisation: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    for run in ["run", "var/run"] {
        if root.join(run).join("reboot-required").exists() {
            let packages = files::text(root.join(run).join("reboot-required.pkgs"));
            let packages = sorted(packages.split_whitespace().map(str::to_owned).collect());
            reasons.push(if packages.is_empty() {
                "/run/reboot-required is there".to_owned()
            } else {
                format!("/run/reboot-required is there, from {}", packages.join(", "))
            });
            break;
        }
    }
    // The kernel of a container is its host's: no reboot of the container changes it.
    if virtualisation != "container" && kernel::newer_is_installed(kernel) {
        reasons.push(format!(
            "kernel {} ({}) is installed, {} ({}) runs",
            kernel.newest_installed_release,
            kernel.newest_installed_version,
            kernel.running_release,
            kernel.running_version
        ));
    }
    sorted(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_tree_that_does_not_run_speaks_for_itself() {
        let root = root(&[
            ("etc/hostname", "web1\n"),
            ("etc/hosts", "127.0.0.1 localhost\n10.1.1.1 web1.example.net web1 # here\n"),
            (
                "etc/os-release",
                "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
            ),
            ("run/reboot-required", "*** System restart required ***\n"),
            ("run/reboot-required.pkgs", "libc6\nlinux-base\nlibc6\n"),
        ]);
        let config = Config { tags: vec!["b".into(), "a".into(), "b".into()], ..Config::default() };
        let summary = PackageSummary {
            architecture: "arm64".into(),
            kernels: vec![("6.1.0-18-arm64".into(), "6.1.76-1".into())],
        };
        let facts = collect(root.path(), &config, &summary, true);
        assert_eq!((facts.name.as_str(), facts.fqdn.as_str()), ("web1", "web1.example.net"));
        assert_eq!(facts.os.codename, "bookworm");
        assert_eq!(facts.os.pretty_name, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(facts.architecture, "arm64");
        assert_eq!(facts.tags, ["a", "b"]);
        assert_eq!(facts.kernel.running_release, "", "the running kernel is not of this tree");
        assert_eq!(facts.kernel.newest_installed_release, "6.1.0-18-arm64");
        assert_eq!(facts.reboot_pending, ["/run/reboot-required is there, from libc6, linux-base"]);
        assert!(facts.read_only);
    }

    #[test]
    fn this_machine_has_a_name_and_a_boot_id() {
        let facts = collect(Path::new("/"), &Config::default(), &PackageSummary::default(), false);
        assert!(!facts.name.is_empty());
        assert_eq!(facts.boot_id.len(), 36, "{}", facts.boot_id);
        assert!(!facts.kernel.running_release.is_empty());
        assert!(!facts.architecture.is_empty());
        assert!(!facts.addresses.iter().any(|address| address.starts_with("127.")));
    }
}
