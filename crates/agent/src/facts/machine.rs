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

/// Digest of machine-id(5), which itself must not leave the machine; empty where there is none.
pub(super) fn machine_id(root: &Path) -> String {
    digest_of("machine-id", files::text(root.join("etc/machine-id")).trim())
}

/// Digest of the firmware's product UUID; empty where it says nothing of this machine: in a container
/// it is the host's, without root it cannot be read, and some makers put the same filler into all.
pub(super) fn product_uuid(root: &Path, virtualisation: &str) -> String {
    if virtualisation == "container" {
        return String::new();
    }
    let uuid = files::text(root.join("sys/class/dmi/id/product_uuid")).trim().to_lowercase();
    let digits: String = uuid.chars().filter(|c| c.is_ascii_hexdigit()).collect();
    let varied = digits.chars().any(|c| !digits.starts_with(c));
    let filler = ["03000200040005000006000700080009", "12345678123456781234567812345678"].contains(&digits.as_str());
    if digits.len() == 32 && varied && !filler { digest_of("product-uuid", &uuid) } else { String::new() }
}

/// With the kind in it, so that digests of other programs over the same id are others.
fn digest_of(kind: &str, id: &str) -> String {
    let plain = (32..=64).contains(&id.len()) && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if !plain {
        return String::new();
    }
    fettle_content::sha256_hex(format!("fettle {kind} {id}").as_bytes()).chars().take(32).collect()
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
    fn ids_leave_the_machine_as_digests_and_fillers_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!((machine_id(root.path()), product_uuid(root.path(), "none")), (String::new(), String::new()));
        write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        write("sys/class/dmi/id/product_uuid", "4C4C4544-0042-3510-8051-B4C04F4E4D32\n");
        let (machine, product) = (machine_id(root.path()), product_uuid(root.path(), "kvm"));
        assert_eq!((machine.len(), product.len()), (32, 32));
        assert!(machine != product && !machine.starts_with("0123"));
        assert_eq!(product_uuid(root.path(), "container"), "");
        for filler in
            ["00000000-0000-0000-0000-000000000000", "03000200-0400-0500-0006-000700080009", "Not Settable", ""]
        {
            write("sys/class/dmi/id/product_uuid", filler);
            assert_eq!(product_uuid(root.path(), "none"), "", "{filler}");
        }
        write("etc/machine-id", "uninitialized\n");
        assert_eq!(machine_id(root.path()), "");
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
