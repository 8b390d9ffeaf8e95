//! The desk: takes work from the server, checks orders, remembers which deployments there are and
//! says which is due. It writes only files of its own; journals are the engine's.

use super::engine::{self, Ended, Engine, EngineError, Host, undo_order_path, withdrawn_path};
use super::local_order;
use super::offer::{Believed, Refusal, Standing, believe, check};
use super::record::Deployment;
use crate::clock;
use crate::disk::state::{self, StateError};
use crate::disk::{StateDir, files};
use fettle_content::{PublicKey, sha256_hex};
use fettle_domain::machine::{DeploymentEvent, DeploymentState, Machine as _};
use fettle_domain::plan::Job;
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, HostId, PlanId, RehearsalId, Timestamp};
use fettle_wire::agent::{ReportBody, WorkItem};
use fettle_wire::offer::{Envelope, Offer, OfferAction};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Most dry runs that wait; the server asks again for what was not answered.
const MOST_REHEARSALS: usize = 32;
/// Answers that are remembered, so that what comes twice is not done or refused twice.
const MOST_REMEMBERED: usize = 256;
/// Settled deployments whose journal is kept, and successes whose former files are kept for an undo.
const MOST_SETTLED: usize = 100;
const MOST_UNDOABLE: usize = 10;
/// After an error of the disk or the package manager's tools, before the next attempt.
const RETRY: Duration = Duration::from_secs(30);
/// How often is looked whether a reboot happened.
const REBOOT_LOOK: Duration = Duration::from_secs(10);

/// Highest order accepted, bound to the identity that accepted it.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    host: HostId,
    sequence: u64,
}

/// What the desk remembers of a deployment; the manifest stays on disk.
#[derive(Debug, Clone)]
struct Known {
    state: DeploymentState,
    plan: PlanId,
    sequence: u64,
    undo_sequence: Option<u64>,
    undo_waits: bool,
    /// Whoever sits at the host asked for the undo.
    local_undo: bool,
    /// Not before this moment.
    due: Timestamp,
}

impl Known {
    fn of(deployment: &Deployment) -> Self {
        Self {
            state: deployment.state,
            plan: deployment.offer.plan,
            sequence: deployment.offer.sequence,
            undo_sequence: deployment.undo_order.as_ref().map(|order| order.sequence),
            undo_waits: (deployment.undo_order.is_some() || deployment.local_undo.is_some())
                && deployment.state == DeploymentState::Succeeded,
            local_undo: deployment.local_undo.is_some(),
            due: deployment.offer.window_start,
        }
    }

    /// An undo was asked for on the host: it is due at once.
    fn ask_undo(&mut self) {
        (self.undo_waits, self.local_undo, self.due) = (true, true, Timestamp::default());
    }

    fn is_open(&self) -> bool {
        !self.state.is_settled() || self.undo_waits
    }
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Due {
    /// A dry run.
    Rehearsal(RehearsalId, Job),
    /// Carry this deployment on.
    Deployment(DeploymentId),
    /// Nothing before this moment, if any.
    Nothing(Option<Timestamp>),
}

/// Whether and how this agent may change its host.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    /// Why it may not; `None` when it may.
    pub(crate) why_not: Option<Reason>,
}

/// The desk.
pub(crate) struct Desk {
    host_id: HostId,
    keys: Vec<PublicKey>,
    rights: Rights,
    last_sequence: u64,
    known: BTreeMap<DeploymentId, Known>,
    rehearsals: VecDeque<(RehearsalId, Job)>,
    answered: VecDeque<String>,
}

/// A deployment that is half done, in words; `None` when all are settled. A journal that cannot be
/// read counts as half done.
pub(crate) fn unfinished(state: &StateDir) -> Option<String> {
    let ids = state.deployment_ids().unwrap_or_default();
    ids.into_iter().find_map(|id| match engine::peek(&state.deployment(id)) {
        Ok(Some(deployment)) if !deployment.state.is_settled() => Some(format!("{id} is {}", deployment.state)),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    })
}

impl Desk {
    /// Reads what is on disk. A damaged deployment does not keep the agent from its other duties: it
    /// is named in the log and left for a person.
    pub(crate) fn open(host: &Host, host_id: HostId, keys: Vec<PublicKey>, rights: Rights) -> Result<Self, StateError> {
        let seen: Option<Seen> = state::read_json(&host.state.sequence(), 4096)?;
        let last_sequence = seen.filter(|seen| seen.host == host_id).map_or(0, |seen| seen.sequence);
        let mut desk = Self {
            host_id,
            keys,
            rights,
            last_sequence,
            known: BTreeMap::new(),
            rehearsals: VecDeque::new(),
            answered: VecDeque::new(),
        };
        for id in host.state.deployment_ids()? {
            desk.remember(host, id);
        }
        Ok(desk)
    }

    fn remember(&mut self, host: &Host, id: DeploymentId) {
        let deployment = match Engine::open(host, id) {
            Ok(Some(engine)) => engine.deployment,
            Ok(None) => {
                let _ = files::remove(&host.state.deployment(id));
                return;
            }
            Err(error) => {
                tracing::error!(deployment.id = %id, error.text = %error, "a deployment cannot be read");
                return;
            }
        };
        let mut known = Known::of(&deployment);
        let waiting: Option<Offer> =
            state::read_json(&undo_order_path(&host.state.deployment(id)), 64 << 20).ok().flatten();
        if let Some(order) = waiting {
            known.undo_sequence = Some(order.sequence);
            known.undo_waits = true;
            known.due = order.window_start;
        }
        if local_order::request_path(&host.state.deployment(id)).exists() && known.state == DeploymentState::Succeeded {
            known.ask_undo();
        }
        // An order may stand in a journal while the crash kept its number from the file.
        if deployment.offer.host == self.host_id {
            self.last_sequence = self.last_sequence.max(known.sequence).max(known.undo_sequence.unwrap_or(0));
        }
        self.known.insert(id, known);
    }

    /// Takes what the server sent; false when something was left for later. An error of the disk leaves
    /// the rest for the next time: the server sends it again.
    pub(crate) fn take(&mut self, host: &Host, items: Vec<WorkItem>) -> Result<bool, EngineError> {
        let mut orders = Vec::new();
        for item in items {
            match item {
                WorkItem::Rehearse { rehearsal, job } => self.take_rehearsal(rehearsal, job),
                WorkItem::Withdraw { deployment } => self.take_back(host, deployment)?,
                // Answered from what is on disk, beside the desk.
                WorkItem::SendLog { .. } => {}
                WorkItem::Offer { envelope } => orders.extend(self.believed(host, &envelope)?),
            }
        }
        // In the order in which they were signed, else the later would make the earlier a replay.
        orders.sort_by_key(|(order, _)| order.offer().sequence);
        if !orders.is_empty() && clock::lock(&host.spool).is_overfull() {
            // Not refused: they stay with the server until what waits here has been told.
            tracing::warn!("no new order is taken until the spool has been reported");
            return Ok(false);
        }
        for (order, digest) in orders {
            self.take_order(host, order, digest)?;
        }
        Ok(true)
    }

    fn take_rehearsal(&mut self, rehearsal: RehearsalId, job: Job) {
        let key = rehearsal.to_string();
        let new = !self.answered.contains(&key) && self.rehearsals.iter().all(|(other, _)| *other != rehearsal);
        if new && self.rehearsals.len() < MOST_REHEARSALS {
            self.rehearsals.push_back((rehearsal, job));
        }
    }

    fn take_back(&mut self, host: &Host, id: DeploymentId) -> Result<(), EngineError> {
        let Some(known) = self.known.get_mut(&id) else { return self.never_had(host, id) };
        use DeploymentState as S;
        if matches!(known.state, S::Offered | S::Queued | S::Fetching | S::Ready) {
            files::replace(&withdrawn_path(&host.state.deployment(id)), b"", 0o600)?;
            known.due = Timestamp::default();
        }
        Ok(())
    }

    /// The server asks an order back that never arrived here: it may count on that it never will be obeyed.
    fn never_had(&mut self, host: &Host, deployment: DeploymentId) -> Result<(), EngineError> {
        let key = format!("withdrawn {deployment}");
        if self.answered.contains(&key) {
            return Ok(());
        }
        let reason = Reason::new("order.withdrawn", "the host never had the order that was taken back");
        let body = ReportBody::Deployment { deployment, event: DeploymentEvent::Withdraw, reasons: vec![reason] };
        clock::lock(&host.spool).add(body, None)?;
        self.answer_given(key);
        Ok(())
    }

    fn believed(&mut self, host: &Host, document: &Envelope) -> Result<Option<(Believed, String)>, EngineError> {
        let digest = sha256_hex(document.payload.as_bytes());
        if self.answered.contains(&digest) {
            return Ok(None);
        }
        let standing = Standing { host: self.host_id, keys: &self.keys };
        match believe(document, &standing) {
            Ok(believed) => Ok(Some((believed, digest))),
            Err(refusal) => self.refuse(host, refusal, digest).map(|()| None),
        }
    }

    fn take_order(&mut self, host: &Host, order: Believed, digest: String) -> Result<(), EngineError> {
        let offer = order.offer();
        if self.answered.contains(&format!("withdrawn {}", offer.deployment)) {
            return Ok(());
        }
        let known = self.known.get(&offer.deployment);
        let repeated =
            known.is_some_and(|known| known.sequence == offer.sequence || known.undo_sequence == Some(offer.sequence));
        if repeated {
            return Ok(());
        }
        let checked = check(&order, self.last_sequence, clock::now()).and_then(|()| self.fits(host, order.offer()));
        match checked {
            Err(refusal) => self.refuse(host, refusal, digest),
            Ok(()) => self.accept(host, order.into_offer()),
        }
    }

    /// Can this agent do it, on top of what it did before?
    fn fits(&self, host: &Host, offer: &Offer) -> Result<(), Refusal> {
        let refuse = |reason: Reason| Err(Refusal { deployment: Some(offer.deployment), reason });
        if let Some(why) = &self.rights.why_not {
            return refuse(why.clone());
        }
        if let Err(reason) = host.policy.judge(offer, clock::now()) {
            return refuse(reason);
        }
        let Some(provider) = host.provider(offer.manifest.ecosystem) else {
            let text = format!("this host has no package manager for {}", offer.manifest.ecosystem);
            return refuse(Reason::new("order.no-provider", text));
        };
        if let Err(reason) = host.has_commands(provider.as_ref()) {
            return refuse(reason);
        }
        let now = self.known.get(&offer.deployment).cloned().map(|mut known| {
            known.state = host.running_state(offer.deployment).unwrap_or(known.state);
            known
        });
        let text = match (offer.action, now) {
            (OfferAction::Deploy, None) => return Ok(()),
            (OfferAction::Deploy, Some(known)) => {
                format!("this deployment was accepted before and is {}", known.state)
            }
            (OfferAction::Undo, None) => {
                "nothing of this deployment is kept here: it was not made by this agent, or too long ago".to_owned()
            }
            (OfferAction::Undo, Some(known)) if known.plan != offer.plan => {
                format!("the deployment belongs to {}, the order to {}", known.plan, offer.plan)
            }
            (OfferAction::Undo, Some(known)) => {
                use DeploymentState as S;
                match known.state {
                    S::Applying | S::Rebooting | S::Checking => return Ok(()),
                    S::Succeeded if host.state.deployment(offer.deployment).join("old").is_dir() => return Ok(()),
                    S::Succeeded => "the former package files are not kept any more".to_owned(),
                    state => format!("the deployment is {state}: there is nothing to undo"),
                }
            }
        };
        refuse(Reason::new("order.does-not-fit", text))
    }

    fn accept(&mut self, host: &Host, offer: Offer) -> Result<(), EngineError> {
        let (id, sequence) = (offer.deployment, offer.sequence);
        match offer.action {
            OfferAction::Deploy => {
                let engine = Engine::create(host, offer)?;
                self.known.insert(id, Known::of(&engine.deployment));
            }
            OfferAction::Undo => {
                state::write_json(&undo_order_path(&host.state.deployment(id)), &offer)?;
                if let Some(known) = self.known.get_mut(&id) {
                    known.undo_sequence = Some(sequence);
                    known.undo_waits = true;
                    known.due = offer.window_start;
                }
            }
        }
        // Last, since the number alone would make a replay of an order that was never written down.
        self.last_sequence = sequence;
        state::write_json(&host.state.sequence(), &Seen { host: self.host_id, sequence })?;
        Ok(())
    }

    fn refuse(&mut self, host: &Host, refusal: Refusal, digest: String) -> Result<(), EngineError> {
        tracing::warn!(reason.topic = refusal.reason.topic, reason.text = refusal.reason.text, "an order is refused");
        let body = ReportBody::Refused { deployment: refusal.deployment, reasons: vec![refusal.reason] };
        clock::lock(&host.spool).add(body, None)?;
        self.answer_given(digest);
        Ok(())
    }

    fn answer_given(&mut self, key: String) {
        if self.answered.len() == MOST_REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back(key);
    }

    /// What to do now. Dry runs first: they are short and people wait for them, but never between the
    /// halves of a deployment, because only one thing runs at a time.
    pub(crate) fn due(&mut self, now: Timestamp) -> Due {
        if self.rights.why_not.is_some() {
            return self.rehearsal_due().unwrap_or(Due::Nothing(None));
        }
        let rebooting = self.known.iter().find(|(_, known)| known.state == DeploymentState::Rebooting);
        if let Some((id, known)) = rebooting {
            return if known.due <= now { Due::Deployment(*id) } else { Due::Nothing(Some(known.due)) };
        }
        if let Some(rehearsal) = self.rehearsal_due() {
            return rehearsal;
        }
        let open = self.known.iter().filter(|(_, known)| known.is_open());
        match open.min_by_key(|(_, known)| (known.due.max(now), known.sequence)) {
            Some((id, known)) if known.due <= now => Due::Deployment(*id),
            Some((_, known)) => Due::Nothing(Some(known.due)),
            None => Due::Nothing(None),
        }
    }

    fn rehearsal_due(&mut self) -> Option<Due> {
        let (rehearsal, job) = self.rehearsals.pop_front()?;
        self.answer_given(rehearsal.to_string());
        Some(Due::Rehearsal(rehearsal, job))
    }

    /// What came of carrying a deployment on.
    pub(crate) fn ran(
        &mut self,
        host: &Host,
        id: DeploymentId,
        result: &Result<Ended, EngineError>,
        state: Option<DeploymentState>,
    ) {
        let Some(known) = self.known.get_mut(&id) else { return };
        if let Some(state) = state {
            known.state = state;
        }
        match result {
            Ok(Ended::Settled(state)) => {
                let folder = host.state.deployment(id);
                let waits = undo_order_path(&folder).exists() || local_order::request_path(&folder).exists();
                known.undo_waits = waits && !state.is_final();
                self.prune(host);
            }
            Ok(Ended::Waiting(until)) => known.due = *until,
            Ok(Ended::Rebooting) => known.due = clock::now().after(REBOOT_LOOK),
            Err(error) => {
                known.due = clock::now().after(RETRY);
                tracing::error!(deployment.id = %id, error.text = %error, "a deployment cannot go on now");
            }
        }
    }

    /// Bounds what settled deployments leave on disk.
    fn prune(&mut self, host: &Host) {
        let settled: Vec<DeploymentId> =
            self.known.iter().filter(|(_, known)| !known.is_open()).map(|(id, _)| *id).collect();
        for id in settled.iter().rev().skip(MOST_UNDOABLE) {
            if self.known.get(id).is_some_and(|known| known.state == DeploymentState::Succeeded) {
                let _ = files::remove(&host.state.deployment(*id).join("old"));
            }
        }
        for id in settled.iter().rev().skip(MOST_SETTLED) {
            // The number of a removed order stays known through the file `sequence`.
            if files::remove(&host.state.deployment(*id)).is_ok() {
                self.known.remove(id);
            }
        }
    }

    /// All deployments that are known here.
    pub(super) fn deployments(&self) -> Vec<DeploymentId> {
        self.known.keys().copied().collect()
    }

    /// An undo of this one was asked for on the host.
    pub(super) fn undo_waits_now(&mut self, id: DeploymentId) {
        if let Some(known) = self.known.get_mut(&id) {
            known.ask_undo();
        }
    }

    /// Whether a deployment ended otherwise than it was asked to, for the exit code of `--once`.
    pub(crate) fn has_failed(&self, id: DeploymentId) -> bool {
        use DeploymentState as S;
        self.known.get(&id).is_some_and(|known| {
            matches!(known.state, S::Failed | S::Stuck)
                || (known.state == S::Undone && known.undo_sequence.is_none() && !known.local_undo)
        })
    }
}
