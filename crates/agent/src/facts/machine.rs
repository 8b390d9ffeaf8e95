//! Architecture and what kind of machine it is.

use crate::disk::files;
use std::path::Path;

/// dpkg's name of the kernel's architecture, for a host whose packages do not tell.
pub(super) fn architecture() -> String {
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    match machine.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv8l" => "armhf",
        "armv6l" | "armv5tel" => "armel",
        "i386" | "i486" | "i586" | "i686" => "i386",
        "ppc64le" => "ppc64el",
        other => other,
    }
    .to_owned()
}

/// `container`, the hypervisor's name, `vm` when one is there that does not tell its name, or `none`.
/// `root` is where `/proc`, `/sys` and the marker files are looked for.
pub(super) fn virtualisation(root: &Path) -> String {
    if is_container(root) {
        return "container".to_owned();
    }
    let read = |path: &str| files::text(root.join(path)).trim().to_owned();
    if read("sys/hypervisor/type") == "xen" {
        return "xen".to_owned();
    }
    let vendor = read("sys/class/dmi/id/sys_vendor");
    let product = read("sys/class/dmi/id/product_name");
    let named = match (vendor.as_str(), product.as_str()) {
        ("QEMU" | "KVM" | "Red Hat" | "Amazon EC2" | "Google" | "OpenStack Foundation", _) => "kvm",
        (vendor, _) if vendor.starts_with("VMware") => "vmware",
        ("Microsoft Corporation", "Virtual Machine") => "hyperv",
        ("innotek GmbH", _) | (_, "VirtualBox") => "virtualbox",
        ("Xen", _) => "xen",
        ("Parallels Software International Inc." | "Parallels International GmbH.", _) => "parallels",
        _ => "",
    };
    let flagged = files::text(root.join("proc/cpuinfo"))
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    match (named, flagged) {
        // EC2 and Google sell bare metal under the same names: without the flag it is none.
        ("kvm", false) if vendor == "Amazon EC2" || vendor == "Google" => "none",
        ("", true) => "vm",
        ("", false) => "none",
        (named, _) => named,
    }
    .to_owned()
}

fn is_container(root: &Path) -> bool {
    let markers = [".dockerenv", "run/.containerenv", "run/systemd/container"];
    if markers.iter().any(|marker| root.join(marker).exists()) {
        return true;
    }
    let groups = files::text(root.join("proc/1/cgroup"));
    let names = ["/docker", "/lxc", "/kubepods", "/libpod", "/containerd", "/garden"];
    names.iter().any(|name| groups.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        virtualisation(root.path())
    }

    #[test]
    fn machines_are_told_apart() {
        assert_eq!(told(&[]), "none");
        assert_eq!(told(&[(".dockerenv", "")]), "container");
        assert_eq!(told(&[("proc/1/cgroup", "0::/kubepods/pod1\n")]), "container");
        assert_eq!(
            told(&[("sys/class/dmi/id/sys_vendor", "QEMU\n"), ("proc/cpuinfo", "flags : fpu hypervisor\n")]),
            "kvm"
        );
        assert_eq!(told(&[("sys/class/dmi/id/sys_vendor", "Amazon EC2\n"), ("proc/cpuinfo", "flags : fpu\n")]), "none");
        assert_eq!(told(&[("sys/class/dmi/id/sys_vendor", "VMware, Inc.\n")]), "vmware");
        assert_eq!(told(&[("proc/cpuinfo", "flags\t: fpu hypervisor avx\n")]), "vm");
        assert_eq!(told(&[("sys/class/dmi/id/sys_vendor", "Dell Inc.\n"), ("proc/cpuinfo", "flags : fpu\n")]), "none");
    }
}
