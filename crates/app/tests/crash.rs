//! The agent, the package manager and the whole machine killed at every step of a deployment, forward and back,
//! on real apt and dpkg: at the next start it ends succeeded or undone, nothing is half done, lost or told twice.
//!
//! By default a cut at each task both ways and some random ones; `FETTLE_CRASH_WHOLE=1` makes every cut of the
//! matrix, `FETTLE_CRASH_RUNS=1000` so many random ones (0: the matrix alone), `FETTLE_CRASH_SEED` repeats a random
//! series (`./test --long` sets the first two). Needs root, strace, loop
//! devices and a Debian mirror in the machine's apt sources.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, dead_code)]

#[path = "../../agent/tests/support/server.rs"]
mod agent_server;
#[path = "crash/cut.rs"]
mod cut;
#[path = "crash/judge.rs"]
mod judge;
#[path = "crash/machine.rs"]
mod machine;
#[path = "crash/plan.rs"]
mod plan;
#[path = "crash/scenario.rs"]
mod scenario;
#[path = "../../vendors/tests/support/mod.rs"]
mod support;

use cut::Victim;
use fettle_domain::machine::DeploymentState;
use judge::Verdict;
use plan::{Cut, Random};
use scenario::Lane;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The server of the tests runs on one thread of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// How often the agent is started after a cut, at most.
const STARTS: usize = 4;

/// What came of one run.
struct Outcome {
    cut: Cut,
    /// Whether the cut came at all.
    came: bool,
    /// The journal's last record right after the cut.
    stood_at: Option<String>,
    verdict: Verdict,
    log: String,
}

/// One run: to the cut (and, for some, to another one), then on until it is settled.
fn carry_out(lane: &Lane, cut: Cut, number: usize) -> Outcome {
    let scenario = &lane.scenarios[cut.scenario];
    let mut machine = lane.machine(scenario, number);
    let log = lane.folder.join(format!("cut-{number}"));
    let came = cut::cut(&mut machine, &cut.point, cut.victim, &log);
    let stood_at = judge::journal(&machine).iter().rev().find_map(judge::told_by);
    if let Some((point, victim)) = &cut.again {
        cut::cut(&mut machine, point, *victim, &log);
    }
    for _ in 0..STARTS {
        machine.agent_once();
        let status = machine.status();
        let state: Option<DeploymentState> = serde_json::from_value(status["deployments"][0]["state"].clone()).ok();
        let open = std::fs::read_dir(machine.path(machine::STATE).join("deployments"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.path().join("undo-order").exists());
        if state.is_some_and(DeploymentState::is_settled) && !open && status["waiting_reports"] == 0 {
            break;
        }
    }
    let told = lane.server.with(|world| world.entries.clone());
    let verdict = judge::judge(&machine, scenario, &told[scenario.told_before..]);
    let _ = std::fs::remove_file(log);
    Outcome { cut, came, stood_at, verdict, log: machine.logged() }
}

/// Numbers of a series, as they are printed.
#[derive(Default)]
struct Tally {
    runs: usize,
    finished: usize,
    undone: usize,
    failed: usize,
    stuck: usize,
    lost: usize,
    half: usize,
}

impl Tally {
    fn count(&mut self, verdict: &Verdict) {
        use DeploymentState as S;
        self.runs += 1;
        self.finished += usize::from(verdict.state == Some(S::Succeeded));
        self.undone += usize::from(verdict.state == Some(S::Undone));
        self.failed += usize::from(verdict.state == Some(S::Failed));
        self.stuck += usize::from(verdict.state == Some(S::Stuck));
        self.lost += usize::from(!verdict.lost.is_empty());
        self.half += usize::from(!verdict.half.is_empty());
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "runs {}, finished {}, undone {} (and {} given up before anything was changed), stuck {}, lost {}, half {}",
            self.runs, self.finished, self.undone, self.failed, self.stuck, self.lost, self.half
        )
    }
}

fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash").join(std::process::id().to_string())
}

/// Two at a time: each lane has its server and its images.
fn lanes(testbed: &'static support::Testbed) -> Vec<Lane> {
    std::thread::scope(|scope| {
        let lanes: Vec<_> =
            ["a", "b"].map(|name| scope.spawn(move || Lane::new(&place().join(name), testbed))).into_iter().collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).collect()
    })
}

/// Carries out all cuts, two at a time.
fn carry_out_all(lanes: &[Lane], cuts: Vec<Cut>) -> Vec<Outcome> {
    let queue: Mutex<VecDeque<(usize, Cut)>> = Mutex::new(cuts.into_iter().enumerate().collect());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for lane in lanes {
            let (queue, outcomes) = (&queue, &outcomes);
            scope.spawn(move || {
                loop {
                    let Some((number, cut)) = queue.lock().unwrap().pop_front() else { return };
                    let outcome = carry_out(lane, cut, number);
                    if !outcome.verdict.is_good() || outcome.verdict.state == Some(DeploymentState::Stuck) {
                        eprintln!("run {number}: {:?}\n{:#?}\n{}", outcome.cut, outcome.verdict, outcome.log);
                    }
                    let mut outcomes = outcomes.lock().unwrap();
                    outcomes.push(outcome);
                    if outcomes.len() % 50 == 0 {
                        eprintln!("{} runs are done", outcomes.len());
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap()
}

fn tally(outcomes: &[Outcome]) -> Tally {
    let mut tally = Tally::default();
    outcomes.iter().for_each(|outcome| tally.count(&outcome.verdict));
    tally
}

#[test]
fn killed_anywhere_a_deployment_ends_whole_and_is_told_once() {
    let Some(testbed) = support::demo() else { return };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let many = number("FETTLE_CRASH_RUNS");
    let seed = number("FETTLE_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let _place = machine::Place::new(&place());
    let lanes = lanes(testbed);

    let matrix = plan::matrix(&lanes[0].scenarios, std::env::var_os("FETTLE_CRASH_WHOLE").is_some());
    let outcomes = carry_out_all(&lanes, matrix);
    println!("crash matrix: {}", tally(&outcomes));
    let mut stood: BTreeMap<String, BTreeSet<Victim>> = BTreeMap::new();
    for outcome in &outcomes {
        // How often the spool is written hangs on when output comes.
        let exact = outcome.cut.point.path.ends_with("/journal");
        assert!(outcome.came || !exact, "this cut never came: {:?}\n{}", outcome.cut, outcome.log);
        stood.entry(outcome.stood_at.clone().unwrap_or_default()).or_default().insert(outcome.cut.victim);
    }
    let missing: Vec<_> = plan::STEPS.iter().filter(|step| !stood.contains_key(**step)).collect();
    assert!(missing.is_empty(), "no cut left the journal at {missing:?}: {stood:?}");
    let bad = outcomes.iter().filter(|outcome| !outcome.verdict.is_good()).count();
    assert_eq!(bad, 0, "see the runs above");

    println!("random cuts with FETTLE_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let cuts = plan::random(&lanes[0].scenarios, &mut random, many.unwrap_or(8));
    let outcomes = carry_out_all(&lanes, cuts);
    let came = outcomes.iter().filter(|outcome| outcome.came).count();
    println!("crash random: {}; {came} of the cuts came before the run was over", tally(&outcomes));
    let bad = outcomes.iter().filter(|outcome| !outcome.verdict.is_good()).count();
    assert_eq!(bad, 0, "see the runs above");
}
