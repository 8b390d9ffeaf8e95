//! Hosts, groups and enrolment tokens.

use super::finding::ReasonView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A host in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostSummary {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// discovered, enrolling, managed, silent, imported, ignored, retired.
    pub state: String,
    /// `agent`, `agentless` (its inventory is imported from files) or `unmanaged`.
    pub management: String,
    /// Operating system for people.
    pub os: String,
    /// Release codename.
    pub codename: String,
    /// A reboot is needed.
    pub reboot_pending: bool,
    /// Services that still use replaced files.
    pub restart_pending: u64,
    /// When it last spoke.
    pub last_seen: String,
    /// Agent version.
    pub agent_version: String,
    /// What a person should see to, in a few words each: a copy, a wrong clock, a machine installed anew.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// A page of hosts, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostList {
    /// Of this page.
    pub items: Vec<HostSummary>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages, where it is cheap to know.
    pub total: Option<u64>,
}

/// How many hosts are in each state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HostCounts {
    /// Copies of hosts that wait to be accepted.
    #[serde(default)]
    pub discovered: u64,
    /// Certificate issued, first inventory awaited.
    pub enrolling: u64,
    /// Report in time.
    pub managed: u64,
    /// Have not reported for too long.
    pub silent: u64,
    /// Known from imported files, without an agent.
    pub imported: u64,
    /// Revoked.
    pub retired: u64,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostDetail {
    /// As in lists.
    pub summary: HostSummary,
    /// Groups it is in.
    pub groups: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<String>,
    /// MAC addresses.
    pub macs: Vec<String>,
    /// Machine architecture.
    pub architecture: String,
    /// `none`, `container`, `kvm`, …
    pub virtualisation: String,
    /// Running kernel: release.
    pub kernel_running: String,
    /// Running kernel: package version; empty when it is no package.
    pub kernel_running_version: String,
    /// Newest installed kernel: release; empty when none is.
    pub kernel_newest: String,
    /// Newest installed kernel: package version.
    pub kernel_newest_version: String,
    /// Boot id.
    pub boot_id: String,
    /// From the agent's configuration.
    pub location: String,
    /// From the agent's configuration.
    pub tags: Vec<String>,
    /// Why a reboot is needed.
    pub reboot_reasons: Vec<String>,
    /// The agent changes nothing there.
    pub read_only: bool,
    /// When it enrolled.
    pub enrolled_at: String,
    /// Where its inventory comes from, when it is imported.
    pub imported: Option<HostImportView>,
    /// Services.
    pub services: Vec<ServiceView>,
    /// Packages installed.
    pub packages: u64,
    /// Findings that mean work, by severity level: unknown, negligible, low, medium, high, critical.
    pub findings: Vec<LevelCount>,
    /// Which machine it is.
    pub identity: HostIdentityView,
}

/// Which machine a host is, and what is doubtful about it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HostIdentityView {
    /// When the certificate in use expires, where that is known.
    pub certificate_expires_at: Option<String>,
    /// Certificates issued to it.
    pub certificates: u64,
    /// How far its clock is off (`3 years behind`); empty within bounds.
    pub clock: String,
    /// When a second machine with its identity was last noticed.
    pub cloned_at: Option<String>,
    /// Hosts that were copies of it.
    pub copies: Vec<HostName>,
    /// The host whose copy it was.
    pub copy_of: Option<HostName>,
    /// Hosts that it was before it was installed anew.
    pub formerly: Vec<HostName>,
    /// The host that its machine goes on as.
    pub goes_on_as: Option<HostName>,
    /// Hosts that it may be the same machine as; a person answers with merge or dismiss.
    pub may_be: Vec<LikenessView>,
}

/// A host, named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostName {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A host that another one may be the same machine as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LikenessView {
    /// The older host.
    pub host: HostName,
    /// Its state.
    pub state: String,
    /// What speaks for it.
    pub reasons: Vec<ReasonView>,
}

/// The file that a host's inventory comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostImportView {
    /// When it was made: what its findings speak of.
    pub as_of: String,
    /// When it was imported.
    pub imported_at: String,
    /// By whom.
    pub imported_by: String,
    /// Program and version that made it.
    pub made_by: String,
    /// User who made it, on the machine.
    pub made_for: String,
    /// What it lacks, in words.
    pub missing: Vec<String>,
}

/// How many of a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LevelCount {
    /// Severity level.
    pub level: String,
    /// How many.
    pub findings: u64,
}

/// A running service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceView {
    /// Unit or init script.
    pub unit: String,
    /// Executable.
    pub executable: String,
    /// Package of the executable.
    pub package: String,
    /// Listening sockets.
    pub listens: Vec<String>,
    /// Uses replaced files.
    pub restart_pending: bool,
}

/// A package on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackageView {
    /// Binary package.
    pub name: String,
    /// Version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Source package.
    pub source: String,
    /// Source version.
    pub source_version: String,
    /// Repository it comes from; empty: none offers it.
    pub origin: String,
    /// Held back.
    pub held: bool,
    /// Came as a dependency.
    pub automatic: bool,
    /// installed, unpacked, half-configured, half-installed.
    pub state: String,
}

/// A page of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackageList {
    /// Of this page.
    pub items: Vec<PackageView>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages.
    pub total: Option<u64>,
}

/// `POST /api/v1/enrolment-tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenCreate {
    /// Hosts join this group; made when it is not there.
    #[serde(default)]
    pub group: Option<String>,
    /// How many machines may use it, 1 to 100000; 1 when absent.
    #[serde(default)]
    pub uses: Option<u32>,
    /// Seconds until it expires, 60 to 31536000; one hour when absent.
    #[serde(default)]
    pub expires_seconds: Option<u64>,
    /// Address the machines reach this server at (`https://HOST:PORT`); the one of this request when absent.
    #[serde(default)]
    pub server: Option<String>,
}

/// A new token. The secret is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrolmentTokenMade {
    /// Its id.
    pub id: String,
    /// The token text.
    pub token: String,
    /// The line to paste on the machine.
    pub command: String,
    /// When it expires.
    pub expires_at: String,
    /// Machines that may use it.
    pub uses: u32,
}

impl std::fmt::Debug for EnrolmentTokenMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrolmentTokenMade({}, …)", self.id)
    }
}

/// A token that still works, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrolmentTokenView {
    /// Its id.
    pub id: String,
    /// Uses left.
    pub uses_left: u64,
    /// When it expires.
    pub expires_at: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: String,
}

/// Tokens that still work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrolmentTokenList {
    /// Newest first.
    pub items: Vec<EnrolmentTokenView>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Members.
    pub hosts: u64,
}

/// All groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupList {
    /// By name.
    pub items: Vec<GroupView>,
}

/// `POST /api/v1/groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupCreate {
    /// Letters, digits, `.`, `_` and `-`; at most 64.
    pub name: String,
}

/// `POST /api/v1/groups/{name}/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupMembers {
    /// Hosts that join, by id or unique name.
    #[serde(default)]
    pub add: Vec<String>,
    /// Hosts that leave, by id or unique name.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// `POST /api/v1/hosts/{id}/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRevoke {
    /// Why, for the audit log.
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/v1/hosts/{id}/merge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostMerge {
    /// The older host, by id or unique name: it is revoked, its groups and history go over.
    pub with: String,
}
