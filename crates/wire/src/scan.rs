//! The inventory of a machine as a file: written by `fettle agent scan`, read by `fettle host import`,
//! for machines that reach no server. Nobody signs it: who imports it vouches for it.

use crate::agent::{HostFacts, SectionDigests, Service};
use fettle_domain::Timestamp;
use fettle_domain::package::InstalledPackage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// First field of every such file.
pub const FORMAT: &str = "fettle-scan";
/// Version of the form. A reader refuses another one by name.
pub const VERSION: u32 = 1;

/// The file: this as JSON, compressed with gzip or plain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// When it was made, by the machine's clock.
    pub made_at: Timestamp,
    /// Program and version that made it (`fettle 0.1.0`).
    pub made_by: String,
    /// Who ran it there: user name.
    pub user: String,
    /// What could not be looked at, in words; empty when everything was.
    pub missing: Vec<String>,
    /// What tells this machine apart from others.
    pub machine: Machine,
    /// Digests of the three parts that follow.
    pub digests: SectionDigests,
    /// What the machine is.
    pub facts: HostFacts,
    /// What is installed, sorted.
    pub packages: Vec<InstalledPackage>,
    /// What runs, sorted.
    pub services: Vec<Service>,
}

/// What tells a machine apart. Empty where it could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Lowercase hex sha-256 over `fettle-scan:` and the machine id (machine-id(5) itself is to stay
    /// on its machine).
    pub id: String,
    /// UUID that the firmware gives; only root can read it.
    pub product_uuid: String,
}

/// Answer to an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    /// The host that the file became.
    pub host: String,
    /// Its name.
    pub name: String,
    /// Whether the host was made; else it was known and is brought up to date.
    pub new: bool,
    /// By what it was known: `machine id`, `product UUID` or `name`; empty when it is new.
    pub known_by: String,
    /// State of the machine that its findings speak of.
    pub as_of: String,
    /// Packages in the file.
    pub packages: u64,
    /// What the file says is missing in it.
    pub missing: Vec<String>,
}
