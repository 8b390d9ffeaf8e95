//! A new change: what is asked for becomes a job for each host, and each host is asked for a dry run.

use super::super::{OpsError, host as host_ops};
use super::show;
use crate::access::Actor;
use crate::{AppState, clock};
use fettle_domain::access::Permission;
use fettle_domain::advisory::VulnId;
use fettle_domain::health::{HealthCheck, MOST_CHECKS};
use fettle_domain::host::OsRelease;
use fettle_domain::machine::{FindingState, PlanState};
use fettle_domain::plan::{Acceptance, RebootPolicy};
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;
use fettle_domain::{ChangeId, FindingId, HostId, PlanId, Timestamp};
use fettle_process::change::{AskedPackage, Choice, InstalledHere, Need, Specification, Target, choose};
use fettle_store::page::Page;
use fettle_store::systems::change::{self, EventBody, NewChange, NewEvent};
use fettle_store::systems::finding::{self, FindingFilter, FindingRecord};
use fettle_store::systems::inventory::{self, PackageDictionary};
use fettle_store::systems::plan::{self, NewPlan};
use fettle_store::systems::rehearsal::{self, RehearsalRecord, RehearsalState};
use fettle_store::systems::{audit, group, host, work};
use fettle_store::{Connection, StoreError};
use fettle_wire::agent::HostFacts;
use fettle_wire::api::change::{ChangeCreate, ChangeDetail};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Things that one change may name.
const MOST_NAMED: usize = 10_000;
/// Hosts of one change.
const MOST_HOSTS: u32 = 100_000;
/// Bytes of title and reason.
const TITLE: usize = 200;
const REASON: usize = 8_000;
/// Longest window.
const LONGEST_WINDOW: Duration = Duration::from_secs(90 * 24 * 3600);
/// Attempts when another server took the same number.
const ATTEMPTS: usize = 5;
/// Findings read at once.
const PAGE: u32 = 1_000;

/// Asks for a change.
pub async fn create(state: &AppState, actor: &Actor, request: ChangeCreate) -> Result<ChangeDetail, OpsError> {
    actor.require(Permission::ChangeCreate)?;
    let now = clock::now();
    let asked = checked(state, request, now)?;
    let dictionary = state.packages.clone();
    let (asked, choices) = state
        .store
        .read(move |connection| Ok(resolve(connection, &dictionary, &asked).map(|choices| (asked, choices))))
        .await??;
    refuse_when_nothing_is_asked(&choices)?;
    let title =
        if asked.title.is_empty() { title_of(&asked.specification, choices.len()) } else { asked.title.clone() };
    let specification =
        serde_json::to_string(&asked.specification).map_err(|error| OpsError::invalid("", error, "plain text"))?;
    let new = New { asked, title, specification, choices };
    let new = std::sync::Arc::new(new);
    let mut attempt = 1;
    let id = loop {
        let (new, actor, minutes) = (new.clone(), actor.clone(), state.settings.changes.rehearsal_minutes);
        match state.store.write(move |connection| write(connection, &new, &actor, minutes, now)).await {
            Ok(id) => break id,
            Err(StoreError::Duplicate { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    };
    for choice in new.choices.iter().filter(|choice| choice.choice.job.is_some()) {
        state.nudges.work.wake(choice.choice.host);
    }
    state.nudges.change.notify_one();
    show::detail(state, actor, id).await
}

/// A request that makes sense by itself.
struct Asked {
    title: String,
    reason: String,
    specification: Specification,
    packages: Vec<AskedPackage>,
    findings: Vec<FindingId>,
    window_start: Option<Timestamp>,
    window_end: Timestamp,
}

fn checked(state: &AppState, request: ChangeCreate, now: Timestamp) -> Result<Asked, OpsError> {
    let settings = &state.settings.changes;
    let lists = [
        ("findings", &request.findings),
        ("vulnerabilities", &request.vulnerabilities),
        ("packages", &request.packages),
        ("hosts", &request.hosts),
        ("groups", &request.groups),
    ];
    for (field, list) in lists {
        if list.len() > MOST_NAMED || list.iter().any(|text| text.is_empty() || text.len() > 300) {
            return Err(OpsError::invalid(
                field,
                "too many, or a text that is empty or too long",
                format!("at most {MOST_NAMED} of 1 to 300 bytes"),
            ));
        }
    }
    if request.title.len() > TITLE || request.title.chars().any(char::is_control) {
        return Err(OpsError::invalid(
            "title",
            "too long, or more than a line",
            format!("at most {TITLE} bytes in one line"),
        ));
    }
    if request.reason.len() > REASON {
        return Err(OpsError::invalid("reason", "too long", format!("at most {REASON} bytes")));
    }
    check_what_and_where(&request)?;
    let packages = request.packages.iter().map(|text| package(text)).collect::<Result<Vec<_>, _>>()?;
    let findings = request
        .findings
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|error| OpsError::invalid("findings", error, "the id that `fettle finding list` shows"))
        })
        .collect::<Result<Vec<FindingId>, _>>()?;
    let (window_start, window_end) = window(&request, settings.window_hours, now)?;
    let success_percent = request.success_percent.unwrap_or(settings.success_percent.min(100));
    if success_percent > 100 {
        return Err(OpsError::invalid("success_percent", "more than all", "0 to 100"));
    }
    let silence_seconds =
        request.silence_seconds.unwrap_or(settings.silence_minutes.saturating_mul(60)).clamp(1, 30 * 24 * 3600);
    let reboot = match request.reboot.as_deref() {
        None | Some("" | "never") => RebootPolicy::Never,
        Some("if-needed") => RebootPolicy::IfNeeded,
        Some(_) => return Err(OpsError::invalid("reboot", "no such policy", "`never` or `if-needed`")),
    };
    let checks = checks(&request.checks)?;
    let specification = Specification {
        vulnerabilities: request.vulnerabilities,
        findings: request.findings,
        packages: request.packages,
        hosts: request.hosts,
        groups: request.groups,
        all_affected: request.all_affected,
        allow_removals: request.allow_removals,
        acceptance: Acceptance { success_percent, silence_seconds },
        restart_services: request.restart_services.unwrap_or(true),
        reboot,
        checks,
    };
    Ok(Asked {
        title: request.title.trim().to_owned(),
        reason: request.reason,
        specification,
        packages,
        findings,
        window_start,
        window_end,
    })
}

fn check_what_and_where(request: &ChangeCreate) -> Result<(), OpsError> {
    let named = !request.hosts.is_empty() || !request.groups.is_empty();
    if request.findings.is_empty() && request.vulnerabilities.is_empty() && request.packages.is_empty() {
        return Err(OpsError::invalid(
            "packages",
            "the change says nothing of what it is to do",
            "name findings, vulnerabilities or packages",
        ));
    }
    if named && request.all_affected {
        return Err(OpsError::invalid(
            "all_affected",
            "all hosts and some hosts at once",
            "either `all_affected`, or hosts and groups",
        ));
    }
    if !request.packages.is_empty() && !named {
        return Err(OpsError::invalid(
            "hosts",
            "packages are named, but no hosts",
            "name hosts or groups: a package is updated where it is installed",
        ));
    }
    if !request.vulnerabilities.is_empty() && !named && !request.all_affected {
        return Err(OpsError::invalid(
            "hosts",
            "vulnerabilities are named, but no hosts",
            "name hosts or groups, or ask for all affected ones",
        ));
    }
    if request.all_affected && request.vulnerabilities.is_empty() {
        return Err(OpsError::invalid("all_affected", "affected by what?", "name vulnerabilities with it"));
    }
    Ok(())
}

/// `NAME` or `NAME=VERSION`.
fn package(text: &str) -> Result<AskedPackage, OpsError> {
    let (name, version) = text.split_once('=').map_or((text, None), |(name, version)| (name, Some(version)));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
    // Debian policy 5.6.7.
    if name.len() < 2
        || !name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        || !name.chars().all(plain)
    {
        return Err(OpsError::invalid(
            "packages",
            format!("`{name}` is no package name"),
            "`NAME` or `NAME=VERSION`, such as `libssl3`",
        ));
    }
    if let Some(version) = version {
        Scheme::Dpkg
            .validate(version)
            .map_err(|error| OpsError::invalid("packages", error, "`NAME=VERSION` with a version as dpkg shows it"))?;
    }
    Ok(AskedPackage { name: name.to_owned(), version: version.map(str::to_owned) })
}

/// Health checks, each with its place when it is none.
fn checks(texts: &[String]) -> Result<Vec<HealthCheck>, OpsError> {
    const FORM: &str = "`KIND=VALUE[,OPTION=VALUE]…`, such as `http=http://127.0.0.1:8080/health,within=30s`";
    if texts.len() > MOST_CHECKS {
        return Err(OpsError::invalid("checks", format!("{} checks", texts.len()), format!("at most {MOST_CHECKS}")));
    }
    let mut checks: Vec<HealthCheck> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let place = format!("checks[{index}]");
        let check: HealthCheck = text.parse().map_err(|error| OpsError::invalid(&place, error, FORM))?;
        if checks.iter().any(|other| other.name == check.name) {
            let why = format!("two checks are called `{}`", check.name);
            return Err(OpsError::invalid(&place, why, "another name: `…,name=TEXT`"));
        }
        checks.push(check);
    }
    Ok(checks)
}

fn window(request: &ChangeCreate, hours: u64, now: Timestamp) -> Result<(Option<Timestamp>, Timestamp), OpsError> {
    let moment = |field: &'static str, text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        text.map(|text| {
            Timestamp::parse(text).ok_or_else(|| {
                OpsError::invalid(field, format!("`{text}` is no moment"), "RFC 3339, such as 2026-01-31T22:00:00Z")
            })
        })
        .transpose()
    };
    let start = moment("window_start", &request.window_start)?;
    let end = moment("window_end", &request.window_end)?;
    let begin = start.unwrap_or(now).max(now);
    let end = end.unwrap_or_else(|| begin.after(Duration::from_secs(hours.max(1).saturating_mul(3600))));
    if end <= begin {
        return Err(OpsError::invalid(
            "window_end",
            format!("the window would end at {end}, before it begins or now"),
            "a later moment",
        ));
    }
    if begin.until(end) > LONGEST_WINDOW {
        return Err(OpsError::invalid("window_end", "the window is longer than 90 days", "an earlier moment"));
    }
    Ok((start, end))
}

/// A host with what is asked of it.
struct HostChoice {
    host_name: String,
    os: OsRelease,
    choice: Choice,
}

/// Finds the hosts and chooses what each is asked.
fn resolve(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    asked: &Asked,
) -> Result<Vec<HostChoice>, OpsError> {
    let named = named_hosts(connection, &asked.specification)?;
    let mut needs: BTreeMap<HostId, Vec<Need>> = named.iter().map(|host| (*host, Vec::new())).collect();
    let within = |host: HostId| named.is_empty() || named.contains(&host);
    for id in &asked.findings {
        let record = finding::finding_get(connection, *id)?;
        if !within(record.host) {
            return Err(OpsError::invalid(
                "findings",
                format!("{id} is on none of the named hosts"),
                "findings of the named hosts, or no hosts",
            ));
        }
        if !is_open(record.state) {
            return Err(OpsError::invalid(
                "findings",
                format!("{id} is {}", record.state),
                "findings that are still open",
            ));
        }
        needs.entry(record.host).or_default().push(need(record));
    }
    for vulnerability in &asked.specification.vulnerabilities {
        let mut some = false;
        each_finding(connection, vulnerability, |record| {
            if within(record.host) {
                some = true;
                needs.entry(record.host).or_default().push(need(record));
            }
        })?;
        if !some {
            return Err(OpsError::invalid(
                "vulnerabilities",
                format!("{vulnerability} is open on none of the hosts"),
                "a vulnerability that `fettle finding list` shows",
            ));
        }
    }
    if needs.len() > MOST_HOSTS as usize {
        return Err(OpsError::invalid("hosts", format!("{} hosts", needs.len()), format!("at most {MOST_HOSTS}")));
    }
    let mut inventories = Inventories::new(dictionary, &asked.packages);
    needs.into_iter().map(|(host, needs)| choice(connection, &mut inventories, asked, host, needs)).collect()
}

fn named_hosts(connection: &mut Connection, specification: &Specification) -> Result<BTreeSet<HostId>, OpsError> {
    let mut named = BTreeSet::new();
    for text in &specification.hosts {
        named.insert(host_ops::resolve(connection, text)?);
    }
    for name in &specification.groups {
        let group = group::group_by_name(connection, name)?;
        let hosts = group::group_hosts(connection, group, MOST_HOSTS)?;
        if hosts.is_empty() {
            return Err(OpsError::invalid("groups", format!("the group {name} has no hosts"), "a group with hosts"));
        }
        named.extend(hosts);
    }
    Ok(named)
}

fn is_open(state: FindingState) -> bool {
    matches!(state, FindingState::Open | FindingState::Planned | FindingState::Mitigated | FindingState::Accepted)
}

fn each_finding(
    connection: &mut Connection,
    vulnerability: &str,
    mut take: impl FnMut(FindingRecord),
) -> Result<(), OpsError> {
    let filter = FindingFilter {
        states: vec![FindingState::Open, FindingState::Planned, FindingState::Mitigated, FindingState::Accepted],
        vulnerability: Some(VulnId(vulnerability.to_owned())),
        ..FindingFilter::default()
    };
    let mut page = Page::first(finding::MOST_URGENT_FIRST, PAGE);
    loop {
        let listed = finding::finding_list(connection, &filter, &page)?;
        listed.items.into_iter().for_each(&mut take);
        page.after = listed.next;
        if page.after.is_none() {
            return Ok(());
        }
    }
}

fn need(record: FindingRecord) -> Need {
    Need {
        finding: record.id,
        vulnerability: record.vulnerability,
        source: record.source,
        packages: record.packages,
        verdict: record.verdict,
        fixed_version: record.fixed_version,
    }
}

fn choice(
    connection: &mut Connection,
    inventories: &mut Inventories<'_>,
    asked: &Asked,
    id: HostId,
    needs: Vec<Need>,
) -> Result<HostChoice, OpsError> {
    let record = host::host_get(connection, id)?;
    let facts: HostFacts = serde_json::from_str(&record.facts).unwrap_or_default();
    let wanted = !asked.packages.is_empty() || needs.iter().any(|need| need.source == "linux");
    let none = BTreeMap::new();
    let installed = if wanted { inventories.of(connection, id, &record.packages_digest)? } else { &none };
    let target = Target {
        host: id,
        name: &record.name,
        state: record.state,
        read_only: facts.read_only,
        installed,
        needs: &needs,
    };
    let choice = choose(&target, &asked.packages, asked.specification.allow_removals);
    Ok(HostChoice { host_name: record.name, os: facts.os, choice })
}

/// Installed packages that matter here, once for each set that hosts share.
struct Inventories<'a> {
    dictionary: &'a PackageDictionary,
    names: BTreeSet<&'a str>,
    known: HashMap<String, BTreeMap<String, InstalledHere>>,
}

impl<'a> Inventories<'a> {
    fn new(dictionary: &'a PackageDictionary, packages: &'a [AskedPackage]) -> Self {
        Self {
            dictionary,
            names: packages.iter().map(|package| package.name.as_str()).collect(),
            known: HashMap::new(),
        }
    }

    fn of(
        &mut self,
        connection: &mut Connection,
        host: HostId,
        digest: &str,
    ) -> fettle_store::Result<&BTreeMap<String, InstalledHere>> {
        if !self.known.contains_key(digest) {
            let packages = inventory::host_packages(connection, self.dictionary, host)?;
            let mut some = BTreeMap::new();
            let asked = packages
                .into_iter()
                .filter(|installed| {
                    self.names.contains(installed.package.name.as_str())
                        || installed.package.name.starts_with("linux-image-")
                })
                .map(|installed| (installed.package, installed.held));
            for (package, held) in asked {
                let ecosystem = package.ecosystem;
                // Of two managers' packages of one name, the distribution's is meant.
                if some.get(&package.name).is_none_or(|known: &InstalledHere| ecosystem <= known.ecosystem) {
                    some.insert(package.name, InstalledHere { ecosystem, version: package.version, held });
                }
            }
            self.known.insert(digest.to_owned(), some);
        }
        self.known.get(digest).ok_or_else(|| StoreError::not_found(format!("the inventory of {host}")))
    }
}

fn refuse_when_nothing_is_asked(choices: &[HostChoice]) -> Result<(), OpsError> {
    if choices.iter().any(|choice| choice.choice.job.is_some()) {
        return Ok(());
    }
    let all = choices.iter().flat_map(|choice| {
        choice.choice.reasons.iter().map(move |reason| format!("{}: {}", choice.host_name, reason.text))
    });
    let shown: Vec<String> = all.take(5).collect();
    let why = if shown.is_empty() { "no host is concerned".to_owned() } else { shown.join("; ") };
    Err(OpsError::Conflict { what: format!("there is nothing to do on any of {} hosts: {why}", choices.len()) })
}

fn title_of(specification: &Specification, hosts: usize) -> String {
    let some = |list: &[String]| {
        let more = if list.len() > 3 { format!(" and {} more", list.len() - 3) } else { String::new() };
        format!("{}{more}", list.iter().take(3).cloned().collect::<Vec<_>>().join(", "))
    };
    let what = if !specification.vulnerabilities.is_empty() {
        format!("Close {}", some(&specification.vulnerabilities))
    } else if !specification.packages.is_empty() {
        format!("Update {}", some(&specification.packages))
    } else {
        format!("Close {} findings", specification.findings.len())
    };
    let text = format!("{what} on {hosts} host{}", if hosts == 1 { "" } else { "s" });
    text.chars().take(TITLE).collect()
}

struct New {
    asked: Asked,
    title: String,
    specification: String,
    choices: Vec<HostChoice>,
}

fn write(
    connection: &mut Connection,
    new: &New,
    actor: &Actor,
    rehearsal_minutes: u64,
    now: Timestamp,
) -> fettle_store::Result<ChangeId> {
    let (id, plan_id): (ChangeId, PlanId) = (clock::fresh(), clock::fresh());
    let record = NewChange {
        id,
        title: new.title.clone(),
        reason: new.asked.reason.clone(),
        requester: actor.name.clone(),
        requester_id: actor.user,
        specification: new.specification.clone(),
    };
    let number = change::change_create(connection, &record, now)?;
    let draft = NewPlan {
        id: plan_id,
        change: id,
        answer_until: now.after(Duration::from_secs(rehearsal_minutes.max(1).saturating_mul(60))),
        window_start: new.asked.window_start,
        window_end: new.asked.window_end,
        asked: new.choices.len() as u64,
    };
    plan::plan_create(connection, &draft, now)?;
    let mut asked = Vec::new();
    for choice in &new.choices {
        let HostChoice { host_name, os, choice } = choice;
        let left_out = choice.job.is_none();
        let rehearsal = RehearsalRecord {
            id: clock::fresh(),
            plan: plan_id,
            change: id,
            host: choice.host,
            host_name: host_name.clone(),
            os: os.clone(),
            state: if left_out { RehearsalState::LeftOut } else { RehearsalState::Asked },
            job: choice.job.clone(),
            reasons: choice.reasons.clone(),
            outcome: None,
            answered_at: None,
        };
        rehearsal::rehearsal_create(connection, &rehearsal)?;
        if !left_out {
            asked.push(choice.host);
        }
    }
    let said: Vec<Reason> = if new.asked.reason.is_empty() {
        Vec::new()
    } else {
        vec![Reason::new("person.said", new.asked.reason.clone())]
    };
    let event = NewEvent {
        machine: "change",
        deployment: None,
        host_name: "",
        event: "create",
        state: fettle_domain::machine::Machine::as_str(PlanState::Draft),
        actor: &actor.name,
        body: EventBody::Reasons(&said),
        anomaly: false,
    };
    change::change_event_add(connection, id, &event, now)?;
    work::work_touch_many(connection, &asked)?;
    let detail = serde_json::json!({ "number": number, "title": new.title, "hosts": new.choices.len() });
    audit::append(connection, now, &actor.record("change.create", id, detail))?;
    Ok(id)
}
