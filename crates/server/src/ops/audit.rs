//! The audit log: who did what to what, and whether somebody tampered with it.

use super::page::{narrowed_page_of, place_text};
use super::{OpsError, Part};
use crate::AppState;
use crate::access::Actor;
use fettle_domain::access::Permission;
use fettle_store::page::{Order, SortColumn};
use fettle_store::systems::audit::{self, AuditEntry, AuditFilter, AuditSort};
use fettle_wire::api::audit::{AuditEntry as Shown, AuditList, AuditVerdict};

/// Which entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `COLUMN` or `-COLUMN`; empty: the newest first.
    pub sort: Option<String>,
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

/// Words of the columns that the log narrowed like this can be sorted by.
pub fn sorts(wanted: &Wanted) -> Vec<&'static str> {
    let Wanted { actor, action, object, .. } = wanted.clone();
    AuditFilter { actor, action, object }.columns().into_iter().map(SortColumn::as_str).collect()
}

/// A page of entries.
pub async fn list(state: &AppState, actor: &Actor, wanted: Wanted) -> Result<AuditList, OpsError> {
    actor.require(Permission::AuditRead)?;
    let part = Part { sort: wanted.sort, after: wanted.after, limit: wanted.limit };
    let filter = AuditFilter { actor: wanted.actor, action: wanted.action, object: wanted.object };
    let page = narrowed_page_of(&part, Order::descending(AuditSort::Sequence), &filter.columns())?;
    let order = page.order;
    let filtered = filter != AuditFilter::default();
    let (listed, total) = state
        .store
        .read(move |connection| Ok((audit::list(connection, &filter, &page)?, audit::count(connection)?)))
        .await?;
    let next = listed.next.as_ref().map(|place| place_text(order, place));
    Ok(AuditList { items: listed.items.into_iter().map(shown).collect(), next, total: (!filtered).then_some(total) })
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
