//! The made-up fleet: who the hosts are, what they have, and what they would send. The same numbers
//! each time.

use fettle_content::Hasher;
use fettle_domain::HostId;
use fettle_domain::host::{Kernel, OsRelease};
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_wire::agent::{HostFacts, Service};
use std::collections::BTreeMap;

/// Packages of a host.
pub const PACKAGES: usize = 590;
/// Names in the repositories that this fleet uses.
const NAMES: usize = 4_000;
/// What every host has.
const COMMON: usize = 380;
/// What hosts of one role have beside that, but for what they chose themselves.
const ROLE: usize = PACKAGES - COMMON;
/// Roles: web server, database, …
const ROLES: usize = 12;
/// States of the security updates that occur at the same time.
const LEVELS: usize = 6;
/// Packages that one update replaces, from the common ones.
const UPDATED: usize = 5;

/// Numbers that look random and are the same each time (Knuth's MMIX generator).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// One host's packages: name number to (version number, installed by hand).
pub type Packages = BTreeMap<usize, (usize, bool)>;

/// What host `number` has; `updates` further security updates came since.
///
/// Two of five hosts are exact clones of their role's image at some level; the others have up to
/// sixty packages of their own choice in place of the role's last ones.
pub fn packages(number: usize, updates: usize) -> Packages {
    let mut dice = Dice(number as u64 + 1);
    let (role, level) = (number % ROLES, dice.throw(LEVELS) + updates);
    let own = if dice.throw(5) < 2 { 0 } else { 1 + dice.throw(60) };
    let mut packages = Packages::new();
    // Spread over the alphabet, as real ones are.
    let place = |number: usize| number * 7 % NAMES;
    for name in 0..COMMON {
        // Each level replaces the next five of the common packages.
        let version = (0..level).filter(|step| (step * UPDATED..(step + 1) * UPDATED).contains(&(name % 60))).count();
        packages.insert(place(name), (if name < 60 { version } else { 0 }, name % 12 == 0));
    }
    for name in 0..ROLE - own {
        packages.insert(place(COMMON + role * ROLE + name), (0, name % 15 == 0));
    }
    while packages.len() < PACKAGES {
        let name = place(COMMON + ROLES * ROLE + dice.throw(NAMES - COMMON - ROLES * ROLE));
        packages.entry(name).or_insert((0, true));
    }
    packages
}

fn installed(name: usize, version: usize, manual: bool) -> InstalledPackage {
    let security = version > 0;
    let text = format!("{}.{}.{}-{}+deb12u{}", 1 + name % 9, name % 40, name % 7, 1 + name % 5, version + 1);
    let source = format!("source-package-{:04}", name / 2);
    InstalledPackage {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: format!("lib{:04}-binary-package", name),
            version: text.clone(),
            architecture: if name.is_multiple_of(3) { "all" } else { "amd64" }.to_owned(),
            source,
            source_version: text,
        },
        origin: if security { "Debian:bookworm-security" } else { "Debian:bookworm" }.to_owned(),
        held: false,
        automatic: !manual,
        state: InstallState::Installed,
    }
}

/// JSON of single packages, made once: the clients must not be what is measured.
#[derive(Default)]
pub struct Snippets(BTreeMap<(usize, usize, bool), String>);

impl Snippets {
    /// All that the hosts of a fleet may need.
    pub fn new() -> Self {
        let mut all = BTreeMap::new();
        for name in 0..NAMES {
            for version in 0..2 {
                for manual in [false, true] {
                    all.insert(
                        (name, version, manual),
                        serde_json::to_string(&installed(name, version, manual)).unwrap(),
                    );
                }
            }
        }
        Self(all)
    }

    fn of(&self, name: usize, (version, manual): (usize, bool)) -> &str {
        &self.0[&(name, version, manual)]
    }

    /// The sorted list as JSON, as agents make it, with its digest.
    pub fn list(&self, packages: &Packages) -> (String, String) {
        let json = array(packages.iter().map(|(name, state)| self.of(*name, *state)));
        let digest = digest(&json);
        (json, digest)
    }

    /// `removed` and `added` of a difference.
    pub fn difference(&self, former: &Packages, now: &Packages) -> (String, String) {
        let only = |one: &Packages, other: &Packages| {
            let mine = one.iter().filter(|(name, state)| other.get(*name) != Some(*state));
            array(mine.map(|(name, state)| self.of(*name, *state)))
        };
        (only(former, now), only(now, former))
    }
}

fn array<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::from("[");
    for item in items {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(item);
    }
    text.push(']');
    text
}

/// Lowercase hex sha-256.
pub fn digest(text: &str) -> String {
    let mut hasher = Hasher::default();
    hasher.update(text.as_bytes());
    hasher.finish()
}

/// Name of a host.
pub fn name(number: usize) -> String {
    format!("host-{number:05}.fleet.example")
}

/// JSON of the facts.
pub fn facts(number: usize, id: HostId) -> String {
    let release = format!("6.1.0-{}-amd64", 20 + number % 6);
    let facts = HostFacts {
        name: format!("host-{number:05}"),
        fqdn: name(number),
        addresses: vec![
            format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255),
            format!("fd00::{number:x}"),
        ],
        macs: vec![format!("52:54:00:{:02x}:{:02x}:{:02x}", number >> 16, (number >> 8) & 255, number & 255)],
        os: OsRelease {
            id: "debian".into(),
            version_id: "12".into(),
            codename: "bookworm".into(),
            pretty_name: "Debian GNU/Linux 12 (bookworm)".into(),
        },
        kernel: Kernel {
            running_release: release.clone(),
            running_version: "6.1.119-1".into(),
            newest_installed_release: release,
            newest_installed_version: "6.1.119-1".into(),
        },
        // Any text of that length: another for each host.
        boot_id: id.to_string().replace("host_", ""),
        architecture: "amd64".into(),
        virtualisation: "kvm".into(),
        location: format!("hall-{}", number % 7),
        tags: vec!["production".into(), format!("role-{}", number % ROLES)],
        reboot_pending: Vec::new(),
        read_only: false,
        ..HostFacts::default()
    };
    serde_json::to_string(&facts).unwrap()
}

/// JSON of the services: the same for hosts of one role.
pub fn services(number: usize) -> String {
    let role = number % ROLES;
    let services: Vec<Service> = (0..16)
        .map(|place| Service {
            unit: format!("service-{role:02}-{place:02}.service"),
            executable: format!("/usr/sbin/service-{role:02}-{place:02}d"),
            package: format!("lib{:04}-binary-package", role * 20 + place),
            listens: if place % 3 == 0 { vec![format!("tcp 0.0.0.0:{}", 1000 + place)] } else { Vec::new() },
            restart_pending: false,
            outdated_packages: Vec::new(),
        })
        .collect();
    serde_json::to_string(&services).unwrap()
}
