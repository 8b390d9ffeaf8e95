//! Steps 1 and 2 at work: hosts whose inventory changed, or that were judged by older feeds, are
//! matched; findings open, get new evidence, are proved gone, come back.
//!
//! Cost follows what changed: the index of statements is rebuilt only when a feed brought something
//! else, a source package at one version is matched once for all hosts that have it, and a host whose
//! findings rest on the same as before costs two reads and no write but the note that it was looked at.

use crate::{AppState, clock};
use fettle_domain::advisory::{VulnId, VulnerabilityFacts};
use fettle_domain::finding::Verdict;
use fettle_domain::machine::{FindingEvent, FindingState, HostState};
use fettle_domain::package::InstalledPackage;
use fettle_domain::reason::Reason;
use fettle_domain::{FindingId, HostId, Timestamp};
use fettle_process::gathering::{
    AdvisoryIndex, ExistingFinding, FindingAction, HostPicture, Ranked, SourceGroup, decide_findings, source_groups,
    source_of, sources_of,
};
use fettle_process::scheduling::prioritise;
use fettle_store::patches::{advisory, feed, vulnerability};
use fettle_store::systems::finding::{self, FindingEvidence};
use fettle_store::systems::host;
use fettle_store::systems::inventory::{self, PackageDictionary};
use fettle_store::{Connection, Result, StoreError};
use fettle_wire::agent::{HostFacts, Service};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Hosts matched in one go, between two looks at the store.
const BATCH: u32 = 64;
/// Verdicts remembered for hosts that have the same of a source package, some 600 bytes each.
const REMEMBERED: usize = 200_000;
/// How long without a nudge until the store is looked at again.
const PAUSE: Duration = Duration::from_secs(60);

/// Serves until the server ends.
pub async fn run(state: AppState) {
    let mut gathering = Gathering::default();
    loop {
        match gathering.once(&state).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(step = "gathering", error = %error, "cannot match hosts now; trying again later")
            }
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

/// What all feeds say of the releases that hosts have, in memory.
struct Knowledge {
    generation: i64,
    releases: HashSet<String>,
    index: AdvisoryIndex,
    facts: HashMap<VulnId, VulnerabilityFacts>,
    memory: Mutex<Memory>,
}

/// What was matched already, by [`SourceGroup::key`].
#[derive(Default)]
struct Memory {
    groups: HashMap<String, Arc<[Arc<Ranked>]>>,
    verdicts: usize,
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
        let matched =
            state.store.read(move |connection| Ok(match_hosts(connection, &dictionary, &knowledge, &due))).await?;
        let (known, unknown): (Vec<_>, Vec<_>) =
            matched.into_iter().partition(|(_, outcome)| !matches!(outcome, Ok(Outcome::OtherRelease)));
        if !unknown.is_empty() {
            // The first host of a release: what the feeds say of it is read before its turn comes again.
            self.knowledge = None;
        }
        Ok(self.settle(state, generation, &marks, known).await || !unknown.is_empty())
    }

    async fn knowledge(&mut self, state: &AppState) -> Result<Arc<Knowledge>> {
        let generation = state.store.read(feed::feed_generation).await?;
        if let Some(knowledge) = self.knowledge.as_ref().filter(|knowledge| knowledge.generation == generation) {
            return Ok(knowledge.clone());
        }
        // The old index goes before the new one comes: both at once would double the memory.
        self.knowledge = None;
        let knowledge = Arc::new(state.store.read(load).await?);
        tracing::info!(
            step = "gathering",
            feed.generation = generation,
            feed.statements = knowledge.index.len(),
            "read what the feeds say"
        );
        self.knowledge = Some(knowledge.clone());
        Ok(knowledge)
    }

    /// Writes what was found, host by host; the writer groups them. Whether any was written.
    async fn settle(
        &mut self,
        state: &AppState,
        generation: i64,
        marks: &HashMap<HostId, i64>,
        matched: Vec<(HostId, Result<Outcome>)>,
    ) -> bool {
        let mut writes = JoinSet::new();
        for (host, outcome) in matched {
            let store = state.store.clone();
            writes.spawn(async move {
                let written = match outcome {
                    Ok(outcome) => {
                        store.write(move |connection| write(connection, host, outcome, generation, clock::now())).await
                    }
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
    let releases = host::host_releases(connection)?;
    advisory::advisory_each(connection, &releases, |set| {
        mentioned.extend(set.iter().map(|advisory| advisory.vulnerability.clone()));
        statements.extend(set);
    })?;
    let mut facts = vulnerability::vulnerability_all(connection)?;
    facts.retain(|id, _| mentioned.contains(id));
    facts.values_mut().for_each(|facts| facts.description = String::new());
    facts.shrink_to_fit();
    Ok(Knowledge {
        generation,
        releases: releases.into_iter().collect(),
        index: AdvisoryIndex::new(statements),
        facts,
        memory: Mutex::default(),
    })
}

/// What comes of looking at one host.
enum Outcome {
    /// To be written: what it was judged by, and what happens to its findings.
    Judged { mark: i64, actions: Vec<FindingAction> },
    /// It has a release that was not read.
    OtherRelease,
}

fn match_hosts(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    knowledge: &Knowledge,
    due: &[(HostId, i64)],
) -> Vec<(HostId, Result<Outcome>)> {
    due.iter().map(|(host, _)| (*host, match_host(connection, dictionary, knowledge, *host))).collect()
}

fn match_host(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    knowledge: &Knowledge,
    id: HostId,
) -> Result<Outcome> {
    let record = host::host_get(connection, id)?;
    if record.state == HostState::Retired || record.packages_digest.is_empty() {
        return Ok(Outcome::Judged { mark: record.inventory_mark, actions: Vec::new() });
    }
    if !knowledge.releases.contains(&record.os_codename) {
        return Ok(Outcome::OtherRelease);
    }
    let corrupt = |what: &str| StoreError::Corrupt { what: format!("{what} of {id}") };
    let facts: HostFacts = serde_json::from_str(&record.facts).map_err(|_| corrupt("host.facts"))?;
    let services: Vec<Service> = serde_json::from_str(&record.services).map_err(|_| corrupt("host.services"))?;
    let packages = inventory::package_set_get(connection, dictionary, &record.packages_digest)?;
    let before: Vec<ExistingFinding> =
        finding::finding_evidence_of_host(connection, id)?.into_iter().map(existing).collect();

    let picture = HostPicture { release: &record.os_codename, packages: &packages, kernel: &facts.kernel };
    let groups = source_groups(picture);
    let mut verdicts: Vec<Arc<Ranked>> = groups.iter().flat_map(|group| knowledge.present(group).to_vec()).collect();
    let absent = absent(knowledge, &groups, &before, &verdicts);
    verdicts.extend(absent);
    let installed: BTreeSet<String> = sources_of(&packages).into_iter().map(str::to_owned).collect();
    let outdated = outdated_sources(&services, &packages);
    let actions = decide_findings(&before, verdicts.iter().map(Arc::as_ref), &installed, &outdated);
    Ok(Outcome::Judged { mark: record.inventory_mark, actions })
}

impl Knowledge {
    /// What is present by one group of packages; matched once for all hosts that have the same.
    fn present(&self, group: &SourceGroup<'_>) -> Arc<[Arc<Ranked>]> {
        let key = group.key();
        if let Some(known) = self.lock().groups.get(&key) {
            return known.clone();
        }
        let present: Arc<[Arc<Ranked>]> =
            group.present(&self.index).into_iter().map(|verdict| Arc::new(self.rank(verdict))).collect();
        let mut memory = self.lock();
        if memory.verdicts + present.len() > REMEMBERED {
            *memory = Memory::default();
        }
        memory.verdicts += present.len();
        memory.groups.insert(key, present.clone());
        present
    }

    fn rank(&self, mut verdict: Verdict) -> Ranked {
        let unknown = VulnerabilityFacts::default();
        let facts = self.facts.get(&verdict.vulnerability).unwrap_or(&unknown);
        let (priority, reasons) = prioritise(&verdict, facts);
        verdict.reasons.extend(reasons);
        Ranked { verdict, priority }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The verdicts on what was present before and is not any more: the proof, or the new doubt.
fn absent(
    knowledge: &Knowledge,
    groups: &[SourceGroup<'_>],
    before: &[ExistingFinding],
    present: &[Arc<Ranked>],
) -> Vec<Arc<Ranked>> {
    let present: HashSet<(&str, &VulnId)> =
        present.iter().map(|ranked| (ranked.verdict.source.as_str(), &ranked.verdict.vulnerability)).collect();
    before
        .iter()
        .filter(|finding| !matches!(finding.state, FindingState::Verified | FindingState::NotAffected))
        .filter(|finding| !present.contains(&(finding.source.as_str(), &finding.vulnerability)))
        .filter_map(|finding| {
            let group = groups.iter().find(|group| group.source() == finding.source)?;
            let verdict = group.verdict_on(&knowledge.index, &finding.vulnerability)?;
            Some(Arc::new(knowledge.rank(verdict)))
        })
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

fn existing(evidence: FindingEvidence) -> ExistingFinding {
    ExistingFinding {
        id: evidence.id,
        vulnerability: evidence.vulnerability,
        source: evidence.source,
        state: evidence.state,
        verdict: evidence.verdict,
        source_version: evidence.source_version,
        fixed_version: evidence.fixed_version,
        priority: evidence.priority,
    }
}

/// Writes one host's outcome. How many findings changed.
fn write(
    connection: &mut Connection,
    host: HostId,
    outcome: Outcome,
    generation: i64,
    now: Timestamp,
) -> Result<usize> {
    let Outcome::Judged { mark, actions } = outcome else { return Ok(0) };
    let changes = actions.len();
    for action in actions {
        write_action(connection, host, action, now)?;
    }
    finding::evaluation_set(connection, host, mark, generation, now)?;
    host::host_judged(connection, host, mark)?;
    Ok(changes)
}

fn write_action(connection: &mut Connection, host: HostId, action: FindingAction, now: Timestamp) -> Result<()> {
    match action {
        FindingAction::Open { evidence } => {
            finding::finding_open(connection, clock::fresh(), host, &evidence.verdict, evidence.priority, now)
        }
        FindingAction::Update { id, evidence } => {
            finding::finding_update(connection, id, &evidence.verdict, evidence.priority, now)
        }
        FindingAction::Regress { id, evidence } => {
            transition(connection, id, FindingEvent::Regress, Some(&evidence), &evidence.verdict.reasons, now)
        }
        FindingAction::Reinstate { id, evidence } => {
            transition(connection, id, FindingEvent::Reinstate, Some(&evidence), &evidence.verdict.reasons, now)
        }
        FindingAction::Dismiss { id, reasons } => {
            transition(connection, id, FindingEvent::Dismiss, None, &reasons, now)
        }
        FindingAction::Prove { id, reasons, source_version, verdict } => {
            // What proves it becomes the finding's evidence; what it was stays in its history.
            let record = finding::finding_get(connection, id)?;
            let proof = Verdict {
                vulnerability: record.vulnerability,
                source: record.source,
                source_version,
                packages: record.packages,
                state: verdict,
                fixed_version: record.fixed_version,
                severity: record.severity,
                reasons: reasons.clone(),
            };
            let evidence = Ranked { verdict: proof, priority: record.priority };
            transition(connection, id, FindingEvent::Prove, Some(&evidence), &reasons, now)
        }
    }
}

fn transition(
    connection: &mut Connection,
    id: FindingId,
    event: FindingEvent,
    evidence: Option<&Ranked>,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<()> {
    let evidence = evidence.map(|ranked| (&ranked.verdict, ranked.priority));
    finding::finding_transition(connection, id, event, evidence, "gathering", reasons, now).map(|_| ())
}
