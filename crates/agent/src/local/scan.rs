//! The inventory as a document, for machines that reach no server. Needs no root, no folder of an
//! agent and no network; what it could not see it says.

use super::who;
use crate::config::Config;
use crate::disk::files;
use crate::facts::{self, PackageSummary};
use crate::inventory::{digest_of, list_packages};
use crate::services::{PackageOwner, ServiceScan};
use fettle_content::sha256_hex;
use fettle_plugin::{PluginError, Provider};
use fettle_wire::agent::SectionDigests;
use fettle_wire::scan::{FORMAT, Machine, Scan, VERSION};
use std::path::Path;
use std::sync::Arc;

/// Looks at the machine and makes the document.
pub fn scan(
    root: &Path,
    providers: &[Arc<dyn Provider>],
    owner: Option<&dyn PackageOwner>,
) -> Result<Scan, PluginError> {
    let (live, is_root) = (facts::is_live(root), rustix::process::geteuid().is_root());
    let mut missing = Vec::new();
    let packages = list_packages(root, providers)?;
    let mut facts = facts::collect(root, &Config::default(), &PackageSummary::of(&packages), true);
    let services = ServiceScan::default().services(root, owner);
    let mut machine = Machine { id: machine_id(root), product_uuid: String::new() };
    if machine.id.is_empty() {
        missing.push("the machine id: /etc/machine-id is not there or empty".to_owned());
    }
    if live {
        machine.product_uuid = product_uuid();
        if !is_root {
            missing.push("processes of other users: what they run and whether it is outdated (needs root)".to_owned());
            if machine.product_uuid.is_empty() {
                missing.push("the UUID of the hardware (needs root)".to_owned());
            }
        }
    } else {
        // These are of the machine that looks, not of the one that is looked at.
        facts.addresses.clear();
        facts.macs.clear();
        facts.boot_id.clear();
        missing.push(format!("what runs: {} is not the running system", root.display()));
    }
    let digests =
        SectionDigests { facts: digest_of(&facts), packages: digest_of(&packages), services: digest_of(&services) };
    Ok(Scan {
        format: FORMAT.to_owned(),
        version: VERSION,
        made_at: crate::clock::now(),
        made_by: format!("fettle {}", env!("CARGO_PKG_VERSION")),
        user: who::who(),
        missing,
        machine,
        digests,
        facts,
        packages,
        services,
    })
}

fn machine_id(root: &Path) -> String {
    let text = files::text(root.join("etc/machine-id"));
    let id = text.trim();
    // `uninitialized` stands in images that were never started.
    let right = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if right { sha256_hex(format!("{FORMAT}:{}", id.to_ascii_lowercase()).as_bytes()) } else { String::new() }
}

fn product_uuid() -> String {
    let text = files::text("/sys/class/dmi/id/product_uuid").trim().to_ascii_lowercase();
    let right = text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    // Boards whose maker left it empty: all of them have the same.
    let told = text.bytes().any(|byte| !matches!(byte, b'0' | b'f' | b'-'));
    if right && told { text } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_id_stays_on_its_machine() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        assert_eq!(machine_id(root.path()), "");
        std::fs::write(root.path().join("etc/machine-id"), "uninitialized\n").unwrap();
        assert_eq!(machine_id(root.path()), "");
        std::fs::write(root.path().join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        let id = machine_id(root.path());
        assert!(id.len() == 64 && !id.contains("0123456789abcdef"));
    }
}
