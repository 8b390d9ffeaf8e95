//! What a person may ask of hosts' identities: copies, machines installed anew, wrong clocks.

use super::host::resolve;
use super::{OpsError, finding};
use crate::access::Actor;
use crate::{AppState, clock};
use fettle_domain::access::Permission;
use fettle_domain::machine::{HostEvent, HostState};
use fettle_domain::reason::Reason;
use fettle_domain::time::span_words;
use fettle_domain::{HostId, Timestamp};
use fettle_store::systems::host::{self, HostRecord};
use fettle_store::systems::{audit, host_identity, host_likeness, work};
use fettle_store::{Connection, StoreError};
use fettle_wire::api::finding::ReasonView;
use fettle_wire::api::host::{HostIdentityView, HostName, LikenessView};
use std::time::Duration;

/// What a list says of a host's identity, in a few words each; empty: nothing to see to.
pub(super) fn notices(record: &HostRecord) -> Vec<String> {
    let mut notices = Vec::new();
    if record.state == HostState::Discovered {
        notices.push("waits to be accepted: the copy of another host".to_owned());
    }
    if record.cloned_at.is_some() && record.state != HostState::Retired {
        notices.push("two machines with its identity".to_owned());
    }
    notices.extend(clock_words(record.clock_apart).map(|words| format!("clock {words}")));
    if record.likenesses > 0 {
        notices.push("may be a host installed anew".to_owned());
    }
    notices
}

/// `3 years behind`; `None` within bounds.
fn clock_words(apart: i64) -> Option<String> {
    let way = if apart < 0 { "behind" } else { "ahead" };
    (apart != 0).then(|| format!("{} {way}", span_words(Duration::from_millis(apart.unsigned_abs()))))
}

/// All that is known of a host's identity.
pub(super) fn view(connection: &mut Connection, record: &HostRecord) -> fettle_store::Result<HostIdentityView> {
    let identity = host_identity::host_identity_get(connection, record.id)?;
    let named = |(id, name): (HostId, String)| HostName { id: id.to_string(), name };
    let names = |connection: &mut Connection, id: Option<HostId>| -> fettle_store::Result<Option<HostName>> {
        let Some(id) = id else { return Ok(None) };
        Ok(Some(named((id, host::host_get(connection, id)?.name))))
    };
    let may_be = host_likeness::host_likenesses(connection, record.id)?;
    let successor = host_likeness::host_successor(connection, record.id)?;
    Ok(HostIdentityView {
        certificate_expires_at: identity.expires_at.map(|at| at.to_string()),
        certificates: u64::try_from(identity.certificates).unwrap_or(0),
        clock: clock_words(record.clock_apart).unwrap_or_default(),
        cloned_at: record.cloned_at.map(|at| at.to_string()),
        copies: host_identity::host_clones(connection, record.id)?.into_iter().map(named).collect(),
        copy_of: names(connection, identity.cloned_from)?,
        formerly: host_likeness::host_predecessors(connection, record.id)?.into_iter().map(named).collect(),
        goes_on_as: names(connection, successor)?,
        may_be: may_be
            .into_iter()
            .map(|one| LikenessView {
                host: HostName { id: one.other.to_string(), name: one.name },
                state: one.state.to_string(),
                reasons: finding::reason_views(&serde_json::from_str::<Vec<Reason>>(&one.reasons).unwrap_or_default()),
            })
            .collect(),
    })
}

/// The same as reasons of an explanation.
pub(super) fn reasons(identity: &HostIdentityView) -> Vec<ReasonView> {
    let view = |topic: &str, text: String| ReasonView { topic: topic.to_owned(), text, source: String::new() };
    let mut reasons = Vec::new();
    if !identity.clock.is_empty() {
        let text = format!(
            "its clock is {}: windows and expiry go by the host's clock, so it takes no orders while that is more than an hour; set it there",
            identity.clock
        );
        reasons.push(view("identity.clock", text));
    }
    if let Some(at) = &identity.cloned_at {
        let text = format!("two machines use its identity (last noticed at {at}); the one that this host is keeps it");
        reasons.push(view("identity.cloned", text));
    }
    reasons.extend(
        identity
            .copies
            .iter()
            .map(|copy| view("identity.copy", format!("{} ({}) was a copy of it", copy.name, copy.id))),
    );
    if let Some(of) = &identity.copy_of {
        reasons.push(view("identity.copy-of", format!("it was a copy of {} ({})", of.name, of.id)));
    }
    for one in &identity.may_be {
        let why: Vec<&str> = one.reasons.iter().map(|reason| reason.text.as_str()).collect();
        let text = format!("it may be the same machine as {} ({}): {}", one.host.name, one.host.id, why.join("; "));
        reasons.push(view("identity.may-be", text));
    }
    reasons.extend(
        identity
            .formerly
            .iter()
            .map(|host| view("identity.formerly", format!("it was {} ({}) before", host.name, host.id))),
    );
    if let Some(host) = &identity.goes_on_as {
        reasons.push(view("identity.goes-on", format!("its machine goes on as {} ({})", host.name, host.id)));
    }
    if let Some(at) = &identity.certificate_expires_at {
        reasons
            .push(view("identity.certificate", format!("its certificate expires at {at}; the agent renews it before")));
    }
    reasons
}

/// Accepts the copy of a host as a host of its own.
pub async fn accept(state: &AppState, actor: &Actor, host: &str) -> Result<(), OpsError> {
    actor.require(Permission::HostEnrol)?;
    let (name, actor, now) = (host.to_owned(), actor.clone(), clock::now());
    state
        .store
        .write(move |connection| {
            let id = resolve(connection, &name)?;
            let why = [Reason::new("identity.accepted", "a person accepted it as a host of its own")];
            host::host_transition(connection, id, HostEvent::Enrol, &actor.name, &why, now)?;
            settle_origin(connection, id)?;
            audit::append(connection, now, &actor.record("host.accept", id, serde_json::json!({}))).map(|_| ())
        })
        .await?;
    Ok(())
}

/// When no copy of a host waits any more, its mark goes.
pub(super) fn settle_origin(connection: &mut Connection, copy: HostId) -> fettle_store::Result<()> {
    match host_identity::host_identity_get(connection, copy)?.cloned_from {
        Some(origin) if host_identity::host_clones_waiting(connection, origin)? == 0 => {
            host_identity::host_clone_settled(connection, origin)
        }
        _ => Ok(()),
    }
}

/// A host is the same machine as an older one, installed anew: it takes over groups and history, and
/// the older one is revoked.
pub async fn merge(state: &AppState, actor: &Actor, host: &str, with: &str) -> Result<(), OpsError> {
    actor.require(Permission::HostManage)?;
    let (name, with, actor, now) = (host.to_owned(), with.to_owned(), actor.clone(), clock::now());
    let former = state
        .store
        .write(move |connection| {
            let id = resolve(connection, &name)?;
            // By its id also when it is revoked, which a name would not find.
            let former = resolve(connection, &with)?;
            take_over(connection, &actor, id, former, now)?;
            Ok(former)
        })
        .await?;
    state.nudges.work.wake(former);
    Ok(())
}

fn take_over(
    connection: &mut Connection,
    actor: &Actor,
    id: HostId,
    former: HostId,
    now: Timestamp,
) -> fettle_store::Result<()> {
    let (record, old) = (host::host_get(connection, id)?, host::host_get(connection, former)?);
    let refuse = |what: String| Err(StoreError::conflict(what));
    if id == former {
        return refuse(format!("{} would be merged with itself; it", record.name));
    }
    if record.state == HostState::Retired || record.state == HostState::Discovered {
        return refuse(format!("{} is {}; it", record.name, record.state));
    }
    if host_likeness::host_successor(connection, former)?.is_some() {
        return refuse(format!("{} already goes on as another host; it", old.name));
    }
    let why = |text: String| [Reason::new("identity.merged", text)];
    if old.state != HostState::Retired {
        let text = why(format!("its machine was installed anew and goes on as {} ({id})", record.name));
        host::host_transition(connection, former, HostEvent::Retire, &actor.name, &text, now)?;
        work::work_touch(connection, former)?;
    }
    host_likeness::host_succeed(connection, former, id, now)?;
    host_likeness::host_likeness_answered(connection, id)?;
    let text = why(format!("it is the machine that was {} ({former}): groups and history went over", old.name));
    host::host_note(connection, id, now, "merge", &actor.name, &text)?;
    let detail = serde_json::json!({ "with": former.to_string(), "name": old.name });
    audit::append(connection, now, &actor.record("host.merge", id, detail)).map(|_| ())
}

/// A host is not the same machine as any of those it resembles.
pub async fn dismiss(state: &AppState, actor: &Actor, host: &str) -> Result<(), OpsError> {
    actor.require(Permission::HostManage)?;
    let (name, actor, now) = (host.to_owned(), actor.clone(), clock::now());
    state
        .store
        .write(move |connection| {
            let id = resolve(connection, &name)?;
            if host_likeness::host_likeness_answered(connection, id)? == 0 {
                return Err(StoreError::not_found(format!("a question whether {id} is another host installed anew")));
            }
            let why = [Reason::new("identity.distinct", "a person said that it is another machine")];
            host::host_note(connection, id, now, "dismiss", &actor.name, &why)?;
            audit::append(connection, now, &actor.record("host.dismiss", id, serde_json::json!({}))).map(|_| ())
        })
        .await?;
    Ok(())
}
