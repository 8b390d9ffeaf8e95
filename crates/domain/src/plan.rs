//! Plans: the immutable content of a change, and what a dry run found for each host.

use crate::health::HealthCheck;
use crate::host::OsRelease;
use crate::id::{ChangeId, HostId, PlanId};
use crate::package::Ecosystem;
use crate::reason::Reason;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What one package manager was asked to do on a host: the input of a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which provider is asked.
    pub ecosystem: Ecosystem,
    /// What is wanted.
    pub wanted: Vec<WantedPackage>,
    /// Whether other packages may be removed to get there.
    #[serde(default)]
    pub allow_removals: bool,
}

/// One package that a change wants at a version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WantedPackage {
    /// Binary package name.
    pub name: String,
    /// What version is asked for.
    pub version: WantedVersion,
}

/// Which version is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum WantedVersion {
    /// Exactly this one.
    Exactly {
        /// Binary package version.
        version: String,
    },
    /// The lowest offered version whose *source* version is at least this: closes a finding without
    /// jumping further than needed.
    SourceAtLeast {
        /// Source package version.
        version: String,
    },
    /// What the package manager's own policy prefers.
    Candidate,
}

/// The exact result a dry run promises: the manifest that is approved, signed and proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Which provider made it.
    pub ecosystem: Ecosystem,
    /// Every package that changes, sorted by name and architecture.
    pub steps: Vec<PackageStep>,
    /// Digest of all (name, architecture, version) of the packages installed when the dry run was
    /// made: the agent refuses to install when the world has changed since. Lowercase hex sha-256.
    pub base_digest: String,
    /// Bytes to download.
    pub download_bytes: u64,
    /// Disk bytes used additionally afterwards (negative: freed).
    pub disk_bytes: i64,
}

/// One package of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackageStep {
    /// Binary package name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Installed version before; absent for a new package.
    pub from: Option<String>,
    /// Version after; absent for a removal.
    pub to: Option<String>,
    /// Whether the change asked for it (else it comes along as a dependency).
    pub asked: bool,
    /// The package file; absent for a removal.
    pub file: Option<PackageFile>,
}

/// A package file that the repository's signed index lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PackageFile {
    /// File name as the package manager caches it.
    pub name: String,
    /// Where the host fetches it from, as the package manager says.
    pub uri: String,
    /// Bytes.
    pub size: u64,
    /// Lowercase hex sha-256.
    pub sha256: String,
}

/// What a dry run answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum RehearsalOutcome {
    /// It would work, and do exactly this.
    Possible {
        /// The exact plan.
        manifest: Manifest,
        /// What people should know: conffiles edited, services to restart, held packages left out.
        notes: Vec<Reason>,
    },
    /// All that is wanted is already so.
    NothingToDo,
    /// It cannot be done; why, in words.
    Impossible {
        /// Each obstacle.
        reasons: Vec<Reason>,
    },
}

/// The immutable content of a change: where, what exactly, and how it is judged. Its digest is what
/// people approve and what every offer names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// The change it belongs to.
    pub change: ChangeId,
    /// When it was made.
    pub made_at: Timestamp,
    /// One entry a host, sorted by host.
    pub hosts: Vec<HostPlan>,
    /// When the rollout counts as a success.
    pub acceptance: Acceptance,
    /// How it is undone, in words for people.
    pub back_out: String,
    /// Whether services that use replaced files are restarted.
    pub restart_services: bool,
    /// Whether hosts may be rebooted when the change needs it.
    pub reboot: RebootPolicy,
    /// What must hold on each host before and after, besides what runs there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<HealthCheck>,
    /// Why the plan is what it is, and what is waiting on what.
    pub report: Vec<Reason>,
}

/// One host of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// Which host.
    pub host: HostId,
    /// Its name when the plan was made, for people.
    pub host_name: String,
    /// Its release when the plan was made.
    pub os: OsRelease,
    /// What exactly happens there.
    pub manifest: Manifest,
    /// What the dry run noted.
    pub notes: Vec<Reason>,
}

/// When a rollout counts as a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Least share of hosts that must succeed, in per cent (0 to 100).
    pub success_percent: u8,
    /// A host that has not reported for this long during its deployment counts as failed (seconds).
    pub silence_seconds: u64,
}

/// Whether a change may reboot hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebootPolicy {
    /// Never: a needed reboot is reported and the finding stays open until somebody reboots.
    #[default]
    Never,
    /// When the new state needs it.
    IfNeeded,
}
