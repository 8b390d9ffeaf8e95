//! Packages: a name in an ecosystem, its version, and what a host has installed.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where package names and versions live. In text, OSV's ecosystem name (osv.dev/docs) where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ecosystem {
    /// Debian and its derivatives, ordered by dpkg (purl type `deb`).
    Debian,
    /// Packages of a manager that is none of the above (purl type `generic`), known to a foreign provider
    /// only. Ordered as dpkg orders, for want of a rule of their own.
    Generic,
}

impl Ecosystem {
    /// All of them, for messages and tables.
    pub const ALL: [Ecosystem; 2] = [Ecosystem::Debian, Ecosystem::Generic];

    /// The stable text of this ecosystem, as stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Ecosystem::Debian => "debian",
            Ecosystem::Generic => "generic",
        }
    }

    /// The ecosystem of this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ecosystem| ecosystem.as_str() == text)
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One unique package version: the entry of the dictionary over which inventories are sets.
///
/// Vulnerability data speaks of *source* packages, package managers of *binary* ones; both stand here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackageVersion {
    /// Where the name lives.
    pub ecosystem: Ecosystem,
    /// Binary package name, such as `libssl3`.
    pub name: String,
    /// Binary package version, in the package manager's own text.
    pub version: String,
    /// Architecture, such as `amd64` or `all`.
    pub architecture: String,
    /// Source package, such as `openssl`.
    pub source: String,
    /// Source package version: differs from `version` for binary rebuilds (`1.0-1+b1`).
    pub source_version: String,
}

impl PackageVersion {
    /// The package URL (github.com/package-url) with version.
    pub fn purl(&self) -> String {
        match self.ecosystem {
            Ecosystem::Debian => {
                format!("pkg:deb/debian/{}@{}?arch={}", self.name, self.version, self.architecture)
            }
            Ecosystem::Generic => format!("pkg:generic/{}@{}?arch={}", self.name, self.version, self.architecture),
        }
    }
}

/// One package as a host has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Flat")]
pub struct InstalledPackage {
    /// What it is.
    #[serde(flatten)]
    pub package: PackageVersion,
    /// Repository it comes from, as `Origin:Suite` (`Debian:bookworm-security`); empty when no
    /// configured repository offers this version.
    pub origin: String,
    /// Held back by the administrator.
    pub held: bool,
    /// Pulled in as a dependency only.
    pub automatic: bool,
    /// Whether its installation is complete.
    pub state: InstallState,
}

/// How an [`InstalledPackage`] is read: in one go. Reading a flattened field goes through a tree of
/// all the others, which costs more than all else of taking in an inventory.
#[derive(Deserialize)]
struct Flat {
    ecosystem: Ecosystem,
    name: String,
    version: String,
    architecture: String,
    source: String,
    source_version: String,
    #[serde(default)]
    origin: String,
    #[serde(default)]
    held: bool,
    #[serde(default)]
    automatic: bool,
    #[serde(default)]
    state: InstallState,
}

impl From<Flat> for InstalledPackage {
    fn from(flat: Flat) -> Self {
        let Flat { ecosystem, name, version, architecture, source, source_version, origin, held, automatic, state } =
            flat;
        let package = PackageVersion { ecosystem, name, version, architecture, source, source_version };
        Self { package, origin, held, automatic, state }
    }
}

/// How completely a package is installed (dpkg's status words, in those of all managers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstallState {
    /// Installed and configured (also while triggers are pending: that is not failure).
    #[default]
    Installed,
    /// Files in place, configuration not yet run (dpkg `U`).
    Unpacked,
    /// Configuration failed or was interrupted (dpkg `F`).
    HalfConfigured,
    /// Unpacking failed or was interrupted (dpkg `H`).
    HalfInstalled,
}

/// What a sorted list becomes when entries leave and others join: sorted again, none twice.
pub fn apply_difference(
    mut base: Vec<InstalledPackage>,
    removed: &[InstalledPackage],
    added: Vec<InstalledPackage>,
) -> Vec<InstalledPackage> {
    let gone: std::collections::BTreeSet<&InstalledPackage> = removed.iter().collect();
    base.retain(|package| !gone.contains(package));
    base.extend(added);
    // Nearly sorted: the stable sort finds that out.
    base.sort();
    base.dedup();
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_reads_as_it_was_written_and_without_what_may_be_absent() {
        let least =
            r#"{"ecosystem":"debian","name":"a","version":"1","architecture":"all","source":"a","source_version":"1"}"#;
        let mut package: InstalledPackage = serde_json::from_str(least).unwrap();
        assert_eq!((package.held, package.automatic, package.state), (false, false, InstallState::Installed));
        (package.origin, package.held, package.state) = ("Debian:sid".into(), true, InstallState::Unpacked);
        let text = serde_json::to_string(&package).unwrap();
        assert!(text.starts_with(&least[..least.len() - 1]), "the digest rests on the order of the fields: {text}");
        assert_eq!(serde_json::from_str::<InstalledPackage>(&text).unwrap(), package);
        assert!(serde_json::from_str::<InstalledPackage>(&least.replace("source_version", "x")).is_err());
    }

    #[test]
    fn a_difference_replaces_what_it_names() {
        let package = |name: &str| -> InstalledPackage {
            let text = format!(
                r#"{{"ecosystem":"debian","name":"{name}","version":"1","architecture":"all","source":"a","source_version":"1"}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let [a, b, c] = ["a", "b", "c"].map(package);
        let made = apply_difference(vec![a.clone(), c.clone()], std::slice::from_ref(&c), vec![b.clone(), a.clone()]);
        assert_eq!(made, [a, b]);
    }
}
