//! What goes wrong around the apt provider: bad repositories, a changed world, held locks, power cuts, full disks.
//! Needs root and the folder `shared` beside the workspace, as `apt.rs` does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[macro_use]
mod support;

use fettle_domain::package::InstallState;
use fettle_domain::plan::RehearsalOutcome;
use fettle_plugin::{ErrorKind, Provider, Step};
use std::time::{Duration, Instant};
use support::*;

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
        assert!(
            !error.advice.is_empty() && error.causes.iter().any(|cause| cause.contains(suite)),
            "{suite}: {error:?}"
        );
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
    let mut holder = host
        .command(&["/usr/bin/apt-get", "-y", "-qq", "-o", "Dpkg::Use-Pty=0", "install", "tb-slow=1.1-1"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the slow postinst", || host.path("/run/tb-slow.started").exists());
    let start = Instant::now();
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(
        error.message.contains("/var/lib/dpkg/lock-frontend is held by process")
            && error.message.contains("apt-get -y"),
        "{error}"
    );
    assert!(start.elapsed() >= Duration::from_secs(2) && start.elapsed() < Duration::from_secs(20));
    assert!(host.said.contains("waiting for the lock"));
    host.cut_power();
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
            host.cut_power();
            assert!(install.join().unwrap().is_err());
        });
        let state = |name: &str| host.inventory().into_iter().find(|found| found.package.name == name).unwrap().state;
        assert_eq!(state("tb-slow"), InstallState::HalfConfigured);
        let outcome = host.rehearse(&job(&[candidate("tb-plug")]));
        assert!(
            matches!(&outcome, RehearsalOutcome::Possible { notes, .. } if notes.iter().any(|note| note.topic == "apt.interrupted" || note.topic == "apt.unfinished")),
            "{outcome:?}"
        );
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

#[test]
fn a_run_that_takes_too_long_is_ended_and_its_state_told() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-slow")]));
    host.prepare(&manifest);
    host.write("/etc/tb-slow-seconds", "600");
    let mut context = host.context();
    context.deadline = Instant::now() + Duration::from_secs(3);
    let error = host.provider.apply(&context, &host.request(Step::Install, &manifest)).unwrap_err();
    assert!(
        error.message.contains("tb-slow is 1.1-1 half-configured")
            && error.causes.iter().any(|cause| cause.contains("did not end in its time")),
        "{error:?}"
    );
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

#[test]
fn a_later_change_by_others_is_not_undone_over_their_heads() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[at_least("tb-app", "1.0-1+deb1"), candidate("tb-order")]));
    host.deploy(&manifest);
    host.inside(&["/usr/bin/apt-get", "-y", "-qq", "install", "tb-app=2.0-1"]);
    let before = host.portrait(&["tb-app", "tb-order"]);
    let error = host.undo(&manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotApplicable);
    assert!(error.message.contains("tb-app is 2.0-1"), "{error}");
    assert_eq!(host.portrait(&["tb-app", "tb-order"]), before);
}

#[test]
fn old_files_come_from_the_cache_only_when_they_are_the_right_ones() {
    let host = host!();
    let cache = host.path("/var/cache/apt/archives");
    let pool = testbed().unwrap().folder.join("repo/pool");
    std::fs::copy(pool.join("tb-lib_1.0-1_all.deb"), cache.join("tb-lib_1.0-1_all.deb")).unwrap();
    std::fs::write(cache.join("tb-order_9%3a1.0~rc1-1_all.deb"), "no package").unwrap();
    std::fs::copy(pool.join("tb-app_2.0-1_all.deb"), cache.join("tb-app_1.0-1_all.deb")).unwrap();
    let (manifest, _) = host.manifest(&job(&[at_least("tb-app", "1.0-1+deb1"), candidate("tb-order")]));
    host.prepare(&manifest);
    let state = std::fs::read_to_string(host.folder.join("deployment/old/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let sources: Vec<_> = state["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| format!("{} {}", file["package"], file["source"]))
        .collect();
    insta::assert_snapshot!(sources.join("\n").replace('"', ""), @r"
    tb-app repository
    tb-lib cache
    tb-order repository
    ");
    run(std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(host.folder.join("deployment/old")));
    // A kept file that is damaged is found before it is needed.
    std::fs::write(host.folder.join("deployment/old/tb-lib_1.0-1_all.deb"), "damaged").unwrap();
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert!(error.message.contains("missing or damaged"), "{error}");
    assert_eq!(host.version("tb-app").as_deref(), Some("1.0-1"));
}

/// Old and new scripts that fail where dpkg lets a failure of the old one be healed by the new one: only when
/// both fail is the upgrade refused, and then the former version stands.
#[test]
fn failing_removal_scripts_leave_the_former_version() {
    const FAILS: &str = "#!/bin/sh\necho \"$0 $* fails\" >&2\nexit 1\n";
    /// Fails in upgrades only: undo and clean-up must go on working.
    const FAILS_UPGRADE: &str =
        "#!/bin/sh\ncase \"$1\" in upgrade|failed-upgrade) echo \"will not $1\" >&2; exit 1;; esac\n";
    let host = host!();
    host.add_repository(&[
        ("own-prerm", "1.0-1", "", &[("/usr/share/own-prerm/text", "old"), ("prerm", FAILS_UPGRADE)]),
        ("own-prerm", "2.0-1", "", &[("/usr/share/own-prerm/text", "new"), ("prerm", FAILS_UPGRADE)]),
        ("own-postrm", "1.0-1", "", &[("/usr/share/own-postrm/text", "old"), ("postrm", FAILS_UPGRADE)]),
        ("own-postrm", "2.0-1", "", &[("/usr/share/own-postrm/text", "new"), ("postrm", FAILS_UPGRADE)]),
        ("own-healed", "1.0-1", "", &[("/usr/share/own-healed/text", "old"), ("prerm", FAILS)]),
        ("own-healed", "2.0-1", "", &[("/usr/share/own-healed/text", "new"), ("prerm", "#!/bin/sh\nexit 0\n")]),
    ]);
    let former = ["own-prerm=1.0-1", "own-postrm=1.0-1", "own-healed=1.0-1"];
    host.inside(&[&["/usr/bin/apt-get", "-y", "-qq", "install"][..], &former[..]].concat());
    for name in ["own-prerm", "own-postrm"] {
        let before = host.portrait(&[name]);
        let (manifest, _) = host.manifest(&job(&[candidate(name)]));
        host.prepare(&manifest);
        let error = host.apply(Step::Install, &manifest).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Failed, "{name}: {error:?}");
        assert!(error.causes.iter().any(|line| line.contains("will not")), "{name}: {error:?}");
        let notes = host.undo(&manifest).unwrap().notes;
        assert_same(&before, &host.portrait(&[name]), &notes);
        assert!(host.inside(&["/usr/bin/dpkg", "--audit"]).is_empty(), "{name}");
        std::fs::remove_dir_all(host.folder.join("deployment")).unwrap();
    }
    // The former version's script fails, the new one's heals it, as dpkg has it.
    let (manifest, _) = host.manifest(&job(&[candidate("own-healed")]));
    host.deploy(&manifest);
    assert_eq!(host.version("own-healed").as_deref(), Some("2.0-1"));
}

/// Whoever exchanges a kept file, with an archive that unpacks to gigabytes say, is stopped by its digest:
/// the file is never opened.
#[test]
fn a_kept_file_that_was_exchanged_is_never_unpacked() {
    let host = host!();
    let (manifest, _) = host.manifest(&job(&[candidate("tb-order")]));
    host.deploy(&manifest);
    let old = host.folder.join("deployment/old");
    let kept = std::fs::read_dir(&old).unwrap().flatten().map(|entry| entry.path());
    let kept: Vec<_> = kept.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect();
    assert!(!kept.is_empty());
    let tree = host.folder.join("bomb");
    std::fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    let control =
        "Package: tb-order\nVersion: 9:1.0~rc1-1\nArchitecture: all\nMaintainer: T <t@t.invalid>\nDescription: t\n";
    std::fs::write(tree.join("DEBIAN/control"), control).unwrap();
    // Three gigabytes of nothing in three megabytes.
    std::fs::File::create(tree.join("nothing")).unwrap().set_len(3 << 30).unwrap();
    let bomb = host.folder.join("bomb.deb");
    run(std::process::Command::new("dpkg-deb")
        .args(["-Zgzip", "-z1", "--root-owner-group", "--build"])
        .arg(&tree)
        .arg(&bomb));
    std::fs::remove_file(tree.join("nothing")).unwrap();
    for path in &kept {
        std::fs::copy(&bomb, path).unwrap();
    }
    let error = host.undo(&manifest).unwrap_err();
    assert!(error.message.contains("is missing or damaged"), "{error:?}");
    assert_eq!(host.version("tb-order").as_deref(), Some("9:1.0-1"), "what is installed stays");
    assert!(!host.path("/nothing").exists());
}
