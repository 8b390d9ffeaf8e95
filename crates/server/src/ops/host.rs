//! What a person may ask of hosts and enrolment.

use super::finding::LEVELS;
use super::page::{page_of, place_text};
use super::{OpsError, Part, page_length};
use crate::access::{Actor, secret};
use crate::{AppState, clock};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fettle_domain::access::Permission;
use fettle_domain::machine::{HostEvent, HostState, Machine as _};
use fettle_domain::package::{InstallState, InstalledPackage};
use fettle_domain::reason::Reason;
use fettle_domain::{EnrolmentTokenId, HostId, Timestamp};
use fettle_store::Connection;
use fettle_store::page::{Order, Page};
use fettle_store::systems::enrolment_token::{self, EnrolmentToken};
use fettle_store::systems::finding::FindingFilter;
use fettle_store::systems::host::{self, HostFilter, HostRecord, HostSort};
use fettle_store::systems::{audit, finding, group, host_likeness, inventory, work};
use fettle_wire::agent::{HostFacts, Service};
use fettle_wire::api::finding::{Explanation, HistoryEntry, ReasonView};
use fettle_wire::api::host::{
    EnrolmentTokenCreate, EnrolmentTokenList, EnrolmentTokenMade, EnrolmentTokenView, HostCounts, HostDetail, HostList,
    HostSummary, LevelCount, PackageList, PackageView, ServiceView,
};
use std::time::Duration;

/// What a list is narrowed to, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostQuery {
    /// One state; empty: all but the retired.
    pub state: Option<String>,
    /// Group name.
    pub group: Option<String>,
    /// Release codename.
    pub codename: Option<String>,
    /// Only those that need a restart or reboot.
    pub restart_needed: Option<bool>,
    /// Text in the name.
    pub text: Option<String>,
    /// `COLUMN` or `-COLUMN`; empty: by name.
    pub sort: Option<String>,
    /// The former page's `next`.
    pub after: Option<String>,
    /// Items a page.
    pub limit: Option<u32>,
}

/// A page of hosts.
pub async fn list(state: &AppState, actor: &Actor, query: HostQuery) -> Result<HostList, OpsError> {
    actor.require(Permission::HostRead)?;
    let nonempty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let wanted = nonempty(&query.state)
        .map(|word| {
            HostState::parse(&word).ok_or_else(|| {
                let known: Vec<&str> = HostState::STATES.iter().map(|state| state.as_str()).collect();
                OpsError::invalid(
                    "state",
                    format!("`{word}` is no state of a host"),
                    format!("one of {}", known.join(", ")),
                )
            })
        })
        .transpose()?;
    let part = Part { sort: query.sort.clone(), after: query.after.clone(), limit: query.limit };
    let page = page_of(&part, Order::ascending(HostSort::Name))?;
    let order = page.order;
    let group_name = nonempty(&query.group);
    let plain = wanted.is_none()
        && group_name.is_none()
        && nonempty(&query.codename).is_none()
        && nonempty(&query.text).is_none()
        && query.restart_needed != Some(true);
    let mut filter = HostFilter {
        state: wanted,
        group: None,
        codename: nonempty(&query.codename),
        restart_needed: query.restart_needed.unwrap_or(false),
        text: nonempty(&query.text),
    };
    let (listed, total) = state
        .store
        .read(move |connection| {
            filter.group = group_name.map(|name| group::group_by_name(connection, &name)).transpose()?;
            let listed = host::host_list(connection, &filter, &page)?;
            let total = if plain {
                let counts = host::host_counts(connection)?;
                Some(counts.iter().filter(|(state, _)| **state != HostState::Retired).map(|(_, number)| number).sum())
            } else {
                None
            };
            Ok((listed, total))
        })
        .await?;
    let next = listed.next.as_ref().map(|place| place_text(order, place));
    Ok(HostList { items: listed.items.iter().map(summary).collect(), next, total })
}

fn summary(record: &HostRecord) -> HostSummary {
    HostSummary {
        id: record.id.to_string(),
        name: record.name.clone(),
        state: record.state.to_string(),
        management: management(record.state).to_owned(),
        os: record.os_name.clone(),
        codename: record.os_codename.clone(),
        reboot_pending: record.reboot_pending,
        restart_pending: u64::try_from(record.restart_pending).unwrap_or(0),
        last_seen: record.last_seen.to_string(),
        agent_version: record.agent_version.clone(),
        notices: super::identity::notices(record),
    }
}

/// How the server stands to a host in a state (`Management` of the domain).
fn management(state: HostState) -> &'static str {
    match state {
        HostState::Enrolling | HostState::Managed | HostState::Silent | HostState::Retired => "agent",
        HostState::Imported => "agentless",
        HostState::Discovered | HostState::Ignored => "unmanaged",
    }
}

/// How many hosts are in each state.
pub async fn counts(state: &AppState, actor: &Actor) -> Result<HostCounts, OpsError> {
    actor.require(Permission::HostRead)?;
    let counts = state.store.read(host::host_counts).await?;
    let of = |state| counts.get(&state).copied().unwrap_or(0);
    Ok(HostCounts {
        discovered: of(HostState::Discovered),
        enrolling: of(HostState::Enrolling),
        managed: of(HostState::Managed),
        silent: of(HostState::Silent),
        imported: of(HostState::Imported),
        retired: of(HostState::Retired),
    })
}

/// The host that an id or a unique name means.
pub(crate) fn resolve(connection: &mut Connection, text: &str) -> fettle_store::Result<HostId> {
    if let Ok(id) = text.parse::<HostId>() {
        return host::host_get(connection, id).map(|record| record.id);
    }
    let text: String = text.chars().take(253).collect();
    let mut found = host::host_by_name(connection, &text)?;
    found.retain(|record| record.state != HostState::Retired);
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => Err(fettle_store::StoreError::not_found(format!("host `{text}`"))),
        several => {
            let ids: Vec<String> = several.iter().map(|record| record.id.to_string()).collect();
            Err(fettle_store::StoreError::conflict(format!(
                "`{text}` means several hosts ({}): name one by its id",
                ids.join(", ")
            )))
        }
    }
}

/// One host, by id or unique name.
pub async fn show(state: &AppState, actor: &Actor, host: &str) -> Result<HostDetail, OpsError> {
    actor.require(Permission::HostRead)?;
    let name = host.to_owned();
    let (record, groups, packages, findings, imported, identity) = state
        .store
        .read(move |connection| {
            let id = resolve(connection, &name)?;
            let record = host::host_get(connection, id)?;
            let groups = group::group_names_of(connection, id)?;
            let packages = inventory::host_package_count(connection, id)?;
            let imported = super::host_import::view(connection, id)?;
            let identity = super::identity::view(connection, &record)?;
            Ok((record, groups, packages, level_counts(connection, id)?, imported, identity))
        })
        .await?;
    let facts: HostFacts = serde_json::from_str(&record.facts).unwrap_or_default();
    let services: Vec<Service> = serde_json::from_str(&record.services).unwrap_or_default();
    Ok(HostDetail {
        summary: summary(&record),
        groups,
        addresses: facts.addresses,
        macs: facts.macs,
        architecture: facts.architecture,
        virtualisation: facts.virtualisation,
        kernel_running: facts.kernel.running_release,
        kernel_running_version: facts.kernel.running_version,
        kernel_newest: facts.kernel.newest_installed_release,
        kernel_newest_version: facts.kernel.newest_installed_version,
        boot_id: facts.boot_id,
        location: facts.location,
        tags: facts.tags,
        reboot_reasons: facts.reboot_pending,
        read_only: facts.read_only,
        enrolled_at: record.enrolled_at.to_string(),
        imported,
        services: services.into_iter().map(service_view).collect(),
        packages,
        findings,
        identity,
    })
}

fn level_counts(connection: &mut Connection, id: HostId) -> fettle_store::Result<Vec<LevelCount>> {
    let filter = FindingFilter { host: Some(id), ..FindingFilter::default() };
    let mut counts = [0_u64; LEVELS.len()];
    let page = Page::first(finding::MOST_URGENT_FIRST, 20_000);
    for record in finding::finding_list(connection, &filter, &page)?.items {
        if let Some(count) = counts.get_mut(usize::from(record.priority.severity)) {
            *count += 1;
        }
    }
    Ok(LEVELS.iter().zip(counts).map(|(level, findings)| LevelCount { level: (*level).to_owned(), findings }).collect())
}

fn service_view(service: Service) -> ServiceView {
    ServiceView {
        unit: service.unit,
        executable: service.executable,
        package: service.package,
        listens: service.listens,
        restart_pending: service.restart_pending,
    }
}

/// A page of a host's packages.
pub async fn packages(
    state: &AppState,
    actor: &Actor,
    host: &str,
    text: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
) -> Result<PackageList, OpsError> {
    actor.require(Permission::HostRead)?;
    let (name, dictionary) = (host.to_owned(), state.packages.clone());
    let mut packages = state
        .store
        .read(move |connection| {
            let id = resolve(connection, &name)?;
            inventory::host_packages(connection, &dictionary, id)
        })
        .await?;
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        let text = text.to_lowercase();
        packages.retain(|package| package.package.name.contains(&text) || package.package.source.contains(&text));
    }
    packages.sort_by(|a, b| a.package.name.cmp(&b.package.name));
    let total = packages.len() as u64;
    let start: usize = match after {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| OpsError::invalid("after", "not a place in this list", "the `next` of the page before"))?,
    };
    let limit = page_length(limit) as usize;
    let end = start.saturating_add(limit);
    let items = packages.iter().skip(start).take(limit).map(package_view).collect();
    Ok(PackageList { items, next: ((end as u64) < total).then(|| end.to_string()), total: Some(total) })
}

fn package_view(installed: &InstalledPackage) -> PackageView {
    let package = installed.package.clone();
    PackageView {
        name: package.name,
        version: package.version,
        architecture: package.architecture,
        source: package.source,
        source_version: package.source_version,
        origin: installed.origin.clone(),
        held: installed.held,
        automatic: installed.automatic,
        state: match installed.state {
            InstallState::Installed => "installed",
            InstallState::Unpacked => "unpacked",
            InstallState::HalfConfigured => "half-configured",
            InstallState::HalfInstalled => "half-installed",
        }
        .to_owned(),
    }
}

/// Revokes a host: its certificate is refused from its next request on.
pub async fn revoke(state: &AppState, actor: &Actor, host: &str, reason: String) -> Result<(), OpsError> {
    actor.require(Permission::HostManage)?;
    let (name, actor, now) = (host.to_owned(), actor.clone(), clock::now());
    let id = state
        .store
        .write(move |connection| {
            let id = resolve(connection, &name)?;
            let reasons = [Reason::new(
                "host.revoked",
                if reason.is_empty() { "revoked by a person".to_owned() } else { reason.clone() },
            )];
            host::host_transition(connection, id, HostEvent::Retire, &actor.name, &reasons, now)?;
            super::identity::settle_origin(connection, id)?;
            audit::append(connection, now, &actor.record("host.revoke", id, serde_json::json!({ "reason": reason })))?;
            // Other servers learn it by this mark, and end the long poll of the host.
            work::work_touch(connection, id)?;
            Ok(id)
        })
        .await?;
    state.nudges.work.wake(id);
    Ok(())
}

/// Why a host is in its state, and what is waited for.
pub async fn explain(state: &AppState, actor: &Actor, host: &str) -> Result<Explanation, OpsError> {
    actor.require(Permission::HostRead)?;
    let name = host.to_owned();
    let (record, events, imported, identity) = state
        .store
        .read(move |connection| {
            let id = resolve(connection, &name)?;
            let record = host::host_get(connection, id)?;
            let imported = super::host_import::view(connection, id)?;
            let identity = super::identity::view(connection, &record)?;
            Ok((record, host_likeness::host_events_whole(connection, id)?, imported, identity))
        })
        .await?;
    let settings = &state.settings.hosts;
    let quiet = record.last_seen.until(clock::now()).as_secs();
    let mut reasons = match &imported {
        Some(imported) => super::finding::reason_views(&[super::host_import::reason(&record.name, imported)]),
        None => vec![view("host.last-seen", format!("it last spoke {quiet} seconds ago, at {}", record.last_seen))],
    };
    let facts: HostFacts = serde_json::from_str(&record.facts).unwrap_or_default();
    reasons.extend(
        facts.reboot_pending.iter().map(|why| view("host.reboot-needed", format!("a reboot is needed: {why}"))),
    );
    if record.restart_pending > 0 {
        reasons
            .push(view("host.restart-needed", format!("{} services still use replaced files", record.restart_pending)));
    }
    reasons.extend(super::identity::reasons(&identity));
    let waiting_for = match record.state {
        HostState::Enrolling => {
            vec!["its first check-in with a whole inventory (`fettle agent run` on the host)".to_owned()]
        }
        HostState::Managed => {
            let until = settings.check_in_seconds * u64::from(settings.silent_after.max(1));
            vec![format!(
                "its next check-in, every {} seconds; silent after {until} seconds without one",
                settings.check_in_seconds
            )]
        }
        HostState::Silent => {
            vec!["a check-in: see on the host whether the agent runs and reaches the server".to_owned()]
        }
        HostState::Imported => vec![
            "a newer file (`fettle agent scan` there, `fettle host import` here), or an agent (`fettle agent enrol` there)"
                .to_owned(),
        ],
        HostState::Retired => vec!["nothing: it was revoked; to manage it again enrol it anew".to_owned()],
        HostState::Discovered => {
            vec![format!("a person: `fettle host accept {}`, or `fettle host revoke` to refuse it", record.id)]
        }
        HostState::Ignored => Vec::new(),
    };
    let history = events
        .into_iter()
        .rev()
        .map(|(at, event, actor, reasons)| HistoryEntry {
            at: at.to_string(),
            event,
            actor,
            reasons: serde_json::from_str::<Vec<Reason>>(&reasons)
                .map(|list| super::finding::reason_views(&list))
                .unwrap_or_default(),
        })
        .collect();
    Ok(Explanation {
        id: record.id.to_string(),
        summary: format!("{} ({}) is {}", record.name, record.os_name, record.state),
        reasons,
        waiting_for,
        history,
    })
}

fn view(topic: &str, text: String) -> ReasonView {
    ReasonView { topic: topic.to_owned(), text, source: String::new() }
}

/// Makes an enrolment token. `own_address` is where the request reached this server.
pub async fn token_create(
    state: &AppState,
    actor: &Actor,
    request: EnrolmentTokenCreate,
    own_address: &str,
) -> Result<EnrolmentTokenMade, OpsError> {
    actor.require(Permission::HostEnrol)?;
    let uses = request.uses.unwrap_or(1);
    if !(1..=100_000).contains(&uses) {
        return Err(OpsError::invalid("uses", format!("{uses} is out of range"), "1 to 100000"));
    }
    let seconds = request.expires_seconds.unwrap_or(3600);
    if !(60..=31_536_000).contains(&seconds) {
        return Err(OpsError::invalid(
            "expires_seconds",
            format!("{seconds} is out of range"),
            "60 (a minute) to 31536000 (a year)",
        ));
    }
    if let Some(name) = &request.group {
        super::group::check_name(name)?;
    }
    let server = request.server.unwrap_or_else(|| own_address.to_owned());
    if !server.starts_with("https://") {
        return Err(OpsError::invalid(
            "server",
            format!("`{server}` is no https address"),
            "https://HOST:PORT as the machines reach it",
        ));
    }
    let secret = secret::fresh()?;
    let digest = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref().to_vec();
    let now = clock::now();
    let expires_at = now.after(Duration::from_secs(seconds));
    let id: EnrolmentTokenId = clock::fresh();
    let (by, group_name) = (actor.name.clone(), request.group.clone());
    let record = actor.record(
        "enrolment-token.create",
        id,
        serde_json::json!({ "group": request.group, "uses": uses, "expires_at": expires_at }),
    );
    state
        .store
        .write(move |connection| {
            let group = group_name.map(|name| find_or_make_group(connection, &name, now)).transpose()?;
            let token =
                EnrolmentToken { id, group, uses_left: i64::from(uses), expires_at, created_by: by, created_at: now };
            enrolment_token::enrolment_token_create(connection, &token, &digest)?;
            audit::append(connection, now, &record).map(|_| ())
        })
        .await?;
    let pin = URL_SAFE_NO_PAD.encode(state.identity.authority_fingerprint());
    let token = format!("fettle1.{pin}.{secret}");
    Ok(EnrolmentTokenMade {
        id: id.to_string(),
        command: format!("fettle agent enrol --server {server} --token {token}"),
        token,
        expires_at: expires_at.to_string(),
        uses,
    })
}

fn find_or_make_group(
    connection: &mut Connection,
    name: &str,
    now: Timestamp,
) -> fettle_store::Result<fettle_domain::GroupId> {
    match group::group_by_name(connection, name) {
        Err(fettle_store::StoreError::NotFound { .. }) => {
            let id = clock::fresh();
            group::group_create(connection, id, name, now)?;
            Ok(id)
        }
        other => other,
    }
}

/// Tokens that still work.
pub async fn token_list(state: &AppState, actor: &Actor) -> Result<EnrolmentTokenList, OpsError> {
    actor.require(Permission::HostEnrol)?;
    let now = clock::now();
    let tokens = state.store.read(move |connection| enrolment_token::enrolment_token_list(connection, now)).await?;
    Ok(EnrolmentTokenList {
        items: tokens
            .into_iter()
            .map(|token| EnrolmentTokenView {
                id: token.id.to_string(),
                uses_left: u64::try_from(token.uses_left).unwrap_or(0),
                expires_at: token.expires_at.to_string(),
                created_by: token.created_by,
                created_at: token.created_at.to_string(),
            })
            .collect(),
    })
}

/// Takes a token back.
pub async fn token_revoke(state: &AppState, actor: &Actor, id: &str) -> Result<(), OpsError> {
    actor.require(Permission::HostEnrol)?;
    let id: EnrolmentTokenId =
        id.parse().map_err(|error| OpsError::invalid("id", error, "the id that `fettle host token list` shows"))?;
    let (record, now) = (actor.record("enrolment-token.revoke", id, serde_json::json!({})), clock::now());
    state
        .store
        .write(move |connection| {
            if !enrolment_token::enrolment_token_revoke(connection, id)? {
                return Err(fettle_store::StoreError::not_found(id));
            }
            audit::append(connection, now, &record).map(|_| ())
        })
        .await?;
    Ok(())
}
