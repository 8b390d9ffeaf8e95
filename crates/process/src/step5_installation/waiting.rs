//! What is waited for, in words: the answer of `fettle explain`.

use super::facts::RolloutFacts;
use super::gate::{Standing, Tally};
use fettle_domain::Timestamp;
use fettle_domain::machine::{Machine as _, RolloutState, WaveState};
use fettle_domain::reason::Reason;

/// Names of deployments that a sentence carries at most.
const MOST_NAMED: usize = 10;

/// Says what is waited for. Empty when nothing is.
pub fn waiting_for(rollout: &RolloutFacts, now: Timestamp) -> Vec<Reason> {
    let one = |topic: &str, text: String| vec![Reason::new(topic, text)];
    match rollout.state {
        RolloutState::Scheduled => one("waits.start", format!("the start is {}", rollout.start_at)),
        RolloutState::Paused => one("waits.person", "a person paused it; `fettle change resume` goes on".to_owned()),
        RolloutState::Halted => one(
            "waits.person",
            "it halted itself; a person decides: `fettle change resume` judges the hosts again, `fettle change undo` puts the former versions back, `fettle change cancel` ends it".to_owned(),
        ),
        RolloutState::Running => rollout.waves.iter().find(|wave| wave.state != WaveState::Passed).map_or_else(Vec::new, |wave| {
            let tally = Tally::of_wave(rollout, wave.number, now);
            let mut reasons = one("waits.gate", format!("wave {}: {}", wave.number, tally.told(&rollout.acceptance)));
            reasons.extend(open_hosts(rollout, wave.number, now));
            reasons
        }),
        RolloutState::RollingBack => {
            let open = rollout.deployments.iter().filter(|deployment| !deployment.state.is_final() && !deployment.undo_refused).count();
            one("waits.undo", format!("{open} hosts are still to be undone"))
        }
        RolloutState::Completed | RolloutState::RolledBack | RolloutState::Cancelled => Vec::new(),
    }
}

fn open_hosts(rollout: &RolloutFacts, wave: u32, now: Timestamp) -> Vec<Reason> {
    let open = rollout.of_wave(wave).filter_map(|deployment| {
        let until =
            rollout.silent_since(deployment).after(std::time::Duration::from_secs(rollout.acceptance.silence_seconds));
        let text = match Standing::of(rollout, deployment, now) {
            Standing::Open if !deployment.delivered => {
                format!("{}: its host has not fetched the order yet; it counts as failed at {until}", deployment.id)
            }
            Standing::Open | Standing::Failing => {
                format!("{} is {}; without a word it counts as failed at {until}", deployment.id, deployment.state)
            }
            Standing::Claimed => {
                format!("{} succeeded by its own word; an inventory must prove it until {until}", deployment.id)
            }
            Standing::Proved | Standing::Failed | Standing::Silent => return None,
        };
        Some(Reason::from_source("waits.host", text, deployment.id.to_string()))
    });
    open.take(MOST_NAMED).collect()
}
