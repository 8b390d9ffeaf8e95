//! Checks, restarts and reboots over whole deployments of the simulated host: what fails one, what
//! does not, and what people are told.

use super::bench::{AFTER, BEFORE, Bench, KERNEL};
use super::engine::{self, Ended};
use super::needrestart::NeedRestart;
use super::record::Left;
use crate::services::{Holder, Use, UsedFile};
use fettle_domain::health::{HealthCheck, Seen};
use fettle_domain::machine::{DeploymentState as S, TaskState};
use fettle_domain::plan::RebootPolicy;
use fettle_domain::reason::Reason;
use fettle_wire::agent::ReportBody;
use fettle_wire::offer::{Offer, OfferAction};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

fn order(bench: &Bench, checks: &[&str]) -> Offer {
    let mut order = bench.offer(OfferAction::Deploy, 1);
    order.checks = checks.iter().map(|text| text.parse().unwrap()).collect();
    order
}

/// A bench whose looks are answered so: name of the check, version of the app, boots, number of the look.
fn looking(look: impl Fn(&HealthCheck, &str, u32, u32) -> bool + Send + 'static) -> Bench {
    let bench = Bench::new();
    let count = AtomicU32::new(0);
    bench.system.sim.lock().unwrap().look = Some(Box::new(move |check, app, boots| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let holds = look(check, app, boots, number);
        Seen { holds, evidence: format!("seen with {app}") }
    }));
    bench
}

/// Reasons that the server was told for a task in a state.
fn told(bench: &Bench, task: &str, in_state: TaskState) -> Vec<Reason> {
    let found = bench.told().into_iter().filter_map(|body| match body {
        ReportBody::Task { name, state, reasons, .. } if name == task && state == in_state => Some(reasons),
        _ => None,
    });
    found.flatten().collect()
}

fn texts(reasons: &[Reason]) -> String {
    reasons.iter().map(|reason| format!("{}: {reason}\n", reason.topic)).collect()
}

fn is_new(app: &str) -> bool {
    app == "1.0-2"
}

#[test]
fn a_check_that_held_and_holds_no_more_undoes_the_change_with_its_evidence() {
    let bench = looking(|_, app, _, _| !is_new(app));
    let order = order(&bench, &["http=http://127.0.0.1:8080/health,within=0s,name=the shop"]);
    assert_eq!(bench.survive(&order), S::Undone);
    assert!(bench.is(BEFORE));
    let all = bench.told();
    let of = |task: &str, in_state: TaskState| {
        all.iter().find_map(|body| match body {
            ReportBody::Task { name, state, reasons, .. } if name == task && *state == in_state => Some(texts(reasons)),
            _ => None,
        })
    };
    let before = of("pre-check", TaskState::Done).unwrap();
    assert!(
        before.contains("health.holds: the shop: holds before the change: seen with 1.0-1 [the change]"),
        "{before}"
    );
    let failed = of("health-checks", TaskState::Undo).unwrap();
    assert!(
        failed.contains("health.broken: the shop: held before the change and does not now: seen with 1.0-2"),
        "{failed}"
    );
    assert!(failed.contains("1 services are there"), "what holds is told too: {failed}");
    let undone = of("install", TaskState::Undone).unwrap();
    assert!(undone.contains("after the undo: the shop: holds: seen with 1.0-1"), "{undone}");
}

#[test]
fn what_was_bad_before_is_named_and_not_blamed() {
    let bench = looking(|_, _, _, _| false);
    let order = order(&bench, &["unit=old-trouble.service,within=1800s"]);
    assert_eq!(bench.survive(&order), S::Succeeded);
    let told = bench.told();
    let text = format!("{told:?}");
    assert!(text.contains("is bad already before the change"), "{text}");
    assert!(text.contains("was bad before and still is, which is not blamed on the change"), "{text}");
}

#[test]
fn what_is_required_before_keeps_the_change_from_beginning() {
    for when in ["before", "always"] {
        let bench = looking(|_, _, _, _| false);
        let order = order(&bench, &[&format!("disk=/var,at-least=10%,within=0s,when={when}")]);
        assert_eq!(bench.survive(&order), S::Failed, "{when}");
        assert!(bench.is(BEFORE));
        let failed = texts(&told(&bench, "pre-check", TaskState::Undo));
        assert!(failed.contains("health.required-before: disk /var: must hold before the change begins"), "{failed}");
    }
}

#[test]
fn what_counts_after_counts_only_once_services_run_the_new_version() {
    // The answer is the new one only after the restart; before it, the check does not count yet.
    let bench = Bench::new();
    let system = bench.system.clone();
    let restarted = std::sync::Arc::new(AtomicU32::new(0));
    let seen = restarted.clone();
    bench.system.sim.lock().unwrap().look = Some(Box::new(move |_, app, _| {
        seen.fetch_add(1, Ordering::Relaxed);
        Seen { holds: is_new(app), evidence: format!("answers as {app}") }
    }));
    let order = order(&bench, &["http=http://127.0.0.1/version,contains=1.0-2,when=after,within=0s"]);
    assert_eq!(bench.survive(&order), S::Succeeded);
    assert_eq!(restarted.load(Ordering::Relaxed), 1, "looked at once, at the end");
    assert_eq!(system.sim.lock().unwrap().restarts, ["app.service"]);

    let bench = looking(|_, _, _, _| false);
    let order = self::order(&bench, &["port=80,when=after,within=0s"]);
    assert_eq!(bench.survive(&order), S::Undone);
    let failed = texts(&told(&bench, "verify-after-reboot", TaskState::Undo));
    assert!(failed.contains("health.not-met: port tcp:80: must hold after the change, and does not"), "{failed}");
}

#[test]
fn a_check_has_its_time_and_must_then_go_on_holding() {
    // Bad for three looks after the install, well within its patience.
    let bad = AtomicU32::new(0);
    let bench = looking(move |_, app, _, _| !is_new(app) || bad.fetch_add(1, Ordering::Relaxed) >= 3);
    assert_eq!(bench.survive(&order(&bench, &["port=80,within=60s"])), S::Succeeded);

    // Good for two looks at the end, then bad: it did not go on holding.
    let good = AtomicU32::new(0);
    let bench = looking(move |_, app, _, _| is_new(app) && good.fetch_add(1, Ordering::Relaxed) < 2);
    let checked = order(&bench, &["port=80,when=after,within=0s,hold=60s"]);
    assert_eq!(bench.survive(&checked), S::Undone);

    // And one second of holding is enough when one is asked for.
    let bench = looking(|_, _, _, _| true);
    let begun = std::time::Instant::now();
    assert_eq!(bench.survive(&order(&bench, &["port=80,hold=1s"])), S::Succeeded);
    assert!(begun.elapsed().as_millis() >= 1000, "{:?}", begun.elapsed());
}

#[test]
fn a_bad_moment_before_the_change_is_no_bad_state() {
    // The first look is bad, the second good: so it counts as good, and must hold after.
    let bench = looking(|_, app, _, number| !is_new(app) && number > 1);
    assert_eq!(bench.survive(&order(&bench, &["port=80,within=0s"])), S::Undone);
}

#[test]
fn checks_are_looked_at_again_after_a_reboot() {
    let bench = looking(|_, app, boots, _| !is_new(app) || boots == 0);
    bench.system.sim.lock().unwrap().reboot_needed = true;
    let mut order = order(&bench, &["port=80,within=0s"]);
    order.reboot = RebootPolicy::IfNeeded;
    assert_eq!(bench.live(&order).unwrap(), Ended::Rebooting);
    assert_eq!(bench.survive(&order), S::Undone);
    let failed = texts(&told(&bench, "verify-after-reboot", TaskState::Undo));
    assert!(failed.contains("health.broken: port tcp:80"), "{failed}");
}

#[test]
fn a_check_that_the_host_refuses_keeps_the_change_from_beginning() {
    let bench = Bench::new();
    assert_eq!(bench.survive(&order(&bench, &["command=not-defined-here"])), S::Failed);
    assert!(bench.is(BEFORE));
    assert!(texts(&told(&bench, "pre-check", TaskState::Undo)).contains("health.refused"));
}

fn also(unit: &str, holder: Holder, own: bool, path: &str, package: &str) -> Use {
    Use {
        unit: unit.to_owned(),
        holder,
        executable: format!("/usr/sbin/of-{package}"),
        files: vec![UsedFile { path: path.to_owned(), package: package.to_owned() }],
        own,
    }
}

#[test]
fn exactly_the_services_that_use_files_of_this_deployment_are_restarted() {
    let bench = Bench::new();
    bench.system.sim.lock().unwrap().also_uses = vec![
        also("other.service", Holder::Unit, false, "/usr/lib/libz.so.1", "zlib1g"),
        also("lib-user.service", Holder::Unit, false, "/usr/lib/lib.so.1", "lib"),
        also("gone-before.service", Holder::Unit, false, "/usr/lib/gone.so", ""),
        also("dbus.service", Holder::Unit, false, "/usr/lib/lib.so.1", "lib"),
        also("fettle-agent.service", Holder::Unit, true, "/usr/lib/lib.so.1", "lib"),
        also("", Holder::Init, false, "/usr/lib/lib.so.1", "lib"),
        also("", Holder::Session, false, "/usr/lib/lib.so.1", "lib"),
    ];
    assert_eq!(bench.survive(&order(&bench, &[])), S::Succeeded);
    assert_eq!(bench.system.sim.lock().unwrap().restarts, ["app.service", "lib-user.service"]);
    let notes = texts(&told(&bench, "restart-services", TaskState::Done));
    for part in [
        "app.service was restarted: it used /usr/sbin/app of app",
        "by hand or by a reboot: dbus.service (left alone",
        "by hand or by a reboot: fettle-agent.service (the agent itself",
        "systemctl daemon-reexec",
        "(a person's session)",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert!(!notes.contains("other.service") && !notes.contains("gone-before"), "{notes}");
}

#[test]
fn needrestart_is_asked_where_it_is() {
    let bench = Bench::new();
    {
        let mut sim = bench.system.sim.lock().unwrap();
        sim.also_uses = vec![also("excepted.service", Holder::Unit, false, "/usr/lib/lib.so.1", "lib")];
        let services = BTreeSet::from(["app.service".to_owned(), "named-before.service".to_owned()]);
        sim.needrestart = Some(NeedRestart { services, ..NeedRestart::default() });
    }
    assert_eq!(bench.survive(&order(&bench, &[])), S::Succeeded);
    assert_eq!(bench.system.sim.lock().unwrap().restarts, ["app.service"]);
    let notes = texts(&told(&bench, "restart-services", TaskState::Done));
    assert!(notes.contains("excepted.service (needrestart does not name it"), "{notes}");
    assert!(!notes.contains("named-before"), "{notes}");
}

#[test]
fn another_kernel_than_the_wanted_one_is_a_failure_that_names_both() {
    let run = |after: &'static str| {
        let bench = Bench::new();
        {
            let mut sim = bench.system.sim.lock().unwrap();
            (sim.reboot_needed, sim.kernels) = (true, vec!["6.1.0-18-amd64", after]);
        }
        let mut order = order(&bench, &[]);
        order.reboot = RebootPolicy::IfNeeded;
        (bench.survive(&order), bench)
    };
    let (state, bench) = run(KERNEL);
    assert_eq!(state, S::Succeeded);
    assert!(bench.is(AFTER));
    let notes = texts(&told(&bench, "verify-after-reboot", TaskState::Done));
    assert!(notes.contains("reboot.kernel: kernel 6.1.0-20-amd64 (of 6.1.0-20-amd64) runs, as wanted"), "{notes}");
    let (state, bench) = run("6.1.0-18-amd64");
    assert_eq!(state, S::Undone);
    let failed = texts(&told(&bench, "verify-after-reboot", TaskState::Undo));
    assert!(failed.contains("kernel 6.1.0-20-amd64 (of 6.1.0-20-amd64) was to run after the reboot"), "{failed}");
    assert!(failed.contains("6.1.0-18-amd64 (of 6.1.0-18-amd64) came up"), "{failed}");
}

#[test]
fn a_reboot_is_proved_by_both_boot_ids() {
    let bench = Bench::new();
    bench.system.sim.lock().unwrap().reboot_needed = true;
    let mut order = order(&bench, &[]);
    order.reboot = RebootPolicy::IfNeeded;
    assert_eq!(bench.survive(&order), S::Succeeded);
    let notes = texts(&told(&bench, "reboot", TaskState::Done));
    assert!(notes.contains("its boot id was boot-0 and is boot-1"), "{notes}");
}

#[test]
fn a_journal_without_checks_is_read() {
    let left: Left = serde_json::from_str(r#"{"left":"before","services":[]}"#).unwrap();
    assert_eq!(
        left,
        Left::Before { services: vec![], checks: vec![], replaced: vec![], needrestart: vec![] },
        "as an agent without checks wrote it"
    );
    let left: Left = serde_json::from_str(r#"{"left":"reboot","boot_id":"x"}"#).unwrap();
    assert_eq!(left, Left::Reboot { boot_id: "x".to_owned(), kernels: vec![] });
}

#[test]
fn the_state_of_checks_survives_the_agent() {
    // Killed after the pre-check, the next life knows that the check held before.
    let bench = looking(|_, app, _, _| !is_new(app));
    let order = order(&bench, &["port=80,within=0s"]);
    for at in 10..40 {
        bench.fuse.set(Some((at, 500)));
        if let Ok(Ended::Settled(_)) = bench.live(&order) {
            break;
        }
    }
    assert_eq!(bench.survive(&order), S::Undone);
    assert!(bench.is(BEFORE));
    let deployment = engine::peek(&bench.folder()).unwrap().unwrap();
    assert!(texts(&deployment.failure).contains("health.broken"), "{}", texts(&deployment.failure));
}
