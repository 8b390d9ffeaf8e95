//! What a person may ask of findings and vulnerabilities.

use super::page::{narrowed_page_of, place_text};
use super::{OpsError, Part};
use crate::AppState;
use crate::access::Actor;
use fettle_domain::access::Permission;
use fettle_domain::advisory::{Advisory, Disposition, Statement, VulnId, VulnerabilityFacts};
use fettle_domain::finding::VerdictState;
use fettle_domain::machine::{FindingState, Machine as _};
use fettle_domain::reason::Reason;
use fettle_domain::{FindingId, HostId};
use fettle_store::page::SortColumn;
use fettle_store::patches::{advisory, vulnerability};
use fettle_store::systems::finding::{self, FindingFilter, FindingRecord};
use fettle_store::systems::host;
use fettle_wire::api::finding::{
    Explanation, FindingCountView, FindingCounts, FindingDetail, FindingList, FindingSummary, HistoryEntry, ReasonView,
    StatementView, VulnerabilityDetail, VulnerabilityFactsView,
};
use std::collections::{BTreeSet, HashMap};

/// What a list is narrowed to, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingQuery {
    /// Comma-separated states; `all` for every one; empty: those that mean work.
    pub state: Option<String>,
    /// Comma-separated verdicts.
    pub verdict: Option<String>,
    /// Host id.
    pub host: Option<String>,
    /// Vulnerability.
    pub vulnerability: Option<String>,
    /// Source package.
    pub source: Option<String>,
    /// Least severity level: negligible, low, medium, high, critical.
    pub severity: Option<String>,
    /// With (`true`) or without (`false`) a published fix.
    pub fixable: Option<bool>,
    /// Only those exploited in the wild.
    pub exploited: Option<bool>,
    /// Text in the flaw's or the source package's name.
    pub text: Option<String>,
    /// `COLUMN` or `-COLUMN`; empty: the most urgent first.
    pub sort: Option<String>,
    /// The former page's `next`.
    pub after: Option<String>,
    /// Items a page.
    pub limit: Option<u32>,
}

/// Words of the severity levels, by number.
pub const LEVELS: [&str; 6] = ["unknown", "negligible", "low", "medium", "high", "critical"];

fn level_word(level: u8) -> String {
    LEVELS.get(usize::from(level)).copied().unwrap_or("unknown").to_owned()
}

/// A page of findings.
pub async fn list(state: &AppState, actor: &Actor, query: FindingQuery) -> Result<FindingList, OpsError> {
    actor.require(Permission::FindingRead)?;
    let filter = filter_of(&query)?;
    let part = Part { sort: query.sort.clone(), after: query.after.clone(), limit: query.limit };
    let page = narrowed_page_of(&part, finding::MOST_URGENT_FIRST, &filter.columns())?;
    let order = page.order;
    let plain = filter == FindingFilter::default();
    let (listed, names, total) = state
        .store
        .read(move |connection| {
            let listed = finding::finding_list(connection, &filter, &page)?;
            let names = host_names(connection, &listed.items)?;
            let total = if plain { Some(open_total(connection)?) } else { None };
            Ok((listed, names, total))
        })
        .await?;
    let next = listed.next.as_ref().map(|place| place_text(order, place));
    Ok(FindingList { items: listed.items.iter().map(|record| summary(record, &names)).collect(), next, total })
}

/// Words of the columns that a list narrowed like this can be sorted by.
pub fn sorts(query: &FindingQuery) -> Result<Vec<&'static str>, OpsError> {
    Ok(filter_of(query)?.columns().into_iter().map(SortColumn::as_str).collect())
}

fn open_total(connection: &mut fettle_store::Connection) -> fettle_store::Result<u64> {
    let counts = finding::finding_counts(connection)?;
    Ok(counts.iter().filter(|count| finding::OPEN_STATES.contains(&count.state)).map(|count| count.findings).sum())
}

fn host_names(
    connection: &mut fettle_store::Connection,
    records: &[FindingRecord],
) -> fettle_store::Result<HashMap<HostId, String>> {
    let hosts: BTreeSet<HostId> = records.iter().map(|record| record.host).collect();
    host::host_names(connection, &hosts.into_iter().collect::<Vec<_>>())
}

fn filter_of(query: &FindingQuery) -> Result<FindingFilter, OpsError> {
    let states = match query.state.as_deref() {
        None | Some("") => Vec::new(),
        Some("all") => FindingState::STATES.to_vec(),
        Some(list) => list
            .split(',')
            .map(|word| {
                FindingState::parse(word).ok_or_else(|| {
                    let known: Vec<&str> = FindingState::STATES.iter().map(|state| state.as_str()).collect();
                    OpsError::invalid(
                        "state",
                        format!("`{word}` is no state of a finding"),
                        format!("all, or some of {}", known.join(",")),
                    )
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let verdicts = query
        .verdict
        .as_deref()
        .filter(|list| !list.is_empty())
        .map_or(Ok(Vec::new()), |list| list.split(',').map(verdict_of).collect())?;
    let host = query
        .host
        .as_deref()
        .filter(|text| !text.is_empty())
        .map(|text| {
            text.parse::<HostId>()
                .map_err(|error| OpsError::invalid("host", error, "the id that `fettle host list` shows"))
        })
        .transpose()?;
    let least_level = match query.severity.as_deref() {
        None | Some("" | "unknown") => None,
        Some(word) => Some(level_of(word)?),
    };
    let nonempty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Ok(FindingFilter {
        states,
        verdicts,
        host,
        vulnerability: nonempty(&query.vulnerability).map(VulnId),
        source: nonempty(&query.source),
        least_level,
        fixable: query.fixable,
        exploited: query.exploited.unwrap_or(false),
        text: nonempty(&query.text),
    })
}

fn verdict_of(word: &str) -> Result<VerdictState, OpsError> {
    VerdictState::parse(word).ok_or_else(|| {
        let known: Vec<&str> = VerdictState::ALL.iter().map(|state| state.as_str()).collect();
        OpsError::invalid("verdict", format!("`{word}` is no verdict"), format!("some of {}", known.join(",")))
    })
}

fn level_of(word: &str) -> Result<u8, OpsError> {
    LEVELS.iter().position(|level| *level == word).and_then(|position| u8::try_from(position).ok()).ok_or_else(|| {
        OpsError::invalid("severity", format!("`{word}` is no severity level"), format!("one of {}", LEVELS.join(", ")))
    })
}

fn summary(record: &FindingRecord, names: &HashMap<HostId, String>) -> FindingSummary {
    FindingSummary {
        id: record.id.to_string(),
        host: record.host.to_string(),
        host_name: names.get(&record.host).cloned().unwrap_or_default(),
        vulnerability: record.vulnerability.0.clone(),
        source: record.source.clone(),
        source_version: record.source_version.clone(),
        packages: record.packages.clone(),
        state: record.state.to_string(),
        verdict: record.verdict.as_str().to_owned(),
        fixed_version: record.fixed_version.clone(),
        severity: record.severity.clone(),
        level: level_word(record.priority.severity),
        exploited: record.priority.exploit == 3,
        exploit_level: record.priority.exploit,
        first_seen: record.first_seen.to_string(),
        changed_at: record.changed_at.to_string(),
    }
}

/// Reasons for the API.
pub fn reason_views(reasons: &[Reason]) -> Vec<ReasonView> {
    reasons
        .iter()
        .map(|reason| ReasonView {
            topic: reason.topic.clone(),
            text: reason.text.clone(),
            source: reason.source.clone(),
        })
        .collect()
}

fn parse_id(id: &str) -> Result<FindingId, OpsError> {
    id.parse().map_err(|error| OpsError::invalid("id", error, "the id that `fettle finding list` shows"))
}

/// One finding with its reasons and its history.
pub async fn show(state: &AppState, actor: &Actor, id: &str) -> Result<FindingDetail, OpsError> {
    actor.require(Permission::FindingRead)?;
    let id = parse_id(id)?;
    let (record, names, facts, events, imported) = state
        .store
        .read(move |connection| {
            let record = finding::finding_get(connection, id)?;
            let names = host_names(connection, std::slice::from_ref(&record))?;
            let facts = vulnerability::vulnerability_get(connection, &record.vulnerability)?;
            let events = finding::finding_events(connection, id)?;
            let imported = super::host_import::view(connection, record.host)?;
            Ok((record, names, facts, events, imported))
        })
        .await?;
    let summary = summary(&record, &names);
    let mut reasons = record.reasons.clone();
    reasons.extend(imported.map(|imported| super::host_import::reason(&summary.host_name, &imported)));
    Ok(FindingDetail {
        summary,
        facts: facts_view(&facts.unwrap_or_default()),
        reasons: reason_views(&reasons),
        history: events
            .iter()
            .map(|event| HistoryEntry {
                at: event.at.to_string(),
                event: event.event.clone(),
                actor: event.actor.clone(),
                reasons: reason_views(&event.reasons),
            })
            .collect(),
    })
}

/// Why a finding is as it is, and what would close it.
pub async fn explain(state: &AppState, actor: &Actor, id: &str) -> Result<Explanation, OpsError> {
    let detail = show(state, actor, id).await?;
    let finding = &detail.summary;
    Ok(Explanation {
        id: finding.id.clone(),
        summary: format!(
            "{} in {} {} on {} is {} ({})",
            finding.vulnerability,
            finding.source,
            finding.source_version,
            finding.host_name,
            finding.state,
            finding.verdict
        ),
        waiting_for: waiting_for(finding),
        reasons: detail.reasons,
        history: detail.history,
    })
}

fn waiting_for(finding: &FindingSummary) -> Vec<String> {
    let fix = finding.fixed_version.as_deref().unwrap_or_default();
    let words = match (finding.state.as_str(), finding.verdict.as_str()) {
        ("verified" | "not-affected", _) => return Vec::new(),
        ("planned", _) => "the rollout of the change that is planned for it".to_owned(),
        ("remediated", _) => "the next inventory of the host, which has to prove it".to_owned(),
        (_, "restart-needed") => "a restart: the fixed version is installed but does not run yet".to_owned(),
        (_, "affected") if !fix.is_empty() => {
            format!(
                "somebody to ask for a change: fettle change create --finding {} (needs {} {fix} or later)",
                finding.id, finding.source
            )
        }
        (_, "affected") => "the vendor to publish a fixed version".to_owned(),
        (_, "end-of-life") => "an upgrade to a supported release: this one gets no fix".to_owned(),
        (_, "under-investigation") => "the vendor to say whether it is affected".to_owned(),
        _ => "nothing: the vendor decided against a fix of its own".to_owned(),
    };
    vec![words]
}

/// One vulnerability: facts and every feed's statements.
pub async fn vulnerability_show(state: &AppState, actor: &Actor, id: &str) -> Result<VulnerabilityDetail, OpsError> {
    actor.require(Permission::FindingRead)?;
    let name = VulnId(id.chars().take(200).collect());
    let wanted = name.clone();
    let (facts, statements, hosts) = state
        .store
        .read(move |connection| {
            let facts = vulnerability::vulnerability_get(connection, &wanted)?;
            let statements = advisory::advisory_of_vulnerability(connection, &wanted)?;
            let hosts = finding::finding_hosts_of_vulnerability(connection, &wanted)?;
            Ok((facts, statements, hosts))
        })
        .await?;
    if facts.is_none() && statements.is_empty() {
        return Err(OpsError::not_found(format!("vulnerability {name} (in no loaded feed)")));
    }
    Ok(VulnerabilityDetail {
        id: name.0,
        facts: facts_view(&facts.unwrap_or_default()),
        hosts,
        statements: statements.iter().map(statement_view).collect(),
    })
}

fn facts_view(facts: &VulnerabilityFacts) -> VulnerabilityFactsView {
    VulnerabilityFactsView {
        description: facts.description.clone(),
        cvss_score: facts.cvss.as_ref().map(|cvss| cvss.score),
        cvss_vector: facts.cvss.as_ref().map(|cvss| cvss.vector.clone()),
        epss_score: facts.epss.map(|epss| epss.score),
        epss_percentile: facts.epss.map(|epss| epss.percentile),
        kev_date_added: facts.kev.as_ref().map(|kev| kev.date_added.clone()),
        kev_due_date: facts.kev.as_ref().map(|kev| kev.due_date.clone()),
        kev_ransomware: facts.kev.as_ref().map(|kev| kev.ransomware),
    }
}

fn statement_view(advisory: &Advisory) -> StatementView {
    let from = |introduced: &Option<String>| match introduced {
        Some(version) => format!("from {version} "),
        None => String::new(),
    };
    let (statement, fixed_version) = match &advisory.statement {
        Statement::Fixed { introduced, fixed } => {
            (format!("affected {}until fixed in {fixed}", from(introduced)), Some(fixed.clone()))
        }
        Statement::LastAffected { introduced, last } => (format!("affected {}up to {last}", from(introduced)), None),
        Statement::Unfixed { introduced, disposition } => {
            let words = match disposition {
                Disposition::Pending => "no fix yet",
                Disposition::NoDsa => "minor, no advisory of its own",
                Disposition::Postponed => "fix put off",
                Disposition::Ignored => "will not be fixed",
                Disposition::Unimportant => "unimportant",
                Disposition::EndOfLife => "end of life",
            };
            (format!("affected {}({words})", from(introduced)), None)
        }
        Statement::NotAffected => ("not affected".to_owned(), None),
        Statement::UnderInvestigation => ("under investigation".to_owned(), None),
    };
    StatementView {
        feed: advisory.feed.0.clone(),
        record: advisory.record.clone(),
        release: advisory.release.clone(),
        source: advisory.source.clone(),
        statement,
        fixed_version,
        severity: advisory.severity.clone(),
    }
}

/// Counts of all findings by kind.
pub async fn counts(state: &AppState, actor: &Actor) -> Result<FindingCounts, OpsError> {
    actor.require(Permission::FindingRead)?;
    let counts = state.store.read(finding::finding_counts).await?;
    Ok(FindingCounts {
        items: counts
            .into_iter()
            .map(|count| FindingCountView {
                state: count.state.to_string(),
                verdict: count.verdict.as_str().to_owned(),
                level: level_word(count.level),
                fixable: count.fixable,
                exploited: count.exploited,
                findings: count.findings,
            })
            .collect(),
    })
}
