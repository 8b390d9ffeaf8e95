//! Orders as signed documents. Kept are only their values: the document is made again whenever it is
//! handed out, and comes out the same, since ed25519 signatures are deterministic (RFC 8032).

use crate::AppState;
use fettle_domain::plan::RebootPolicy;
use fettle_store::systems::deployment::{DeploymentRecord, OrderRecord};
use fettle_store::systems::plan;
use fettle_store::{Connection, Result, StoreError};
use fettle_wire::offer::{Approval, Envelope, EnvelopeSignature, OFFER_TYPE, Offer, OfferAction};

/// An order that is ready to be signed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order(Offer);

/// The word the store keeps for an action.
pub(super) fn word(action: OfferAction) -> &'static str {
    match action {
        OfferAction::Deploy => "deploy",
        OfferAction::Undo => "undo",
    }
}

/// Puts an order together from what the store has.
pub(super) fn load(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    action: OfferAction,
    order: OrderRecord,
) -> Result<Order> {
    let record = plan::plan_get(connection, deployment.plan)?;
    let head =
        record.head.ok_or_else(|| StoreError::Corrupt { what: format!("{} has no content", deployment.plan) })?;
    let host = plan::plan_host_get(connection, deployment.plan, deployment.host)?;
    let approvals = plan::approvals(connection, deployment.plan)?;
    Ok(Order(Offer {
        action,
        deployment: deployment.id,
        host: deployment.host,
        change: deployment.change,
        plan: deployment.plan,
        plan_digest: record.digest,
        approvals: approvals.into_iter().map(|approval| Approval { by: approval.by, at: approval.at }).collect(),
        manifest: host.manifest,
        restart_services: head.restart_services,
        // Putting the former state back never reboots by itself.
        reboot: if action == OfferAction::Undo { RebootPolicy::Never } else { head.reboot },
        // What is put back is proved by the package manager; the checks are the new state's.
        checks: if action == OfferAction::Undo { Vec::new() } else { head.checks },
        window_start: order.window_start,
        window_end: order.window_end,
        expires: order.window_end,
        issued_at: order.issued_at,
        sequence: order.sequence,
    }))
}

/// Signs it.
pub(super) fn sign(state: &AppState, order: &Order) -> Result<Envelope> {
    let payload = serde_json::to_vec(&order.0)
        .map_err(|error| StoreError::Refused { cause: format!("cannot write an order: {error}") })?;
    let signed = fettle_content::sign(&state.identity.offer_key, OFFER_TYPE, &payload);
    Ok(Envelope {
        payload_type: OFFER_TYPE.to_owned(),
        payload: signed.payload,
        signatures: vec![EnvelopeSignature { keyid: signed.key_id, sig: signed.signature }],
    })
}
