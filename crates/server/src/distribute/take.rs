//! One entry of a report becomes events and states. What the present state does not allow is kept as
//! an anomaly: told, and changing nothing.

use fettle_domain::machine::{DeploymentEvent, DeploymentState, Machine as _, TaskState};
use fettle_domain::plan::RehearsalOutcome;
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, DeploymentId, HostId, RehearsalId, Timestamp};
use fettle_store::systems::change::{EventBody, NewEvent, change_event_add};
use fettle_store::systems::deployment::{self, DeploymentRecord, TaskRecord};
use fettle_store::systems::{rehearsal, work};
use fettle_store::{Connection, Result, StoreError};
use fettle_wire::agent::{ReportBody, ReportEntry};
use std::collections::BTreeSet;

/// Reasons that one entry may carry, and bytes of each.
const REASONS: usize = 100;
const REASON_BYTES: usize = 4_000;
/// Bytes of a line of output.
const LINE_BYTES: usize = 2_000;
/// Output that is kept of one deployment.
const OUTPUT_BYTES: u64 = 2 << 20;
/// Tasks of a deployment, and bytes of a task's name.
const TASKS: u32 = 200;
const NAME_BYTES: usize = 100;

/// What a report touched: who has to be told after the commit.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Dry runs were answered.
    pub rehearsals: bool,
    /// Deployments went on.
    pub deployments: bool,
    /// The host is to look for work again.
    pub new_work: bool,
    /// Changes with new events.
    pub changes: BTreeSet<ChangeId>,
}

/// Takes one entry.
pub(super) fn entry(
    connection: &mut Connection,
    host: HostId,
    host_name: &str,
    entry: &ReportEntry,
    now: Timestamp,
    taken: &mut Taken,
) -> Result<()> {
    match &entry.body {
        ReportBody::Rehearsal { rehearsal, outcome } => {
            return answer(connection, host, *rehearsal, outcome, now, taken);
        }
        ReportBody::Refused { deployment: None, reasons } => {
            return refused_unread(connection, host, host_name, reasons, now, taken);
        }
        _ => {}
    }
    let Some(deployment) = deployment_of(connection, host, &entry.body)? else { return Ok(()) };
    taken.deployments = true;
    taken.changes.insert(deployment.change);
    deployment::deployment_heard(connection, deployment.id, now)?;
    let actor = format!("host {host_name}");
    match &entry.body {
        ReportBody::Deployment { event, reasons, .. } => {
            went_on(connection, &deployment, *event, &bounded(reasons), &actor, now)
        }
        ReportBody::Task { number, name, state, reasons, .. } => {
            let task = TaskRecord {
                number: *number,
                name: cut(name, NAME_BYTES),
                state: *state,
                reasons: bounded(reasons),
                at: entry.at,
            };
            task_went_on(connection, &deployment, &task, &actor, now)
        }
        ReportBody::Output { lines, .. } => output(connection, &deployment, lines, now),
        ReportBody::Refused { reasons, .. } => {
            refused(connection, host, &deployment, &bounded(reasons), &actor, now, taken)
        }
        ReportBody::Rehearsal { .. } => Ok(()),
    }
}

/// The deployment that an entry speaks of, if it is one of this host.
fn deployment_of(connection: &mut Connection, host: HostId, body: &ReportBody) -> Result<Option<DeploymentRecord>> {
    let id: DeploymentId = match body {
        ReportBody::Deployment { deployment, .. }
        | ReportBody::Task { deployment, .. }
        | ReportBody::Output { deployment, .. }
        | ReportBody::Refused { deployment: Some(deployment), .. } => *deployment,
        ReportBody::Refused { deployment: None, .. } | ReportBody::Rehearsal { .. } => return Ok(None),
    };
    match deployment::deployment_get(connection, id) {
        Ok(deployment) if deployment.host == host => Ok(Some(deployment)),
        Ok(_) | Err(StoreError::NotFound { .. }) => {
            tracing::warn!(host.id = %host, deployment.id = %id, "a host reports of a deployment that is not its own; ignored");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn answer(
    connection: &mut Connection,
    host: HostId,
    id: RehearsalId,
    outcome: &RehearsalOutcome,
    now: Timestamp,
    taken: &mut Taken,
) -> Result<()> {
    let asked = match rehearsal::rehearsal_get(connection, id) {
        Ok(asked) if asked.host == host => asked,
        Ok(_) | Err(StoreError::NotFound { .. }) => {
            tracing::warn!(host.id = %host, rehearsal.id = %id, "a host answers a dry run that it was not asked; ignored");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let waited_for = rehearsal::rehearsal_answer(connection, id, host, outcome, now)?;
    let (word, reasons) = match outcome {
        RehearsalOutcome::Possible { manifest, .. } => (
            "possible",
            vec![Reason::new("rehearsal.possible", format!("{} packages would change", manifest.steps.len()))],
        ),
        RehearsalOutcome::NothingToDo => ("nothing-to-do", Vec::new()),
        RehearsalOutcome::Impossible { reasons } => ("impossible", bounded(reasons)),
    };
    let event = NewEvent {
        machine: "rehearsal",
        deployment: None,
        host_name: &asked.host_name,
        event: "answer",
        state: word,
        actor: &format!("host {}", asked.host_name),
        body: EventBody::Reasons(&reasons),
        anomaly: !waited_for,
    };
    change_event_add(connection, asked.change, &event, now)?;
    taken.rehearsals = true;
    taken.changes.insert(asked.change);
    Ok(())
}

fn went_on(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    event: DeploymentEvent,
    reasons: &[Reason],
    actor: &str,
    now: Timestamp,
) -> Result<()> {
    // The end of an undo says nothing new: why it was undone goes on being told.
    let reasons =
        if event == DeploymentEvent::FinishUndo && reasons.is_empty() { &deployment.reasons } else { reasons };
    match deployment::deployment_transition(connection, deployment, event, actor, reasons, now) {
        Ok(_) => Ok(()),
        Err(StoreError::Illegal(illegal)) => {
            tracing::warn!(deployment.id = %deployment.id, error = %illegal, "a host reports what its deployment's state does not allow; kept as an anomaly");
            let mut told = vec![Reason::new("report.not-allowed", illegal.to_string())];
            told.extend(reasons.iter().cloned());
            deployment::deployment_anomaly(connection, deployment, DeploymentState::event_str(event), actor, &told, now)
        }
        Err(error) => Err(error),
    }
}

fn task_went_on(
    connection: &mut Connection,
    deployment: &DeploymentRecord,
    task: &TaskRecord,
    actor: &str,
    now: Timestamp,
) -> Result<()> {
    if task.number == 0 || task.number > TASKS {
        let told =
            [Reason::new("report.too-many-tasks", format!("task {} of at most {TASKS}: {}", task.number, task.state))];
        return deployment::deployment_anomaly(connection, deployment, TaskState::NAME, actor, &told, now);
    }
    deployment::task_set(connection, deployment, task, actor, now)
}

fn output(connection: &mut Connection, deployment: &DeploymentRecord, lines: &[String], now: Timestamp) -> Result<()> {
    if deployment.output_bytes >= OUTPUT_BYTES {
        return Ok(());
    }
    let mut kept: Vec<String> = Vec::with_capacity(lines.len());
    let mut bytes = deployment.output_bytes;
    for line in lines {
        let line = clean(line);
        bytes += line.len() as u64 + 1;
        if bytes >= OUTPUT_BYTES {
            kept.push(format!(
                "(more output than {} MB is not kept here; the host's journal of this deployment has it)",
                OUTPUT_BYTES >> 20
            ));
            // Counted as full, so that this is said once.
            let rest = OUTPUT_BYTES.saturating_sub(deployment.output_bytes);
            return deployment::output_add(connection, deployment, &kept, rest, now);
        }
        kept.push(line);
    }
    let added = bytes - deployment.output_bytes;
    if kept.is_empty() { Ok(()) } else { deployment::output_add(connection, deployment, &kept, added, now) }
}

/// A line as people see it: no control characters that a terminal would obey.
pub(super) fn clean(line: &str) -> String {
    cut(line, LINE_BYTES).chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn refused(
    connection: &mut Connection,
    host: HostId,
    deployment: &DeploymentRecord,
    reasons: &[Reason],
    actor: &str,
    now: Timestamp,
    taken: &mut Taken,
) -> Result<()> {
    use DeploymentState as S;
    match deployment.state {
        S::Offered => went_on(connection, deployment, DeploymentEvent::Fail, reasons, actor, now),
        S::Applying | S::Rebooting | S::Checking | S::Succeeded if deployment.undo_at.is_some() => {
            if reasons.iter().any(|reason| matches!(reason.topic.as_str(), "order.expired" | "order.window-over")) {
                // Its time ran out while the host was away: sign a new one.
                deployment::order_forget(connection, deployment.id, "undo")?;
                work::work_touch(connection, host)?;
                taken.new_work = true;
                return deployment::deployment_anomaly(connection, deployment, "undo-lapsed", actor, reasons, now);
            }
            deployment::deployment_undo_refused(connection, deployment, actor, reasons, now)
        }
        _ => deployment::deployment_anomaly(connection, deployment, "refuse", actor, reasons, now),
    }
}

/// The host could not even read for which deployment an order was: told with all that it may be.
fn refused_unread(
    connection: &mut Connection,
    host: HostId,
    host_name: &str,
    reasons: &[Reason],
    now: Timestamp,
    taken: &mut Taken,
) -> Result<()> {
    let reasons = bounded(reasons);
    tracing::warn!(host.id = %host, host.name = host_name, reasons = ?reasons, "a host refuses an order that it does not believe or cannot read");
    let actor = format!("host {host_name}");
    for deployment in deployment::deployments_unanswered(connection, host)? {
        deployment::deployment_anomaly(connection, &deployment, "refuse", &actor, &reasons, now)?;
        taken.changes.insert(deployment.change);
    }
    Ok(())
}

fn bounded(reasons: &[Reason]) -> Vec<Reason> {
    reasons
        .iter()
        .take(REASONS)
        .map(|reason| Reason {
            topic: cut(&reason.topic, NAME_BYTES),
            text: cut(&reason.text, REASON_BYTES),
            source: cut(&reason.source, REASON_BYTES),
        })
        .collect()
}

/// At most so many bytes, whole characters.
fn cut(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at + 4 <= longest).last().unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_text_for_people_and_bounded() {
        assert_eq!(clean("a\tb\u{1b}[2Jc\r"), "a\tb\u{fffd}[2Jc\u{fffd}");
        let long = clean(&"ä".repeat(5_000));
        assert!(long.len() <= LINE_BYTES + 3 && long.ends_with('…'), "{}", long.len());
        assert_eq!(cut("short", 10), "short");
    }
}
