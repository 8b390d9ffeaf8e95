//! Step 5 at work: reads how every open rollout stands, asks `process::installation` what is to be
//! done, and writes it. Any number of servers may do this at once: each write names the generation it
//! read, and who was slower reads again.

use crate::live::LiveEvent;
use crate::standing::{Standing, load};
use crate::{AppState, clock};
use fettle_domain::machine::{DeploymentEvent, DeploymentState, RolloutState, WaveEvent};
use fettle_domain::reason::Reason;
use fettle_domain::{DeploymentId, HostId, RolloutId, Timestamp};
use fettle_process::installation::{Action, next_actions};
use fettle_store::systems::deployment::{self, DeploymentRecord, NewDeployment};
use fettle_store::systems::{plan, rollout, work};
use fettle_store::{Connection, Result, StoreError};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long without a nudge until the store is looked at again: time alone brings silence and starts.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest rest between two looks at a rollout of many hosts.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Decisions on one rollout in one write: each leads to other facts.
const ROUNDS: usize = 8;

/// Serves until the server ends.
pub async fn run(state: AppState) {
    let mut installation = Installation::default();
    loop {
        if let Err(error) = installation.once(&state).await {
            tracing::warn!(step = "installation", error = %error, "cannot look at rollouts now; trying again");
        }
        tokio::select! {
            () = state.shutdown.requested() => return,
            () = state.nudges.installation.notified() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// What the reconciler remembers: when it last looked at each rollout, and how big that was.
#[derive(Default)]
pub struct Installation {
    looked: HashMap<RolloutId, (Instant, usize)>,
}

impl Installation {
    /// One round over all open rollouts.
    pub async fn once(&mut self, state: &AppState) -> Result<()> {
        let open = state.store.read(rollout::rollouts_open).await?;
        self.looked.retain(|id, _| open.iter().any(|rollout| rollout.id == *id));
        for rollout in open {
            if !self.is_due(rollout.id) {
                continue;
            }
            match advance(state, rollout.id).await {
                Ok(hosts) => {
                    self.looked.insert(rollout.id, (Instant::now(), hosts));
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(step = "installation", rollout.id = %rollout.id, error = %error, "cannot carry a rollout on now")
                }
            }
        }
        Ok(())
    }

    /// A look reads every deployment, and each report rings the bell: the bigger a rollout, the longer
    /// the rest between two looks. The timer makes sure that none is left out.
    fn is_due(&self, id: RolloutId) -> bool {
        let rest = |hosts: usize| Duration::from_millis(u64::try_from(hosts / 2).unwrap_or(u64::MAX)).min(LONGEST_REST);
        self.looked.get(&id).is_none_or(|(at, hosts)| at.elapsed() >= rest(*hosts))
    }
}

/// Carries a rollout on; how many deployments it has.
async fn advance(state: &AppState, id: RolloutId) -> Result<usize> {
    // What hosts did not say while no server ran is not their silence.
    let (now, listening_since) = (clock::now(), state.started_at);
    // Read first: most looks find nothing to do, and the writer is for those who do.
    let (idle, hosts) = state
        .store
        .read(move |connection| {
            let standing = load(connection, id, listening_since)?;
            let idle = next_actions(&standing.facts, now).is_empty() && !may_rest(&standing);
            Ok((idle, standing.deployments.len()))
        })
        .await?;
    if idle {
        return Ok(hosts);
    }
    let done = state.store.write(move |connection| carry_on(connection, id, listening_since, now)).await?;
    for host in &done.hosts {
        state.nudges.work.wake(*host);
    }
    if done.acted {
        state.nudges.audit.notify_one();
        if let Some(change) = done.change {
            let json = serde_json::json!({ "change": change.to_string() }).to_string();
            state.live.publish(LiveEvent { change: Some(change), kind: "change.events".to_owned(), json });
        }
    }
    Ok(hosts)
}

/// What a write did.
#[derive(Debug, Default)]
struct Done {
    acted: bool,
    change: Option<fettle_domain::ChangeId>,
    /// Hosts with new work.
    hosts: Vec<HostId>,
}

/// Whether a rollout needs no more looks until a person asks something of it.
fn may_rest(standing: &Standing) -> bool {
    let ended =
        matches!(standing.rollout.state, RolloutState::Completed | RolloutState::RolledBack | RolloutState::Cancelled);
    let unseen = |deployment: &DeploymentRecord| {
        deployment.state == DeploymentState::Offered && deployment.delivered_at.is_none()
    };
    ended && !standing.deployments.iter().any(unseen)
}

fn carry_on(connection: &mut Connection, id: RolloutId, listening_since: Timestamp, now: Timestamp) -> Result<Done> {
    let mut done = Done::default();
    for _ in 0..ROUNDS {
        let standing = load(connection, id, listening_since)?;
        done.change = Some(standing.rollout.change);
        let actions = next_actions(&standing.facts, now);
        if actions.is_empty() {
            if may_rest(&standing) {
                rollout::rollout_rest(connection, &standing.rollout)?;
            }
            break;
        }
        done.acted = true;
        for action in actions {
            act(connection, &standing, action, now, &mut done)?;
        }
    }
    let hosts = done.hosts.clone();
    work::work_touch_many(connection, &hosts)?;
    Ok(done)
}

fn act(
    connection: &mut Connection,
    standing: &Standing,
    action: Action,
    now: Timestamp,
    done: &mut Done,
) -> Result<()> {
    match action {
        Action::Plan(event, reasons) => {
            plan::plan_transition(connection, &standing.plan, event, "server", &reasons, now).map(|_| ())
        }
        Action::Rollout(event, reasons) => {
            rollout::rollout_transition(connection, &standing.rollout, event, "server", &reasons, now).map(|_| ())
        }
        Action::Wave(number, event, reasons) => wave_goes(connection, standing, number, event, &reasons, now, done),
        Action::Expire(id, reasons) => {
            let deployment = of(standing, id)?;
            deployment::deployment_transition(connection, deployment, DeploymentEvent::Expire, "server", &reasons, now)
                .map(|_| ())
        }
        Action::Withdraw(id) => withdraw(connection, of(standing, id)?, now, done),
        Action::Undo(id) => {
            let deployment = of(standing, id)?;
            if deployment::deployment_order_undo(connection, deployment, "server", now)? {
                done.hosts.push(deployment.host);
            }
            Ok(())
        }
    }
}

fn of(standing: &Standing, id: DeploymentId) -> Result<&DeploymentRecord> {
    standing.deployments.iter().find(|deployment| deployment.id == id).ok_or_else(|| StoreError::not_found(id))
}

/// An order that nobody has seen is taken back at once; else its host is asked.
fn withdraw(connection: &mut Connection, deployment: &DeploymentRecord, now: Timestamp, done: &mut Done) -> Result<()> {
    if deployment.delivered_at.is_none() && deployment.state == DeploymentState::Offered {
        let reasons = [Reason::new("deployment.taken-back", "the rollout ended before its host asked for work")];
        return deployment::deployment_transition(
            connection,
            deployment,
            DeploymentEvent::Withdraw,
            "server",
            &reasons,
            now,
        )
        .map(|_| ());
    }
    if deployment::deployment_ask_back(connection, deployment, "server", now)? {
        done.hosts.push(deployment.host);
    }
    Ok(())
}

fn wave_goes(
    connection: &mut Connection,
    standing: &Standing,
    number: u32,
    event: WaveEvent,
    reasons: &[Reason],
    now: Timestamp,
    done: &mut Done,
) -> Result<()> {
    let wave = standing
        .waves
        .iter()
        .find(|wave| wave.number == number)
        .ok_or_else(|| StoreError::not_found(format!("wave {number}")))?;
    rollout::wave_transition(connection, standing.rollout.change, wave, event, reasons, now)?;
    if event != WaveEvent::Open {
        return Ok(());
    }
    // One wave of all hosts: the plan's.
    for (host, host_name) in plan::plan_host_names(connection, standing.plan.id)? {
        let new = NewDeployment {
            id: clock::fresh(),
            rollout: standing.rollout.id,
            plan: standing.plan.id,
            change: standing.rollout.change,
            wave: number,
            host,
            host_name,
        };
        deployment::deployment_create(connection, &new, now)?;
        done.hosts.push(host);
    }
    Ok(())
}
