//! Records as the API shows them.

use super::super::finding::reason_views;
use fettle_domain::health::HealthCheck;
use fettle_domain::plan::{HostPlan, PackageStep};
use fettle_store::systems::change::{ChangeEventRecord, ChangeRecord};
use fettle_store::systems::deployment::{DeploymentRecord, TaskRecord};
use fettle_wire::api::change::{
    ChangeEvent, ChangeHost, ChangePackage, ChangeSummary, CheckView, DeploymentSummary, TaskView,
};

pub(super) fn summary(record: &ChangeRecord) -> ChangeSummary {
    let rollout = record.rollout_state.map(|state| state.to_string());
    ChangeSummary {
        id: record.id.to_string(),
        number: record.number,
        title: record.title.clone(),
        state: state_word(record),
        plan_state: record.plan_state.to_string(),
        rollout_state: rollout,
        requester: record.requester.clone(),
        created_at: record.created_at.to_string(),
        asked: record.asked,
        hosts: record.hosts,
    }
}

/// One word for where a change stands. A plan that was taken back before it started was cancelled.
pub(super) fn state_word(record: &ChangeRecord) -> String {
    use fettle_domain::machine::PlanState;
    match (record.rollout_state, record.plan_state) {
        (Some(rollout), _) => rollout.to_string(),
        (None, PlanState::Superseded) => "cancelled".to_owned(),
        (None, plan) => plan.to_string(),
    }
}

pub(super) fn package(step: &PackageStep) -> ChangePackage {
    ChangePackage {
        name: step.name.clone(),
        architecture: step.architecture.clone(),
        from: step.from.clone(),
        to: step.to.clone(),
        asked: step.asked,
        size: step.file.as_ref().map(|file| file.size),
        sha256: step.file.as_ref().map(|file| file.sha256.clone()),
    }
}

pub(super) fn host(host: &HostPlan) -> ChangeHost {
    ChangeHost {
        host: host.host.to_string(),
        host_name: host.host_name.clone(),
        os: host.os.pretty_name.clone(),
        download_bytes: host.manifest.download_bytes,
        disk_bytes: host.manifest.disk_bytes,
        packages: host.manifest.steps.iter().map(package).collect(),
        notes: reason_views(&host.notes),
    }
}

pub(super) fn deployment(record: &DeploymentRecord) -> DeploymentSummary {
    DeploymentSummary {
        id: record.id.to_string(),
        change: record.change.to_string(),
        host: record.host.to_string(),
        host_name: record.host_name.clone(),
        state: record.state.to_string(),
        proof: record.proof.as_str().to_owned(),
        changed_at: record.changed_at.to_string(),
        heard_at: record.heard_at.to_string(),
        anomalies: record.anomalies,
    }
}

pub(super) fn check(check: &HealthCheck) -> CheckView {
    CheckView { name: check.name.clone(), text: check.to_string(), when: check.when.as_str().to_owned() }
}

pub(super) fn task(record: &TaskRecord) -> TaskView {
    TaskView {
        number: record.number,
        name: record.name.clone(),
        state: record.state.to_string(),
        at: record.at.to_string(),
        reasons: reason_views(&record.reasons),
    }
}

pub(super) fn event(record: ChangeEventRecord) -> ChangeEvent {
    ChangeEvent {
        number: record.number,
        at: record.at.to_string(),
        machine: record.machine,
        deployment: record.deployment.map(|id| id.to_string()),
        host_name: record.host_name,
        event: record.event,
        state: record.state,
        actor: record.actor,
        reasons: reason_views(&record.reasons),
        lines: record.lines,
        anomaly: record.anomaly,
    }
}
