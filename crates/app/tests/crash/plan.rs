//! Which cuts are made: each task at each point, and random ones.

use crate::cut::{Point, Victim};
use crate::scenario::Scenario;

/// One cut, and for some another one while it recovers from the first.
#[derive(Debug, Clone)]
pub struct Cut {
    pub scenario: usize,
    pub point: Point,
    pub victim: Victim,
    pub again: Option<(Point, Victim)>,
}

/// Last records of the journal that the cuts must leave at least once: each task begun and ended, both ways.
pub const STEPS: [&str; 40] = [
    "task fetch begin",
    "task fetch finish",
    "task verify begin",
    "task verify finish",
    "task pre-check begin",
    "task pre-check finish",
    "task keep-old begin",
    "task keep-old finish",
    "task install begin",
    "task install finish",
    "task verify-installed begin",
    "task verify-installed finish",
    "task health-checks begin",
    "task health-checks finish",
    "task restart-services begin",
    "task restart-services finish",
    "task reboot begin",
    "task reboot finish",
    "task verify-after-reboot begin",
    "task verify-after-reboot finish",
    "task fetch begin-undo",
    "task fetch finish-undo",
    "task verify begin-undo",
    "task verify finish-undo",
    "task pre-check begin-undo",
    "task pre-check finish-undo",
    "task keep-old begin-undo",
    "task keep-old finish-undo",
    "task install begin-undo",
    "task install finish-undo",
    "task verify-installed begin-undo",
    "task verify-installed finish-undo",
    "task health-checks begin-undo",
    "task health-checks finish-undo",
    "task restart-services begin-undo",
    "task restart-services finish-undo",
    "task reboot begin-undo",
    "task reboot finish-undo",
    "task verify-after-reboot begin-undo",
    "task verify-after-reboot finish-undo",
];

/// Every record of the journal in every scenario: killed before it is written, written but not synced, and
/// synced but not yet told; then each exchange with the server, before it is sent and before its answer is
/// read. Not `whole`: of each task one point of its begin and one of its end, in turn.
pub fn matrix(scenarios: &[Scenario], whole: bool) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let mut turn = 0;
        let agents: Vec<&Point> = scenario.points.iter().filter(|point| point.is_agents()).collect();
        for (at, point) in agents.iter().enumerate() {
            let is_record = point.call == "write" && point.path.ends_with("/journal");
            let talks = ["sendto", "recvfrom"].contains(&point.call.as_str());
            if !(is_record || whole && talks) {
                continue;
            }
            let mut points = vec![*point];
            if is_record {
                // What follows it: the sync of the journal, then the report in the spool.
                points.extend(
                    agents[at + 1..].iter().find(|later| later.call == "fdatasync" && later.path == point.path),
                );
                points.extend(
                    agents[at + 1..].iter().find(|later| later.call == "write" && later.path.ends_with("/spool")),
                );
            }
            for (part, point) in points.iter().enumerate() {
                turn += 1;
                for victim in [Victim::Agent, Victim::Power] {
                    // Before a record is written the journal ends with the one before: each task has
                    // begun, or has ended.
                    let both_ways = scenario.name != "failure" && !agents[at].text.contains("\"event\":\"begin-undo\"");
                    let chosen = both_ways && part == 0 && (turn / 3 % 2 == 0) == (victim == Victim::Power);
                    if whole || chosen {
                        cuts.push(Cut { scenario: index, point: (*point).clone(), victim, again: None });
                    }
                }
            }
        }
    }
    cuts
}

/// Cuts at random calls of random processes.
pub fn random(scenarios: &[Scenario], random: &mut Random, count: u64) -> Vec<Cut> {
    let mut cuts = Vec::new();
    while (cuts.len() as u64) < count {
        let index = random.below(scenarios.len());
        let (point, victim) = one(&scenarios[index], random);
        let again = (random.below(4) == 0).then(|| one(&scenarios[index], random));
        cuts.push(Cut { scenario: index, point, victim, again });
    }
    cuts
}

fn one(scenario: &Scenario, random: &mut Random) -> (Point, Victim) {
    // Half in the agent, of these most where it writes or talks; half in what it started.
    let kind = random.below(10);
    let fits = |point: &&Point| match kind {
        0..=3 => point.is_agents() && point.call != "openat",
        4 => point.is_agents(),
        5..=7 => !point.is_agents() && point.call != "openat",
        _ => point.process.starts_with("dpkg") && point.call != "openat",
    };
    let points: Vec<&Point> = scenario.points.iter().filter(fits).collect();
    let point = points[random.below(points.len())].clone();
    let victims: &[Victim] = if point.is_agents() {
        &[Victim::Agent, Victim::Power]
    } else {
        &[Victim::Agent, Victim::Power, Victim::Manager]
    };
    let victim = victims[random.below(victims.len())];
    (point, victim)
}

/// A small generator whose series a seed repeats (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
