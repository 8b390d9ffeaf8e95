//! Health checks of a change: what each host saw last. The evidence stands in the events of its tasks.

use super::super::finding::reason_views;
use super::super::page::{page_of, place_text};
use super::super::{OpsError, Part, page_length};
use crate::AppState;
use crate::access::Actor;
use fettle_domain::access::Permission;
use fettle_domain::machine::{Machine as _, TaskState};
use fettle_store::page::Order;
use fettle_store::systems::change::{self, ChangeEventRecord};
use fettle_store::systems::deployment::{self, DeploymentRecord, DeploymentSort};
use fettle_wire::api::change::{HostChecks, HostChecksList};

/// Events of one deployment that are looked through.
const EVENTS: u32 = 50;
/// Hosts of a page: each costs a look into its events.
const HOSTS: u32 = 200;

/// A page of a change's hosts with their checks, by host name.
pub async fn checks(
    state: &AppState,
    actor: &Actor,
    change: &str,
    after: Option<String>,
    limit: Option<u32>,
) -> Result<HostChecksList, OpsError> {
    actor.require(Permission::ChangeRead)?;
    let part = Part { sort: None, after, limit: Some(page_length(limit).min(HOSTS)) };
    let page = page_of(&part, Order::ascending(DeploymentSort::HostName))?;
    let order = page.order;
    let text = change.to_owned();
    let (items, next) = state
        .store
        .read(move |connection| {
            let record = super::resolve(connection, &text)?;
            let listed = deployment::deployment_list(connection, record.id, &[], &page)?;
            let mut items = Vec::with_capacity(listed.items.len());
            for record in &listed.items {
                let events = change::health_events(connection, record.id, EVENTS)?;
                items.push(of(record, &events));
            }
            Ok((items, listed.next.as_ref().map(|place| place_text(order, place))))
        })
        .await?;
    Ok(HostChecksList { items, next })
}

/// The last event, or the failing one: what is seen after an undo is told with the undo.
fn of(record: &DeploymentRecord, newest_first: &[ChangeEventRecord]) -> HostChecks {
    let failing = TaskState::Undo.as_str();
    let failure = newest_first.iter().find(|event| event.state == failing);
    let last = failure.or(newest_first.first());
    let results: Vec<_> = last.iter().flat_map(|event| &event.reasons).cloned().collect();
    let results: Vec<_> = results.into_iter().filter(|reason| is_health(&reason.topic)).collect();
    HostChecks {
        deployment: record.id.to_string(),
        host: record.host.to_string(),
        host_name: record.host_name.clone(),
        task: last.map_or_else(String::new, |event| event.event.clone()),
        at: last.map_or_else(String::new, |event| event.at.to_string()),
        failed: failure.is_some(),
        results: reason_views(&results),
    }
}

fn is_health(topic: &str) -> bool {
    topic.starts_with("health.")
}
