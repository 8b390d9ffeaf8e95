//! The apt provider against the real apt and dpkg, on throwaway Debian roots with awkward packages.
//! Needs root and the folder `shared` beside the workspace; without it `demo.rs` tests the project's own root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[macro_use]
mod support;

use fettle_domain::package::InstallState;
use fettle_domain::plan::{Job, RehearsalOutcome};
use fettle_plugin::{ErrorKind, Provider, Step};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::*;

#[test]
fn the_inventory_equals_dpkgs_own_list() {
    let host = host!();
    let format =
        "-f=${Package}\t${Architecture}\t${Version}\t${source:Package}\t${source:Version}\t${db:Status-Abbrev}\n";
    let dpkg: BTreeSet<String> =
        host.inside(&["/usr/bin/dpkg-query", "-W", format]).lines().map(|line| line.trim().to_owned()).collect();
    let inventory = host.inventory();
    let ours: BTreeSet<String> = inventory
        .iter()
        .map(|found| {
            let p = &found.package;
            let status = format!(
                "{}{}",
                if found.held { 'h' } else { 'i' },
                if found.state == InstallState::Installed { 'i' } else { '?' }
            );
            format!("{}\t{}\t{}\t{}\t{}\t{status}", p.name, p.architecture, p.version, p.source, p.source_version)
        })
        .collect();
    assert_eq!(ours, dpkg);
    let origin =
        |name: &str| inventory.iter().find(|found| found.package.name == name).map(|found| found.origin.as_str());
    assert_eq!(origin("tb-app"), Some("Testbed:stable"));
    assert_eq!(origin("dpkg"), Some(""), "no configured repository offers it");
    let held: Vec<&str> =
        inventory.iter().filter(|found| found.held).map(|found| found.package.name.as_str()).collect();
    assert_eq!(held, ["tb-held"]);
    let automatic: BTreeSet<String> =
        host.inside(&["/usr/bin/apt-mark", "showauto"]).lines().map(str::to_owned).collect();
    assert_eq!(
        automatic,
        inventory.iter().filter(|found| found.automatic).map(|found| found.package.name.clone()).collect()
    );
    assert_eq!(host.provider.state_digest(&host.context()).unwrap().len(), 64);
}

#[test]
fn candidates_are_all_newer_versions_with_their_archive() {
    let host = host!();
    let candidates = host.provider.candidates(&host.context(), true).unwrap();
    let of = |name: &str| -> Vec<String> {
        let found = candidates.iter().filter(|candidate| candidate.name == name);
        found.map(|c| format!("{} {} {}", c.version, c.origin, if c.security { "security" } else { "-" })).collect()
    };
    assert_eq!(of("tb-app"), ["1.0-1+deb1 Testbed:stable-security security", "2.0-1 Testbed:stable-updates -"]);
    assert_eq!(of("tb-order"), ["9:1.0-1 Testbed:stable-updates -"], "1:99-1 is older");
    assert_eq!(of("tb-peer"), [""; 0]);
}

#[test]
fn security_only_takes_the_lowest_version_that_closes_it() {
    let host = host!();
    let before = host.portrait(&["tb-app", "tb-lib"]);
    let (manifest, notes) = host.manifest(&job(&[at_least("tb-app", "1.0-1+deb1")]));
    assert_eq!(shown(&manifest), "tb-app 1.0-1 -> 1.0-1+deb1\ntb-lib 1.0-1 -> 1.1-1+deb1 (comes along)");
    assert!(notes.is_empty(), "{notes:?}");
    assert!(
        manifest.download_bytes > 1000
            && manifest.steps.iter().all(|step| step.file.as_ref().unwrap().sha256.len() == 64)
    );
    host.deploy(&manifest);
    assert_eq!(host.version("tb-app").as_deref(), Some("1.0-1+deb1"));
    let marks = |host: &Host| -> Vec<(String, bool)> {
        host.inventory()
            .into_iter()
            .filter(|found| found.package.name.starts_with("tb-"))
            .map(|found| (found.package.name, found.automatic))
            .collect()
    };
    let after = marks(&host);
    assert_eq!(host.rehearse(&job(&[at_least("tb-app", "1.0-1+deb1")])), RehearsalOutcome::NothingToDo);
    host.server.stop();
    host.undo(&manifest).unwrap();
    assert_eq!(host.portrait(&["tb-app", "tb-lib"]), before);
    assert_eq!(marks(&host), after, "marks stayed what they were all the time");
    assert_eq!(host.provider.state_digest(&host.context()).unwrap(), manifest.base_digest);
    host.undo(&manifest).unwrap();
}

#[test]
fn what_comes_along_goes_no_further_than_needed() {
    let host = host!();
    // tb-app 2.0-1 needs tb-lib >= 1.1: 1.1-1 is enough, although apt would prefer 1.1-1+deb1.
    let (manifest, _) = host.manifest(&job(&[exactly("tb-app", "2.0-1")]));
    assert_eq!(shown(&manifest), "tb-app 1.0-1 -> 2.0-1\ntb-lib 1.0-1 -> 1.1-1 (comes along)");
}

#[test]
fn a_dependency_on_an_exact_version_is_met_with_that_version() {
    let host = host!();
    let depends = |version: &str| format!("Depends: own-lib (= {version})\n");
    let (old, fixed, new) = (depends("1.0-1"), depends("1.0-1+sec1"), depends("2.0-1"));
    host.add_repository(&[
        ("own-lib", "1.0-1", "", &[]),
        ("own-lib", "1.0-1+sec1", "", &[]),
        ("own-lib", "2.0-1", "", &[]),
        ("own-app", "1.0-1", &old, &[]),
        ("own-app", "1.0-1+sec1", &fixed, &[]),
        ("own-app", "2.0-1", &new, &[]),
    ]);
    host.inside(&["/usr/bin/apt-get", "-y", "-qq", "install", "own-app=1.0-1", "own-lib=1.0-1"]);
    // apt alone refuses: its preferred own-lib is 2.0-1.
    let refused = host.command(&["/usr/bin/apt-get", "-s", "install", "own-app=1.0-1+sec1"]).output().unwrap();
    assert!(!refused.status.success());
    let (manifest, _) = host.manifest(&job(&[at_least("own-app", "1.0-1+sec1")]));
    assert_eq!(shown(&manifest), "own-app 1.0-1 -> 1.0-1+sec1\nown-lib 1.0-1 -> 1.0-1+sec1 (comes along)");
    host.deploy(&manifest);
    host.undo(&manifest).unwrap();
    // Asked for the library alone, the program comes along instead of being removed.
    let (manifest, _) = host.manifest(&job(&[at_least("own-lib", "1.0-1+sec1")]));
    assert_eq!(shown(&manifest), "own-app 1.0-1 -> 1.0-1+sec1 (comes along)\nown-lib 1.0-1 -> 1.0-1+sec1");
    // Two that exclude each other: the first is planned, the second is told.
    let (manifest, notes) = host.manifest(&job(&[exactly("own-app", "2.0-1"), exactly("own-lib", "1.0-1+sec1")]));
    assert_eq!(shown(&manifest), "own-app 1.0-1 -> 2.0-1\nown-lib 1.0-1 -> 2.0-1 (comes along)");
    assert_eq!(topics(&notes), ["apt.unsatisfiable"], "{notes:?}");
}

#[test]
fn configuration_that_only_the_newer_version_has_goes_with_it() {
    let host = host!();
    let background = "#!/bin/sh\nsleep 300 &\necho started\n";
    host.add_repository(&[
        ("own-conf", "1.0-1", "", &[("/etc/own/a.cfg", "1\n")]),
        (
            "own-conf",
            "2.0-1",
            "Depends: own-new\n",
            &[("/etc/own/a.cfg", "2\n"), ("/etc/own/b.cfg", "2\n"), ("postinst", background)],
        ),
        ("own-new", "1.0-1", "", &[("/etc/own-new.cfg", "n\n")]),
    ]);
    host.inside(&["/usr/bin/apt-get", "-y", "-qq", "install", "own-conf=1.0-1"]);
    let before = host.portrait(&["own-conf"]);
    let (manifest, _) = host.manifest(&job(&[candidate("own-conf")]));
    let start = Instant::now();
    host.deploy(&manifest);
    assert!(start.elapsed() < Duration::from_secs(30), "a child in the background holds nobody up");
    assert!(host.path("/etc/own/b.cfg").exists() && host.path("/etc/own-new.cfg").exists());
    let notes = host.undo(&manifest).unwrap().notes;
    assert_same(&before, &host.portrait(&["own-conf"]), &notes);
    assert!(!host.path("/etc/own/b.cfg").exists() && !host.path("/etc/own-new.cfg").exists());
}

#[test]
fn real_security_updates_are_applied_and_undone_without_network() {
    let host = host!();
    let real: Vec<_> = host
        .provider
        .candidates(&host.context(), false)
        .unwrap()
        .into_iter()
        .filter(|c| c.origin == "Debian:real")
        .collect();
    if real.is_empty() {
        eprintln!("skipped: no real security update was pending when the testbed was built");
        return;
    }
    let names: Vec<&str> = real.iter().map(|candidate| candidate.name.as_str()).collect();
    let before = host.portrait(&names);
    let wanted: Vec<_> = real.iter().map(|c| at_least(&c.name, &c.source_version)).collect();
    let (manifest, _) = host.manifest(&job(&wanted));
    assert!(manifest.steps.len() >= names.len());
    host.prepare(&manifest);
    host.server.stop();
    host.apply(Step::Install, &manifest).unwrap();
    assert_eq!(host.rehearse(&job(&wanted)), RehearsalOutcome::NothingToDo);
    let left = host.provider.candidates(&host.context(), false).unwrap();
    assert!(left.iter().all(|candidate| candidate.origin != "Debian:real"), "{left:?}");
    let notes = host.undo(&manifest).unwrap().notes;
    assert_same(&before, &host.portrait(&names), &notes);
    // No trace of our own work stays in the root.
    assert_eq!(std::fs::read_dir(host.path("/var/cache/fettle")).unwrap().count(), 0);
}

#[test]
fn an_edited_conffile_is_kept_reported_and_restored() {
    let host = host!();
    host.write("/etc/tb-conf/main.cfg", "listen=9090\n");
    std::os::unix::fs::chown(host.path("/etc/tb-conf/main.cfg"), Some(7), Some(8)).unwrap();
    let before = host.portrait(&["tb-conf"]);
    let (manifest, notes) = host.manifest(&job(&[candidate("tb-conf")]));
    assert!(has(&notes, "apt.conffile-edited", "/etc/tb-conf/main.cfg of tb-conf was edited"), "{notes:?}");
    let notes = host.deploy(&manifest);
    assert!(has(&notes, "apt.conffile-kept", "/etc/tb-conf/main.cfg.dpkg-dist"), "{notes:?}");
    assert_eq!(host.read("/etc/tb-conf/main.cfg"), "listen=9090\n");
    assert_eq!(host.read("/etc/tb-conf/main.cfg.dpkg-dist"), "listen=8080\nversion=1.1-1\n");
    // Whatever happens to it meanwhile: undo brings back what was there before the install.
    host.write("/etc/tb-conf/main.cfg", "spoilt");
    host.server.stop();
    let notes = host.undo(&manifest).unwrap().notes;
    assert!(has(&notes, "apt.conffile-restored", "/etc/tb-conf/main.cfg"), "{notes:?}");
    assert_same(&before, &host.portrait(&["tb-conf"]), &notes);
    assert!(!host.path("/etc/tb-conf/main.cfg.dpkg-dist").exists());
}

#[test]
fn an_unedited_conffile_follows_the_version_both_ways() {
    let host = host!();
    let (manifest, notes) = host.manifest(&job(&[candidate("tb-conf")]));
    assert!(notes.is_empty(), "{notes:?}");
    host.deploy(&manifest);
    assert_eq!(host.read("/etc/tb-conf/main.cfg"), "listen=8080\nversion=1.1-1\n");
    host.undo(&manifest).unwrap();
    assert_eq!(host.read("/etc/tb-conf/main.cfg"), "listen=8080\nversion=1.0-1\n");
    // A removed one stays removed.
    std::fs::remove_file(host.path("/etc/tb-conf/main.cfg")).unwrap();
    let host_folder = host.folder.join("deployment");
    std::fs::remove_dir_all(host_folder).unwrap();
    let (manifest, notes) = host.manifest(&job(&[candidate("tb-conf")]));
    assert!(has(&notes, "apt.conffile-edited", "was removed by the administrator"), "{notes:?}");
    host.deploy(&manifest);
    assert!(!host.path("/etc/tb-conf/main.cfg").exists());
    host.undo(&manifest).unwrap();
    assert!(!host.path("/etc/tb-conf/main.cfg").exists());
}

#[test]
fn a_failing_postinst_is_told_by_state_and_undone() {
    let host = host!();
    let before = host.portrait(&["tb-failpost", "tb-order"]);
    let (manifest, _) = host.manifest(&job(&[candidate("tb-failpost"), candidate("tb-order")]));
    host.prepare(&manifest);
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(error.message.contains("tb-failpost is 1.1-1 half-configured instead of 1.1-1"), "{error:?}");
    assert!(error.causes.iter().any(|line| line.contains("cannot migrate")), "{error:?}");
    assert!(host.said.contains("tb-failpost: cannot migrate") && host.said.contains("Setting up tb-order"));
    let wrong = host.provider.verify(&host.context(), &manifest, false).unwrap();
    assert_eq!(
        wrong.iter().map(|(step, found)| (step.name.as_str(), found.as_str())).collect::<Vec<_>>(),
        [("tb-failpost", "1.1-1 half-configured")]
    );
    let state = |name: &str| host.inventory().into_iter().find(|found| found.package.name == name).unwrap().state;
    assert_eq!(state("tb-failpost"), InstallState::HalfConfigured);
    // Judged one by one: while it is broken, another change succeeds although apt returns 100.
    let (other, notes) = host.manifest(&job(&[candidate("tb-plug")]));
    assert!(has(&notes, "apt.unfinished", "tb-failpost"), "{notes:?}");
    let request = |step| fettle_plugin::StepRequest { folder: host.folder.join("other"), ..host.request(step, &other) };
    for step in [Step::Fetch, Step::KeepOld] {
        host.provider.apply(&host.context(), &request(step)).unwrap();
    }
    let notes = host.provider.apply(&host.context(), &request(Step::Install)).unwrap().notes;
    assert!(has(&notes, "apt.unrelated", "tb-failpost"), "{notes:?}");
    host.provider.undo(&host.context(), &request(Step::Install), None).unwrap();
    host.server.stop();
    let notes = host.undo(&manifest).unwrap().notes;
    assert_same(&before, &host.portrait(&["tb-failpost", "tb-order"]), &notes);
    assert_eq!(host.inside(&["/usr/bin/dpkg", "--audit"]), "");
}

#[test]
fn a_refusing_preinst_and_a_clash_of_files_leave_the_old_version() {
    let host = host!();
    for (name, words) in
        [("tb-failpre", "refusing upgrade from 1.0-1"), ("tb-clash", "trying to overwrite '/usr/share/tb-lib/version'")]
    {
        let before = host.portrait(&[name, "tb-lib"]);
        let (manifest, _) = host.manifest(&job(&[candidate(name)]));
        host.prepare(&manifest);
        let error = host.apply(Step::Install, &manifest).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Failed);
        assert!(error.causes.iter().any(|line| line.contains(words)), "{error:?}");
        assert_eq!(host.version(name).as_deref(), Some("1.0-1"));
        let notes = host.undo(&manifest).unwrap().notes;
        assert_same(&before, &host.portrait(&[name, "tb-lib"]), &notes);
        std::fs::remove_dir_all(host.folder.join("deployment")).unwrap();
    }
}

#[test]
fn new_packages_renames_triggers_and_questions() {
    let host = host!();
    let all = ["tb-meta", "tb-oldname", "tb-plug", "tb-trig", "tb-ask", "tb-daemon", "tb-reboot", "tb-big", "tb-order"];
    let before = host.portrait(&all);
    let wanted: Vec<_> = all.iter().filter(|name| **name != "tb-trig").map(|name| candidate(name)).collect();
    let (manifest, notes) = host.manifest(&job(&wanted));
    assert!(notes.is_empty(), "{notes:?}");
    insta::assert_snapshot!(shown(&manifest), @r"
    tb-abi-2 - -> 1.0-1 (comes along)
    tb-ask 1.0-1 -> 1.1-1
    tb-big 1.0-1 -> 1.1-1
    tb-daemon 1.0-1 -> 1.1-1
    tb-meta 1.0-1 -> 1.1-1
    tb-newname - -> 2.0-1 (comes along)
    tb-oldname 1.0-1 -> 2.0-1
    tb-order 9:1.0~rc1-1 -> 9:1.0-1
    tb-plug 1.0-1 -> 1.1-1
    tb-reboot 1.0-1 -> 1.1-1
    ");
    assert!(manifest.download_bytes > 100_000);
    host.deploy(&manifest);
    assert!(host.path("/run/reboot-required").exists());
    assert!(host.read("/var/log/tb-trig.log").contains("/usr/share/tb-plug"));
    let automatic =
        |name: &str| host.inventory().into_iter().find(|found| found.package.name == name).unwrap().automatic;
    assert!(automatic("tb-abi-2") && automatic("tb-newname") && !automatic("tb-meta"));
    assert!(host.said.progress.lock().unwrap().iter().any(|(percent, what)| *percent > 40 && what.contains("tb-meta")));
    host.server.stop();
    let notes = host.undo(&manifest).unwrap().notes;
    assert_same(&before, &host.portrait(&all), &notes);
    assert!(
        !host.inside(&["/usr/bin/dpkg-query", "-W", "-f=${Package} ", "*"]).split(' ').any(|name| name == "tb-abi-2")
    );
}

#[test]
fn a_removal_is_shown_and_refused_unless_allowed() {
    let host = host!();
    let reasons = host.impossible(&job(&[candidate("tb-grab")]));
    assert!(has(&reasons, "apt.would-remove", "tb-peer is removed"), "{reasons:?}");
    let before = host.portrait(&["tb-grab", "tb-peer"]);
    let (manifest, notes) = host.manifest(&Job { allow_removals: true, ..job(&[candidate("tb-grab")]) });
    assert_eq!(shown(&manifest), "tb-grab 1.0-1 -> 2.0-1\ntb-peer 1.0-1 -> - (comes along)");
    assert!(has(&notes, "apt.removes", "tb-peer 1.0-1"), "{notes:?}");
    host.deploy(&manifest);
    assert_eq!(host.version("tb-peer"), None);
    host.server.stop();
    let notes = host.undo(&manifest).unwrap().notes;
    assert_same(&before, &host.portrait(&["tb-grab", "tb-peer"]), &notes);
}

#[test]
fn what_cannot_be_is_named_and_the_others_go_on() {
    let host = host!();
    let reasons = host.impossible(&job(&[candidate("tb-broken")]));
    assert!(has(&reasons, "apt.unsatisfiable", "tb-does-not-exist"), "{reasons:?}");
    let reasons = host.impossible(&job(&[at_least("tb-held", "1.1-1")]));
    assert!(has(&reasons, "apt.held", "tb-held is held at 1.0-1"), "{reasons:?}");
    let reasons = host.impossible(&job(&[
        at_least("tb-lib", "7.0"),
        at_least("tb-none", "1"),
        exactly("tb-lib", "6.6-6"),
        candidate("--evil"),
    ]));
    assert_eq!(
        topics(&reasons),
        ["apt.not-offered", "apt.not-installed", "apt.bad-name", "apt.not-offered"],
        "{reasons:?}"
    );
    let (manifest, notes) = host.manifest(&job(&[
        candidate("tb-broken"),
        candidate("tb-held"),
        candidate("tb-grab"),
        candidate("tb-order"),
    ]));
    assert_eq!(shown(&manifest), "tb-order 9:1.0~rc1-1 -> 9:1.0-1");
    assert_eq!(topics(&notes), ["apt.held", "apt.unsatisfiable", "apt.would-remove"], "{notes:?}");
    assert_eq!(host.rehearse(&job(&[at_least("tb-app", "0.5")])), RehearsalOutcome::NothingToDo);
    // A hold put by us works like the administrator's, and is lifted again.
    let hold = |held| host.provider.set_hold(&host.context(), &["tb-order".into(), "tb-held".into()], held).unwrap();
    assert_eq!(hold(true), ["tb-order"]);
    assert!(has(&host.impossible(&job(&[candidate("tb-order")])), "apt.held", "tb-order"));
    assert_eq!(hold(false), ["tb-held", "tb-order"]);
    assert!(host.provider.set_hold(&host.context(), &["none".into()], true).is_err());
}

#[test]
fn an_undo_that_a_script_refuses_says_so_and_brings_the_others_back() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-nodown"), candidate("tb-order"), candidate("tb-app")]));
    let notes = host.deploy(&manifest);
    assert!(has(&notes, "apt.undo-uncertain", "tb-nodown 2.0-1"), "{notes:?}");
    let error = host.undo(&manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(error.message.contains("tb-nodown is 2.0-1 instead of 1.0-1"), "{error:?}");
    assert!(error.causes.iter().any(|line| line.contains("data of 2.0 cannot be read by 1.0-1")), "{error:?}");
    let wrong = host.provider.verify(&host.context(), &manifest, true).unwrap();
    assert_eq!(wrong.iter().map(|(step, _)| step.name.as_str()).collect::<Vec<_>>(), ["tb-nodown"]);
    assert_eq!(host.version("tb-order").as_deref(), Some("9:1.0~rc1-1"));
    // What is left to a person, word by word; it works once the script that refuses is out of the way.
    let commands = host.provider.undo_by_hand(&host.context(), &host.request(Step::Install, &manifest));
    let old = host.folder.join("deployment/old/tb-nodown_1.0-1_all.deb");
    let root = format!("--root={}", host.root.canonicalize().unwrap().display());
    assert_eq!(
        commands,
        [
            format!("dpkg {root} --force-downgrade --force-confold --install {}", old.display()),
            format!("dpkg {root} --audit")
        ]
    );
    std::fs::remove_file(host.path("/var/lib/dpkg/info/tb-nodown.prerm")).unwrap();
    for command in &commands {
        run(std::process::Command::new("sh").args(["-c", command]));
    }
    assert_eq!(host.version("tb-nodown").as_deref(), Some("1.0-1"));
}

#[test]
fn what_is_in_no_cache_and_no_repository_is_repacked() {
    let host = host!();
    let names = ["libssl3", "openssl", "tzdata", "tb-conf", "tb-daemon", "tb-big"];
    let wanted: Vec<_> = names.iter().map(|name| candidate(name)).collect();
    host.write("/etc/tb-conf/main.cfg", "edited=1\n");
    let before = host.portrait(&names);
    let (manifest, _) = host.manifest(&job(&wanted));
    host.apply(Step::Fetch, &manifest).unwrap();
    host.server.stop();
    let notes = host.apply(Step::KeepOld, &manifest).unwrap().notes;
    assert_eq!(notes.iter().filter(|note| note.topic == "apt.repacked").count(), manifest.steps.len(), "{notes:?}");
    assert!(host.apply(Step::KeepOld, &manifest).unwrap().notes.is_empty(), "the second time only looks");
    host.apply(Step::Install, &manifest).unwrap();
    let notes = host.undo(&manifest).unwrap().notes;
    assert_same(&before, &host.portrait(&names), &notes);
    assert_eq!(host.inside(&["/usr/bin/dpkg", "--audit"]), "");
    let verify =
        host.command(&["/usr/bin/dpkg", "--verify", "libssl3", "openssl", "tb-daemon", "tb-big"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&verify.stdout), "", "dpkg finds every file as recorded");
}

#[test]
fn every_act_may_run_twice_and_fetches_once() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-meta"), candidate("tb-conf")]));
    host.prepare(&manifest);
    let requests = host.server.requests();
    host.prepare(&manifest);
    assert_eq!(host.server.requests(), requests);
    host.apply(Step::Install, &manifest).unwrap();
    let after = host.portrait(&["tb-meta", "tb-conf"]);
    host.apply(Step::KeepOld, &manifest).unwrap();
    host.apply(Step::Install, &manifest).unwrap();
    assert_eq!(host.portrait(&["tb-meta", "tb-conf"]), after);
    host.undo(&manifest).unwrap();
    host.undo(&manifest).unwrap();
    for step in [Step::KeepOld, Step::Fetch] {
        for _ in 0..2 {
            host.provider.undo(&host.context(), &host.request(step, &manifest), None).unwrap();
        }
    }
    assert!(!host.folder.join("deployment/new").exists() && !host.folder.join("deployment/old").exists());
    // Nothing kept and nothing changed: nothing to undo.
    host.undo(&manifest).unwrap();
    assert_eq!(host.provider.state_digest(&host.context()).unwrap(), manifest.base_digest);
}

#[test]
fn a_repository_in_the_file_system_works_too() {
    let host = host!();
    run(std::process::Command::new("cp")
        .arg("-a")
        .arg(testbed().unwrap().folder.join("repo"))
        .arg(host.path("/srv/repo")));
    host.server.stop();
    let line = |suite| format!("deb [signed-by=/usr/share/keyrings/tb-archive.gpg] file:/srv/repo {suite} main\n");
    host.write("/etc/apt/sources.list.d/testbed.list", &["stable", "stable-security"].map(line).concat());
    host.provider.candidates(&host.context(), true).unwrap();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-app")]));
    host.deploy(&manifest);
    host.undo(&manifest).unwrap();
    assert_eq!(host.provider.state_digest(&host.context()).unwrap(), manifest.base_digest);
}

#[test]
fn on_the_machine_itself_it_works_the_same() {
    let host = host!();
    // This very test program runs on the machine, with its root as `/`.
    host.mount_pts();
    std::fs::copy(std::env::current_exe().unwrap(), host.path("/usr/local/bin/inner")).unwrap();
    host.write("/fettle-inside", "");
    let said = host.inside(&["/usr/local/bin/inner", "inner_on_the_machine_itself", "--exact", "--nocapture"]);
    assert!(said.contains("inner: all of it") && said.contains("1 passed"), "{said}");
    assert!(host.read("/var/log/apt/term.log").contains("tb-failpost: cannot migrate"), "apt's own log has it all");
}

/// Does nothing but inside [`on_the_machine_itself_it_works_the_same`].
#[test]
fn inner_on_the_machine_itself() {
    use fettle_plugin::{ProviderContext, StepRequest};
    if !std::path::Path::new("/fettle-inside").exists() {
        return;
    }
    let (provider, said) = (fettle_vendors::debian::provider::AptProvider::new(), Said::default());
    let context = || ProviderContext {
        root: "/".into(),
        events: &said,
        deadline: Instant::now() + Duration::from_secs(60),
        lock_patience: Duration::from_secs(2),
        limits: fettle_plugin::ResourceLimits::default(),
    };
    let possible = |wanted: &[fettle_domain::plan::WantedPackage]| match provider
        .rehearse(&context(), &job(wanted), false)
        .unwrap()
    {
        RehearsalOutcome::Possible { manifest, .. } => manifest,
        other => panic!("{other:?}"),
    };
    let request = |step, manifest: &fettle_domain::plan::Manifest, folder: &str| StepRequest {
        step,
        manifest: manifest.clone(),
        folder: std::path::Path::new("/var/lib/state of fettle").join(folder),
        conffiles: Default::default(),
    };
    std::fs::write("/etc/tb-conf/main.cfg", "edited\n").unwrap();
    let manifest = possible(&[candidate("tb-conf"), candidate("tb-meta"), at_least("tb-app", "1.0-1+deb1")]);
    for step in [Step::Fetch, Step::KeepOld, Step::Install] {
        provider.apply(&context(), &request(step, &manifest, "good")).unwrap();
    }
    assert!(std::path::Path::new("/etc/tb-conf/main.cfg.dpkg-dist").exists());
    assert!(provider.verify(&context(), &manifest, false).unwrap().is_empty());
    let bad = possible(&[candidate("tb-failpost")]);
    for step in [Step::Fetch, Step::KeepOld] {
        provider.apply(&context(), &request(step, &bad, "bad")).unwrap();
    }
    let error = provider.apply(&context(), &request(Step::Install, &bad, "bad")).unwrap_err();
    assert!(error.causes.iter().any(|line| line.contains("cannot migrate")), "{error:?}");
    provider.undo(&context(), &request(Step::Install, &bad, "bad"), None).unwrap();
    provider.undo(&context(), &request(Step::Install, &manifest, "good"), None).unwrap();
    assert_eq!(provider.state_digest(&context()).unwrap(), manifest.base_digest);
    assert_eq!(std::fs::read_to_string("/etc/tb-conf/main.cfg").unwrap(), "edited\n");
    println!("inner: all of it");
}

#[test]
fn this_very_machine_is_read_quickly_and_only_once() {
    // Needs no root and no testbed: only a machine with dpkg.
    if !std::path::Path::new("/var/lib/dpkg/status").exists() {
        return;
    }
    let (provider, said) = (fettle_vendors::debian::provider::AptProvider::new(), Said::default());
    let context = fettle_plugin::ProviderContext {
        root: "/".into(),
        events: &said,
        deadline: Instant::now() + Duration::from_secs(60),
        lock_patience: Duration::ZERO,
        limits: fettle_plugin::ResourceLimits::default(),
    };
    let start = Instant::now();
    let first = provider.inventory(&context).unwrap();
    let (one, start) = (start.elapsed(), Instant::now());
    let second = provider.inventory(&context).unwrap();
    let two = start.elapsed();
    eprintln!("{} packages: first {one:?}, again {two:?}", first.len());
    assert_eq!(first, second);
    assert!(two < Duration::from_millis(300), "{two:?}");
    assert!(first.windows(2).all(|pair| pair[0] < pair[1]), "sorted");
}
