//! The whole path of the apt provider on the project's own small root (`testbed/make-apt-root`): needs root and
//! a Debian mirror in the machine's apt sources, nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use fettle_plugin::{ErrorKind, Step};
use support::*;

#[test]
fn the_projects_own_root_is_patched_and_undone() {
    let Some(testbed) = demo() else { return };
    let host = Host::new(testbed);
    let names = ["fettle-demo-app", "fettle-demo-lib", "fettle-demo-conf", "fettle-demo-daemon"];
    host.write("/etc/fettle-demo/main.cfg", "listen=1\n");
    let before = host.portrait(&names);
    let inventory = host.inventory();
    let lib = inventory.iter().find(|found| found.package.name == "fettle-demo-lib").unwrap();
    assert_eq!(
        (lib.package.source.as_str(), lib.origin.as_str(), lib.automatic),
        ("fettle-demo", "Fettle-Demo:stable", true)
    );
    let wanted: Vec<_> = ["fettle-demo-app", "fettle-demo-conf", "fettle-demo-daemon"]
        .map(|name| at_least(name, "1.0-1+deb12u1"))
        .to_vec();
    let (manifest, notes) = host.manifest(&job(&wanted));
    insta::assert_snapshot!(shown(&manifest), @r"
    fettle-demo-app 1.0-1 -> 1.0-1+deb12u1
    fettle-demo-conf 1.0-1 -> 1.0-1+deb12u1
    fettle-demo-daemon 1.0-1 -> 1.0-1+deb12u1
    fettle-demo-lib 1.0-1 -> 1.0-1+deb12u1 (comes along)
    ");
    assert!(has(&notes, "apt.conffile-edited", "/etc/fettle-demo/main.cfg"), "{notes:?}");
    let notes = host.deploy(&manifest);
    assert!(has(&notes, "apt.conffile-kept", "main.cfg.dpkg-dist"), "{notes:?}");
    host.server.stop();
    host.undo(&manifest).unwrap();
    assert_eq!(host.portrait(&names), before);
}

#[test]
fn its_failing_package_is_undone() {
    let Some(testbed) = demo() else { return };
    let host = Host::new(testbed);
    let before = host.portrait(&["fettle-demo-fail"]);
    let (manifest, _) = host.manifest(&job(&[candidate("fettle-demo-fail")]));
    host.prepare(&manifest);
    let error = host.apply(Step::Install, &manifest).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(error.causes.iter().any(|line| line.contains("the database cannot be migrated")), "{error:?}");
    host.undo(&manifest).unwrap();
    assert_eq!(host.portrait(&["fettle-demo-fail"]), before);
}
