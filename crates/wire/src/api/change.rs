//! Changes, rollouts and deployments.

use super::finding::ReasonView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `POST /api/v1/changes`: asks for a change. At least one of `findings`, `vulnerabilities` and
/// `packages` says what; `hosts`, `groups` or `all_affected` say where (findings name their hosts
/// themselves).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeCreate {
    /// What it is, in a line; made from the content when empty.
    pub title: String,
    /// Why.
    pub reason: String,
    /// Findings to close, by id.
    pub findings: Vec<String>,
    /// Vulnerabilities to close (`CVE-2024-5535`).
    pub vulnerabilities: Vec<String>,
    /// Packages to update where they are installed: `NAME` or `NAME=VERSION`.
    pub packages: Vec<String>,
    /// Hosts, by id or name.
    pub hosts: Vec<String>,
    /// Groups, by name.
    pub groups: Vec<String>,
    /// All hosts that have one of the vulnerabilities.
    pub all_affected: bool,
    /// Whether the package manager may remove other packages to get there.
    pub allow_removals: bool,
    /// Per cent of the hosts that must succeed, 0 to 100; the server's default when absent.
    pub success_percent: Option<u8>,
    /// Seconds without a word after which a host counts as failed; the server's default when absent.
    pub silence_seconds: Option<u64>,
    /// Begin no earlier (RFC 3339); as soon as it is started when absent.
    pub window_start: Option<String>,
    /// Begin no later (RFC 3339); the server's default length when absent.
    pub window_end: Option<String>,
    /// `never` or `if-needed`; `never` when absent.
    pub reboot: Option<String>,
    /// Restart services that use replaced files; yes when absent.
    pub restart_services: Option<bool>,
    /// Health checks, `KIND=VALUE[,OPTION=VALUE]…` (`http=http://127.0.0.1:8080/health`); see docs/checks.md.
    pub checks: Vec<String>,
}

/// A change in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeSummary {
    /// Its id.
    pub id: String,
    /// Its number, short for people; taken wherever the id is.
    pub number: u64,
    /// What it is.
    pub title: String,
    /// Where it stands, in one word: the rollout's state once there is one, else the plan's.
    pub state: String,
    /// Where its plan stands: draft, proposed, approved, active, closed, rejected, superseded.
    pub plan_state: String,
    /// Where its rollout stands: scheduled, running, paused, halted, completed, rolling-back, rolled-back, cancelled.
    pub rollout_state: Option<String>,
    /// Who asked for it.
    pub requester: String,
    /// When.
    pub created_at: String,
    /// Hosts that were asked for.
    pub asked: u64,
    /// Hosts of the plan.
    pub hosts: u64,
}

/// A page of changes, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeList {
    /// Of this page.
    pub items: Vec<ChangeSummary>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages, where it is cheap to know.
    pub total: Option<u64>,
}

/// One change: what, where, why, how it is judged and undone, who approved it, how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeDetail {
    /// As in lists.
    pub summary: ChangeSummary,
    /// Why.
    pub reason: String,
    /// What was asked for, in sentences.
    pub asked_for: Vec<String>,
    /// When it may begin.
    pub window: WindowView,
    /// When it counts as a success.
    pub acceptance: AcceptanceView,
    /// `never` or `if-needed`.
    pub reboot: String,
    /// Whether services that use replaced files are restarted.
    pub restart_services: bool,
    /// What must hold on each host before and after, besides what runs there.
    pub checks: Vec<CheckView>,
    /// Its plan's id.
    pub plan: String,
    /// What an approval must name; empty before the plan is proposed.
    pub plan_digest: String,
    /// How it is undone.
    pub back_out: String,
    /// What could go wrong; absent before the plan is proposed.
    pub risk: Option<RiskView>,
    /// Given so far.
    pub approvals: Vec<ApprovalView>,
    /// Needed.
    pub approvals_needed: u32,
    /// Findings that it is to close.
    pub findings: u64,
    /// Dry runs by state: asked, answered, left-out, dropped.
    pub rehearsals: Vec<CountView>,
    /// Deployments by state.
    pub deployments: Vec<CountView>,
    /// Successes that a later inventory proved.
    pub proved: u64,
    /// Waves of the rollout.
    pub waves: Vec<WaveView>,
    /// Why the plan is what it is; why hosts are left out.
    pub report: Vec<ReasonView>,
    /// What has to happen next, or is being waited for.
    pub waiting_for: Vec<String>,
    /// What who asks may do now: approve, reject, start, pause, resume, cancel, undo.
    pub may: Vec<String>,
    /// Number of the last event: a watch that begins after it misses nothing.
    pub last_event: u64,
}

/// One health check of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckView {
    /// What people call it.
    pub name: String,
    /// As it is written: `KIND=VALUE[,OPTION=VALUE]…`.
    pub text: String,
    /// When it counts: before, after, both, always.
    pub when: String,
}

/// What the health checks of one host of a change found last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostChecks {
    /// Deployment id.
    pub deployment: String,
    /// Host id.
    pub host: String,
    /// Host name.
    pub host_name: String,
    /// Which task looked: pre-check, health-checks, restart-services, verify-after-reboot; empty before the first.
    pub task: String,
    /// When, by the server's clock; empty before the first.
    pub at: String,
    /// Whether they failed it.
    pub failed: bool,
    /// One reason a check, with what was seen: `health.holds`, `health.broken`, `health.bad-before`, …
    pub results: Vec<ReasonView>,
}

/// A page of hosts with their health checks, by host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostChecksList {
    /// Of this page.
    pub items: Vec<HostChecks>,
    /// Pass it as `after`.
    pub next: Option<String>,
}

/// When a change may begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowView {
    /// Begin no earlier; absent: as soon as it is started.
    pub start: Option<String>,
    /// Begin no later.
    pub end: String,
}

/// When a rollout counts as a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptanceView {
    /// Per cent of the hosts that must be proved.
    pub success_percent: u8,
    /// Seconds without a word after which a host counts as failed.
    pub silence_seconds: u64,
}

/// What could go wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RiskView {
    /// low, medium or high.
    pub level: String,
    /// What makes it so, most serious first.
    pub reasons: Vec<ReasonView>,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalView {
    /// Who.
    pub by: String,
    /// When.
    pub at: String,
    /// What was said to it.
    pub comment: String,
}

/// How many are in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CountView {
    /// State.
    pub state: String,
    /// How many.
    pub count: u64,
}

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveView {
    /// From 1.
    pub number: u32,
    /// Where it stands.
    pub state: String,
    /// Since when.
    pub since: String,
}

/// What exactly happens on one host of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeHost {
    /// Host id.
    pub host: String,
    /// Its name when the plan was made.
    pub host_name: String,
    /// Its system.
    pub os: String,
    /// Bytes to download.
    pub download_bytes: u64,
    /// Disk bytes used additionally afterwards (negative: freed).
    pub disk_bytes: i64,
    /// Every package that changes.
    pub packages: Vec<ChangePackage>,
    /// What people should know.
    pub notes: Vec<ReasonView>,
}

/// One package that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangePackage {
    /// Name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Version before; absent: it is new.
    pub from: Option<String>,
    /// Version after; absent: it is removed.
    pub to: Option<String>,
    /// Whether the change asked for it (else it comes along).
    pub asked: bool,
    /// Bytes of the package file.
    pub size: Option<u64>,
    /// Its sha-256.
    pub sha256: Option<String>,
}

/// A page of a plan's hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeHostList {
    /// Of this page.
    pub items: Vec<ChangeHost>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages.
    pub total: Option<u64>,
}

/// `POST /api/v1/changes/{id}/approve`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeApprove {
    /// The plan's digest, as shown: exactly this content is approved.
    pub digest: String,
    /// What there is to say to it.
    #[serde(default)]
    pub comment: String,
}

/// `POST /api/v1/changes/{id}/reject`, `/start`, `/pause`, `/resume`, `/cancel`, `/undo`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeAct {
    /// Why.
    pub reason: String,
}

/// One event of a change's line, as its stream has it; the stream's event id is `number`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeEvent {
    /// From 1, without gaps: pass it as `Last-Event-ID` (or `after`) to go on behind it.
    pub number: u64,
    /// When.
    pub at: String,
    /// About what: change, rehearsal, plan, rollout, wave, deployment, task, output.
    pub machine: String,
    /// Which deployment; absent when about no single one.
    pub deployment: Option<String>,
    /// Which host; empty when about no single one.
    pub host_name: String,
    /// What happened: event of the machine, name of the task.
    pub event: String,
    /// State afterwards.
    pub state: String,
    /// Who or what.
    pub actor: String,
    /// Why.
    pub reasons: Vec<ReasonView>,
    /// Lines of output.
    pub lines: Vec<String>,
    /// The state did not allow it: it is told and changed nothing.
    pub anomaly: bool,
}

/// Events of a change, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeEventList {
    /// Of this page.
    pub items: Vec<ChangeEvent>,
    /// Pass it as `after`; absent at the end.
    pub next: Option<String>,
}

/// A deployment in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentSummary {
    /// Its id.
    pub id: String,
    /// Its change's id.
    pub change: String,
    /// Host id.
    pub host: String,
    /// Host name.
    pub host_name: String,
    /// Where it stands: offered, queued, fetching, ready, applying, rebooting, checking, succeeded,
    /// undoing, undone, stuck, failed, withdrawn, expired, not-applicable.
    pub state: String,
    /// What later inventories say: awaited, proved, differs.
    pub proof: String,
    /// When it came into its state.
    pub changed_at: String,
    /// Last word of its host about it.
    pub heard_at: String,
    /// Reports that its state did not allow.
    pub anomalies: u64,
}

/// A page of deployments, by host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentList {
    /// Of this page.
    pub items: Vec<DeploymentSummary>,
    /// Pass it as `after`.
    pub next: Option<String>,
    /// Of all pages, where it is cheap to know.
    pub total: Option<u64>,
}

/// One deployment with its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentDetail {
    /// As in lists.
    pub summary: DeploymentSummary,
    /// Number of its change.
    pub change_number: u64,
    /// Title of its change.
    pub change_title: String,
    /// Its tasks, in order.
    pub tasks: Vec<TaskView>,
    /// Why the last event happened.
    pub reasons: Vec<ReasonView>,
    /// What later inventories say, in words.
    pub proof_reasons: Vec<ReasonView>,
    /// What exactly happens on the host.
    pub packages: Vec<ChangePackage>,
    /// Bytes of output that are kept.
    pub output_bytes: u64,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskView {
    /// From 1.
    pub number: u32,
    /// Its name: fetch, verify, pre-check, keep-old, install, …
    pub name: String,
    /// Where it stands: do, doing, wait, done, hold, undo, undoing, undone, error.
    pub state: String,
    /// When it came into its state, by the host's clock.
    pub at: String,
    /// Why, when it failed.
    pub reasons: Vec<ReasonView>,
}

/// Output of a deployment, a page of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeploymentLog {
    /// Lines in order.
    pub lines: Vec<String>,
    /// Pass it as `after`; absent at the end.
    pub next: Option<String>,
}
