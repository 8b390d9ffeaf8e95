//! Every task failed, every write cut off, every act of the package manager killed: the host ends
//! patched or restored, and the server is told a story its own state machine accepts.

use super::bench::{AFTER, BEFORE, Bench, Call, Fault};
use super::desk::Due;
use super::engine::{self, Ended, Engine, EngineError};
use super::record::{KIND, Record, VERSION};
use crate::clock;
use crate::disk::AppendLog;
use fettle_domain::Timestamp;
use fettle_domain::machine::{DeploymentEvent, DeploymentState, Machine as _, TaskEvent, TaskState};
use fettle_domain::plan::RebootPolicy;
use fettle_plugin::Step;
use fettle_wire::agent::{ReportBody, WorkItem};
use fettle_wire::offer::OfferAction;
use proptest::prelude::*;
use std::time::Duration;

/// What the server's state machine makes of what it was told.
fn servers_view(events: &[DeploymentEvent]) -> DeploymentState {
    events.iter().fold(DeploymentState::Offered, |state, event| {
        state.next(*event).unwrap_or_else(|error| panic!("{error} after {events:?}"))
    })
}

fn deploy(bench: &Bench) -> DeploymentState {
    let order = bench.offer(OfferAction::Deploy, 1);
    bench.survive(&order)
}

fn reasons(bench: &Bench) -> String {
    let deployment = engine::peek(&bench.folder()).unwrap().unwrap();
    deployment.failure.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_good_deployment_succeeds_in_the_order_of_the_machine() {
    use DeploymentEvent as E;
    let bench = Bench::new();
    assert_eq!(deploy(&bench), DeploymentState::Succeeded);
    assert!(bench.is(AFTER));
    assert_eq!(bench.system.sim.lock().unwrap().restarts, ["app.service"]);
    assert!(bench.folder().join("old").is_dir(), "kept for an undo");
    assert!(!bench.folder().join("new").exists());
    let told = bench.told();
    let events = told.iter().filter_map(|body| match body {
        ReportBody::Deployment { event, .. } => Some(*event),
        _ => None,
    });
    let events: Vec<DeploymentEvent> = events.collect();
    assert_eq!(events, [E::Accept, E::Fetch, E::Prepare, E::Apply, E::Check, E::Succeed]);
    assert!(told.iter().any(
        |body| matches!(body, ReportBody::Output { lines, .. } if lines.contains(&"Setting up app ...".to_owned()))
    ));
    let done = told.iter().filter(|body| matches!(body, ReportBody::Task { state: TaskState::Done, .. })).count();
    assert_eq!(done, 10);
}

#[test]
fn each_task_that_fails_leaves_the_host_restored_and_says_why() {
    use DeploymentState as S;
    type Break = fn(&mut Bench);
    let cases: [(&str, Break, S, &str); 11] = [
        ("fetch", |b| set(b, Call::Do(Step::Fetch), Fault::Error(1)), S::Failed, "Do(Fetch) failed"),
        ("verify", |b| *b.provider.tampered.lock().unwrap() = true, S::Failed, "sha-256"),
        ("pre-check", |b| b.provider.set("other", Some("9")), S::NotApplicable, "have changed since the dry run"),
        ("keep-old", |b| set(b, Call::Do(Step::KeepOld), Fault::Error(2)), S::Failed, "Do(KeepOld) failed"),
        (
            "install, nothing done",
            |b| set(b, Call::Do(Step::Install), Fault::Error(0)),
            S::Undone,
            "Do(Install) failed",
        ),
        ("install, half done", |b| set(b, Call::Do(Step::Install), Fault::Error(2)), S::Undone, "Setting up lib ..."),
        ("install, all done", |b| set(b, Call::Do(Step::Install), Fault::Error(4)), S::Undone, "Do(Install) failed"),
        (
            "verify-installed",
            |b| set(b, Call::Do(Step::Install), Fault::Silent(1)),
            S::Undone,
            "lib (amd64) should be 1.0-2",
        ),
        (
            "health-checks",
            |b| b.system.sim.lock().unwrap().breaks_from_boot = Some(0),
            S::Undone,
            "app.service listened on tcp 0.0.0.0:80",
        ),
        (
            "restart-services",
            |b| b.system.sim.lock().unwrap().restart_fails = true,
            S::Undone,
            "cannot restart app.service",
        ),
        (
            "verify-after-reboot",
            |b| {
                let mut sim = b.system.sim.lock().unwrap();
                (sim.reboot_needed, sim.breaks_from_boot) = (true, Some(1));
            },
            S::Undone,
            "app.service listened on",
        ),
    ];
    for (name, break_it, wanted, why) in cases {
        let mut bench = Bench::new();
        break_it(&mut bench);
        let mut order = bench.offer(OfferAction::Deploy, 1);
        order.reboot = RebootPolicy::IfNeeded;
        assert_eq!(bench.survive(&order), wanted, "{name}");
        bench.provider.set("other", None);
        assert!(bench.is(BEFORE), "{name}: {:?}", bench.provider.versions());
        assert!(reasons(&bench).contains(why), "{name}: {}", reasons(&bench));
        assert!(!bench.folder().join("old").exists() && !bench.folder().join("new").exists(), "{name}");
        assert_eq!(servers_view(&bench.told_events()), wanted, "{name}");
    }
}

fn set(bench: &Bench, call: Call, fault: Fault) {
    *bench.provider.fault.lock().unwrap() = Some((call, fault));
}

#[test]
fn what_is_installed_already_does_not_apply() {
    let bench = Bench::new();
    for (name, version) in AFTER {
        bench.provider.set(name, Some(version));
    }
    bench.provider.set("old", None);
    assert_eq!(deploy(&bench), DeploymentState::NotApplicable);
    assert!(reasons(&bench).contains("already"));
}

#[test]
fn an_undo_that_fails_is_stuck_and_keeps_everything_for_a_person() {
    let bench = Bench::new();
    bench.system.sim.lock().unwrap().breaks_from_boot = Some(0);
    set(&bench, Call::Undo(Step::Install), Fault::Error(1));
    assert_eq!(deploy(&bench), DeploymentState::Stuck);
    assert!(bench.folder().join("old/app").is_file());
    assert!(reasons(&bench).contains("Undo(Install) failed"), "{}", reasons(&bench));
    assert_eq!(servers_view(&bench.told_events()), DeploymentState::Stuck);
}

#[test]
fn a_needed_reboot_is_made_and_proved_by_another_boot_id() {
    use DeploymentEvent as E;
    let bench = Bench::new();
    bench.system.sim.lock().unwrap().reboot_needed = true;
    let mut order = bench.offer(OfferAction::Deploy, 1);
    order.reboot = RebootPolicy::IfNeeded;
    assert_eq!(bench.live(&order).unwrap(), Ended::Rebooting);
    assert_eq!(bench.survive(&order), DeploymentState::Succeeded);
    assert_eq!(
        bench.told_events(),
        [E::Accept, E::Fetch, E::Prepare, E::Apply, E::Check, E::Reboot, E::Check, E::Succeed]
    );
}

#[test]
fn a_reboot_that_is_not_permitted_is_said_and_undoes_nothing() {
    let bench = Bench::new();
    bench.system.sim.lock().unwrap().reboot_needed = true;
    assert_eq!(deploy(&bench), DeploymentState::Succeeded);
    assert!(format!("{:?}", bench.told()).contains("the change does not permit a reboot"));
}

#[test]
fn a_reboot_that_does_not_happen_in_its_time_is_a_failure() {
    let mut bench = Bench::new();
    bench.limits.reboot = Duration::ZERO;
    {
        let mut sim = bench.system.sim.lock().unwrap();
        (sim.reboot_needed, sim.reboot_ignored) = (true, true);
    }
    let mut order = bench.offer(OfferAction::Deploy, 1);
    order.reboot = RebootPolicy::IfNeeded;
    assert_eq!(bench.survive(&order), DeploymentState::Undone);
    assert!(bench.is(BEFORE));
    assert!(reasons(&bench).contains("did not happen within"), "{}", reasons(&bench));
    assert_eq!(servers_view(&bench.told_events()), DeploymentState::Undone);
}

/// Cuts the power at every write of a whole run, before, in the middle of and after it.
fn cut_every_write(prepare: impl Fn(&Bench), reboot: RebootPolicy) {
    let run = |cut: Option<(usize, usize)>| {
        let bench = Bench::new();
        prepare(&bench);
        let mut order = bench.offer(OfferAction::Deploy, 1);
        order.reboot = reboot;
        bench.fuse.set(cut);
        let first = bench.live(&order);
        let appends = bench.fuse.appends();
        assert!(matches!(first, Err(EngineError::Log(_)) | Ok(_)), "{cut:?}: {first:?}");
        let state = bench.survive(&order);
        assert!(
            state == DeploymentState::Succeeded && bench.is(AFTER)
                || state == DeploymentState::Undone && bench.is(BEFORE),
            "{cut:?}: {state} with {:?}",
            bench.provider.versions()
        );
        assert_eq!(servers_view(&bench.told_events()), state, "{cut:?}");
        appends
    };
    let appends = run(None);
    assert!(appends > 30, "{appends}");
    for at in 0..appends {
        for share in [0, 1, 500, 999, 1000] {
            run(Some((at, share)));
        }
    }
}

#[test]
fn killed_at_every_write_of_a_good_run() {
    cut_every_write(|_| {}, RebootPolicy::Never);
}

#[test]
fn killed_at_every_write_of_a_run_with_a_reboot() {
    cut_every_write(|bench| bench.system.sim.lock().unwrap().reboot_needed = true, RebootPolicy::IfNeeded);
}

#[test]
fn killed_at_every_write_of_a_run_that_is_undone() {
    cut_every_write(|bench| bench.system.sim.lock().unwrap().breaks_from_boot = Some(0), RebootPolicy::Never);
}

#[test]
fn killed_in_the_middle_of_every_act_of_the_package_manager() {
    for step in [Step::Fetch, Step::KeepOld, Step::Install] {
        for packages in 0..=4 {
            for breaks in [None, Some(0)] {
                for undo in [false, true] {
                    let bench = Bench::new();
                    bench.system.sim.lock().unwrap().breaks_from_boot = breaks;
                    let call = if undo { Call::Undo(step) } else { Call::Do(step) };
                    set(&bench, call, Fault::Death(packages));
                    let state = deploy(&bench);
                    let patched = state == DeploymentState::Succeeded && bench.is(AFTER);
                    let restored = state == DeploymentState::Undone && bench.is(BEFORE);
                    assert!(
                        patched || restored,
                        "{call:?} {packages} {breaks:?}: {state} {:?}",
                        bench.provider.versions()
                    );
                    assert!(breaks.is_none() || restored);
                    assert_eq!(servers_view(&bench.told_events()), state);
                }
            }
        }
    }
}

#[test]
fn an_agent_that_is_killed_by_a_task_again_and_again_gives_it_up() {
    let bench = Bench::new();
    let order = bench.offer(OfferAction::Deploy, 1);
    let mut lives = 0;
    let state = loop {
        bench.fuse.set(None);
        set(&bench, Call::Do(Step::Fetch), Fault::Death(1));
        lives += 1;
        assert!(lives < 50);
        if let Ok(Ended::Settled(state)) = bench.live(&order) {
            break state;
        }
    };
    assert_eq!(state, DeploymentState::Failed);
    assert!(reasons(&bench).contains("went down each time"), "{}", reasons(&bench));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// A journal of a whole run, cut at any byte, with the host in any state it can have been in then.
    #[test]
    fn a_journal_cut_anywhere_ends_patched_or_restored(share in 0.0_f64..1.0, done in 0_usize..=4) {
        let bench = Bench::new();
        let order = bench.offer(OfferAction::Deploy, 1);
        prop_assert_eq!(bench.survive(&order), DeploymentState::Succeeded);
        let path = bench.folder().join("journal");
        let bytes = std::fs::read(&path).unwrap();
        let cut = (bytes.len() as f64 * share) as usize;
        std::fs::write(&path, &bytes[..cut]).unwrap();
        // How the host can have been at that moment.
        bench.fetch_again();
        let records = AppendLog::<Record>::peek(&path, KIND, VERSION).unwrap();
        let begun = |task_event| records.iter().any(|record| matches!(record, Record::Task { task: super::record::TaskName::Install, event, .. } if *event == task_event));
        let done = if begun(TaskEvent::Finish) { 4 } else if begun(TaskEvent::Begin) { done } else { 0 };
        let steps = bench.offer(OfferAction::Deploy, 1).manifest.steps;
        for (index, step) in steps.iter().enumerate() {
            bench.provider.set(&step.name, if index < done { step.to.as_deref() } else { step.from.as_deref() });
        }
        std::fs::remove_file(bench.state.join("spool")).unwrap();
        let state = bench.survive(&order);
        prop_assert!(
            state == DeploymentState::Succeeded && bench.is(AFTER) || state == DeploymentState::Undone && bench.is(BEFORE),
            "cut at {} of {}: {} {:?}", cut, bytes.len(), state, bench.provider.versions()
        );
    }
}

#[test]
fn a_journal_of_a_newer_agent_is_left_alone_with_advice() {
    let bench = Bench::new();
    let order = bench.offer(OfferAction::Deploy, 1);
    bench.survive(&order);
    let path = bench.folder().join("journal");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("fettle-journal 2", "fettle-journal 3", 1)).unwrap();
    let host = bench.host();
    let error = Engine::open(&host, order.deployment).err().unwrap().to_string();
    assert!(error.contains("version 3") && error.contains("newer agent"), "{error}");
    // The agent itself still works.
    drop(bench.desk(&host));
}

#[test]
fn a_journal_of_the_first_form_is_read_and_goes_on() {
    // As the first agent wrote it, which did not note the boot of the install: succeeded, not undone.
    let golden = include_bytes!("journal-v1");
    let bench = Bench::new();
    let order = bench.offer(OfferAction::Deploy, 1);
    assert_eq!(bench.survive(&order), DeploymentState::Succeeded);
    let path = bench.folder().join("journal");
    std::fs::write(&path, golden).unwrap();
    assert_eq!(engine::peek(&bench.folder()).unwrap().unwrap().state, DeploymentState::Succeeded);
    let mut undo = bench.offer(OfferAction::Undo, 2);
    undo.manifest = order.manifest.clone();
    crate::disk::state::write_json(&engine::undo_order_path(&bench.folder()), &undo).unwrap();
    assert_eq!(bench.survive(&order), DeploymentState::Undone);
    assert!(bench.is(BEFORE));
    assert!(std::fs::read(&path).unwrap().starts_with(b"fettle-journal 2\n"));
}

#[test]
fn orders_over_the_desk_deploy_wait_withdraw_undo_and_refuse() {
    let bench = Bench::new();
    let host = bench.host();
    let mut desk = bench.desk(&host);
    let order = bench.offer(OfferAction::Deploy, 5);
    let envelope = bench.signer.sign(&order);
    let give = |desk: &mut super::desk::Desk, envelope: &fettle_wire::offer::Envelope| {
        desk.take(&host, vec![WorkItem::Offer { envelope: envelope.clone() }]).unwrap();
    };
    give(&mut desk, &envelope);
    // The same item once more, and after a restart, is no replay but known.
    give(&mut desk, &envelope);
    let carry_on = |desk: &mut super::desk::Desk| {
        let Due::Deployment(id) = desk.due(clock::now()) else { panic!("nothing is due") };
        let mut engine = Engine::open(&host, id).unwrap().unwrap();
        let result = engine.run();
        desk.ran(&host, id, &result, Some(engine.deployment.state));
        result.unwrap()
    };
    assert_eq!(carry_on(&mut desk), Ended::Settled(DeploymentState::Succeeded));
    assert!(bench.is(AFTER));
    assert!(matches!(desk.due(clock::now()), Due::Nothing(None)));

    let mut desk = bench.desk(&host);
    give(&mut desk, &envelope);
    assert!(matches!(desk.due(clock::now()), Due::Nothing(None)));

    let mut undo = bench.offer(OfferAction::Undo, 6);
    undo.plan = fettle_domain::PlanId::new(9, [9; 10]);
    give(&mut desk, &bench.signer.sign(&undo));
    assert!(matches!(desk.due(clock::now()), Due::Nothing(None)), "an undo order of another plan");
    give(&mut desk, &bench.signer.sign(&bench.offer(OfferAction::Undo, 7)));
    assert_eq!(carry_on(&mut desk), Ended::Settled(DeploymentState::Undone));
    assert!(bench.is(BEFORE));
    give(&mut desk, &bench.signer.sign(&bench.offer(OfferAction::Undo, 8)));

    let mut late = bench.offer(OfferAction::Deploy, 3);
    late.deployment = fettle_domain::DeploymentId::new(2, [2; 10]);
    give(&mut desk, &bench.signer.sign(&late));
    drop(host);
    let refusals: Vec<String> = bench
        .told()
        .into_iter()
        .filter_map(|body| match body {
            ReportBody::Refused { reasons, .. } => Some(reasons[0].topic.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(refusals, ["order.does-not-fit", "order.does-not-fit", "order.replay"]);
}

#[test]
fn an_order_waits_for_its_window_over_a_restart_and_can_be_withdrawn() {
    let bench = Bench::new();
    let host = bench.host();
    let mut order = bench.offer(OfferAction::Deploy, 1);
    order.window_start = clock::now().after(Duration::from_secs(1800));
    let mut desk = bench.desk(&host);
    desk.take(&host, vec![WorkItem::Offer { envelope: bench.signer.sign(&order) }]).unwrap();
    let mut desk = bench.desk(&host);
    let Due::Nothing(Some(until)) = desk.due(clock::now()) else { panic!("it does not wait") };
    assert_eq!(until, order.window_start);
    let mut engine = Engine::open(&host, order.deployment).unwrap().unwrap();
    assert_eq!(engine.run().unwrap(), Ended::Waiting(order.window_start));
    desk.take(&host, vec![WorkItem::Withdraw { deployment: order.deployment }]).unwrap();
    assert!(matches!(desk.due(clock::now()), Due::Deployment(_)));
    assert_eq!(engine.run().unwrap(), Ended::Settled(DeploymentState::Withdrawn));
    assert!(bench.is(BEFORE));
}

#[test]
fn an_order_whose_window_ended_while_the_host_was_off_expires() {
    let bench = Bench::new();
    let mut order = bench.offer(OfferAction::Deploy, 1);
    order.window_end = Timestamp::from_unix_millis(clock::now().unix_millis() - 1);
    assert_eq!(bench.survive(&order), DeploymentState::Expired);
    assert!(bench.is(BEFORE));
}

#[test]
fn an_agent_told_to_stop_stops_between_tasks_and_goes_on_later() {
    let bench = Bench::new();
    let order = bench.offer(OfferAction::Deploy, 1);
    {
        let host = bench.host();
        host.stop.tell();
        let mut engine = Engine::create(&host, order.clone()).unwrap();
        assert!(matches!(engine.run(), Err(EngineError::Stopped)));
    }
    assert_eq!(bench.survive(&order), DeploymentState::Succeeded);
}

#[test]
fn a_mirror_that_is_away_for_a_moment_is_waited_for() {
    let bench = Bench::new();
    *bench.provider.away.lock().unwrap() = 2;
    assert_eq!(deploy(&bench), DeploymentState::Succeeded);
    assert!(format!("{:?}", bench.told()).contains("the mirror is away: tried again in a moment"));
    let bench = Bench::new();
    *bench.provider.away.lock().unwrap() = 100;
    assert_eq!(deploy(&bench), DeploymentState::Failed);
}

#[test]
fn a_replay_is_known_even_when_the_file_of_numbers_is_lost() {
    let bench = Bench::new();
    let host = bench.host();
    let mut desk = bench.desk(&host);
    let first = bench.signer.sign(&bench.offer(OfferAction::Deploy, 5));
    desk.take(&host, vec![WorkItem::Offer { envelope: first }]).unwrap();
    std::fs::remove_file(host.state.sequence()).unwrap();
    let mut desk = bench.desk(&host);
    let mut old = bench.offer(OfferAction::Deploy, 4);
    old.deployment = fettle_domain::DeploymentId::new(7, [7; 10]);
    desk.take(&host, vec![WorkItem::Offer { envelope: bench.signer.sign(&old) }]).unwrap();
    drop(host);
    assert!(format!("{:?}", bench.told()).contains("order.replay"));
}

#[test]
fn a_host_without_the_package_managers_commands_refuses() {
    let bench = Bench::new();
    *bench.provider.commands.lock().unwrap() = &["sh", "no-such-command"];
    let host = bench.host();
    let mut desk = bench.desk(&host);
    let order = bench.signer.sign(&bench.offer(OfferAction::Deploy, 1));
    desk.take(&host, vec![WorkItem::Offer { envelope: order }]).unwrap();
    drop(host);
    let told = format!("{:?}", bench.told());
    assert!(told.contains("needs no-such-command, which this host does not have"), "{told}");
}

#[test]
fn what_settled_deployments_leave_on_disk_is_bounded() {
    let bench = Bench::new();
    let host = bench.host();
    let mut desk = bench.desk(&host);
    for number in 1..=14_u8 {
        for (name, version) in BEFORE {
            bench.provider.set(name, Some(version));
        }
        bench.provider.set("new", None);
        let mut order = bench.offer(OfferAction::Deploy, u64::from(number));
        order.deployment = fettle_domain::DeploymentId::new(u64::from(number), [number; 10]);
        desk.take(&host, vec![WorkItem::Offer { envelope: bench.signer.sign(&order) }]).unwrap();
        let mut engine = Engine::open(&host, order.deployment).unwrap().unwrap();
        let result = engine.run();
        desk.ran(&host, order.deployment, &result, Some(engine.deployment.state));
        assert_eq!(result.unwrap(), Ended::Settled(DeploymentState::Succeeded));
    }
    let ids = host.state.deployment_ids().unwrap();
    let undoable: Vec<bool> = ids.iter().map(|id| host.state.deployment(*id).join("old").is_dir()).collect();
    assert_eq!(undoable.iter().filter(|kept| **kept).count(), 10);
    assert!(!undoable[0] && undoable[13], "the oldest go first");
    let mut undo = bench.offer(OfferAction::Undo, 50);
    undo.deployment = ids[0];
    desk.take(&host, vec![WorkItem::Offer { envelope: bench.signer.sign(&undo) }]).unwrap();
    drop(host);
    assert!(format!("{:?}", bench.told()).contains("former package files are not kept any more"));
}

#[test]
fn an_order_that_never_came_and_is_taken_back_is_answered_once() {
    let bench = Bench::new();
    let host = bench.host();
    let mut desk = bench.desk(&host);
    let order = bench.offer(OfferAction::Deploy, 1);
    for _ in 0..2 {
        desk.take(&host, vec![WorkItem::Withdraw { deployment: order.deployment }]).unwrap();
    }
    desk.take(&host, vec![WorkItem::Offer { envelope: bench.signer.sign(&order) }]).unwrap();
    assert!(matches!(desk.due(clock::now()), Due::Nothing(None)), "taken back is taken back");
    drop(host);
    assert_eq!(bench.told_events(), [DeploymentEvent::Withdraw]);
}
