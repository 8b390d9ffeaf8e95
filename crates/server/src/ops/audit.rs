//! The audit log: who did what to what, and whether somebody tampered with it.

use super::{OpsError, page_length};
use crate::AppState;
use crate::access::Actor;
use fettle_domain::access::Permission;
use fettle_store::systems::audit::{self, AuditEntry, AuditFilter};
use fettle_wire::api::audit::{AuditEntry as Shown, AuditList, AuditVerdict};

/// Which entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `next` of the page before.
    pub after: Option<String>,
    /// Items at most.
    pub limit: Option<u32>,
    /// Only of this actor.
    pub actor: Option<String>,
    /// Only this action, or with a trailing dot all that begin so.
    pub action: Option<String>,
    /// Only about this object.
    pub object: Option<String>,
}

/// Entries, newest first.
pub async fn list(state: &AppState, actor: &Actor, wanted: Wanted) -> Result<AuditList, OpsError> {
    actor.require(Permission::AuditRead)?;
    let before = wanted.after.map(|text| {
        text.parse().map_err(|_| {
            OpsError::invalid(
                "after",
                format!("`{}` is no sequence number", text.chars().take(40).collect::<String>()),
                "the `next` of the page before",
            )
        })
    });
    let filtered = wanted.actor.is_some() || wanted.action.is_some() || wanted.object.is_some();
    let filter =
        AuditFilter { before: before.transpose()?, actor: wanted.actor, action: wanted.action, object: wanted.object };
    let limit = page_length(wanted.limit);
    let (entries, total) = state
        .store
        .read(move |connection| Ok((audit::list(connection, &filter, limit)?, audit::count(connection)?)))
        .await?;
    let full = entries.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next = entries.last().filter(|entry| full && entry.sequence > 1).map(|entry| entry.sequence.to_string());
    Ok(AuditList { items: entries.into_iter().map(shown).collect(), next, total: (!filtered).then_some(total) })
}

/// Walks the whole chain, a part at a time so that nobody waits for it.
pub async fn verify(state: &AppState, actor: &Actor) -> Result<AuditVerdict, OpsError> {
    actor.require(Permission::AuditRead)?;
    let mut verdict = audit::verify_start();
    loop {
        let (now, done) = state
            .store
            .read(move |connection| {
                let done = audit::verify_part(connection, &mut verdict)?;
                Ok((verdict, done))
            })
            .await?;
        verdict = now;
        if done {
            break;
        }
    }
    let (broken_at, why) = verdict.broken.map_or((None, String::new()), |(sequence, why)| (Some(sequence), why));
    Ok(AuditVerdict { intact: broken_at.is_none(), checked: verdict.checked, head: hex(&verdict.head), broken_at, why })
}

fn shown(entry: AuditEntry) -> Shown {
    Shown {
        sequence: entry.sequence,
        at: entry.at.to_string(),
        actor: entry.actor,
        action: entry.action,
        object: entry.object,
        detail: serde_json::from_str(&entry.detail).unwrap_or(serde_json::Value::Null),
        digest: hex(&entry.digest),
    }
}

fn hex(bytes: &[u8]) -> String {
    fettle_content::digest::hex(bytes)
}
