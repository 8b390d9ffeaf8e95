//! From the dry runs' answers to a plan, or to the reasons why there is none.

use super::lint::{Lint, LintLevel, lint_host};
use fettle_domain::health::HealthCheck;
use fettle_domain::host::OsRelease;
use fettle_domain::plan::{Acceptance, HostPlan, Job, Plan, RebootPolicy, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, HostId, PlanId, Timestamp};

/// Reasons a report tells one by one; the rest is counted.
const MOST_REASONS: usize = 2_000;

/// What the change says, apart from its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The plan's id.
    pub id: PlanId,
    /// Its change.
    pub change: ChangeId,
    /// When the rollout counts as a success.
    pub acceptance: Acceptance,
    /// Whether services are restarted.
    pub restart_services: bool,
    /// Whether hosts may be rebooted.
    pub reboot: RebootPolicy,
    /// What must hold on each host before and after.
    pub checks: Vec<HealthCheck>,
    /// Dry runs that have no answer then count as failed.
    pub answer_until: Timestamp,
}

/// One host of a change and what came of its dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAnswer {
    /// Which.
    pub host: HostId,
    /// Its name.
    pub host_name: String,
    /// Its release.
    pub os: OsRelease,
    /// What was asked; absent when the host was left out.
    pub job: Option<Job>,
    /// Why it was asked that, or left out.
    pub reasons: Vec<Reason>,
    /// The answer.
    pub answer: Answer,
}

/// Whether and what a host answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing was asked.
    LeftOut,
    /// Not yet.
    Awaited,
    /// This.
    Given(RehearsalOutcome),
}

/// What becomes of the draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// Answers are awaited.
    Wait(Vec<Reason>),
    /// At least one host can change.
    Propose(Box<Plan>),
    /// No host can change.
    Reject(Vec<Reason>),
}

/// Decides what becomes of a draft. Answers may come in any order; the plan's hosts are sorted.
pub fn propose(draft: &Draft, answers: Vec<HostAnswer>, now: Timestamp) -> Proposal {
    let awaited: Vec<&HostAnswer> = answers.iter().filter(|answer| answer.answer == Answer::Awaited).collect();
    if !awaited.is_empty() && now < draft.answer_until {
        let names = awaited.iter().take(10).map(|answer| answer.host_name.as_str()).collect::<Vec<_>>().join(", ");
        let text = format!("the dry run of {} hosts is awaited until {}: {names}", awaited.len(), draft.answer_until);
        return Proposal::Wait(vec![Reason::new("plan.awaits-rehearsal", text)]);
    }
    let total = answers.len();
    let mut hosts = Vec::new();
    let mut report = Vec::new();
    for answer in answers {
        match judge(draft, answer) {
            Ok((host, mut reasons)) => {
                report.append(&mut reasons);
                hosts.push(host);
            }
            Err(mut reasons) => report.append(&mut reasons),
        }
    }
    hosts.sort_by_key(|host| host.host);
    let summary = Reason::new("plan.hosts", format!("{} of {total} hosts can be changed", hosts.len()));
    report.insert(0, summary);
    shorten(&mut report);
    if hosts.is_empty() {
        return Proposal::Reject(report);
    }
    Proposal::Propose(Box::new(Plan {
        id: draft.id,
        change: draft.change,
        made_at: now,
        back_out: back_out(&hosts),
        hosts,
        acceptance: draft.acceptance.clone(),
        restart_services: draft.restart_services,
        reboot: draft.reboot,
        checks: draft.checks.clone(),
        report,
    }))
}

/// A host of the plan with what to tell of it, or why it is none.
fn judge(draft: &Draft, answer: HostAnswer) -> Result<(HostPlan, Vec<Reason>), Vec<Reason>> {
    let HostAnswer { host, host_name, os, job, reasons, answer } = answer;
    let told = |topic: &str, text: String| named(&host_name, vec![Reason::from_source(topic, text, host.to_string())]);
    let (job, outcome) = match (job, answer) {
        (Some(job), Answer::Given(outcome)) => (job, outcome),
        (Some(_), _) => {
            let text = format!("its dry run was not answered until {}: is its agent running?", draft.answer_until);
            return Err(told("plan.not-answered", text));
        }
        (None, _) => return Err(named(&host_name, reasons)),
    };
    match outcome {
        RehearsalOutcome::NothingToDo => Err(told("plan.nothing-to-do", "all that is wanted is so already".to_owned())),
        RehearsalOutcome::Impossible { reasons } => Err(named(&host_name, reasons)),
        RehearsalOutcome::Possible { manifest, notes } => {
            let plan = HostPlan { host, host_name, os, manifest, notes };
            let (errors, warnings): (Vec<Lint>, Vec<Lint>) =
                lint_host(&plan, &job).into_iter().partition(|lint| lint.level == LintLevel::Error);
            let of = |lints: Vec<Lint>| named(&plan.host_name, lints.into_iter().map(|lint| lint.reason).collect());
            if !errors.is_empty() {
                return Err(of(errors));
            }
            let mut told = named(&plan.host_name, reasons);
            told.extend(of(warnings));
            told.extend(named(&plan.host_name, plan.notes.clone()));
            Ok((plan, told))
        }
    }
}

/// Puts the host's name before each reason.
fn named(host_name: &str, reasons: Vec<Reason>) -> Vec<Reason> {
    reasons.into_iter().map(|reason| Reason { text: format!("{host_name}: {}", reason.text), ..reason }).collect()
}

fn shorten(report: &mut Vec<Reason>) {
    if report.len() > MOST_REASONS {
        let more = report.len() - MOST_REASONS;
        report.truncate(MOST_REASONS);
        report.push(Reason::new("plan.report-cut", format!("and {more} more, each told with its host")));
    }
}

fn back_out(hosts: &[HostPlan]) -> String {
    let new = hosts.iter().flat_map(|host| &host.manifest.steps).filter(|step| step.from.is_none()).count();
    let new = if new > 0 { format!(" {new} packages that are new are removed again.") } else { String::new() };
    format!(
        "Before anything is replaced, each host keeps the package files of every version it has now. \
         `fettle change undo` puts exactly those back, without network; a host whose installation fails does so by itself.{new} \
         What packages' own scripts changed outside their files is not part of it."
    )
}
