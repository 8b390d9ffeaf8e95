//! A sign of life, with what changed. The host's digests are compared with the store's; a section
//! that differs is taken from the request, or asked for.

use super::chain;
use super::likeness::marks_of;
use crate::admission;
use crate::extract::Body;
use crate::problem::Refusal;
use crate::{AppState, PeerHost, clock};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use fettle_content::sha256_hex;
use fettle_domain::machine::{HostEvent, HostState};
use fettle_domain::package::{InstalledPackage, apply_difference};
use fettle_domain::{HostId, Timestamp};
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_store::systems::host_seen::{HostHead, Seen};
use fettle_store::systems::inventory::{self, PackageDictionary};
use fettle_store::systems::package_dictionary::Learned;
use fettle_store::systems::{host_identity, host_likeness};
use fettle_store::{Connection, StoreError};
use fettle_wire::agent::{CheckIn, CheckInReply, HostFacts, PackagesReport, Section, Service};
use fettle_wire::api::problem::kind;
use std::sync::Arc;
use std::time::Duration;

/// Most packages of a host.
const PACKAGES: usize = 50_000;
/// Most services of a host.
const SERVICES: usize = 20_000;
/// Longest text in a package or service.
const TEXT: usize = 1024;
/// Clocks that are further apart are told.
const CLOCK_BOUND: Duration = Duration::from_secs(300);
/// Tries when another server writes the same rows at the same moment.
const TRIES: u32 = 3;

pub(super) async fn check_in(
    State(state): State<AppState>,
    Extension(peer): Extension<PeerHost>,
    Body(check_in): Body<CheckIn>,
) -> Result<Json<CheckInReply>, Refusal> {
    let peer = peer.require()?;
    check_digests(&check_in)?;
    let link = chain::presented(check_in.chain.as_ref())?;
    let seen = Seen {
        key: peer.key.to_vec(),
        previous: link.previous.clone(),
        link: link.link.clone(),
        ..Seen::plain(peer.host, clock::now())
    };
    let head = match state.intake.seen(seen.clone()).await? {
        Some(head) => head,
        None => {
            admission::reconsider(&state, peer).await?;
            state.intake.seen(seen).await?.ok_or_else(|| Refusal::host_revoked(peer.host))?
        }
    };
    admission::admit(&state, peer, head.state, &head.keys).await?;
    let known = link.link.is_empty() || head.link == link.link;
    let settled = known || chain::settle(&state, peer.host, link, check_in.facts.as_ref()).await?;
    let want = if settled {
        take(&state, peer.host, &head, check_in).await?
    } else {
        // Who it is has to be seen first; nothing is taken before.
        vec![Section::Facts]
    };
    Ok(Json(CheckInReply {
        want,
        chain_unsettled: !settled,
        next_seconds: state.settings.hosts.check_in_seconds,
        server_time: clock::now(),
    }))
}

/// How far a host's clock is ahead in milliseconds; nothing within bounds, where a way through the
/// network and a slow host may account for it.
fn clock_apart(host: Timestamp, now: Timestamp) -> i64 {
    let apart = host.unix_millis().saturating_sub(now.unix_millis());
    if apart.unsigned_abs() <= CLOCK_BOUND.as_millis().try_into().unwrap_or(u64::MAX) { 0 } else { apart }
}

/// Whether that is news: a drift of a tenth is not.
fn clock_is_news(known: i64, apart: i64) -> bool {
    (known == 0) != (apart == 0) || known.saturating_sub(apart).unsigned_abs() > known.unsigned_abs() / 10
}

/// Without these a host without any inventory would count as one that reported.
fn check_digests(check_in: &CheckIn) -> Result<(), Refusal> {
    let digests = &check_in.digests;
    for (section, digest) in
        [("facts", &digests.facts), ("packages", &digests.packages), ("services", &digests.services)]
    {
        if digest.len() != 64 || !digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(too_much(&format!("digests.{section}"), "no sha-256 in lowercase hex"));
        }
    }
    Ok(())
}

/// Takes what changed; returns what is still missing.
async fn take(state: &AppState, host: HostId, head: &HostHead, check_in: CheckIn) -> Result<Vec<Section>, Refusal> {
    let mut want = Vec::new();
    let mut changes = Changes::default();
    let version = bounded("agent_version", check_in.agent_version, 64)?;
    if head.agent_version != version {
        changes.agent_version = Some(version);
    }
    let apart = clock_apart(check_in.time, clock::now());
    if clock_is_news(head.clock_apart, apart) {
        changes.clock_apart = Some(apart);
    }
    if head.facts_digest != check_in.digests.facts {
        match check_in.facts {
            Some(facts) => changes.facts = Some(facts_columns(facts, &check_in.digests.facts)?),
            None => want.push(Section::Facts),
        }
    }
    if head.packages_digest != check_in.digests.packages {
        match check_in.packages {
            Some(report) => match packages(state, report, &check_in.digests.packages).await? {
                Some(packages) => changes.packages = Some((check_in.digests.packages, packages)),
                None => want.push(Section::Packages),
            },
            None => want.push(Section::Packages),
        }
    }
    if head.services_digest != check_in.digests.services {
        match check_in.services {
            Some(services) => changes.services = Some(service_columns(services, &check_in.digests.services)?),
            None => want.push(Section::Services),
        }
    }
    changes.reported = want.is_empty() && head.state != HostState::Managed;
    if changes.any() {
        keep(state, host, changes).await?;
    }
    Ok(want)
}

#[derive(Default)]
struct Changes {
    agent_version: Option<String>,
    clock_apart: Option<i64>,
    facts: Option<(HostFactsColumns, Vec<String>)>,
    packages: Option<(String, Vec<InstalledPackage>)>,
    services: Option<(String, String, i64)>,
    /// Everything is there, and the host does not count as managed yet.
    reported: bool,
}

impl Changes {
    fn any(&self) -> bool {
        self.inventory() || self.reported || self.agent_version.is_some() || self.clock_apart.is_some()
    }

    /// Whether anything of what findings rest on changed.
    fn inventory(&self) -> bool {
        self.facts.is_some() || self.packages.is_some() || self.services.is_some()
    }

    fn write(
        &self,
        connection: &mut Connection,
        dictionary: &PackageDictionary,
        host: HostId,
        now: Timestamp,
    ) -> fettle_store::Result<Learned> {
        let mut learned = Learned::default();
        if let Some(version) = &self.agent_version {
            host::host_set_agent_version(connection, host, version)?;
        }
        if let Some(apart) = self.clock_apart {
            host_identity::host_set_clock(connection, host, apart)?;
        }
        if let Some((facts, marks)) = &self.facts {
            host::host_set_facts(connection, host, facts)?;
            host_likeness::host_marks_set(connection, host, marks)?;
        }
        if let Some((digest, packages)) = &self.packages {
            learned = inventory::package_set_put(connection, dictionary, digest, packages)?;
            host::host_set_packages(connection, host, digest)?;
        }
        if let Some((digest, json, pending)) = &self.services {
            host::host_set_services(connection, host, json, digest, *pending)?;
        }
        if self.inventory() {
            host::host_mark_changed(connection, host, now)?;
        }
        if self.reported {
            host::host_transition(connection, host, HostEvent::Report, "check-in", &[], now)?;
        }
        Ok(learned)
    }
}

/// Writes it, and tells the steps that look at inventories.
async fn keep(state: &AppState, host: HostId, changes: Changes) -> Result<(), Refusal> {
    let (changes, now) = (Arc::new(changes), clock::now());
    for left in (0..TRIES).rev() {
        let (changes, dictionary) = (changes.clone(), state.packages.clone());
        match state.store.write(move |connection| changes.write(connection, &dictionary, host, now)).await {
            Ok(learned) => {
                state.packages.remember(learned);
                break;
            }
            Err(StoreError::Conflict { .. }) if left > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    if changes.inventory() {
        state.nudges.gathering.notify_one();
        state.nudges.audit.notify_one();
    }
    Ok(())
}

fn bounded(field: &str, text: String, longest: usize) -> Result<String, Refusal> {
    if text.len() > longest {
        Err(too_much(field, &format!("{} bytes; at most {longest} are taken", text.len())))
    } else {
        Ok(text)
    }
}

fn too_much(field: &str, what: &str) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, kind::INVALID, "The report is beyond all measure", what).about(field)
}

fn wrong_digest(section: &str) -> Refusal {
    Refusal::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        kind::INVALID,
        "Digest and content differ",
        format!("the digest of the {section} is not that of what was sent; nothing was changed"),
    )
    .about(section)
    .advise("Agent and server may be of versions that do not know each other: update the older one.")
}

fn json_of<T: serde::Serialize>(value: &T, section: &str) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|error| too_much(section, &error.to_string()))
}

pub(super) fn facts_columns(facts: HostFacts, digest: &str) -> Result<(HostFactsColumns, Vec<String>), Refusal> {
    let json = json_of(&facts, "facts")?;
    if json.len() > 256 << 10 {
        return Err(too_much("facts", "more than 256 KB of facts"));
    }
    if sha256_hex(json.as_bytes()) != digest {
        return Err(wrong_digest("facts"));
    }
    Ok((columns_of(&facts, json, digest), marks_of(&facts).1))
}

/// Facts as the store keeps them. Lists show the columns, so those are cut to what a list can show.
pub(super) fn columns_of(facts: &HostFacts, json: String, digest: &str) -> HostFactsColumns {
    HostFactsColumns {
        name: shown_name(facts),
        os_id: shown(&facts.os.id, 64),
        os_codename: shown(&facts.os.codename, 64),
        os_name: shown(&facts.os.pretty_name, 200),
        reboot_pending: !facts.reboot_pending.is_empty(),
        json,
        digest: digest.to_owned(),
    }
}

fn shown(text: &str, longest: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(longest).collect()
}

/// What a host is called.
pub(super) fn shown_name(facts: &HostFacts) -> String {
    let name = shown(if facts.fqdn.is_empty() { &facts.name } else { &facts.fqdn }, 253);
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

pub(super) fn service_columns(services: Vec<Service>, digest: &str) -> Result<(String, String, i64), Refusal> {
    if services.len() > SERVICES {
        return Err(too_much("services", &format!("{} services; at most {SERVICES} are taken", services.len())));
    }
    let pending = services.iter().filter(|service| service.restart_pending).count();
    let json = json_of(&services, "services")?;
    if sha256_hex(json.as_bytes()) != digest {
        return Err(wrong_digest("services"));
    }
    Ok((digest.to_owned(), json, i64::try_from(pending).unwrap_or(i64::MAX)))
}

/// The whole list that a report comes to; `None` when it rests on a set that is not here.
async fn packages(
    state: &AppState,
    report: PackagesReport,
    digest: &str,
) -> Result<Option<Vec<InstalledPackage>>, Refusal> {
    let complete = matches!(report, PackagesReport::Complete { .. });
    let list = match report {
        PackagesReport::Complete { packages } => packages,
        PackagesReport::Difference { base, removed, added } => {
            let dictionary = state.packages.clone();
            let known = state
                .store
                .read(move |connection| {
                    if !inventory::package_set_exists(connection, &base)? {
                        return Ok(None);
                    }
                    inventory::package_set_get(connection, &dictionary, &base).map(Some)
                })
                .await?;
            let Some(base) = known else { return Ok(None) };
            apply_difference(base, &removed, added)
        }
    };
    check_packages(&list)?;
    if sha256_hex(json_of(&list, "packages")?.as_bytes()) != digest {
        // A difference that does not add up is no fault of anybody: the whole list is asked for.
        return if complete { Err(wrong_digest("packages")) } else { Ok(None) };
    }
    Ok(Some(list))
}

pub(super) fn check_packages(packages: &[InstalledPackage]) -> Result<(), Refusal> {
    if packages.len() > PACKAGES {
        return Err(too_much("packages", &format!("{} packages; at most {PACKAGES} are taken", packages.len())));
    }
    for installed in packages {
        let package = &installed.package;
        let texts = [
            &package.name,
            &package.version,
            &package.architecture,
            &package.source,
            &package.source_version,
            &installed.origin,
        ];
        if texts.iter().any(|text| text.len() > TEXT || text.chars().any(char::is_control)) {
            let name: String = package.name.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(too_much(
                "packages",
                &format!("package `{name}` has a text with control characters or longer than {TEXT} bytes"),
            ));
        }
    }
    let wrong = packages.iter().zip(packages.iter().skip(1)).find(|(first, second)| first.package >= second.package);
    if let Some((first, _)) = wrong {
        return Err(too_much(
            "packages",
            &format!("the list is not sorted, or names `{}` twice in one version", first.package.name),
        ));
    }
    Ok(())
}
