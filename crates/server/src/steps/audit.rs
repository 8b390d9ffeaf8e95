//! Step 6 at work: later inventories prove or disprove what deployments say of themselves, and the
//! findings of each host follow its plan and deployment: planned, remediated, released. Whether they
//! are closed is gathering's to say, by the same inventories.

use crate::live::LiveEvent;
use crate::{AppState, clock};
use fettle_domain::machine::{DeploymentState, FindingEvent, FindingState, Machine as _};
use fettle_domain::reason::Reason;
use fettle_domain::{FindingId, Timestamp};
use fettle_process::audit::{FindingsStanding, InventoryPicture, ProofVerdict, findings_standing, prove};
use fettle_store::systems::deployment::{self, DeploymentRecord, ProofState};
use fettle_store::systems::inventory::{self, PackageDictionary};
use fettle_store::systems::plan::{self, FindingsRow};
use fettle_store::systems::{change, finding, host};
use fettle_store::{Connection, Result, StoreError};
use std::time::Duration;

/// How long without a nudge until the store is looked at again: check-ins without a change ring no bell.
const PAUSE: Duration = Duration::from_secs(2);
/// Deployments and hosts in one round.
const BATCH: u32 = 100;

/// Serves until the server ends.
pub async fn run(state: AppState) {
    loop {
        match once(&state).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(step = "audit", error = %error, "cannot audit now; trying again"),
        }
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = state.nudges.audit.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// One round. Whether something was done, so that another round may find more.
pub async fn once(state: &AppState) -> Result<bool> {
    let findings = follow_findings(state).await?;
    let proofs = look_for_proof(state).await?;
    Ok(findings || proofs)
}

async fn look_for_proof(state: &AppState) -> Result<bool> {
    let mut proved = false;
    for deployment in state.store.read(|connection| deployment::deployments_to_prove(connection, BATCH)).await? {
        let dictionary = state.packages.clone();
        let (looked_at, change) = (deployment.clone(), deployment.change);
        let verdict = state.store.read(move |connection| judge(connection, &dictionary, &looked_at)).await?;
        let (proof, reasons) = match verdict {
            ProofVerdict::Awaited(_) => continue,
            ProofVerdict::Proved(reasons) => (ProofState::Proved, reasons),
            ProofVerdict::Differs(reasons) => (ProofState::Differs, reasons),
        };
        let now = clock::now();
        match state
            .store
            .write(move |connection| deployment::deployment_set_proof(connection, &deployment, proof, &reasons, now))
            .await
        {
            Ok(()) => proved = true,
            // It went on meanwhile: the next round sees how it stands.
            Err(StoreError::Conflict { .. }) => continue,
            Err(error) => return Err(error),
        }
        state.nudges.installation.notify_one();
        tell(state, change);
    }
    Ok(proved)
}

fn judge(
    connection: &mut Connection,
    dictionary: &PackageDictionary,
    deployment: &DeploymentRecord,
) -> Result<ProofVerdict> {
    let plan = plan::plan_host_get(connection, deployment.plan, deployment.host)?;
    let host = host::host_get(connection, deployment.host)?;
    let packages = inventory::host_packages(connection, dictionary, deployment.host)?;
    let reverted = deployment.state == DeploymentState::Undone;
    let picture =
        (!packages.is_empty()).then_some(InventoryPicture { confirmed_at: host.last_seen, packages: &packages });
    Ok(prove(&plan.manifest, reverted, deployment.changed_at, picture))
}

async fn follow_findings(state: &AppState) -> Result<bool> {
    let due = state.store.read(|connection| plan::plan_findings_due(connection, BATCH)).await?;
    let some = !due.is_empty();
    for row in due {
        let (now, change) = (clock::now(), row.change);
        match state.store.write(move |connection| follow(connection, &row, now)).await {
            Ok(moved) if moved => tell(state, change),
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(some)
}

/// Brings the findings of one host of a plan to where they should be. Whether some moved.
fn follow(connection: &mut Connection, row: &FindingsRow, now: Timestamp) -> Result<bool> {
    let from = FindingsStanding::parse(&row.findings)
        .ok_or_else(|| StoreError::Corrupt { what: "plan_host.findings".into() })?;
    let to = findings_standing(row.plan_state, row.deployment_state);
    plan::plan_findings_looked_at(connection, row, to.as_str())?;
    if from == to {
        return Ok(false);
    }
    let number = change::change_get(connection, row.change)?.number;
    let text = match to {
        FindingsStanding::Untouched => return Ok(false),
        FindingsStanding::Planned => format!("change {number} is to close it"),
        FindingsStanding::Remediated => {
            format!("change {number} was carried out on this host; an inventory has to prove it")
        }
        FindingsStanding::Released => format!("change {number} does not close it (any more)"),
    };
    let reason = Reason::from_source("change.findings", text, row.change.to_string());
    for id in plan::plan_findings(connection, row.plan, row.host)? {
        move_finding(connection, row, id, to, &reason, now)?;
    }
    Ok(true)
}

/// Moves one finding where its machine allows it: it may have been proved or accepted meanwhile.
fn move_finding(
    connection: &mut Connection,
    row: &FindingsRow,
    id: FindingId,
    to: FindingsStanding,
    reason: &Reason,
    now: Timestamp,
) -> Result<()> {
    let state = match finding::finding_get(connection, id) {
        Ok(finding) => finding.state,
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let event = match (to, state) {
        (FindingsStanding::Planned, FindingState::Open) => FindingEvent::Plan,
        (FindingsStanding::Remediated, FindingState::Open | FindingState::Planned) => FindingEvent::Remediate,
        (FindingsStanding::Released, FindingState::Planned | FindingState::Remediated) => {
            if planned_elsewhere(connection, row, id)? {
                return Ok(());
            }
            FindingEvent::Release
        }
        _ => return Ok(()),
    };
    debug_assert!(state.next(event).is_ok());
    finding::finding_transition(connection, id, event, None, "audit", std::slice::from_ref(reason), now).map(|_| ())
}

/// Whether another change still is to close the finding, or did.
fn planned_elsewhere(connection: &mut Connection, row: &FindingsRow, id: FindingId) -> Result<bool> {
    for other in plan::plan_of_finding(connection, id, 20)? {
        if other != row.plan
            && plan::plan_findings_standing(connection, other, row.host)?
                .is_some_and(|word| word == "planned" || word == "remediated")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn tell(state: &AppState, change: fettle_domain::ChangeId) {
    let json = serde_json::json!({ "change": change.to_string() }).to_string();
    state.live.publish(LiveEvent { change: Some(change), kind: "change.events".to_owned(), json });
}
