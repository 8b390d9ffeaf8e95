//! What must hold after any cut, once the agent has run again: the machine is as the plan or as before, dpkg
//! finds nothing wrong, and the server was told every step of the journal once.

use crate::machine::{Machine, STATE};
use crate::scenario::Scenario;
use fettle_domain::machine::{DeploymentEvent, DeploymentState, Machine as _, TaskEvent, TaskState};
use fettle_plugin::{Provider as _, ProviderContext};
use fettle_vendors::debian::provider::AptProvider;
use fettle_wire::agent::{ReportBody, ReportEntry};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// All that an undo must bring back: packages with versions, states, marks and holds, and every file of ours
/// with content, owner and mode.
pub type Portrait = BTreeMap<String, String>;

/// Folders and files of the packages under test.
const OURS: [&str; 4] = ["etc/own", "etc/own-new.cfg", "etc/own-gone.cfg", "usr/lib/own"];

/// Takes it.
pub fn portrait(root: &Path) -> Portrait {
    let said = crate::support::Said::default();
    let context = ProviderContext {
        root: root.to_owned(),
        events: &said,
        deadline: Instant::now() + Duration::from_secs(60),
        lock_patience: Duration::ZERO,
        limits: Default::default(),
    };
    let mut portrait = Portrait::new();
    for found in AptProvider::new().inventory(&context).unwrap() {
        let package = &found.package;
        let text = format!("{} held={} automatic={} {:?}", package.version, found.held, found.automatic, found.state);
        portrait.insert(format!("package {}:{}", package.name, package.architecture), text);
    }
    // Also what is removed with configuration left is no longer as if it had never been there.
    let status = std::fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap();
    for line in status.lines().filter(|line| line.starts_with("Package: own-")) {
        portrait.insert(format!("known {line}"), String::new());
    }
    for ours in OURS {
        files(root, &root.join(ours), &mut portrait);
    }
    portrait
}

fn files(root: &Path, path: &Path, portrait: &mut Portrait) {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return };
    let mut text = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
    if meta.is_file() {
        text += &format!(" {:?}", digest(&SHA256, &std::fs::read(path).unwrap()));
    }
    portrait.insert(format!("file {}", path.strip_prefix(root).unwrap().display()), text);
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        files(root, &entry.path(), portrait);
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub state: Option<DeploymentState>,
    /// Reports that are missing, doubled or in a wrong order.
    pub lost: Vec<String>,
    /// What is half done on the machine.
    pub half: Vec<String>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.lost.is_empty() && self.half.is_empty()
    }
}

/// Judges a machine on which the agent has settled.
pub fn judge(machine: &Machine, scenario: &Scenario, told: &[ReportEntry]) -> Verdict {
    let status = machine.status();
    let deployment = &status["deployments"][0];
    let state: Option<DeploymentState> = serde_json::from_value(deployment["state"].clone()).ok();
    let mut half = Vec::new();
    match state {
        Some(DeploymentState::Succeeded) => {
            let after = scenario.after.as_ref();
            half.extend(differences(after.unwrap_or(&scenario.before), &portrait(&machine.root())));
        }
        Some(DeploymentState::Stuck) => {
            let why = deployment["why"].to_string();
            if !why.contains("to do by hand: dpkg") {
                half.push(format!("stuck without the commands for a person: {why}"));
            }
        }
        _ => half.extend(differences(&scenario.before, &portrait(&machine.root()))),
    }
    if state.is_none_or(|state| state != DeploymentState::Stuck && !scenario.ends.contains(&state)) {
        half.push(format!("it ended as {state:?}: {}", deployment["why"]));
    }
    let audit = machine.inside(&["dpkg", "--audit"]);
    if !audit.is_empty() && state != Some(DeploymentState::Stuck) {
        half.push(format!("dpkg --audit: {audit}"));
    }
    // Parts of dpkg's journal have numbers as names.
    let unfinished = std::fs::read_dir(machine.path("/var/lib/dpkg/updates"))
        .unwrap()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
    if unfinished && state != Some(DeploymentState::Stuck) {
        half.push("dpkg has an unfinished journal".to_owned());
    }
    let mut lost = wrong_reports(&journal(machine), told, state);
    if status["waiting_reports"] != 0 {
        lost.push(format!("{} reports still wait", status["waiting_reports"]));
    }
    Verdict { state, lost, half }
}

fn differences(wanted: &Portrait, found: &Portrait) -> Vec<String> {
    let keys: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    keys.into_iter()
        .filter(|key| wanted.get(*key) != found.get(*key))
        .map(|key| format!("{key}: {:?} instead of {:?}", found.get(key), wanted.get(key)))
        .take(8)
        .collect()
}

/// The records of the machine's one journal; a torn end is left out.
pub fn journal(machine: &Machine) -> Vec<Value> {
    let folder = machine.path(&format!("{STATE}/deployments"));
    let Some(entry) = std::fs::read_dir(folder).into_iter().flatten().flatten().next() else { return Vec::new() };
    let bytes = std::fs::read(entry.path().join("journal")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let record = |line: &str| serde_json::from_str(line.splitn(3, ' ').nth(2)?).ok();
    text.lines().skip(1).map_while(record).collect()
}

/// `task install begin` or `event apply`: what a record tells.
pub fn told_by(record: &Value) -> Option<String> {
    let text = |key: &str| record[key].as_str().unwrap_or_default();
    match text("kind") {
        "event" => Some(format!("event {}", text("event"))),
        "task" => Some(format!("task {} {}", text("task"), text("event"))),
        _ => None,
    }
}

/// Compares what the server got with the journal, and with the machines of the domain.
fn wrong_reports(journal: &[Value], told: &[ReportEntry], state: Option<DeploymentState>) -> Vec<String> {
    let mut wrong = Vec::new();
    for pair in told.windows(2) {
        if pair[1].sequence != pair[0].sequence + 1 {
            wrong.push(format!("report {} follows report {}", pair[1].sequence, pair[0].sequence));
        }
    }
    let mut servers = Some(DeploymentState::Offered);
    let mut heard = Vec::new();
    for entry in told {
        match &entry.body {
            ReportBody::Deployment { event, .. } => {
                servers = servers.and_then(|state| state.next(*event).ok());
                heard.push(format!("event {}", DeploymentState::event_str(*event)));
            }
            ReportBody::Task { name, state, .. } => heard.push(format!("task {name} {state}")),
            ReportBody::Refused { reasons, .. } => wrong.push(format!("refused: {reasons:?}")),
            _ => {}
        }
    }
    if servers != state {
        wrong.push(format!("the server believes {servers:?}, the machine is {state:?}"));
    }
    let mut tasks: BTreeMap<String, TaskState> = BTreeMap::new();
    let mut written = Vec::new();
    for record in journal {
        match record["kind"].as_str() {
            Some("event") => {
                let event: DeploymentEvent = serde_json::from_value(record["event"].clone()).unwrap();
                written.push(format!("event {}", DeploymentState::event_str(event)));
            }
            Some("task") => {
                let event: TaskEvent = serde_json::from_value(record["event"].clone()).unwrap();
                let name = record["task"].as_str().unwrap().to_owned();
                let task = tasks.entry(name.clone()).or_insert(TaskState::Do);
                *task = task.next(event).unwrap();
                written.push(format!("task {name} {task}"));
            }
            _ => {}
        }
    }
    if heard != written {
        let at = heard.iter().zip(&written).take_while(|(a, b)| a == b).count();
        wrong.push(format!(
            "from step {at} on the server heard {:?}, the journal has {:?}",
            &heard[at..heard.len().min(at + 3)],
            &written[at..written.len().min(at + 3)]
        ));
    }
    wrong
}
