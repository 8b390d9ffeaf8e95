use super::*;
use fettle_domain::machine::*;
use fettle_domain::plan::Acceptance;
use fettle_domain::{DeploymentId, Timestamp};
use proptest::prelude::*;

const SILENCE: u64 = 60;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1000)
}

fn id(number: usize) -> DeploymentId {
    DeploymentId::new(1, [u8::try_from(number).unwrap(); 10])
}

fn deployment(number: usize, state: DeploymentState, proof: Proof) -> DeploymentFacts {
    DeploymentFacts {
        id: id(number),
        wave: 1,
        state,
        heard_at: at(100),
        delivered: state != DeploymentState::Offered,
        withdrawal_asked: false,
        undo_asked: false,
        undo_refused: false,
        proof,
    }
}

fn rollout(state: RolloutState, wave: WaveState, percent: u8, deployments: Vec<DeploymentFacts>) -> RolloutFacts {
    RolloutFacts {
        state,
        plan: PlanState::Active,
        start_at: at(100),
        window_end: at(10_000),
        acceptance: Acceptance { success_percent: percent, silence_seconds: SILENCE },
        listening_since: at(0),
        waves: vec![WaveFacts { number: 1, state: wave, opened_at: at(100) }],
        deployments,
    }
}

/// Actions as short words.
fn words(rollout: &RolloutFacts, now: i64) -> Vec<String> {
    next_actions(rollout, at(now)).iter().map(word).collect()
}

fn word(action: &Action) -> String {
    match action {
        Action::Plan(event, _) => format!("plan {}", PlanState::event_str(*event)),
        Action::Rollout(event, _) => format!("rollout {}", RolloutState::event_str(*event)),
        Action::Wave(number, event, _) => format!("wave {number} {}", WaveState::event_str(*event)),
        Action::Expire(..) => "expire".to_owned(),
        Action::Withdraw(_) => "withdraw".to_owned(),
        Action::Undo(_) => "undo".to_owned(),
    }
}

#[test]
fn starts_when_its_time_has_come_and_never_after_its_window() {
    let mut scheduled = rollout(RolloutState::Scheduled, WaveState::Waiting, 100, vec![]);
    scheduled.plan = PlanState::Approved;
    assert_eq!(words(&scheduled, 99), [] as [&str; 0]);
    assert_eq!(words(&scheduled, 100), ["plan activate", "rollout start"]);
    assert_eq!(words(&scheduled, 10_001), ["rollout cancel"]);
    let running = rollout(RolloutState::Running, WaveState::Waiting, 100, vec![]);
    assert_eq!(words(&running, 101), ["wave 1 open"]);
}

#[test]
fn only_an_inventory_passes_the_gate() {
    use DeploymentState::Succeeded;
    let claimed = rollout(RolloutState::Running, WaveState::Open, 100, vec![deployment(1, Succeeded, Proof::Awaited)]);
    assert_eq!(words(&claimed, 101), ["wave 1 soak"]);
    let soaking =
        |proof| rollout(RolloutState::Running, WaveState::Soaking, 100, vec![deployment(1, Succeeded, proof)]);
    assert_eq!(words(&soaking(Proof::Awaited), 101), [] as [&str; 0]);
    assert_eq!(words(&soaking(Proof::Proved), 101), ["wave 1 pass"]);
    assert_eq!(words(&soaking(Proof::Differs), 101), ["wave 1 fail", "rollout halt"]);
    // Never proved: silence is failure.
    assert_eq!(words(&soaking(Proof::Awaited), 161), ["wave 1 fail", "rollout halt"]);
    let passed = rollout(RolloutState::Running, WaveState::Passed, 100, vec![]);
    assert_eq!(words(&passed, 101), ["rollout complete"]);
}

#[test]
fn halts_itself_as_soon_as_the_gate_cannot_be_met() {
    use DeploymentState as S;
    let hosts = |failed: DeploymentState| {
        vec![
            deployment(1, failed, Proof::Awaited),
            deployment(2, S::Applying, Proof::Awaited),
            deployment(3, S::Applying, Proof::Awaited),
        ]
    };
    for failed in [S::Failed, S::Undoing, S::Undone, S::Stuck, S::NotApplicable] {
        assert_eq!(
            words(&rollout(RolloutState::Running, WaveState::Open, 100, hosts(failed)), 101),
            ["wave 1 fail", "rollout halt"],
            "{failed}"
        );
        assert_eq!(
            words(&rollout(RolloutState::Running, WaveState::Open, 60, hosts(failed)), 101),
            [] as [&str; 0],
            "{failed}"
        );
    }
}

#[test]
fn silence_counts_from_the_last_word_and_only_while_somebody_listens() {
    let mut facts = rollout(
        RolloutState::Running,
        WaveState::Open,
        100,
        vec![deployment(1, DeploymentState::Applying, Proof::Awaited)],
    );
    assert_eq!(words(&facts, 159), [] as [&str; 0]);
    assert_eq!(words(&facts, 160), ["wave 1 fail", "rollout halt"]);
    facts.listening_since = at(150);
    assert_eq!(words(&facts, 160), [] as [&str; 0]);
    facts.deployments[0].heard_at = at(155);
    assert_eq!(words(&facts, 214), [] as [&str; 0]);
    assert_eq!(words(&facts, 215), ["wave 1 fail", "rollout halt"]);
}

/// Found by the property below: the soak must not give a silent host new patience, or a wave without
/// a threshold would wait twice.
#[test]
fn a_host_that_was_judged_silent_stays_so_while_the_wave_soaks() {
    let mut facts = rollout(
        RolloutState::Running,
        WaveState::Open,
        0,
        vec![deployment(1, DeploymentState::Queued, Proof::Awaited)],
    );
    assert_eq!(words(&facts, 160), ["wave 1 soak"]);
    facts.waves[0].state = WaveState::Soaking;
    assert_eq!(words(&facts, 160), ["wave 1 pass"]);
}

#[test]
fn rolling_back_takes_back_what_has_not_begun_and_undoes_the_rest() {
    use DeploymentState as S;
    let mut facts = rollout(
        RolloutState::RollingBack,
        WaveState::Open,
        100,
        vec![
            deployment(1, S::Offered, Proof::Awaited),
            deployment(2, S::Fetching, Proof::Awaited),
            deployment(3, S::Applying, Proof::Awaited),
            deployment(4, S::Succeeded, Proof::Proved),
            deployment(5, S::Failed, Proof::Awaited),
            deployment(6, S::Undoing, Proof::Awaited),
        ],
    );
    assert_eq!(words(&facts, 101), ["wave 1 fail", "withdraw", "withdraw", "undo", "undo"]);
    facts.waves[0].state = WaveState::Failed;
    for deployment in &mut facts.deployments {
        (deployment.withdrawal_asked, deployment.undo_asked) = (true, true);
    }
    assert_eq!(words(&facts, 101), [] as [&str; 0]);
    for deployment in &mut facts.deployments {
        deployment.state = if deployment.state == S::Succeeded { S::Succeeded } else { S::Undone };
    }
    assert_eq!(words(&facts, 101), [] as [&str; 0]);
    facts.deployments[3].undo_refused = true;
    assert_eq!(words(&facts, 101), ["rollout finish-roll-back"]);
    facts.state = RolloutState::RolledBack;
    assert_eq!(words(&facts, 101), ["plan close"]);
}

#[test]
fn orders_that_nobody_saw_expire_and_no_others() {
    use DeploymentState::Offered;
    let mut facts = rollout(
        RolloutState::Halted,
        WaveState::Failed,
        100,
        vec![deployment(1, Offered, Proof::Awaited), deployment(2, Offered, Proof::Awaited)],
    );
    facts.deployments[1].delivered = true;
    assert_eq!(words(&facts, 10_000), [] as [&str; 0]);
    assert_eq!(next_actions(&facts, at(10_001)).len(), 1);
    assert!(matches!(next_actions(&facts, at(10_001))[0], Action::Expire(expired, _) if expired == id(1)));
}

#[test]
fn says_what_is_waited_for() {
    let facts = rollout(
        RolloutState::Running,
        WaveState::Open,
        100,
        vec![
            deployment(1, DeploymentState::Offered, Proof::Awaited),
            deployment(2, DeploymentState::Succeeded, Proof::Awaited),
        ],
    );
    let told: Vec<String> = waiting_for(&facts, at(101)).into_iter().map(|reason| reason.text).collect();
    assert_eq!(told[0], "wave 1: of 2 hosts 1 await proof by inventory, 1 under way; 2 must be proved (100 %)");
    assert!(told[1].contains("has not fetched the order yet; it counts as failed at 1970-01-01T00:02:40Z"), "{told:?}");
    assert!(told[2].contains("an inventory must prove it"), "{told:?}");
    for state in RolloutState::STATES {
        let facts = RolloutFacts { state: *state, ..facts.clone() };
        let ended = matches!(state, RolloutState::Completed | RolloutState::RolledBack | RolloutState::Cancelled);
        assert_eq!(waiting_for(&facts, at(101)).is_empty(), ended, "{state}");
    }
}

/// What happens around the rollout.
#[derive(Debug, Clone)]
enum Happening {
    Time(i64),
    /// The host's agent goes on by this event, if its state allows it.
    Host(usize, DeploymentEvent),
    /// The order of this host is handed out.
    Deliver(usize),
    Inventory(usize, Proof),
    RefuseUndo(usize),
    Person(RolloutEvent),
}

fn happening(hosts: usize) -> impl Strategy<Value = Happening> {
    let event = proptest::sample::select(DeploymentState::EVENTS);
    prop_oneof![
        3 => (0_i64..90).prop_map(Happening::Time),
        8 => (0..hosts, event).prop_map(|(host, event)| Happening::Host(host, event)),
        4 => (0..hosts).prop_map(Happening::Deliver),
        3 => (0..hosts, proptest::sample::select(&[Proof::Proved, Proof::Differs][..])).prop_map(|(host, proof)| Happening::Inventory(host, proof)),
        1 => (0..hosts).prop_map(Happening::RefuseUndo),
        1 => proptest::sample::select(&[RolloutEvent::Pause, RolloutEvent::Resume, RolloutEvent::Cancel, RolloutEvent::RollBack][..]).prop_map(Happening::Person),
    ]
}

/// A server without a store: carries out what is decided, by the same machines.
struct World {
    facts: RolloutFacts,
    hosts: usize,
    now: i64,
}

impl World {
    fn new(hosts: usize, percent: u8) -> Self {
        let mut facts = rollout(RolloutState::Scheduled, WaveState::Waiting, percent, vec![]);
        facts.plan = PlanState::Approved;
        Self { facts, hosts, now: 100 }
    }

    /// Decides and carries out until nothing is left to do. Every action must be legal.
    fn settle(&mut self) {
        for _ in 0..20 {
            let actions = next_actions(&self.facts, at(self.now));
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act(&action);
            }
        }
        panic!("never comes to rest: {:?}", next_actions(&self.facts, at(self.now)));
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Plan(event, _) => self.facts.plan = self.facts.plan.next(*event).unwrap(),
            Action::Rollout(event, _) => {
                let tally = Tally::of_wave(&self.facts, 1, at(self.now));
                if *event == RolloutEvent::Complete {
                    assert!(tally.proved >= tally.needed(&self.facts.acceptance), "completed without proof: {tally:?}");
                }
                self.facts.state = self.facts.state.next(*event).unwrap();
            }
            Action::Wave(number, event, _) => {
                let wave = self.facts.waves.iter_mut().find(|wave| wave.number == *number).unwrap();
                wave.state = wave.state.next(*event).unwrap();
                if matches!(event, WaveEvent::Open | WaveEvent::Retry) {
                    wave.opened_at = at(self.now);
                }
                if *event == WaveEvent::Open {
                    assert!(self.facts.deployments.is_empty());
                    let new = |number| DeploymentFacts {
                        heard_at: at(self.now),
                        ..deployment(number, DeploymentState::Offered, Proof::Awaited)
                    };
                    self.facts.deployments = (0..self.hosts).map(new).collect();
                }
            }
            Action::Expire(id, _) => {
                let deployment = self.of(*id);
                assert!(!deployment.delivered);
                deployment.state = deployment.state.next(DeploymentEvent::Expire).unwrap();
            }
            Action::Withdraw(id) => {
                let now = at(self.now);
                let deployment = self.of(*id);
                assert!(!deployment.state.has_touched_host());
                if deployment.delivered {
                    assert!(!deployment.withdrawal_asked, "asked twice");
                    (deployment.withdrawal_asked, deployment.heard_at) = (true, now);
                } else {
                    deployment.state = deployment.state.next(DeploymentEvent::Withdraw).unwrap();
                }
            }
            Action::Undo(id) => {
                let now = at(self.now);
                let deployment = self.of(*id);
                assert!(deployment.state.has_touched_host() && !deployment.undo_asked, "{deployment:?}");
                (deployment.undo_asked, deployment.heard_at) = (true, now);
            }
        }
    }

    fn of(&mut self, id: DeploymentId) -> &mut DeploymentFacts {
        self.facts.deployments.iter_mut().find(|deployment| deployment.id == id).unwrap()
    }

    fn happen(&mut self, happening: &Happening) {
        let now = at(self.now);
        match happening {
            Happening::Time(seconds) => self.now += seconds,
            Happening::Host(host, event) => {
                let Some(deployment) = self.facts.deployments.get_mut(*host) else { return };
                // The agent never sends what only the server does, and undoes a success only by order.
                let by_order = deployment.state != DeploymentState::Succeeded
                    || *event != DeploymentEvent::Undo
                    || deployment.undo_asked;
                if deployment.delivered
                    && by_order
                    && let Ok(next) = deployment.state.next(*event)
                {
                    if *event == DeploymentEvent::Undo {
                        deployment.proof = Proof::Awaited;
                    }
                    (deployment.state, deployment.heard_at) = (next, now);
                }
            }
            Happening::Deliver(host) => {
                let open = matches!(self.facts.state, RolloutState::Running | RolloutState::Completed);
                if let Some(deployment) = self
                    .facts
                    .deployments
                    .get_mut(*host)
                    .filter(|deployment| open && deployment.state == DeploymentState::Offered)
                {
                    deployment.delivered = true;
                }
            }
            Happening::Inventory(host, proof) => {
                if let Some(deployment) = self.facts.deployments.get_mut(*host)
                    && deployment.state == DeploymentState::Succeeded
                    && deployment.proof == Proof::Awaited
                {
                    deployment.proof = *proof;
                }
            }
            Happening::RefuseUndo(host) => {
                if let Some(deployment) = self.facts.deployments.get_mut(*host) {
                    deployment.undo_refused = deployment.undo_asked;
                }
            }
            Happening::Person(event) => {
                let Ok(next) = self.facts.state.next(*event) else { return };
                if *event == RolloutEvent::RollBack {
                    match self.facts.plan {
                        PlanState::Active => {}
                        PlanState::Closed => self.facts.plan = PlanState::Active,
                        _ => return,
                    }
                }
                self.facts.state = next;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    /// Whatever hosts, people and time do in whatever order: every action is legal, nothing is asked
    /// twice, nothing completes without proof, and when all falls silent it comes to an end by itself.
    #[test]
    fn any_order_of_happenings_ends_well(hosts in 1_usize..6, percent in 0_u8..=100, happenings in proptest::collection::vec(happening(5), 0..80)) {
        let mut world = World::new(hosts, percent);
        world.settle();
        for happening in &happenings {
            world.happen(happening);
            world.settle();
            let asking_again = next_actions(&world.facts, at(world.now));
            prop_assert!(asking_again.is_empty(), "asked again it says {:?}", asking_again);
        }
        world.now += 1_000_000;
        world.settle();
        use RolloutState as S;
        prop_assert!(
            matches!(world.facts.state, S::Completed | S::Halted | S::Paused | S::RolledBack | S::Cancelled),
            "silence left it {}", world.facts.state
        );
        let plan_open = matches!(world.facts.state, S::Halted | S::Paused);
        prop_assert_eq!(world.facts.plan == PlanState::Active, plan_open);
        let unseen = world.facts.deployments.iter().filter(|deployment| deployment.state == DeploymentState::Offered && !deployment.delivered).count();
        prop_assert_eq!(unseen, 0, "orders that nobody saw are not left over");
    }
}
