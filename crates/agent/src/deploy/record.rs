//! What the journal of a deployment holds, and the deployment as its records tell it.
//!
//! A record is on the disk before what it announces begins. Replaying all of them through the state
//! machines of `domain` gives the present state; a record that the machines refuse is damage.

use super::probe::Watched;
use fettle_domain::machine::{DeploymentEvent, DeploymentState, Machine as _, TaskEvent, TaskState};
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, Timestamp};
use fettle_plugin::Applied;
use fettle_wire::agent::{ReportBody, Service};
use fettle_wire::offer::Offer;
use serde::{Deserialize, Serialize};

/// First word of a journal's header.
pub(crate) const KIND: &str = "fettle-journal";
/// Version of the form of the records. 2: the boot in which the install was begun.
pub(crate) const VERSION: u32 = 2;

/// The tasks of a deployment, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TaskName {
    Fetch,
    Verify,
    PreCheck,
    KeepOld,
    Install,
    VerifyInstalled,
    HealthChecks,
    RestartServices,
    Reboot,
    VerifyAfterReboot,
}

impl TaskName {
    /// All, in the order in which they are done.
    pub(crate) const ALL: [TaskName; 10] = [
        TaskName::Fetch,
        TaskName::Verify,
        TaskName::PreCheck,
        TaskName::KeepOld,
        TaskName::Install,
        TaskName::VerifyInstalled,
        TaskName::HealthChecks,
        TaskName::RestartServices,
        TaskName::Reboot,
        TaskName::VerifyAfterReboot,
    ];

    /// Position, from 1.
    pub(crate) fn number(self) -> u32 {
        self as u32 + 1
    }

    /// Stable text.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TaskName::Fetch => "fetch",
            TaskName::Verify => "verify",
            TaskName::PreCheck => "pre-check",
            TaskName::KeepOld => "keep-old",
            TaskName::Install => "install",
            TaskName::VerifyInstalled => "verify-installed",
            TaskName::HealthChecks => "health-checks",
            TaskName::RestartServices => "restart-services",
            TaskName::Reboot => "reboot",
            TaskName::VerifyAfterReboot => "verify-after-reboot",
        }
    }

    /// Whether the host is as before until this task begins.
    pub(crate) fn is_before_change(self) -> bool {
        self < TaskName::Install
    }
}

/// What a task left for later tasks, for its undo, or for its own end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "left", rename_all = "kebab-case")]
pub(crate) enum Left {
    #[default]
    Nothing,
    /// What the provider wants back for undo.
    Applied { applied: Applied },
    /// How the host was before the change.
    Before {
        services: Vec<Service>,
        /// Health checks with what was seen of them.
        #[serde(default)]
        checks: Vec<Watched>,
        /// Replaced files that were in use already: by whom, and which.
        #[serde(default)]
        replaced: Vec<(String, String)>,
        /// What needrestart named already.
        #[serde(default)]
        needrestart: Vec<String>,
    },
    /// The boot in which the change was begun.
    Begun { boot_id: String },
    /// The boot in which the reboot was asked for.
    Reboot {
        boot_id: String,
        /// Kernels of which one must run afterwards; empty when any will do.
        #[serde(default)]
        kernels: Vec<KernelImage>,
    },
    /// The plan does not apply to this host any more.
    NotApplicable,
}

/// An installed kernel image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KernelImage {
    /// `uname -r` of it.
    pub(crate) release: String,
    /// Version of its package; empty when not known.
    pub(crate) version: String,
}

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Record {
    /// The order; the first record of every journal.
    Order { at: Timestamp, offer: Box<Offer> },
    /// The deployment goes on.
    Event { at: Timestamp, event: DeploymentEvent, reasons: Vec<Reason> },
    /// A task goes on.
    Task {
        at: Timestamp,
        task: TaskName,
        event: TaskEvent,
        #[serde(default)]
        reasons: Vec<Reason>,
        #[serde(default)]
        left: Left,
    },
    /// A person wants it undone.
    UndoOrder { at: Timestamp, offer: Box<Offer> },
    /// The administrator of the host wants it undone, without the server.
    LocalUndo { at: Timestamp, by: String },
    /// The time of the undo order ran out before it began.
    UndoLapsed { at: Timestamp, reasons: Vec<Reason> },
}

/// One task as replayed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TaskStanding {
    pub(crate) state: TaskState,
    pub(crate) left: Left,
    /// How often it was begun: killed again and again, it is given up.
    pub(crate) begun: u32,
    /// How often its undo was begun.
    pub(crate) undo_begun: u32,
    /// When it last went on.
    pub(crate) at: Timestamp,
}

/// A deployment as its journal tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deployment {
    pub(crate) offer: Box<Offer>,
    pub(crate) state: DeploymentState,
    pub(crate) tasks: Vec<TaskStanding>,
    pub(crate) undo_order: Option<Box<Offer>>,
    /// Who wants it undone, when that was asked for on the host.
    pub(crate) local_undo: Option<String>,
    /// Why it failed, once it did.
    pub(crate) failure: Vec<Reason>,
    /// Records so far.
    pub(crate) records: u64,
}

impl Deployment {
    /// From the first record.
    pub(crate) fn begin(first: &Record) -> Result<Self, String> {
        let Record::Order { at, offer } = first else {
            return Err("its first record is not an order".to_owned());
        };
        let standing = TaskStanding { state: TaskState::Do, left: Left::Nothing, begun: 0, undo_begun: 0, at: *at };
        Ok(Self {
            offer: offer.clone(),
            state: DeploymentState::Offered,
            tasks: vec![standing; TaskName::ALL.len()],
            undo_order: None,
            local_undo: None,
            failure: Vec::new(),
            records: 1,
        })
    }

    pub(crate) fn id(&self) -> DeploymentId {
        self.offer.deployment
    }

    /// The standing of a task.
    pub(crate) fn task(&self, name: TaskName) -> Option<&TaskStanding> {
        self.tasks.get(name as usize)
    }

    /// State of a task.
    pub(crate) fn task_state(&self, name: TaskName) -> TaskState {
        self.task(name).map_or(TaskState::Do, |task| task.state)
    }

    /// What a task left.
    pub(crate) fn left(&self, name: TaskName) -> &Left {
        self.task(name).map_or(&Left::Nothing, |task| &task.left)
    }

    /// Some task failed, is being undone or was undone.
    pub(crate) fn has_failed(&self) -> bool {
        use TaskState as S;
        self.tasks.iter().any(|task| matches!(task.state, S::Undo | S::Undoing | S::Undone | S::Hold | S::Error))
    }

    /// Some undo failed.
    pub(crate) fn is_stuck(&self) -> bool {
        self.tasks.iter().any(|task| task.state == TaskState::Error)
    }

    /// It failed because it does not apply.
    pub(crate) fn is_not_applicable(&self) -> bool {
        self.tasks.iter().any(|task| task.left == Left::NotApplicable)
    }

    /// Takes one more record. Returns what the server is told of it.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<Option<ReportBody>, String> {
        let body = match record {
            Record::Order { .. } => return Err("a second order stands in it".to_owned()),
            Record::Event { event, reasons, .. } => {
                self.state = self.state.next(*event).map_err(|error| error.to_string())?;
                Some(ReportBody::Deployment { deployment: self.id(), event: *event, reasons: reasons.clone() })
            }
            Record::Task { at, task, event, reasons, left } => {
                let state = self.apply_task(*at, *task, *event, left)?;
                if *event == TaskEvent::Fail || *event == TaskEvent::FailUndo {
                    self.failure.extend(reasons.iter().cloned());
                }
                Some(ReportBody::Task {
                    deployment: self.id(),
                    number: task.number(),
                    name: task.as_str().to_owned(),
                    state,
                    reasons: reasons.clone(),
                })
            }
            Record::UndoOrder { offer, .. } => {
                self.undo_order = Some(offer.clone());
                None
            }
            Record::LocalUndo { by, .. } => {
                self.local_undo = Some(by.clone());
                None
            }
            Record::UndoLapsed { reasons, .. } => {
                self.undo_order = None;
                Some(ReportBody::Refused { deployment: Some(self.id()), reasons: reasons.clone() })
            }
        };
        self.records += 1;
        Ok(body)
    }

    fn apply_task(
        &mut self,
        at: Timestamp,
        name: TaskName,
        event: TaskEvent,
        left: &Left,
    ) -> Result<TaskState, String> {
        let task = self.tasks.get_mut(name as usize).ok_or_else(|| "it names an unknown task".to_owned())?;
        task.state = task.state.next(event).map_err(|error| format!("{}: {error}", name.as_str()))?;
        task.at = at;
        match event {
            TaskEvent::Begin => task.begun += 1,
            TaskEvent::BeginUndo => task.undo_begun += 1,
            _ => {}
        }
        if *left != Left::Nothing {
            task.left = left.clone();
        }
        Ok(task.state)
    }
}
