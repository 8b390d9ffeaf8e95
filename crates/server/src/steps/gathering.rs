//! Steps 1 and 2 at work: hosts whose inventory changed, or that were judged by older feeds, are
//! matched; findings open, get new evidence, are proved gone, come back.
//!
//! Cost follows what changed: the index of statements is rebuilt only when a feed brought something
//! else, and hosts with the same packages and kernel share one matching.

use crate::{AppState, clock};
use fettle_domain::advisory::{VulnId, VulnerabilityFacts};
use fettle_domain::finding::{Priority, Verdict};
use fettle_domain::host::Kernel;
use fettle_domain::machine::{FindingEvent, FindingState, HostState};
use fettle_domain::package::InstalledPackage;
use fettle_domain::reason::Reason;
use fettle_domain::{HostId, Timestamp};
use fettle_process::gathering::{
    AdvisoryIndex, ExistingFinding, FindingAction, HostPicture, decide_findings, present_on_host, source_of, sources_of, verdict_on,
};
use fettle_process::scheduling::prioritise;
use fettle_store::patches::{advisory, feed, vulnerability};
use fettle_store::systems::finding::{self, FindingRecord};
use fettle_store::systems::host::{self, HostRecord};
use fettle_store::systems::inventory::{self, PackageDictionary};
use fettle_store::{Connection, Result, StoreError};
use fettle_wire::agent::{HostFacts, Service};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Hosts matched in one go, between two looks at the store.
const BATCH: u32 = 64;
/// Matchings remembered for hosts with the same packages; a fleet has few distinct ones at a time.
const REMEMBERED: usize = 256;
/// How long without a nudge until the store is looked at again.
const PAUSE: Duration = Duration::from_secs(60);

/// Serves until the server ends.
pub async fn run(state: AppState) {
    let mut gathering = Gathering::default();
    loop {
        match gathering.once(&state).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(step = "gathering", error = %error, "cannot match hosts now; trying again later"),
        }
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = state.nudges.gathering.notified() => {}
            () = tokio::time::sleep(PAUSE) => gathering.given_up.clear(),
        }
    }
}

/// What the reconciler remembers between two rounds; all of it can be read again from the store.
#[derive(Default)]
pub struct Gathering {
    knowledge: Option<Arc<Knowledge>>,
    /// Hosts that could not be matched by this mark: others go first, the timer tries again.
    given_up: HashMap<HostId, i64>,
}

/// What all feeds say, in memory.
struct Knowledge {
    generation: i64,
    index: AdvisoryIndex,
    facts: HashMap<VulnId, VulnerabilityFacts>,
}

impl Gathering {
    /// One round. Whether something was done, so that another round may find more.
    pub async fn once(&mut self, state: &AppState) -> Result<bool> {
        let knowledge = self.knowledge(state).await?;
        let generation = knowledge.generation;
        let skipped = u32::try_from(self.given_up.len()).unwrap_or(u32::MAX);
        let limit = BATCH.saturating_add(skipped);
        let mut due = state
            .store
            .read(move |connection| {
                let mut due = host::host_changed(connection, limit)?;
                due.extend(finding::evaluation_outdated(connection, generation, limit)?);
                Ok(due)
            })
            .await?;
        due.sort();
        due.dedup_by_key(|(host, _)| *host);
        due.retain(|(host, mark)| self.given_up.get(host) != Some(mark));
        due.truncate(BATCH as usize);
        if due.is_empty() || state.shutdown.is_requested() {
            return Ok(false);
        }
        let dictionary = state.packages.clone();
        let marks: HashMap<HostId, i64> = due.iter().copied().collect();
        let matched = state.store.read(move |connection| Ok(match_hosts(connection, &dictionary, &knowledge, &due))).await?;
        Ok(self.settle(state, generation, &marks, matched).await)
    }

    async fn knowledge(&mut self, state: &AppState) -> Result<Arc<Knowledge>> {
        let generation = state.store.read(feed::feed_generation).await?;
        if let Some(knowledge) = self.knowledge.as_ref().filter(|knowledge| knowledge.generation == generation) {
            return Ok(knowledge.clone());
        }
        // The old index goes before the new one comes: both at once would double the memory.
        self.knowledge = None;
        let knowledge = Arc::new(state.store.read(load).await?);
        tracing::info!(step = "gathering", feed.generation = generation, feed.statements = knowledge.index.len(), "read what the feeds say");
        self.knowledge = Some(knowledge.clone());
        Ok(knowledge)
    }

    /// Writes what was found, host by host; the writer groups them. Whether any was written.
    async fn settle(&mut self, state: &AppState, generation: i64, marks: &HashMap<HostId, i64>, matched: Vec<(HostId, Result<Outcome>)>) -> bool {
        let mut writes = JoinSet::new();
        for (host, outcome) in matched {
            let store = state.store.clone();
            writes.spawn(async move {
                let written = match outcome {
                    Ok(outcome) => store.write(move |connection| write(connection, host, outcome, generation, clock::now())).await,
                    Err(error) => Err(error),
                };
                (host, written)
            });
        }
        let (mut any, mut moved) = (false, false);
        while let Some(joined) = writes.join_next().await {
            match joined {
                Ok((_, Ok(changes))) => {
                    any = true;
                    moved |= changes > 0;
                }
                // Somebody else was faster: the next round reads again.
                Ok((_, Err(StoreError::Conflict { .. } | StoreError::Duplicate { .. }))) => any = true,
                Ok((host, Err(error))) => {
                    tracing::warn!(step = "gathering", host.id = %host, error = %error, "cannot match this host; trying again later");
                    self.given_up.insert(host, marks.get(&host).copied().unwrap_or_default());
                }
                Err(error) => tracing::warn!(step = "gathering", error = %error, "a write ended abruptly"),
            }
        }
        if moved {
            state.nudges.audit.notify_one();
        }
        any
    }
}

fn load(connection: &mut Connection) -> Result<Knowledge> {
    // Read before the data: what changes meanwhile is then noticed in the next round.
    let generation = feed::feed_generation(connection)?;
    let mut statements = Vec::new();
    let mut mentioned: HashSet<VulnId> = HashSet::new();
    advisory::advisory_each(connection, |set| {
        mentioned.extend(set.iter().map(|advisory| advisory.vulnerability.clone()));
        statements.extend(set);
    })?;
    let mut facts = vulnerability::vulnerability_all(connection)?;
    facts.retain(|id, _| mentioned.contains(id));
    facts.values_mut().for_each(|facts| facts.description = String::new());
    facts.shrink_to_fit();
    Ok(Knowledge { generation, index: AdvisoryIndex::new(statements), facts })
}

/// What is to be written for one host.
struct Outcome {
    mark: i64,
    steps: Vec<Step>,
}

/// One action on a finding with its priority; `before` is what the store has of it.
struct Step {
    action: FindingAction,
    priority: Priority,
    before: Option<FindingRecord>,
}

/// Hosts with the same of all this are matched once.
#[derive(PartialEq, Eq, Hash)]
struct SameAs {
    release: String,
    packages: String,
    kernel: [String; 4],
}

fn match_hosts(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    knowledge: &Knowledge,
    due: &[(HostId, i64)],
) -> Vec<(HostId, Result<Outcome>)> {
    let mut remembered: HashMap<SameAs, Arc<Matched>> = HashMap::new();
    due.iter()
        .map(|(host, _)| {
            if remembered.len() >= REMEMBERED {
                remembered.clear();
            }
            (*host, match_host(connection, dictionary, knowledge, *host, &mut remembered))
        })
        .collect()
}

/// What is the same for all hosts with the same packages and kernel.
struct Matched {
    packages: Vec<InstalledPackage>,
    present: Vec<Verdict>,
    installed: BTreeSet<String>,
}

fn match_host(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    knowledge: &Knowledge,
    id: HostId,
    remembered: &mut HashMap<SameAs, Arc<Matched>>,
) -> Result<Outcome> {
    let record = host::host_get(connection, id)?;
    if record.state == HostState::Retired || record.packages_digest.is_empty() {
        return Ok(Outcome { mark: record.inventory_mark, steps: Vec::new() });
    }
    let corrupt = |what: &str| StoreError::Corrupt { what: format!("{what} of {id}") };
    let facts: HostFacts = serde_json::from_str(&record.facts).map_err(|_| corrupt("host.facts"))?;
    let services: Vec<Service> = serde_json::from_str(&record.services).map_err(|_| corrupt("host.services"))?;
    let matched = matched(connection, dictionary, knowledge, &record, &facts.kernel, remembered)?;
    let before = finding::finding_of_host(connection, id)?;
    let picture = HostPicture { release: &record.os_codename, packages: &matched.packages, kernel: &facts.kernel };
    let mut verdicts = matched.present.clone();
    verdicts.extend(absent(knowledge, picture, &before, &matched.present));
    let outdated = outdated_sources(&services, &matched.packages);
    let steps = decide(knowledge, before, &verdicts, &matched.installed, &outdated);
    Ok(Outcome { mark: record.inventory_mark, steps })
}

/// The verdicts on what was present before and is not any more: the proof, or the new doubt.
fn absent(knowledge: &Knowledge, picture: HostPicture<'_>, before: &[FindingRecord], present: &[Verdict]) -> Vec<Verdict> {
    let present: HashSet<(&str, &VulnId)> = present.iter().map(|verdict| (verdict.source.as_str(), &verdict.vulnerability)).collect();
    before
        .iter()
        .filter(|record| !matches!(record.state, FindingState::Verified | FindingState::NotAffected))
        .filter(|record| !present.contains(&(record.source.as_str(), &record.vulnerability)))
        .filter_map(|record| verdict_on(&knowledge.index, picture, &record.source, &record.vulnerability))
        .collect()
}

/// Source packages whose replaced files a running service still uses.
fn outdated_sources(services: &[Service], packages: &[InstalledPackage]) -> BTreeSet<String> {
    let binaries: HashSet<&str> = services
        .iter()
        .filter(|service| service.restart_pending)
        .flat_map(|service| match service.outdated_packages.as_slice() {
            // An agent that cannot tell whose files they are: then the service's own package.
            [] => std::slice::from_ref(&service.package),
            outdated => outdated,
        })
        .map(String::as_str)
        .collect();
    let concerned = packages.iter().filter(|installed| binaries.contains(installed.package.name.as_str()));
    concerned.map(|installed| source_of(&installed.package).0.to_owned()).collect()
}

fn matched(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    knowledge: &Knowledge,
    record: &HostRecord,
    kernel: &Kernel,
    remembered: &mut HashMap<SameAs, Arc<Matched>>,
) -> Result<Arc<Matched>> {
    let key = SameAs {
        release: record.os_codename.clone(),
        packages: record.packages_digest.clone(),
        kernel: [
            kernel.running_release.clone(),
            kernel.running_version.clone(),
            kernel.newest_installed_release.clone(),
            kernel.newest_installed_version.clone(),
        ],
    };
    if let Some(matched) = remembered.get(&key) {
        return Ok(matched.clone());
    }
    let packages = inventory::package_set_get(connection, dictionary, &record.packages_digest)?;
    let picture = HostPicture { release: &record.os_codename, packages: &packages, kernel };
    let present = present_on_host(&knowledge.index, picture);
    let installed = sources_of(&packages).into_iter().map(str::to_owned).collect();
    let matched = Arc::new(Matched { packages, present, installed });
    remembered.insert(key, matched.clone());
    Ok(matched)
}

/// The pure steps, with the priority of each finding beside what happens to it.
fn decide(
    knowledge: &Knowledge,
    before: Vec<FindingRecord>,
    verdicts: &[Verdict],
    installed: &BTreeSet<String>,
    outdated: &BTreeSet<String>,
) -> Vec<Step> {
    let existing: Vec<ExistingFinding> = before.iter().map(existing).collect();
    let actions = decide_findings(&existing, verdicts.to_vec(), installed, outdated);
    let mut records: HashMap<_, FindingRecord> = before.into_iter().map(|record| (record.id, record)).collect();
    let mut steps: Vec<Step> = Vec::with_capacity(actions.len());
    for mut action in actions {
        let before = id_of(&action).and_then(|id| records.remove(&id));
        let old = before.as_ref().map_or(Priority { severity: 0, exploit: 0 }, |record| record.priority);
        let priority = match evidence_of(&mut action) {
            Some(verdict) => rank(knowledge, verdict),
            None => old,
        };
        steps.push(Step { action, priority, before });
    }
    steps.extend(ranked_anew(knowledge, records.into_values(), verdicts));
    steps
}

/// Findings with the same evidence as before, but another priority (a score or a catalogue changed).
fn ranked_anew(knowledge: &Knowledge, unchanged: impl Iterator<Item = FindingRecord>, verdicts: &[Verdict]) -> Vec<Step> {
    let stated: HashMap<(&str, &VulnId), &Verdict> = verdicts
        .iter()
        .filter(|verdict| verdict.state.is_present())
        .map(|verdict| ((verdict.source.as_str(), &verdict.vulnerability), verdict))
        .collect();
    unchanged
        .filter_map(|record| {
            let mut verdict = (*stated.get(&(record.source.as_str(), &record.vulnerability))?).clone();
            let priority = rank(knowledge, &mut verdict);
            (priority != record.priority && record.verdict == verdict.state).then(|| Step {
                action: FindingAction::Update { id: record.id, verdict },
                priority,
                before: Some(record),
            })
        })
        .collect()
}

fn rank(knowledge: &Knowledge, verdict: &mut Verdict) -> Priority {
    let unknown = VulnerabilityFacts::default();
    let facts = knowledge.facts.get(&verdict.vulnerability).unwrap_or(&unknown);
    let (priority, reasons) = prioritise(verdict, facts);
    verdict.reasons.extend(reasons);
    priority
}

fn existing(record: &FindingRecord) -> ExistingFinding {
    ExistingFinding {
        id: record.id,
        vulnerability: record.vulnerability.clone(),
        source: record.source.clone(),
        state: record.state,
        verdict: record.verdict,
        source_version: record.source_version.clone(),
        fixed_version: record.fixed_version.clone(),
    }
}

fn id_of(action: &FindingAction) -> Option<fettle_domain::FindingId> {
    match action {
        FindingAction::Open { .. } => None,
        FindingAction::Update { id, .. }
        | FindingAction::Prove { id, .. }
        | FindingAction::Regress { id, .. }
        | FindingAction::Dismiss { id, .. }
        | FindingAction::Reinstate { id, .. } => Some(*id),
    }
}

fn evidence_of(action: &mut FindingAction) -> Option<&mut Verdict> {
    match action {
        FindingAction::Open { verdict }
        | FindingAction::Update { verdict, .. }
        | FindingAction::Regress { verdict, .. }
        | FindingAction::Reinstate { verdict, .. } => Some(verdict),
        FindingAction::Prove { .. } | FindingAction::Dismiss { .. } => None,
    }
}

/// Writes one host's outcome. How many findings changed.
fn write(connection: &mut Connection, host: HostId, outcome: Outcome, generation: i64, now: Timestamp) -> Result<usize> {
    let changes = outcome.steps.len();
    for step in outcome.steps {
        write_step(connection, host, step, now)?;
    }
    finding::evaluation_set(connection, host, outcome.mark, generation, now)?;
    host::host_judged(connection, host, outcome.mark)?;
    Ok(changes)
}

fn write_step(connection: &mut Connection, host: HostId, step: Step, now: Timestamp) -> Result<()> {
    let priority = step.priority;
    let mut transition = |id, event, evidence: Option<&Verdict>, reasons: &[Reason]| {
        let evidence = evidence.map(|verdict| (verdict, priority));
        finding::finding_transition(connection, id, event, evidence, "gathering", reasons, now).map(|_| ())
    };
    match step.action {
        FindingAction::Open { verdict } => finding::finding_open(connection, clock::fresh(), host, &verdict, priority, now),
        FindingAction::Update { id, verdict } => finding::finding_update(connection, id, &verdict, priority, now),
        FindingAction::Regress { id, verdict } => transition(id, FindingEvent::Regress, Some(&verdict), &verdict.reasons),
        FindingAction::Reinstate { id, verdict } => transition(id, FindingEvent::Reinstate, Some(&verdict), &verdict.reasons),
        FindingAction::Dismiss { id, reasons } => transition(id, FindingEvent::Dismiss, None, &reasons),
        FindingAction::Prove { id, reasons, source_version, verdict } => {
            // What proves it becomes the finding's evidence; what it was stays in its history.
            let proof = step.before.map(|record| Verdict {
                vulnerability: record.vulnerability,
                source: record.source,
                source_version,
                packages: record.packages,
                state: verdict,
                fixed_version: record.fixed_version,
                severity: record.severity,
                reasons: reasons.clone(),
            });
            transition(id, FindingEvent::Prove, proof.as_ref(), &reasons)
        }
    }
}

