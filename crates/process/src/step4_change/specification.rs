//! What a person asked for, as it is kept with the change.

use fettle_domain::health::HealthCheck;
use fettle_domain::plan::{Acceptance, RebootPolicy};
use serde::{Deserialize, Serialize};

/// Kept as JSON with the change; what follows from it for each host stands in the jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specification {
    /// Vulnerabilities to close.
    #[serde(default)]
    pub vulnerabilities: Vec<String>,
    /// Findings to close.
    #[serde(default)]
    pub findings: Vec<String>,
    /// Packages to update, `NAME` or `NAME=VERSION`.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Hosts and groups as they were named.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Groups as they were named.
    #[serde(default)]
    pub groups: Vec<String>,
    /// All hosts that have one of the vulnerabilities.
    #[serde(default)]
    pub all_affected: bool,
    /// Whether other packages may be removed.
    #[serde(default)]
    pub allow_removals: bool,
    /// When the rollout counts as a success.
    pub acceptance: Acceptance,
    /// Whether services that use replaced files are restarted.
    pub restart_services: bool,
    /// Whether hosts may be rebooted.
    pub reboot: RebootPolicy,
    /// What must hold on each host before and after.
    #[serde(default)]
    pub checks: Vec<HealthCheck>,
}
