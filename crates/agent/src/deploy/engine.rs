//! Carries a deployment on: decide, write it down, act, write down what came of it, and so on until
//! it settles or has to wait. Killed anywhere, the next run reads the journal and goes on from there.

use super::decide::{self, Act};
use super::record::{Deployment, KIND, Left, Record, TaskName, VERSION};
use super::system::System;
use super::tasks::{self, Failure, Limits, Outcome, Rebooted, TaskContext};
use crate::clock::{self, Stop};
use crate::disk::state::{self, StateError};
use crate::disk::{AppendLog, DiskError, LogError, StateDir, files};
use crate::policy::{Hold, Policy};
use crate::report::{Origin, OutputSink, Patterns, Spool};
use fettle_domain::machine::{DeploymentEvent, DeploymentState, Machine as _, TaskEvent, TaskState};
use fettle_domain::package::Ecosystem;
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, Timestamp};
use fettle_plugin::Provider;
use fettle_wire::agent::ReportBody;
use fettle_wire::offer::Offer;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A task that was begun so often without an end kills the agent: it counts as failed. Before the
/// change there are more chances, since a mere stop of the agent counts too.
const MOST_BEGUN_BEFORE_CHANGE: u32 = 10;
const MOST_BEGUN: u32 = 5;
/// The same for its undo, which is given more chances.
const MOST_UNDO_BEGUN: u32 = 6;

/// What all deployments of a host have in common.
pub(crate) struct Host {
    pub(crate) state: StateDir,
    pub(crate) root: PathBuf,
    pub(crate) providers: Vec<Arc<dyn Provider>>,
    pub(crate) system: Arc<dyn System>,
    pub(crate) spool: Arc<Mutex<Spool>>,
    pub(crate) policy: Policy,
    pub(crate) stop: Stop,
    pub(crate) limits: Limits,
    /// The administrator's patterns of secrets.
    pub(crate) masks: Arc<Patterns>,
    pub(crate) running: Mutex<Option<Running>>,
}

/// The deployment that is being carried on at this moment.
pub(crate) struct Running {
    pub(crate) deployment: DeploymentId,
    pub(crate) state: DeploymentState,
    output: Arc<OutputSink>,
}

impl Host {
    /// Whether the commands that a provider drives are here.
    pub(crate) fn has_commands(&self, provider: &dyn Provider) -> Result<(), Reason> {
        has_commands(&self.root, provider)
    }

    /// State of a deployment if it is being carried on now.
    pub(crate) fn running_state(&self, id: DeploymentId) -> Option<DeploymentState> {
        clock::lock(&self.running).as_ref().filter(|running| running.deployment == id).map(|running| running.state)
    }

    /// Hands waiting output to the spool; false when nothing is being carried on.
    pub(crate) fn flush_output(&self) -> bool {
        let output = clock::lock(&self.running).as_ref().map(|running| running.output.clone());
        output.is_some_and(|output| {
            output.flush();
            true
        })
    }

    /// The provider that carries out manifests of this ecosystem.
    pub(crate) fn provider(&self, ecosystem: Ecosystem) -> Option<Arc<dyn Provider>> {
        self.providers.iter().find(|provider| provider.ecosystem() == ecosystem).cloned()
    }
}

/// Whether the commands that a provider drives are here: those of the agent's own system or, for
/// another root, those inside it.
pub(crate) fn has_commands(root: &Path, provider: &dyn Provider) -> Result<(), Reason> {
    const PLACES: [&str; 6] = ["usr/bin", "usr/sbin", "bin", "sbin", "usr/local/bin", "usr/local/sbin"];
    let is_here = |command: &str| {
        let roots = [Path::new("/"), root];
        roots.iter().any(|root| PLACES.iter().any(|place| root.join(place).join(command).exists()))
    };
    let about = provider.manifest();
    let missing: Vec<&str> = about.commands.iter().map(String::as_str).filter(|command| !is_here(command)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("{} needs {}, which this host does not have", about.title, missing.join(", "));
    Err(Reason::new("provider.command-missing", text))
}

/// Why a deployment cannot go on now. Nothing is lost: the journal tells where it stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("{} is damaged: {why}; restore it, or move the folder away for inspection", .path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("no package manager of this agent carries out `{0}`")]
    NoProvider(String),
    #[error("the agent stops; the deployment goes on at its next start")]
    Stopped,
}

impl From<DiskError> for EngineError {
    fn from(error: DiskError) -> Self {
        EngineError::State(error.into())
    }
}

/// Where a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing more happens unless a person asks.
    Settled(DeploymentState),
    /// Not before this moment.
    Waiting(Timestamp),
    /// The host is about to reboot.
    Rebooting,
}

/// One deployment under way.
pub(crate) struct Engine<'a> {
    host: &'a Host,
    folder: PathBuf,
    pub(crate) journal: AppendLog<Record>,
    pub(crate) deployment: Deployment,
    output: Arc<OutputSink>,
    reboot_asked: bool,
}

fn journal_path(folder: &Path) -> PathBuf {
    folder.join("journal")
}

/// File in which an undo order waits for the engine.
pub(crate) fn undo_order_path(folder: &Path) -> PathBuf {
    folder.join("undo-order")
}

/// File that says the server took the order back.
pub(crate) fn withdrawn_path(folder: &Path) -> PathBuf {
    folder.join("withdrawn")
}

/// File by which somebody on the host has confirmed the deployment.
pub(crate) fn confirmed_path(folder: &Path) -> PathBuf {
    folder.join("confirmed")
}

/// Reads a deployment without carrying it on.
pub(crate) fn peek(folder: &Path) -> Result<Option<Deployment>, EngineError> {
    let records = AppendLog::<Record>::peek(&journal_path(folder), KIND, VERSION)?;
    let Some((first, rest)) = records.split_first() else { return Ok(None) };
    let damaged = |why: String| EngineError::Damaged { path: journal_path(folder), why };
    let mut deployment = Deployment::begin(first).map_err(damaged)?;
    for record in rest {
        deployment.apply(record).map_err(damaged)?;
    }
    Ok(Some(deployment))
}

impl<'a> Engine<'a> {
    /// Begins a deployment: its order stands in the journal, and the server hears that it is accepted.
    pub(crate) fn create(host: &'a Host, offer: Offer) -> Result<Self, EngineError> {
        let folder = host.state.deployment(offer.deployment);
        files::make_folder(&folder, 0o755)?;
        files::sync_parent(&folder)?;
        let mut journal = AppendLog::create(&journal_path(&folder), KIND, VERSION)?;
        let record = Record::Order { at: clock::now(), offer: Box::new(offer) };
        journal.append(&record, true)?;
        let deployment =
            Deployment::begin(&record).map_err(|why| EngineError::Damaged { path: journal_path(&folder), why })?;
        let mut engine = Self::over(host, folder, journal, deployment);
        engine.event(DeploymentEvent::Accept, Vec::new())?;
        Ok(engine)
    }

    /// The same with power that goes.
    #[cfg(test)]
    pub(crate) fn create_with(
        host: &'a Host,
        offer: Offer,
        fuse: Option<crate::disk::log::Fuse>,
    ) -> Result<Self, EngineError> {
        let mut engine = Self::create(host, offer)?;
        engine.journal.set_fuse(fuse);
        Ok(engine)
    }

    /// The same with power that goes.
    #[cfg(test)]
    pub(crate) fn open_with(
        host: &'a Host,
        id: DeploymentId,
        fuse: Option<crate::disk::log::Fuse>,
    ) -> Result<Option<Self>, EngineError> {
        let mut engine = Self::open(host, id)?;
        if let Some(engine) = &mut engine {
            engine.journal.set_fuse(fuse);
        }
        Ok(engine)
    }

    /// Opens a deployment and tells the server what a crash kept from it. `None` when the agent was
    /// killed before the order stood in the journal: then it was never accepted.
    pub(crate) fn open(host: &'a Host, id: DeploymentId) -> Result<Option<Self>, EngineError> {
        let folder = host.state.deployment(id);
        let path = journal_path(&folder);
        let Some((journal, records)) = AppendLog::open(&path, KIND, VERSION)? else { return Ok(None) };
        let mut records = records.into_iter().map(|(record, _)| record);
        let Some(first) = records.next() else { return Ok(None) };
        let damaged = |why: String| EngineError::Damaged { path: path.clone(), why };
        let mut deployment = Deployment::begin(&first).map_err(damaged)?;
        let mut bodies = Vec::new();
        for record in records {
            let body = deployment.apply(&record).map_err(damaged)?;
            bodies.push((deployment.records, body));
        }
        let engine = Self::over(host, folder, journal, deployment);
        engine.tell_missing(bodies)?;
        Ok(Some(engine))
    }

    fn over(host: &'a Host, folder: PathBuf, journal: AppendLog<Record>, deployment: Deployment) -> Self {
        let (spool, stop, masks) = (host.spool.clone(), host.stop.clone(), host.masks.clone());
        let output = Arc::new(OutputSink::new(deployment.id(), &folder, spool, stop, masks));
        Self { host, folder, journal, deployment, output, reboot_asked: false }
    }

    /// A deployment that settled and of which the spool remembers nothing was told long ago.
    fn tell_missing(&self, bodies: Vec<(u64, Option<ReportBody>)>) -> Result<(), EngineError> {
        let mut spool = clock::lock(&self.host.spool);
        let told = spool.last_reported(self.deployment.id());
        if told == 0 && self.deployment.state.is_settled() {
            return Ok(());
        }
        for (record, body) in bodies {
            if let Some(body) = body.filter(|_| record > told) {
                spool.add(body, Some(Origin { deployment: self.deployment.id(), record }))?;
            }
        }
        Ok(())
    }

    /// Carries on until it settles or must wait.
    pub(crate) fn run(&mut self) -> Result<Ended, EngineError> {
        let result = self.carry_on();
        self.output.finish();
        *clock::lock(&self.host.running) = None;
        result
    }

    fn carry_on(&mut self) -> Result<Ended, EngineError> {
        loop {
            self.show_running();
            self.take_undo_order()?;
            let withdrawn = withdrawn_path(&self.folder).exists();
            let act = decide::next(&self.deployment, clock::now(), withdrawn);
            if self.host.stop.told() && !matches!(act, Act::Rest | Act::Wait(_)) {
                return Err(EngineError::Stopped);
            }
            if let Some(hold) = self.hold(&act) {
                return Ok(Ended::Waiting(hold.until()));
            }
            match act {
                Act::Wait(until) => return Ok(Ended::Waiting(until)),
                Act::Rest => {
                    self.tidy_up()?;
                    return Ok(Ended::Settled(self.deployment.state));
                }
                Act::Event(event, reasons) => self.event(event, reasons)?,
                Act::Mark(task, event) => self.task_record(task, event, Vec::new(), Left::Nothing)?,
                Act::Do(task) => self.do_task(task)?,
                Act::Undo(task) => self.undo_task(task)?,
                Act::Lapse(reasons) => self.record(Record::UndoLapsed { at: clock::now(), reasons })?,
                Act::AwaitReboot => {
                    if !self.await_reboot()? {
                        return Ok(Ended::Rebooting);
                    }
                }
            }
        }
    }

    /// Whether the host's own policy lets this act wait: fetching, changing, and undoing what had
    /// succeeded. An undo of what failed never waits. The end of the order's own window is not slept through.
    fn hold(&self, act: &Act) -> Option<Hold> {
        let Act::Event(event, _) = act else { return None };
        let order = match (self.deployment.state, event) {
            // Whoever asked for it sits at the host.
            (DeploymentState::Succeeded, DeploymentEvent::Undo) if self.deployment.local_undo.is_some() => return None,
            (_, DeploymentEvent::Fetch | DeploymentEvent::Apply) => &self.deployment.offer,
            (DeploymentState::Succeeded, DeploymentEvent::Undo) => self.deployment.undo_order.as_ref()?,
            _ => return None,
        };
        let over = order.window_end.min(order.expires).after(Duration::from_millis(1));
        let hold = self.host.policy.hold(order, confirmed_path(&self.folder).exists(), clock::now())?;
        Some(match hold {
            Hold::Window(until) => Hold::Window(until.min(over)),
            Hold::Confirmation(until) => Hold::Confirmation(until.min(over)),
        })
    }

    fn show_running(&self) {
        *clock::lock(&self.host.running) = Some(Running {
            deployment: self.deployment.id(),
            state: self.deployment.state,
            output: self.output.clone(),
        });
    }

    /// An undo order waits in a file of its own, because only the engine writes to the journal.
    fn take_undo_order(&mut self) -> Result<(), EngineError> {
        let folder = self.folder.clone();
        self.take_local_undo(&folder)?;
        let path = undo_order_path(&self.folder);
        let Some(offer) = state::read_json::<Offer>(&path, 64 << 20)? else { return Ok(()) };
        if self.deployment.undo_order.is_none() && !self.deployment.state.is_final() {
            self.record(Record::UndoOrder { at: clock::now(), offer: Box::new(offer) })?;
        }
        Ok(files::remove(&path)?)
    }

    /// Writes a record, then takes it, then tells the server. In this order: what is told stands in
    /// the journal, and what stands in the journal is told at the latest at the next start.
    pub(super) fn record(&mut self, record: Record) -> Result<(), EngineError> {
        let mut after = self.deployment.clone();
        let body =
            after.apply(&record).map_err(|why| EngineError::Damaged { path: journal_path(&self.folder), why })?;
        self.journal.append(&record, true)?;
        self.deployment = after;
        let Some(body) = body else { return Ok(()) };
        let origin = Origin { deployment: self.deployment.id(), record: self.deployment.records };
        Ok(clock::lock(&self.host.spool).add(body, Some(origin))?)
    }

    fn event(&mut self, event: DeploymentEvent, reasons: Vec<Reason>) -> Result<(), EngineError> {
        tracing::info!(
            deployment.id = %self.deployment.id(),
            deployment.event = DeploymentState::event_str(event),
            reasons = %shown(&reasons),
            "deployment"
        );
        self.record(Record::Event { at: clock::now(), event, reasons })
    }

    fn task_record(
        &mut self,
        task: TaskName,
        event: TaskEvent,
        reasons: Vec<Reason>,
        left: Left,
    ) -> Result<(), EngineError> {
        tracing::info!(
            deployment.id = %self.deployment.id(),
            task.name = task.as_str(),
            task.event = TaskState::event_str(event),
            reasons = %shown(&reasons),
            "task"
        );
        self.record(Record::Task { at: clock::now(), task, event, reasons, left })
    }

    fn do_task(&mut self, name: TaskName) -> Result<(), EngineError> {
        let interrupted = self.deployment.task_state(name) == TaskState::Doing;
        let begun = self.deployment.task(name).map_or(0, |task| task.begun);
        self.output.set_task(name.as_str());
        // In which boot the change was begun tells, after an interruption, whether the power was gone meanwhile.
        let left = match self.deployment.left(name) {
            Left::Nothing if name == TaskName::Install => Left::Begun { boot_id: self.host.system.boot_id() },
            _ => Left::Nothing,
        };
        self.task_record(name, TaskEvent::Begin, Vec::new(), left)?;
        let most = if name.is_before_change() { MOST_BEGUN_BEFORE_CHANGE } else { MOST_BEGUN };
        let result = if begun >= most {
            Err(Failure { reasons: vec![given_up(begun)], not_applicable: false })
        } else {
            self.with_context(interrupted, !name.is_before_change(), |context| tasks::task(name).do_it(context))?
        };
        self.output.flush();
        match result {
            // A task that was told to stop has not failed.
            Err(_) if self.host.stop.told() && name != TaskName::Install => Err(EngineError::Stopped),
            Ok(Outcome { left, notes, awaits_reboot }) => {
                self.output.take_last_lines();
                let event = if awaits_reboot { TaskEvent::Await } else { TaskEvent::Finish };
                self.task_record(name, event, notes, left)
            }
            Err(failure) => {
                let left = if failure.not_applicable { Left::NotApplicable } else { Left::Nothing };
                let reasons = self.with_last_lines(failure.reasons);
                self.task_record(name, TaskEvent::Fail, reasons, left)
            }
        }
    }

    fn undo_task(&mut self, name: TaskName) -> Result<(), EngineError> {
        let begun = self.deployment.task(name).map_or(0, |task| task.undo_begun);
        self.output.set_task(&format!("undo {}", name.as_str()));
        self.task_record(name, TaskEvent::BeginUndo, Vec::new(), Left::Nothing)?;
        let result = if begun >= MOST_UNDO_BEGUN {
            Err(Failure { reasons: vec![given_up(begun)], not_applicable: false })
        } else {
            self.with_context(begun > 0, true, |context| tasks::task(name).undo(context))?
        };
        self.output.flush();
        match result {
            Err(_) if self.host.stop.told() => Err(EngineError::Stopped),
            Ok(notes) => {
                self.output.take_last_lines();
                self.task_record(name, TaskEvent::FinishUndo, notes, Left::Nothing)
            }
            Err(failure) => {
                let mut reasons = self.with_last_lines(failure.reasons);
                // Nothing more happens by itself: what a person has to type, word by word.
                reasons.extend(self.with_context(false, true, tasks::by_hand)?);
                self.task_record(name, TaskEvent::FailUndo, reasons, Left::Nothing)
            }
        }
    }

    /// False when the host is about to reboot.
    fn await_reboot(&mut self) -> Result<bool, EngineError> {
        let first = !self.reboot_asked;
        self.reboot_asked = true;
        let (event, reasons) = match self.with_context(false, true, |context| tasks::see_reboot(context, first))? {
            Rebooted::NotYet => return Ok(false),
            Rebooted::Proved(reason) => (TaskEvent::Finish, vec![reason]),
            Rebooted::Failed(reason) => (TaskEvent::Fail, self.with_last_lines(vec![reason])),
        };
        self.task_record(TaskName::Reboot, event, reasons, Left::Nothing)?;
        Ok(true)
    }

    /// `whole`: the act must not be stopped half way, even when the agent is told to stop.
    fn with_context<T>(
        &self,
        interrupted: bool,
        whole: bool,
        act: impl FnOnce(&TaskContext<'_>) -> T,
    ) -> Result<T, EngineError> {
        let ecosystem = self.deployment.offer.manifest.ecosystem;
        let provider = self.host.provider(ecosystem).ok_or_else(|| EngineError::NoProvider(ecosystem.to_string()))?;
        self.output.set_whole(whole);
        let context = TaskContext {
            deployment: &self.deployment,
            folder: &self.folder,
            root: &self.host.root,
            provider: provider.as_ref(),
            system: self.host.system.as_ref(),
            output: &self.output,
            stop: &self.host.stop,
            limits: self.host.limits,
            policy: &self.host.policy,
            interrupted,
        };
        Ok(act(&context))
    }

    /// Reasons quote what the package manager said, so they are masked too.
    fn with_last_lines(&self, mut reasons: Vec<Reason>) -> Vec<Reason> {
        for reason in &mut reasons {
            reason.text = self.output.mask_text(&reason.text);
        }
        let lines = self.output.take_last_lines();
        if !lines.is_empty() {
            reasons.push(Reason::new("task.output", format!("last lines of the output:\n{}", lines.join("\n"))));
        }
        reasons
    }

    /// Removes what is not needed any more. After success the former files stay, for an undo; a stuck
    /// deployment keeps everything for the person who looks.
    fn tidy_up(&self) -> Result<(), EngineError> {
        let state = self.deployment.state;
        if state == DeploymentState::Stuck {
            return Ok(());
        }
        files::remove(&self.folder.join("new"))?;
        if state != DeploymentState::Succeeded {
            files::remove(&self.folder.join("old"))?;
        }
        files::remove(&withdrawn_path(&self.folder))?;
        Ok(())
    }
}

fn given_up(begun: u32) -> Reason {
    Reason::new(
        "task.given-up",
        format!("begun {begun} times and never ended: the agent or the host went down each time"),
    )
}

fn shown(reasons: &[Reason]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
