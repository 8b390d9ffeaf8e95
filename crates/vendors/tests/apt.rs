//! The apt provider against the real apt and dpkg, on throwaway Debian roots with awkward packages.
//! Needs root and the folder `shared` beside the workspace; without it `demo.rs` tests the project's own root.

mod support;

use fettle_domain::package::InstallState;
use fettle_domain::plan::{Job, RehearsalOutcome};
use fettle_plugin::{ErrorKind, Provider, Step};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::*;

/// A fresh host, or the end of the test where there can be none.
macro_rules! host {
    () => {
        match testbed() {
            Some(testbed) => Host::new(testbed),
            None => return,
        }
    };
}

#[test]
fn the_inventory_equals_dpkgs_own_list() {
    let host = host!();
    let format = "-f=${Package}\t${Architecture}\t${Version}\t${source:Package}\t${source:Version}\t${db:Status-Abbrev}\n";
    let dpkg: BTreeSet<String> = host.inside(&["/usr/bin/dpkg-query", "-W", format]).lines().map(|line| line.trim().to_owned()).collect();
    let inventory = host.inventory();
    let ours: BTreeSet<String> = inventory
        .iter()
        .map(|found| {
            let p = &found.package;
            let status = format!("{}{}", if found.held { 'h' } else { 'i' }, if found.state == InstallState::Installed { 'i' } else { '?' });
            format!("{}\t{}\t{}\t{}\t{}\t{status}", p.name, p.architecture, p.version, p.source, p.source_version)
        })
        .collect();
    assert_eq!(ours, dpkg);
    let origin = |name: &str| inventory.iter().find(|found| found.package.name == name).map(|found| found.origin.as_str());
    assert_eq!(origin("tb-app"), Some("Testbed:stable"));
    assert_eq!(origin("dpkg"), Some(""), "no configured repository offers it");
    let held: Vec<&str> = inventory.iter().filter(|found| found.held).map(|found| found.package.name.as_str()).collect();
    assert_eq!(held, ["tb-held"]);
    let automatic: BTreeSet<String> = host.inside(&["/usr/bin/apt-mark", "showauto"]).lines().map(str::to_owned).collect();
    assert_eq!(automatic, inventory.iter().filter(|found| found.automatic).map(|found| found.package.name.clone()).collect());
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
    assert!(manifest.download_bytes > 1000 && manifest.steps.iter().all(|step| step.file.as_ref().unwrap().sha256.len() == 64));
    host.deploy(&manifest);
    assert_eq!(host.version("tb-app").as_deref(), Some("1.0-1+deb1"));
    let marks = |host: &Host| -> Vec<(String, bool)> {
        host.inventory().into_iter().filter(|found| found.package.name.starts_with("tb-")).map(|found| (found.package.name, found.automatic)).collect()
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
fn real_security_updates_are_applied_and_undone_without_network() {
    let host = host!();
    let real: Vec<_> = host.provider.candidates(&host.context(), false).unwrap().into_iter().filter(|c| c.origin == "Debian:real").collect();
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

/// Compares two portraits and names the first differences.
fn assert_same(before: &std::collections::BTreeMap<String, String>, after: &std::collections::BTreeMap<String, String>, notes: &[fettle_domain::reason::Reason]) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let different: Vec<String> = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| format!("{key}: {:?} -> {:?}", before.get(key), after.get(key)))
        .take(10)
        .collect();
    assert!(different.is_empty(), "{different:#?}\nnotes: {notes:?}");
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
    assert_eq!(wrong.iter().map(|(step, found)| (step.name.as_str(), found.as_str())).collect::<Vec<_>>(), [("tb-failpost", "1.1-1 half-configured")]);
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
    for (name, words) in [("tb-failpre", "refusing upgrade from 1.0-1"), ("tb-clash", "trying to overwrite '/usr/share/tb-lib/version'")] {
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
    let automatic = |name: &str| host.inventory().into_iter().find(|found| found.package.name == name).unwrap().automatic;
    assert!(automatic("tb-abi-2") && automatic("tb-newname") && !automatic("tb-meta"));
    assert!(host.said.progress.lock().unwrap().iter().any(|(percent, what)| *percent > 40 && what.contains("tb-meta")));
    host.server.stop();
    let notes = host.undo(&manifest).unwrap().notes;
    assert_same(&before, &host.portrait(&all), &notes);
    assert!(!host.inside(&["/usr/bin/dpkg-query", "-W", "-f=${Package} ", "*"]).split(' ').any(|name| name == "tb-abi-2"));
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
    assert_eq!(topics(&reasons), ["apt.not-offered", "apt.not-installed", "apt.bad-name", "apt.not-offered"], "{reasons:?}");
    let (manifest, notes) = host.manifest(&job(&[candidate("tb-broken"), candidate("tb-held"), candidate("tb-grab"), candidate("tb-order")]));
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
}

#[test]
fn a_world_that_changed_is_refused_by_name() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-order")]));
    host.prepare(&manifest);
    host.inside(&["/usr/bin/apt-get", "-y", "-qq", "install", "tb-plug=1.1-1"]);
    let before = host.portrait(&[]);
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotApplicable);
    assert!(error.message.contains("tb-plug was 1.0-1 and is 1.1-1"), "{error}");
    assert_eq!(host.portrait(&[]), before);
    std::fs::remove_dir_all(host.folder.join("deployment")).unwrap();
    assert_eq!(host.apply(Step::KeepOld, &manifest).unwrap_err().kind, ErrorKind::NotApplicable);
    assert_eq!(host.apply(Step::Install, &manifest).unwrap_err().kind, ErrorKind::NotApplicable, "nothing was kept");
}

#[test]
fn a_changed_package_file_is_refused_before_anything_happens() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-order")]));
    host.prepare(&manifest);
    let file = host.folder.join("deployment/new").join(&manifest.steps[0].file.as_ref().unwrap().name);
    std::fs::write(&file, "something else").unwrap();
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.message.contains("sha-256"), "{error}");
    assert_eq!(host.version("tb-order").as_deref(), Some("9:1.0~rc1-1"));
    host.apply(Step::Fetch, &manifest).unwrap();
    host.apply(Step::Install, &manifest).unwrap();
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
    let verify = host.command(&["/usr/bin/dpkg", "--verify", "libssl3", "openssl", "tb-daemon", "tb-big"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&verify.stdout), "", "dpkg finds every file as recorded");
}

#[test]
fn each_bad_repository_is_refused_in_its_own_words() {
    let host = host!();
    for (suite, kind, words) in [
        ("expired", ErrorKind::Denied, "expired"),
        ("rogue", ErrorKind::Denied, "wrong key"),
        ("unsigned", ErrorKind::Denied, "unsigned"),
        ("tampered", ErrorKind::Denied, "hash mismatch"),
        ("no-such-suite", ErrorKind::Denied, "no Release file"),
    ] {
        host.use_suites(&["stable", "stable-security", suite]);
        let error = host.provider.candidates(&host.context(), true).unwrap_err();
        assert_eq!(error.kind, kind, "{suite}: {error:?}");
        assert!(error.message.contains(words), "{suite}: {error:?}");
        assert!(!error.advice.is_empty() && error.causes.iter().any(|cause| cause.contains(suite)), "{suite}: {error:?}");
        // The last good indexes stay in use.
        let candidates = host.provider.candidates(&host.context(), false).unwrap();
        assert!(candidates.iter().any(|c| c.name == "tb-app" && c.version == "1.0-1+deb1"), "{suite}");
        assert!(!candidates.iter().any(|c| c.version == "6.6-6"), "{suite}");
        host.manifest(&job(&[at_least("tb-app", "1.0-1+deb1")]));
    }
    host.server.stop();
    let error = host.provider.candidates(&host.context(), true).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("cannot be reached"), "{error:?}");
    host.manifest(&job(&[at_least("tb-app", "1.0-1+deb1")]));
}

#[test]
fn a_package_file_that_differs_from_its_index_is_refused() {
    let host = host!();
    host.use_suites(&["stable", "badhash"]);
    host.provider.candidates(&host.context(), true).unwrap();
    let (manifest, _) = host.manifest(&job(&[exactly("tb-swapped", "1.0-1")]));
    let error = host.apply(Step::Fetch, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.message.contains("hash mismatch"), "{error:?}");
    assert_eq!(host.version("tb-swapped"), None);
    host.server.stop();
    let error = host.apply(Step::Fetch, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
}

#[test]
fn a_full_disk_is_told_before_fetching() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-big")]));
    let folder = host.folder.join("deployment");
    std::fs::create_dir_all(&folder).unwrap();
    run(std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&folder));
    let error = host.apply(Step::Fetch, &manifest).unwrap_err();
    run(std::process::Command::new("umount").arg(&folder));
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("not enough disk space"), "{error}");
}

#[test]
fn the_lock_is_waited_for_and_its_holder_named() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-order")]));
    host.prepare(&manifest);
    host.write("/etc/tb-slow-seconds", "600");
    let mut holder = host.command(&["/usr/bin/apt-get", "-y", "-qq", "-o", "Dpkg::Use-Pty=0", "install", "tb-slow=1.1-1"]).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_for("the slow postinst", || host.path("/run/tb-slow.started").exists());
    let start = Instant::now();
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("/var/lib/dpkg/lock-frontend is held by process") && error.message.contains("apt-get -y"), "{error}");
    assert!(start.elapsed() >= Duration::from_secs(2) && start.elapsed() < Duration::from_secs(20));
    assert!(host.said.contains("waiting for the lock"));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(host.path("/var/lib/dpkg/lock-frontend").exists(), "nobody removed the lock file");
    // What the dead one left is another world: said so, and mended first.
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotApplicable, "{error}");
    host.write("/etc/tb-slow-seconds", "0");
    let mended = host.provider.recover(&host.context()).unwrap();
    assert!(has(&mended, "apt.mended", "tb-slow 1.1-1"), "{mended:?}");
    assert_eq!(host.inside(&["/usr/bin/dpkg", "--audit"]), "");
    assert!(host.provider.recover(&host.context()).unwrap().is_empty());
}

#[test]
fn a_power_cut_in_a_postinst_is_found_and_carried_to_the_end() {
    for finish in ["again", "undo", "recover"] {
        let host = host!();
        let before = host.portrait(&["tb-slow", "tb-order"]);
        let (manifest, _) = host.manifest(&job(&[candidate("tb-slow"), candidate("tb-order")]));
        host.prepare(&manifest);
        host.write("/etc/tb-slow-seconds", "600");
        std::thread::scope(|scope| {
            let install = scope.spawn(|| host.apply(Step::Install, &manifest));
            wait_for("the slow postinst", || host.path("/run/tb-slow.started").exists());
            kill_all_in(&host.root);
            assert!(install.join().unwrap().is_err());
        });
        let state = |name: &str| host.inventory().into_iter().find(|found| found.package.name == name).unwrap().state;
        assert_eq!(state("tb-slow"), InstallState::HalfConfigured);
        let outcome = host.rehearse(&job(&[candidate("tb-plug")]));
        assert!(matches!(&outcome, RehearsalOutcome::Possible { notes, .. } if notes.iter().any(|note| note.topic == "apt.interrupted" || note.topic == "apt.unfinished")), "{outcome:?}");
        host.write("/etc/tb-slow-seconds", "0");
        match finish {
            "again" => {
                host.apply(Step::Install, &manifest).unwrap();
                assert_eq!(host.version("tb-slow").as_deref(), Some("1.1-1"));
            }
            "recover" => {
                let mended = host.provider.recover(&host.context()).unwrap();
                assert!(has(&mended, "apt.mended", "tb-slow"), "{mended:?}");
                host.apply(Step::Install, &manifest).unwrap();
            }
            _ => {}
        }
        host.server.stop();
        let notes = host.undo(&manifest).unwrap().notes;
        std::fs::remove_file(host.path("/run/tb-slow.started")).unwrap();
        assert_same(&before, &host.portrait(&["tb-slow", "tb-order"]), &notes);
        assert_eq!(host.inside(&["/usr/bin/dpkg", "--audit"]), "");
    }
}

/// Ends every `unshare` on this very root at once, as a power cut would; all in it ends with it.
fn kill_all_in(root: &std::path::Path) {
    let flag = format!("--root={}", root.display());
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|word| word == flag.as_bytes()) {
            let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_its_state_told() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-slow")]));
    host.prepare(&manifest);
    host.write("/etc/tb-slow-seconds", "600");
    let mut context = host.context();
    context.deadline = Instant::now() + Duration::from_secs(3);
    let error = host.provider.apply(&context, &host.request(Step::Install, &manifest)).unwrap_err();
    assert!(error.message.contains("tb-slow is 1.1-1 half-configured") && error.causes.iter().any(|cause| cause.contains("did not end in its time")), "{error:?}");
    host.undo(&manifest).unwrap();
    assert_eq!(host.version("tb-slow").as_deref(), Some("1.0-1"));
}

#[test]
fn a_stop_that_is_asked_for_in_time_changes_nothing() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-order")]));
    host.prepare(&manifest);
    host.said.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(host.version("tb-order").as_deref(), Some("9:1.0~rc1-1"));
}
