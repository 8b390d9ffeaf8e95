//! Rollouts and their waves.

use super::change::{EventBody, NewEvent, change_event_add};
use crate::body::{positive, state};
use crate::{Connection, Result, Row, StoreError};
use fettle_domain::machine::{Machine as _, RolloutEvent, RolloutState, WaveEvent, WaveState};
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, PlanId, RolloutId, Timestamp};

/// A rollout as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// Its id.
    pub id: RolloutId,
    /// Its plan.
    pub plan: PlanId,
    /// Its change.
    pub change: ChangeId,
    /// Where it stands.
    pub state: RolloutState,
    /// Grows with each transition.
    pub generation: i64,
    /// Begin no earlier.
    pub start_at: Timestamp,
    /// Begin no later.
    pub window_end: Timestamp,
    /// When it came into its state.
    pub changed_at: Timestamp,
}

/// A wave as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveRecord {
    /// Of which rollout.
    pub rollout: RolloutId,
    /// From 1.
    pub number: u32,
    /// Where it stands.
    pub state: WaveState,
    /// Grows with each transition.
    pub generation: i64,
    /// When it came into its state.
    pub since: Timestamp,
    /// When it was last opened (or made, before that): its hosts' silence counts from there.
    pub opened_at: Timestamp,
}

const COLUMNS: &str = "id, plan, change_id, state, generation, start_at, window_end, changed_at";

fn read(row: &Row) -> Result<RolloutRecord> {
    Ok(RolloutRecord {
        id: row.id(0)?,
        plan: row.id(1)?,
        change: row.id(2)?,
        state: state(row.text(3)?)?,
        generation: row.int(4)?,
        start_at: row.time(5)?,
        window_end: row.time(6)?,
        changed_at: row.time(7)?,
    })
}

/// Makes a rollout with this many waves, all waiting.
pub fn rollout_create(connection: &mut Connection, rollout: &RolloutRecord, waves: u32) -> Result<()> {
    connection.execute(
        &format!("INSERT INTO rollout ({COLUMNS}, open) VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7, 1)"),
        &[
            rollout.id.into(),
            rollout.plan.into(),
            rollout.change.into(),
            rollout.state.as_str().into(),
            rollout.start_at.into(),
            rollout.window_end.into(),
            rollout.changed_at.into(),
        ],
    )?;
    for number in 1..=waves {
        connection.execute(
            "INSERT INTO wave (rollout, number, state, generation, since, opened_at) VALUES (?1, ?2, ?3, 1, ?4, ?4)",
            &[rollout.id.into(), number.into(), WaveState::Waiting.as_str().into(), rollout.changed_at.into()],
        )?;
    }
    Ok(())
}

/// One rollout.
pub fn rollout_get(connection: &mut Connection, id: RolloutId) -> Result<RolloutRecord> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM rollout WHERE id = ?1"), &[id.into()])?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(id))
}

/// The rollout of a plan, once it was started.
pub fn rollout_of_plan(connection: &mut Connection, plan: PlanId) -> Result<Option<RolloutRecord>> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM rollout WHERE plan = ?1"), &[plan.into()])?;
    row.as_ref().map(read).transpose()
}

/// Rollouts that a reconciler has to look at, oldest first.
pub fn rollouts_open(connection: &mut Connection) -> Result<Vec<RolloutRecord>> {
    let rows = connection.query(&format!("SELECT {COLUMNS} FROM rollout WHERE open = 1 ORDER BY id"), &[])?;
    rows.iter().map(read).collect()
}

/// Notes that nothing more is to be done, if nothing went on meanwhile.
pub fn rollout_rest(connection: &mut Connection, rollout: &RolloutRecord) -> Result<()> {
    connection.execute(
        "UPDATE rollout SET open = 0 WHERE id = ?1 AND generation = ?2",
        &[rollout.id.into(), rollout.generation.into()],
    )?;
    Ok(())
}

/// Moves a rollout by an event of its machine.
pub fn rollout_transition(
    connection: &mut Connection,
    rollout: &RolloutRecord,
    by: RolloutEvent,
    actor: &str,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<RolloutRecord> {
    let fresh = rollout.state.next(by)?;
    let written = connection.execute(
        "UPDATE rollout SET state = ?3, generation = generation + 1, changed_at = ?4, open = 1 WHERE id = ?1 AND generation = ?2",
        &[rollout.id.into(), rollout.generation.into(), fresh.as_str().into(), now.into()],
    )?;
    if written == 0 {
        return Err(StoreError::conflict(rollout.id));
    }
    let event = NewEvent {
        machine: "rollout",
        deployment: None,
        host_name: "",
        event: RolloutState::event_str(by),
        state: fresh.as_str(),
        actor,
        body: EventBody::Reasons(reasons),
        anomaly: false,
    };
    change_event_add(connection, rollout.change, &event, now)?;
    Ok(RolloutRecord { state: fresh, generation: rollout.generation + 1, changed_at: now, ..rollout.clone() })
}

/// Waves of a rollout, in order.
pub fn waves(connection: &mut Connection, rollout: RolloutId) -> Result<Vec<WaveRecord>> {
    let rows = connection.query(
        "SELECT number, state, generation, since, opened_at FROM wave WHERE rollout = ?1 ORDER BY number",
        &[rollout.into()],
    )?;
    rows.iter()
        .map(|row| {
            Ok(WaveRecord {
                rollout,
                number: u32::try_from(positive(row.int(0)?)).unwrap_or(u32::MAX),
                state: state(row.text(1)?)?,
                generation: row.int(2)?,
                since: row.time(3)?,
                opened_at: row.time(4)?,
            })
        })
        .collect()
}

/// Moves a wave by an event of its machine.
pub fn wave_transition(
    connection: &mut Connection,
    change: ChangeId,
    wave: &WaveRecord,
    by: WaveEvent,
    reasons: &[Reason],
    now: Timestamp,
) -> Result<WaveState> {
    let fresh = wave.state.next(by)?;
    let opened_at = if fresh == WaveState::Open { now } else { wave.opened_at };
    let written = connection.execute(
        "UPDATE wave SET state = ?4, generation = generation + 1, since = ?5, opened_at = ?6 WHERE rollout = ?1 AND number = ?2 AND generation = ?3",
        &[wave.rollout.into(), wave.number.into(), wave.generation.into(), fresh.as_str().into(), now.into(), opened_at.into()],
    )?;
    if written == 0 {
        return Err(StoreError::conflict(format!("wave {} of {}", wave.number, wave.rollout)));
    }
    let event = NewEvent {
        machine: "wave",
        deployment: None,
        host_name: "",
        event: WaveState::event_str(by),
        state: fresh.as_str(),
        actor: "server",
        body: EventBody::Reasons(reasons),
        anomaly: false,
    };
    change_event_add(connection, change, &event, now)?;
    Ok(fresh)
}
