//! The chain of a host's check-ins: what happens when one does not fit the last. The verdict is
//! `process`'s, here it becomes events, marks and refusals.

use super::likeness::marks_of;
use crate::admission::link_of;
use crate::problem::Refusal;
use crate::{AppState, clock};
use axum::http::StatusCode;
use fettle_domain::host::MachineMarks;
use fettle_domain::reason::Reason;
use fettle_domain::{HostId, Timestamp};
use fettle_process::gathering::{KnownChain, PresentedLink, Speaker, who_speaks};
use fettle_store::systems::audit::{self, AuditRecord};
use fettle_store::systems::host_identity::{self, HostChain};
use fettle_store::systems::{host, work};
use fettle_store::{Connection, Result};
use fettle_wire::agent::{Chain, HostFacts, problem};
use fettle_wire::api::problem::kind;
use ring::digest::{SHA256, digest};

/// The links of a check-in; empty ones of an agent that keeps no chain.
pub(super) fn presented(chain: Option<&Chain>) -> std::result::Result<PresentedLink, Refusal> {
    let Some(chain) = chain else { return Ok(PresentedLink { previous: Vec::new(), link: Vec::new() }) };
    let previous = if chain.previous.is_empty() { Some(Vec::new()) } else { link_of(&chain.previous) };
    match (previous, link_of(&chain.link)) {
        (Some(previous), Some(link)) => Ok(PresentedLink { previous, link }),
        _ => Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            kind::INVALID,
            "The chain of check-ins cannot be read",
            "a link is not 32 digits of lowercase hex",
        )
        .about("chain")),
    }
}

/// A link that does not fit: whether the check-in may be taken; `false`: its facts must be seen first.
/// A copy of the machine is refused.
pub(super) async fn settle(
    state: &AppState,
    id: HostId,
    presented: PresentedLink,
    facts: Option<&HostFacts>,
) -> std::result::Result<bool, Refusal> {
    let Some(facts) = facts else { return Ok(false) };
    let (marks, now) = (marks_of(facts).0, clock::now());
    let speaker = state.store.write(move |connection| decide(connection, id, &presented, &marks, now)).await?;
    match speaker {
        Speaker::Rightful | Speaker::Restored(_) | Speaker::Returned(_) => Ok(true),
        Speaker::Copy(reasons) => {
            let why: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            tracing::warn!(host.id = %id, reasons = why.join("; "), "a second machine uses the identity of a host; it is told to get one of its own");
            let detail = format!("another machine is {id} and keeps this identity: {}", why.join("; "));
            Err(Refusal::new(
                StatusCode::FORBIDDEN,
                problem::IDENTITY_CLONED,
                "This machine is a copy of another host",
                detail,
            )
            .advise("The agent asks for an identity of its own by itself; a person accepts it (`fettle host list --state discovered`)."))
        }
    }
}

fn decide(
    connection: &mut Connection,
    id: HostId,
    presented: &PresentedLink,
    marks: &MachineMarks,
    now: Timestamp,
) -> Result<Speaker> {
    let identity = host_identity::host_identity_get(connection, id)?;
    let known = identity.chain;
    let known =
        KnownChain { link: known.link, before: known.before, superseded: known.superseded, barred: known.barred };
    let facts: HostFacts = serde_json::from_str(&host::host_get(connection, id)?.facts).unwrap_or_default();
    let (speaker, after) = who_speaks(&known, &marks_of(&facts).0, presented, marks);
    if after != known {
        let chain =
            HostChain { link: after.link, before: after.before, superseded: after.superseded, barred: after.barred };
        host_identity::host_chain_set(connection, id, &chain)?;
    }
    match &speaker {
        Speaker::Rightful => {}
        Speaker::Restored(why) => note(connection, id, "restore", why, now)?,
        Speaker::Returned(why) => {
            host_identity::host_cloned(connection, id, &[], now)?;
            note(connection, id, "notice-clone", why, now)?;
            // Whoever of the two waits for work is asked to check in first.
            work::work_touch(connection, id)?;
        }
        Speaker::Copy(why) => {
            let copy = digest_of(marks);
            // A copy that goes on knocking is told of once.
            if identity.copy_digest != copy {
                note(connection, id, "notice-clone", why, now)?;
            }
            host_identity::host_cloned(connection, id, &copy, now)?;
        }
    }
    Ok(speaker)
}

fn digest_of(marks: &MachineMarks) -> Vec<u8> {
    let text = format!("{marks:?}");
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

fn note(connection: &mut Connection, id: HostId, event: &str, why: &[Reason], now: Timestamp) -> Result<()> {
    host::host_note(connection, id, now, event, "check-in", why)?;
    let record = AuditRecord {
        actor: "server".to_owned(),
        action: if event == "restore" { "host.restored" } else { "host.clone-noticed" },
        object: id.to_string(),
        detail: serde_json::json!({ "reasons": why }),
    };
    audit::append(connection, now, &record).map(|_| ())
}
