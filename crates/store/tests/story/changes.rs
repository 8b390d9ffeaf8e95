//! Changes from the request to the proof: what is written together, what conflicts, what comes once.

use fettle_domain::host::OsRelease;
use fettle_domain::machine::*;
use fettle_domain::package::Ecosystem;
use fettle_domain::plan::*;
use fettle_domain::reason::Reason;
use fettle_domain::*;
use fettle_store::page::{Order, Page, Place};
use fettle_store::systems::change::{self, ChangeFilter, ChangeSort, EventBody, NewChange, NewEvent};
use fettle_store::systems::deployment::{
    self, DeploymentRecord, DeploymentSort, NewDeployment, OrderRecord, ProofState, TaskRecord,
};
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_store::systems::host_seen::{Seen, host_seen};
use fettle_store::systems::plan::{self, ApprovalRecord, NewPlan};
use fettle_store::systems::rehearsal::{self, RehearsalRecord, RehearsalState};
use fettle_store::systems::rollout::{self, RolloutRecord};
use fettle_store::systems::{agent_report, work};
use fettle_store::{Store, StoreError};
use fettle_testkit::{TestDatabase, on_both};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + seconds * 1000)
}

fn host_id(number: u8) -> HostId {
    HostId::new(1, [number; 10])
}

fn make_host(store: &Store, number: u8) -> HostId {
    let id = host_id(number);
    let facts = HostFactsColumns { name: format!("web-{number}"), json: "{}".into(), ..HostFactsColumns::default() };
    store.write_blocking(move |c| host::host_create(c, id, &facts, "1", at(0))).unwrap();
    id
}

fn manifest(to: &str) -> Manifest {
    let file = PackageFile { name: "app.deb".into(), uri: "http://x".into(), size: 1, sha256: "0".repeat(64) };
    let step = PackageStep {
        name: "app".into(),
        architecture: "amd64".into(),
        from: Some("1".into()),
        to: Some(to.into()),
        asked: true,
        file: Some(file),
    };
    Manifest {
        ecosystem: Ecosystem::Debian,
        steps: vec![step],
        base_digest: "a".repeat(64),
        download_bytes: 1,
        disk_bytes: -2,
    }
}

fn host_plan(number: u8) -> HostPlan {
    HostPlan {
        host: host_id(number),
        host_name: format!("web-{number}"),
        os: OsRelease::default(),
        manifest: manifest("2"),
        notes: vec![Reason::new("n", "note")],
    }
}

/// A change with a draft.
fn make_change(store: &Store, number: u8, title: &str) -> (ChangeId, PlanId) {
    let (id, plan) = (ChangeId::new(1, [number; 10]), PlanId::new(1, [number; 10]));
    let new = NewChange {
        id,
        title: title.into(),
        reason: "why".into(),
        requester: "ada".into(),
        requester_id: None,
        specification: "{}".into(),
    };
    let draft =
        NewPlan { id: plan, change: id, answer_until: at(900), window_start: None, window_end: at(90_000), asked: 2 };
    store
        .write_blocking(move |c| {
            change::change_create(c, &new, at(0))?;
            plan::plan_create(c, &draft, at(0))
        })
        .unwrap();
    (id, plan)
}

fn propose(store: &Store, change: ChangeId, id: PlanId, hosts: &[u8]) {
    let content = Plan {
        id,
        change,
        made_at: at(10),
        hosts: hosts.iter().map(|number| host_plan(*number)).collect(),
        acceptance: Acceptance { success_percent: 100, silence_seconds: 60 },
        back_out: "back".into(),
        restart_services: true,
        reboot: RebootPolicy::Never,
        checks: vec!["http=http://127.0.0.1:8080/health".parse().unwrap()],
        report: vec![Reason::new("plan.hosts", "all of them")],
    };
    store
        .write_blocking(move |c| {
            let draft = plan::plan_get(c, id)?;
            plan::plan_propose(c, &draft, &content, "d1", "{}", at(10))
        })
        .unwrap();
}

fn move_plan(store: &Store, id: PlanId, event: PlanEvent) -> fettle_store::Result<PlanState> {
    store.write_blocking(move |c| {
        let record = plan::plan_get(c, id)?;
        plan::plan_transition(c, &record, event, "eve", &[], at(20))
    })
}

#[test]
fn changes_are_numbered_listed_and_found() {
    on_both(|store| {
        for number in 1..=5 {
            make_change(store, number, &format!("Change {number} of 100%"));
        }
        move_plan(store, PlanId::new(1, [3; 10]), PlanEvent::Supersede).unwrap();
        let newest = Order::descending(ChangeSort::Number);
        let numbers = |filter: ChangeFilter, before: Option<i64>| -> Vec<u64> {
            let after = before.and_then(|number| Place::new(newest, vec![number.into()]));
            let page = Page { order: newest, after, limit: 3 };
            let list = store.read_blocking(|c| change::change_list(c, &filter, &page)).unwrap();
            list.items.iter().map(|record| record.number).collect()
        };
        assert_eq!(numbers(ChangeFilter::default(), None), [5, 4, 3]);
        assert_eq!(numbers(ChangeFilter::default(), Some(3)), [2, 1]);
        assert_eq!(
            numbers(
                ChangeFilter { plan_states: vec![PlanState::Superseded, PlanState::Closed], ..ChangeFilter::default() },
                None
            ),
            [3]
        );
        assert_eq!(numbers(ChangeFilter { text: Some("CHANGE 4".into()), ..ChangeFilter::default() }, None), [4]);
        assert_eq!(
            numbers(ChangeFilter { requester: Some("nobody".into()), ..ChangeFilter::default() }, None),
            [] as [u64; 0]
        );
        assert_eq!(
            numbers(ChangeFilter { rollout_states: vec![RolloutState::Running], ..ChangeFilter::default() }, None),
            [] as [u64; 0]
        );
        let found = store.read_blocking(|c| change::change_by_number(c, 2)).unwrap();
        assert_eq!(found, ChangeId::new(1, [2; 10]));
        let missing = store.read_blocking(|c| change::change_by_number(c, 77)).unwrap_err();
        assert_eq!(missing.to_string(), "change 77 does not exist");
        let mut counts = store.read_blocking(change::change_counts).unwrap();
        counts.sort();
        assert_eq!(counts, [(PlanState::Draft, 4), (PlanState::Superseded, 1)]);
    });
}

#[test]
fn a_plan_is_written_once_and_moves_only_from_what_was_read() {
    on_both(|store| {
        let (change, id) = make_change(store, 1, "t");
        let stale = store.read_blocking(|c| plan::plan_get(c, id)).unwrap();
        propose(store, change, id, &[1, 2]);
        let error = store
            .write_blocking(move |c| plan::plan_transition(c, &stale, PlanEvent::Reject, "eve", &[], at(11)))
            .unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        let error = move_plan(store, id, PlanEvent::Activate).unwrap_err();
        assert_eq!(error.to_string(), "a plan that is proposed cannot activate");

        let record = store.read_blocking(|c| plan::plan_get(c, id)).unwrap();
        assert_eq!(
            (record.state, record.hosts, record.asked, record.digest.as_str()),
            (PlanState::Proposed, 2, 2, "d1")
        );
        assert!(record.head.is_some_and(|head| head.hosts.is_empty() && head.report.len() == 1));
        let first = store.read_blocking(|c| plan::plan_hosts(c, id, None, 1)).unwrap();
        assert_eq!(first, [host_plan(1)]);
        let rest = store.read_blocking(|c| plan::plan_hosts(c, id, Some(host_id(1)), 10)).unwrap();
        assert_eq!(rest, [host_plan(2)]);
        assert_eq!(store.read_blocking(|c| plan::plan_host_get(c, id, host_id(2))).unwrap(), host_plan(2));
        assert!(store.read_blocking(|c| plan::plan_host_get(c, id, host_id(9))).is_err());

        let approval = |by: &str| ApprovalRecord {
            by: by.into(),
            by_id: None,
            digest: "d1".into(),
            comment: "fine".into(),
            at: at(12),
        };
        for by in ["eve", "bob"] {
            let approval = approval(by);
            store.write_blocking(move |c| plan::approval_add(c, id, &approval)).unwrap();
        }
        let again = approval("eve");
        let error = store.write_blocking(move |c| plan::approval_add(c, id, &again)).unwrap_err();
        assert!(matches!(error, StoreError::Duplicate { .. }), "{error}");
        assert_eq!(store.read_blocking(|c| plan::approvals(c, id)).unwrap(), [approval("bob"), approval("eve")]);
    });
}

#[test]
fn events_of_a_change_have_numbers_without_gaps_and_replay_from_any() {
    on_both(|store| {
        let (id, plan) = make_change(store, 1, "t");
        for number in 0..5 {
            store
                .write_blocking(move |c| {
                    let lines = [format!("line {number}")];
                    let event = NewEvent {
                        machine: if number == 3 { "output" } else { "change" },
                        deployment: None,
                        host_name: "",
                        event: "e",
                        state: "s",
                        actor: "a",
                        body: if number == 3 { EventBody::Lines(&lines) } else { EventBody::Reasons(&[]) },
                        anomaly: number == 4,
                    };
                    change::change_event_add(c, id, &event, at(number))
                })
                .unwrap();
            // A write that fails leaves no gap.
            let failed: fettle_store::Result<()> = store.write_blocking(move |c| {
                let event = NewEvent {
                    machine: "change",
                    deployment: None,
                    host_name: "",
                    event: "x",
                    state: "",
                    actor: "",
                    body: EventBody::Reasons(&[]),
                    anomaly: false,
                };
                change::change_event_add(c, id, &event, at(number))?;
                Err(StoreError::not_found("nothing"))
            });
            assert!(failed.is_err());
        }
        move_plan(store, plan, PlanEvent::Reject).unwrap();
        let events = store.read_blocking(|c| change::change_events(c, id, 0, 100)).unwrap();
        assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!((events[3].lines.clone(), events[4].anomaly), (vec!["line 3".to_owned()], true));
        assert_eq!(
            (events[5].machine.as_str(), events[5].event.as_str(), events[5].state.as_str()),
            ("plan", "reject", "rejected")
        );
        assert_eq!(store.read_blocking(|c| change::change_events(c, id, 4, 1)).unwrap(), events[4..5]);
        assert_eq!(store.read_blocking(|c| change::change_history(c, id, 100)).unwrap().len(), 5);
        assert_eq!(store.read_blocking(|c| change::change_get(c, id)).unwrap().events, 6);
    });
}

#[test]
fn a_dry_run_is_answered_once_and_by_its_own_host() {
    on_both(|store| {
        let (change, plan) = make_change(store, 1, "t");
        let rehearsal = |number: u8, state| RehearsalRecord {
            id: RehearsalId::new(1, [number; 10]),
            plan,
            change,
            host: host_id(number),
            host_name: format!("web-{number}"),
            os: OsRelease { id: "debian".into(), ..OsRelease::default() },
            state,
            job: (state == RehearsalState::Asked).then(|| Job {
                ecosystem: Ecosystem::Debian,
                wanted: vec![],
                allow_removals: false,
            }),
            reasons: vec![Reason::new("r", "why")],
            outcome: None,
            answered_at: None,
        };
        for (number, state) in [(1, RehearsalState::Asked), (2, RehearsalState::Asked), (3, RehearsalState::LeftOut)] {
            let record = rehearsal(number, state);
            store.write_blocking(move |c| rehearsal::rehearsal_create(c, &record)).unwrap();
        }
        let answer = |number: u8, by: u8| {
            let id = RehearsalId::new(1, [number; 10]);
            store
                .write_blocking(move |c| {
                    rehearsal::rehearsal_answer(c, id, host_id(by), &RehearsalOutcome::NothingToDo, at(5))
                })
                .unwrap()
        };
        assert!(!answer(1, 2), "another host's");
        assert!(answer(1, 1));
        assert!(!answer(1, 1), "twice");
        assert_eq!(store.read_blocking(|c| rehearsal::rehearsals_asked_of_host(c, host_id(1), 9)).unwrap(), []);
        assert_eq!(
            store.read_blocking(|c| rehearsal::rehearsals_asked_of_host(c, host_id(2), 9)).unwrap(),
            [rehearsal(2, RehearsalState::Asked)]
        );
        assert_eq!(store.write_blocking(move |c| rehearsal::rehearsals_drop(c, plan)).unwrap(), [host_id(2)]);
        assert!(!answer(2, 2), "not waited for any more");
        let states: Vec<_> = store
            .read_blocking(|c| rehearsal::rehearsals_of_plan(c, plan))
            .unwrap()
            .iter()
            .map(|record| record.state)
            .collect();
        assert_eq!(states, [RehearsalState::Answered, RehearsalState::Dropped, RehearsalState::LeftOut]);
    });
}

/// A started change with one deployment on host 1.
fn make_deployment(store: &Store) -> (ChangeId, PlanId, DeploymentId) {
    make_host(store, 1);
    let (change, plan) = make_change(store, 1, "t");
    propose(store, change, plan, &[1]);
    move_plan(store, plan, PlanEvent::Approve).unwrap();
    let rollout = RolloutRecord {
        id: RolloutId::new(1, [1; 10]),
        plan,
        change,
        state: RolloutState::Scheduled,
        generation: 1,
        start_at: at(30),
        window_end: at(90_000),
        changed_at: at(30),
    };
    let id = DeploymentId::new(1, [1; 10]);
    let new =
        NewDeployment { id, rollout: rollout.id, plan, change, wave: 1, host: host_id(1), host_name: "web-1".into() };
    store
        .write_blocking(move |c| {
            rollout::rollout_create(c, &rollout, 1)?;
            deployment::deployment_create(c, &new, at(40))
        })
        .unwrap();
    (change, plan, id)
}

fn get(store: &Store, id: DeploymentId) -> DeploymentRecord {
    store.read_blocking(|c| deployment::deployment_get(c, id)).unwrap()
}

fn go(store: &Store, id: DeploymentId, events: &[DeploymentEvent]) -> DeploymentState {
    for event in events {
        let (record, event) = (get(store, id), *event);
        store
            .write_blocking(move |c| deployment::deployment_transition(c, &record, event, "host web-1", &[], at(50)))
            .unwrap();
    }
    get(store, id).state
}

#[test]
fn rollouts_and_waves_move_only_from_what_was_read() {
    on_both(|store| {
        let (change, plan, _) = make_deployment(store);
        let first = store.read_blocking(|c| rollout::rollout_of_plan(c, plan)).unwrap().unwrap();
        let stale = first.clone();
        let second = store
            .write_blocking(move |c| rollout::rollout_transition(c, &first, RolloutEvent::Start, "server", &[], at(41)))
            .unwrap();
        let error = store
            .write_blocking(move |c| rollout::rollout_transition(c, &stale, RolloutEvent::Cancel, "eve", &[], at(42)))
            .unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        let id = second.id;
        let wave = store.read_blocking(|c| rollout::waves(c, id)).unwrap().remove(0);
        let stale = wave.clone();
        store
            .write_blocking(move |c| rollout::wave_transition(c, change, &wave, WaveEvent::Open, &[], at(43)))
            .unwrap();
        let error = store
            .write_blocking(move |c| rollout::wave_transition(c, change, &stale, WaveEvent::Skip, &[], at(44)))
            .unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        assert_eq!(store.read_blocking(rollout::rollouts_open).unwrap(), std::slice::from_ref(&second));
        store.write_blocking(move |c| rollout::rollout_rest(c, &second)).unwrap();
        assert_eq!(store.read_blocking(rollout::rollouts_open).unwrap(), []);
        // Whatever goes on, it is looked at again.
        let again = store.read_blocking(|c| rollout::rollout_get(c, id)).unwrap();
        store
            .write_blocking(move |c| rollout::rollout_transition(c, &again, RolloutEvent::Cancel, "eve", &[], at(45)))
            .unwrap();
        assert_eq!(store.read_blocking(rollout::rollouts_open).unwrap().len(), 1);
    });
}

#[test]
fn an_order_is_handed_out_or_taken_back_never_both() {
    on_both(|store| {
        let (_, _, id) = make_deployment(store);
        let outstanding = || store.read_blocking(|c| deployment::deployments_outstanding(c, host_id(1))).unwrap().len();
        assert_eq!(outstanding(), 1);
        let stale = get(store, id);
        assert!(store.write_blocking(move |c| deployment::deployment_deliver(c, id, at(60))).unwrap());
        assert!(
            store.write_blocking(move |c| deployment::deployment_deliver(c, id, at(70))).unwrap(),
            "again, when the answer got lost"
        );
        assert_eq!(get(store, id).delivered_at, Some(at(60)), "the first time counts");
        // Who saw it as not handed out may not take it back silently.
        let error = store
            .write_blocking(move |c| {
                deployment::deployment_transition(c, &stale, DeploymentEvent::Withdraw, "server", &[], at(61))
            })
            .unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        let record = get(store, id);
        assert!(store.write_blocking(move |c| deployment::deployment_ask_back(c, &record, "server", at(62))).unwrap());
        let record = get(store, id);
        assert!(
            !store.write_blocking(move |c| deployment::deployment_ask_back(c, &record, "server", at(63))).unwrap(),
            "asked once"
        );
        assert!(
            !store.write_blocking(move |c| deployment::deployment_deliver(c, id, at(64))).unwrap(),
            "not handed out any more"
        );
        assert_eq!(outstanding(), 1, "the question is");
        assert_eq!(go(store, id, &[DeploymentEvent::Accept, DeploymentEvent::Withdraw]), DeploymentState::Withdrawn);
        assert_eq!(outstanding(), 0);
    });
}

#[test]
fn orders_keep_their_number_until_they_are_signed_anew() {
    on_both(|store| {
        let (_, _, id) = make_deployment(store);
        let order = |sequence| OrderRecord {
            deployment: id,
            action: "undo".into(),
            sequence,
            issued_at: at(70),
            window_start: at(70),
            window_end: at(700),
        };
        let put = |sequence| {
            let order = order(sequence);
            store.write_blocking(move |c| deployment::order_put(c, host_id(1), &order)).unwrap();
        };
        let get = || store.read_blocking(|c| deployment::order_get(c, id, "undo")).unwrap();
        assert_eq!(get(), None);
        put(3);
        assert_eq!(get(), Some(order(3)));
        put(4);
        assert_eq!(get(), Some(order(4)));
        assert_eq!(store.read_blocking(|c| deployment::order_get(c, id, "deploy")).unwrap(), None);
        store.write_blocking(move |c| deployment::order_forget(c, id, "undo")).unwrap();
        assert_eq!(get(), None);
    });
}

#[test]
fn what_a_state_does_not_allow_is_told_and_changes_nothing() {
    on_both(|store| {
        let (change, _, id) = make_deployment(store);
        let record = get(store, id);
        let error = store
            .write_blocking({
                let record = record.clone();
                move |c| {
                    deployment::deployment_transition(c, &record, DeploymentEvent::Succeed, "host web-1", &[], at(50))
                        .map(|_| ())
                }
            })
            .unwrap_err();
        assert_eq!(error.to_string(), "a deployment that is offered cannot succeed");
        store
            .write_blocking(move |c| {
                deployment::deployment_anomaly(c, &record, "succeed", "host web-1", &[Reason::new("r", "why")], at(51))
            })
            .unwrap();
        let record = get(store, id);
        assert_eq!((record.state, record.anomalies), (DeploymentState::Offered, 1));
        let events = store.read_blocking(|c| change::change_events(c, change, 0, 100)).unwrap();
        let last = events.last().unwrap();
        assert_eq!((last.event.as_str(), last.state.as_str(), last.anomaly), ("succeed", "offered", true));
        assert_eq!(last.deployment, Some(id));
    });
}

#[test]
fn tasks_output_and_proof_belong_to_their_deployment() {
    on_both(|store| {
        let (change, _, id) = make_deployment(store);
        use DeploymentEvent as E;
        go(store, id, &[E::Accept, E::Fetch, E::Prepare, E::Apply]);
        for state in [TaskState::Doing, TaskState::Done] {
            let record = get(store, id);
            let task = TaskRecord { number: 5, name: "install".into(), state, reasons: vec![], at: at(80) };
            store.write_blocking(move |c| deployment::task_set(c, &record, &task, "host web-1", at(81))).unwrap();
        }
        let tasks = store.read_blocking(|c| deployment::tasks(c, id)).unwrap();
        assert_eq!(tasks.iter().map(|task| (task.number, task.state)).collect::<Vec<_>>(), [(5, TaskState::Done)]);
        let record = get(store, id);
        store
            .write_blocking(move |c| deployment::output_add(c, &record, &["Unpacking app\0 …".into()], 16, at(82)))
            .unwrap();
        assert_eq!(get(store, id).output_bytes, 16);
        let output = store.read_blocking(|c| change::deployment_output(c, id, 0, 10)).unwrap();
        assert!(output[0].lines[0].starts_with("Unpacking app"), "{output:?}");
        assert_eq!(
            store
                .read_blocking(|c| change::deployment_events(c, id, false, 0, 100))
                .unwrap()
                .iter()
                .filter(|event| event.machine == "output")
                .count(),
            0
        );

        go(store, id, &[E::Check, E::Succeed]);
        let prove = || store.read_blocking(|c| deployment::deployments_to_prove(c, 10)).unwrap().len();
        assert_eq!(prove(), 0, "its host said nothing since");
        store.write_blocking(|c| host_seen(c, &[Seen::plain(host_id(1), at(51))]).map(drop)).unwrap();
        assert_eq!(prove(), 1);
        let record = get(store, id);
        store
            .write_blocking(move |c| deployment::deployment_set_proof(c, &record, ProofState::Proved, &[], at(90)))
            .unwrap();
        assert_eq!(prove(), 0);
        let counts = store.read_blocking(|c| deployment::deployment_counts(c, RolloutId::new(1, [1; 10]))).unwrap();
        assert_eq!(counts, [(DeploymentState::Succeeded, ProofState::Proved, 1)]);

        // An undo is another end, to be proved anew.
        let record = get(store, id);
        assert!(store.write_blocking(move |c| deployment::deployment_order_undo(c, &record, "eve", at(91))).unwrap());
        go(store, id, &[E::Undo, E::FinishUndo]);
        assert_eq!(get(store, id).proof, ProofState::Awaited);
        let by_name = Order::ascending(DeploymentSort::HostName);
        let list = |states: &'static [DeploymentState], after| {
            let page = Page { order: by_name, after, limit: 10 };
            store.read_blocking(|c| deployment::deployment_list(c, change, states, &page)).unwrap().items.len()
        };
        assert_eq!(
            (list(&[], None), list(&[DeploymentState::Undone], None), list(&[DeploymentState::Stuck], None)),
            (1, 1, 0)
        );
        assert_eq!(list(&[], Place::new(by_name, vec!["web-1".into(), id.into()])), 0);
        assert_eq!(store.read_blocking(|c| deployment::deployments_of_host(c, host_id(1), 10)).unwrap().len(), 1);
    });
}

#[test]
fn findings_are_looked_at_after_every_step_and_no_step_is_missed() {
    on_both(|store| {
        let (_, plan, id) = make_deployment(store);
        let finding = FindingId::new(1, [4; 10]);
        for _ in 0..2 {
            store.write_blocking(move |c| plan::plan_finding_add(c, plan, host_id(1), &[finding])).unwrap();
        }
        assert_eq!(store.read_blocking(|c| plan::plan_findings(c, plan, host_id(1))).unwrap(), [finding]);
        assert_eq!(store.read_blocking(|c| plan::plan_finding_page(c, plan, 5)).unwrap(), (1, vec![finding]));
        assert_eq!(store.read_blocking(|c| plan::plan_of_finding(c, finding, 5)).unwrap(), [plan]);
        let due = || store.read_blocking(|c| plan::plan_findings_due(c, 10)).unwrap();
        let row = due().remove(0);
        assert_eq!(
            (row.plan_state, row.deployment_state, row.findings.as_str()),
            (PlanState::Approved, Some(DeploymentState::Offered), "untouched")
        );
        // The deployment goes on between the look and the note: it stays due.
        go(store, id, &[DeploymentEvent::Accept]);
        store
            .write_blocking({
                let row = row.clone();
                move |c| plan::plan_findings_looked_at(c, &row, "planned")
            })
            .unwrap();
        let again = due().remove(0);
        assert_eq!(
            (again.deployment_state, again.findings.as_str(), again.due),
            (Some(DeploymentState::Queued), "planned", 1)
        );
        let error = store.write_blocking(move |c| plan::plan_findings_looked_at(c, &row, "planned")).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        store.write_blocking(move |c| plan::plan_findings_looked_at(c, &again, "planned")).unwrap();
        assert_eq!(due(), []);
        assert_eq!(
            store.read_blocking(|c| plan::plan_findings_standing(c, plan, host_id(1))).unwrap().as_deref(),
            Some("planned")
        );
    });
}

#[test]
fn reports_are_acknowledged_upwards_only() {
    on_both(|store| {
        let acknowledged = || store.read_blocking(|c| agent_report::agent_report_acknowledged(c, host_id(1))).unwrap();
        assert_eq!(acknowledged(), 0);
        for sequence in [7, 3, 9] {
            store.write_blocking(move |c| agent_report::agent_report_acknowledge(c, host_id(1), sequence)).unwrap();
        }
        assert_eq!(acknowledged(), 9);
    });
}

/// Two servers over one database: whoever has seen a mark has seen all work before it.
#[test]
fn work_made_by_one_server_is_seen_by_the_other() {
    for database in TestDatabase::all() {
        let (one, two) = (database.open(), database.open());
        for number in 1..=3 {
            make_host(&one, number);
        }
        let standing =
            |store: &Store, number| store.read_blocking(|c| work::work_standing(c, host_id(number))).unwrap();
        assert_eq!(standing(&two, 1).unwrap().mark, 0);
        assert!(standing(&two, 9).is_none());
        one.write_blocking(|c| work::work_touch_many(c, &[host_id(1), host_id(2)])).unwrap();
        let highest = two.read_blocking(work::work_highest).unwrap();
        let mut hosts = two.read_blocking(|c| work::work_between(c, 0, highest)).unwrap();
        hosts.sort();
        assert_eq!(hosts, [host_id(1), host_id(2)]);
        // Both at once, many times: marks only grow, and each reader misses none.
        std::thread::scope(|scope| {
            for store in [&one, &two] {
                scope.spawn(move || {
                    for _ in 0..50 {
                        store.write_blocking(|c| work::work_touch(c, host_id(3))).unwrap();
                    }
                });
            }
        });
        let now = one.read_blocking(work::work_highest).unwrap();
        assert_eq!(now, highest + 100);
        assert_eq!(two.read_blocking(|c| work::work_between(c, highest, now)).unwrap(), [host_id(3)]);
        assert_eq!(standing(&one, 3).unwrap().mark, now);
    }
}
