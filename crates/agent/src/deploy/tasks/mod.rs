//! The tasks of a deployment: each a type with do and undo side by side, both of which may run twice.

mod before;
mod derived;
mod health;
mod install;
mod own_program;
mod reboot;
mod restart;

use super::record::{Deployment, Left, TaskName};
use super::system::System;
use crate::clock::Stop;
use crate::policy::Policy;
use crate::report::OutputSink;
use fettle_domain::plan::{Manifest, PackageStep};
use fettle_domain::reason::Reason;
use fettle_plugin::{Applied, ConffilePolicy, ErrorKind, PluginError, Provider, ProviderContext, Step, StepRequest};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) use health::Limits;
pub(crate) use reboot::{Rebooted, see_reboot};

/// How long a package manager may be waited for when another program holds its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(300);
/// Time for what only reads.
const READ_LIMIT: Duration = Duration::from_secs(600);
/// Time for one act: big upgrades on slow disks take an hour.
const ACT_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// What a task needs.
pub(crate) struct TaskContext<'a> {
    pub(crate) deployment: &'a Deployment,
    /// Folder of this deployment: journal, `new/`, `old/`.
    pub(crate) folder: &'a Path,
    pub(crate) root: &'a Path,
    pub(crate) provider: &'a dyn Provider,
    pub(crate) system: &'a dyn System,
    pub(crate) output: &'a OutputSink,
    pub(crate) stop: &'a Stop,
    pub(crate) limits: Limits,
    pub(crate) policy: &'a Policy,
    /// It was begun before and cut off.
    pub(crate) interrupted: bool,
}

impl TaskContext<'_> {
    fn manifest(&self) -> &Manifest {
        &self.deployment.offer.manifest
    }

    fn reading(&self) -> ProviderContext<'_> {
        self.provider_context(READ_LIMIT)
    }

    fn acting(&self) -> ProviderContext<'_> {
        self.provider_context(ACT_LIMIT)
    }

    fn provider_context(&self, limit: Duration) -> ProviderContext<'_> {
        ProviderContext {
            root: self.root.to_owned(),
            events: self.output,
            deadline: Instant::now() + limit,
            lock_patience: LOCK_PATIENCE,
            limits: self.policy.limits,
        }
    }

    fn request(&self, step: Step) -> StepRequest {
        StepRequest {
            step,
            manifest: self.manifest().clone(),
            folder: self.folder.to_owned(),
            conffiles: ConffilePolicy::Keep,
        }
    }

    /// What the provider gave for undo, if the act came so far.
    fn applied(&self, task: TaskName) -> Option<&Applied> {
        match self.deployment.left(task) {
            Left::Applied { applied } => Some(applied),
            _ => None,
        }
    }

    /// The steps that are not as they should be now, in words; empty is proof.
    fn unproved(&self, reverted: bool) -> Result<Vec<Reason>, Failure> {
        let wrong = self.provider.verify(&self.reading(), self.manifest(), reverted).map_err(Failure::from)?;
        Ok(wrong.iter().map(|(step, found)| not_as_planned(step, found, reverted)).collect())
    }
}

fn not_as_planned(step: &PackageStep, found: &str, reverted: bool) -> Reason {
    let wanted = if reverted { &step.from } else { &step.to };
    let wanted = wanted.as_deref().unwrap_or("absent");
    Reason::new("verify.differs", format!("{} ({}) should be {wanted}, found: {found}", step.name, step.architecture))
}

/// How a task ended well.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// For later tasks and for undo.
    pub(crate) left: Left,
    /// What people should know.
    pub(crate) notes: Vec<Reason>,
    /// It is not done yet: it waits for the host to come up again.
    pub(crate) awaits_reboot: bool,
}

impl Outcome {
    fn left(left: Left, notes: Vec<Reason>) -> Self {
        Self { left, notes, awaits_reboot: false }
    }

    fn noted(notes: Vec<Reason>) -> Self {
        Self::left(Left::Nothing, notes)
    }
}

/// How a task failed.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    pub(crate) reasons: Vec<Reason>,
    /// Nothing is wrong with the host: the plan does not apply to it.
    pub(crate) not_applicable: bool,
}

impl Failure {
    fn new(topic: &str, text: impl Into<String>) -> Self {
        Self { reasons: vec![Reason::new(topic, text)], not_applicable: false }
    }

    fn because(reasons: Vec<Reason>) -> Self {
        Self { reasons, not_applicable: false }
    }
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        Self { not_applicable: error.kind == ErrorKind::NotApplicable, reasons: told(&error) }
    }
}

/// A plugin's error as reasons.
pub(crate) fn told(error: &PluginError) -> Vec<Reason> {
    let topic = match error.kind {
        ErrorKind::Unsupported => "provider.unsupported",
        ErrorKind::NotApplicable => "provider.not-applicable",
        ErrorKind::InvalidInput => "provider.invalid-input",
        ErrorKind::Unavailable => "provider.unavailable",
        ErrorKind::Denied => "provider.denied",
        ErrorKind::Failed => "provider.failed",
    };
    let advice = if error.advice.is_empty() { String::new() } else { format!("; {}", error.advice) };
    let mut reasons = vec![Reason::new(topic, format!("{}{advice}", error.message))];
    reasons.extend(error.causes.iter().take(20).map(|cause| Reason::new("provider.cause", cause.clone())));
    reasons
}

/// What a person has to do when the undo cannot be completed.
pub(crate) fn by_hand(context: &TaskContext<'_>) -> Vec<Reason> {
    let commands = context.provider.undo_by_hand(&context.reading(), &context.request(Step::Install));
    commands.into_iter().map(|command| Reason::new("undo.by-hand", format!("to do by hand: {command}"))).collect()
}

/// One step of a deployment.
pub(crate) trait Task: Sync {
    /// Does it; may run twice.
    fn do_it(&self, context: &TaskContext<'_>) -> Result<Outcome, Failure>;
    /// Undoes it, also when it was cut off in its middle; may run twice, needs no network.
    fn undo(&self, context: &TaskContext<'_>) -> Result<Vec<Reason>, Failure>;
}

/// The task of this name.
pub(crate) fn task(name: TaskName) -> &'static dyn Task {
    match name {
        TaskName::Fetch => &before::Fetch,
        TaskName::Verify => &before::Verify,
        TaskName::PreCheck => &before::PreCheck,
        TaskName::KeepOld => &before::KeepOld,
        TaskName::Install => &install::Install,
        TaskName::VerifyInstalled => &install::VerifyInstalled,
        TaskName::HealthChecks => &health::HealthChecks,
        TaskName::RestartServices => &restart::RestartServices,
        TaskName::Reboot => &reboot::Reboot,
        TaskName::VerifyAfterReboot => &reboot::VerifyAfterReboot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_in_their_order() {
        for (index, name) in TaskName::ALL.into_iter().enumerate() {
            assert_eq!(name.number() as usize, index + 1);
            assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        }
    }
}
