//! What people approve and what every order names: one digest over the plan.
//!
//! The text that is hashed is the plan without its hosts as JSON, then a line for each host with its
//! id and the digest of its part, so that one host's part can be checked without all the others. The
//! hash function comes in as a value.

use fettle_domain::plan::{HostPlan, Plan};

/// First line of the hashed text: form and version.
const FORM: &str = "fettle-plan-v1";

/// Digest of one host's part.
pub fn host_digest(host: &HostPlan, sha256_hex: &impl Fn(&[u8]) -> String) -> serde_json::Result<String> {
    Ok(sha256_hex(&serde_json::to_vec(host)?))
}

/// Digest of the whole plan.
pub fn plan_digest(plan: &Plan, sha256_hex: &impl Fn(&[u8]) -> String) -> serde_json::Result<String> {
    let mut text = format!("{FORM}\n{}\n", serde_json::to_string(&head(plan))?);
    for host in &plan.hosts {
        text.push_str(&format!("{} {}\n", host.host, host_digest(host, sha256_hex)?));
    }
    Ok(sha256_hex(text.as_bytes()))
}

/// The plan without its hosts.
fn head(plan: &Plan) -> Plan {
    Plan {
        id: plan.id,
        change: plan.change,
        made_at: plan.made_at,
        hosts: Vec::new(),
        acceptance: plan.acceptance.clone(),
        back_out: plan.back_out.clone(),
        restart_services: plan.restart_services,
        reboot: plan.reboot,
        checks: plan.checks.clone(),
        report: plan.report.clone(),
    }
}
