//! What a host is to do, made anew from the store at each look: unanswered dry runs, orders that were
//! not answered, undo orders, orders asked back.

use super::log;
use super::order::{self, Order};
use crate::{AppState, clock};
use fettle_domain::machine::{DeploymentState, RolloutState};
use fettle_domain::{HostId, Timestamp};
use fettle_store::systems::deployment::{self, DeploymentRecord, OrderRecord};
use fettle_store::systems::{host, rehearsal, rollout};
use fettle_store::{Connection, Result, StoreError};
use fettle_wire::agent::WorkItem;
use fettle_wire::offer::OfferAction;
use std::time::Duration;

/// Dry runs in one answer; the next ones come when these are answered.
const REHEARSALS: u32 = 16;
/// Orders in one answer: each carries a whole manifest.
const ORDERS: usize = 8;
/// How long an undo order is good; afterwards a new one is signed as long as it is wanted.
const UNDO_GOOD_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// Attempts when another server changed something at the same moment.
const ATTEMPTS: usize = 3;

/// What a deployment means for its host now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Order(OfferAction),
    AskBack,
}

/// All items.
pub(super) async fn items(state: &AppState, host: HostId) -> Result<Vec<WorkItem>> {
    for _ in 1..ATTEMPTS {
        match try_items(state, host).await {
            Err(StoreError::Conflict { .. } | StoreError::Duplicate { .. }) => {}
            answer => return answer,
        }
    }
    try_items(state, host).await
}

async fn try_items(state: &AppState, host: HostId) -> Result<Vec<WorkItem>> {
    let now = clock::now();
    let (rehearsals, due, unsigned) = state.store.read(move |connection| look(connection, host, now)).await?;
    let orders = if unsigned {
        state.store.write(move |connection| sign_missing(connection, host, now)).await?
    } else {
        state.store.read(move |connection| orders(connection, &due, now)).await?
    };
    let mut items: Vec<WorkItem> = rehearsals;
    for (deployment, due, order) in orders {
        match (due, order) {
            (Due::AskBack, _) => items.push(WorkItem::Withdraw { deployment }),
            (Due::Order(_), Some(order)) => items.push(WorkItem::Offer { envelope: order::sign(state, &order)? }),
            (Due::Order(_) | Due::Nothing, _) => {}
        }
    }
    Ok(items)
}

type Outstanding = (Vec<WorkItem>, Vec<(DeploymentRecord, Due)>, bool);

/// Reads only: most looks find everything signed already.
fn look(connection: &mut Connection, host: HostId, now: Timestamp) -> Result<Outstanding> {
    let asked = rehearsal::rehearsals_asked_of_host(connection, host, REHEARSALS)?;
    let mut rehearsals: Vec<WorkItem> = asked
        .into_iter()
        .filter_map(|asked| Some(WorkItem::Rehearse { rehearsal: asked.id, job: asked.job? }))
        .collect();
    rehearsals.extend(log::wanted(connection, host, now)?);
    let due = due_of_host(connection, host)?;
    let mut unsigned = false;
    for (deployment, due) in &due {
        if let Due::Order(action) = due {
            unsigned |= good_order(connection, deployment, *action, now)?.is_none();
        }
    }
    Ok((rehearsals, due, unsigned))
}

fn due_of_host(connection: &mut Connection, host: HostId) -> Result<Vec<(DeploymentRecord, Due)>> {
    let mut found = Vec::new();
    for deployment in deployment::deployments_outstanding(connection, host)? {
        let due = due_of(connection, &deployment)?;
        if due != Due::Nothing {
            found.push((deployment, due));
        }
        if found.len() == ORDERS {
            break;
        }
    }
    Ok(found)
}

fn due_of(connection: &mut Connection, deployment: &DeploymentRecord) -> Result<Due> {
    use DeploymentState as S;
    Ok(match deployment.state {
        S::Offered if deployment.withdraw_at.is_none() => {
            // Once handed out it is handed out again, so that orders reach the host in the order of their numbers.
            let goes_on = deployment.delivered_at.is_some()
                || matches!(
                    rollout::rollout_get(connection, deployment.rollout)?.state,
                    RolloutState::Running | RolloutState::Completed
                );
            if goes_on { Due::Order(OfferAction::Deploy) } else { Due::Nothing }
        }
        S::Offered | S::Queued | S::Fetching | S::Ready if deployment.withdraw_at.is_some() => Due::AskBack,
        S::Applying | S::Rebooting | S::Checking | S::Succeeded
            if deployment.undo_at.is_some() && deployment.undo_refused.is_none() =>
        {
            Due::Order(OfferAction::Undo)
        }
        _ => Due::Nothing,
    })
}

/// The order, if it was signed and is still good.
fn good_order(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    action: OfferAction,
    now: Timestamp,
) -> Result<Option<OrderRecord>> {
    let order = deployment::order_get(connection, deployment.id, order::word(action))?;
    // An order to deploy keeps its window, whatever comes; only an undo is ordered again.
    Ok(order.filter(|order| action == OfferAction::Deploy || now <= order.window_end))
}

type Signed = Vec<(fettle_domain::DeploymentId, Due, Option<Order>)>;

fn orders(connection: &mut Connection, due: &[(DeploymentRecord, Due)], now: Timestamp) -> Result<Signed> {
    let mut answer = Vec::new();
    for (deployment, due) in due {
        let order = match due {
            Due::Order(action) => match good_order(connection, deployment, *action, now)? {
                Some(record) => Some(order::load(connection, deployment, *action, record)?),
                None => None,
            },
            Due::AskBack | Due::Nothing => None,
        };
        answer.push((deployment.id, *due, order));
    }
    Ok(answer)
}

/// Gives numbers to orders that have none, and notes them as handed out, in one write: from now on
/// only the host knows whether it began.
fn sign_missing(connection: &mut Connection, host: HostId, now: Timestamp) -> Result<Signed> {
    let due = due_of_host(connection, host)?;
    for (deployment, due) in &due {
        let Due::Order(action) = due else { continue };
        if good_order(connection, deployment, *action, now)?.is_some() {
            continue;
        }
        let (window_start, window_end) = match action {
            OfferAction::Deploy => {
                let rollout = rollout::rollout_get(connection, deployment.rollout)?;
                (rollout.start_at, rollout.window_end)
            }
            OfferAction::Undo => (now, now.after(UNDO_GOOD_FOR)),
        };
        if *action == OfferAction::Deploy && !deployment::deployment_deliver(connection, deployment.id, now)? {
            return Err(StoreError::conflict(deployment.id));
        }
        let order = OrderRecord {
            deployment: deployment.id,
            action: order::word(*action).to_owned(),
            sequence: host::host_next_offer_sequence(connection, host)?,
            issued_at: now,
            window_start,
            window_end,
        };
        deployment::order_put(connection, host, &order)?;
    }
    orders(connection, &due, now)
}
