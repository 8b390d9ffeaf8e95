//! Inventories: sets over the dictionary, differences, what is swept and what is not.

use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_domain::{HostId, Timestamp};
use fettle_store::systems::host::{self, HostFactsColumns};
use fettle_store::systems::inventory::{self, PackageDictionary, Sweep};
use fettle_store::{Store, StoreError};
use fettle_testkit::on_both;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn package(name: &str, version: u8) -> InstalledPackage {
    InstalledPackage {
        package: PackageVersion {
            ecosystem: Ecosystem::Debian,
            name: name.into(),
            version: format!("1.{version}-1"),
            architecture: "amd64".into(),
            source: name.into(),
            source_version: format!("1.{version}-1"),
        },
        origin: "Debian:bookworm".into(),
        held: false,
        automatic: true,
        state: InstallState::Installed,
    }
}

/// Any digest will do: the store takes its caller's word that it was verified.
fn digest(number: u64) -> String {
    format!("{number:064x}")
}

fn host_of(number: u8) -> HostId {
    HostId::new(u64::from(number), [number; 10])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_764_000_000_000 + second * 1000)
}

fn put(store: &Store, dictionary: &PackageDictionary, number: u64, packages: &[InstalledPackage]) {
    let learned = store
        .write_blocking({
            let (dictionary, packages) = (dictionary.clone(), packages.to_vec());
            move |c| inventory::package_set_put(c, &dictionary, &digest(number), &packages)
        })
        .unwrap();
    dictionary.remember(learned);
}

fn get(store: &Store, dictionary: &PackageDictionary, number: u64) -> Vec<InstalledPackage> {
    store.read_blocking(|c| inventory::package_set_get(c, dictionary, &digest(number))).unwrap()
}

#[test]
fn a_set_reads_back_with_all_its_marks() {
    on_both(|store| {
        let dictionary = PackageDictionary::default();
        let mut packages: Vec<_> = (0..300).map(|number| package(&format!("p{number:03}"), 0)).collect();
        packages[3].origin = "Debian:bookworm-security".into();
        packages[4].origin = String::new();
        packages[5].held = true;
        packages[6].automatic = false;
        packages[7].state = InstallState::HalfConfigured;
        packages[8].state = InstallState::Unpacked;
        packages[9].state = InstallState::HalfInstalled;
        packages[9].automatic = false;
        packages.sort();
        put(store, &dictionary, 1, &packages);
        assert_eq!(get(store, &dictionary, 1), packages);
        assert_eq!(dictionary.len(), 300);
        // A server that just started knows nothing and reads all.
        let other = PackageDictionary::default();
        assert_eq!(get(store, &other, 1), packages);
        assert_eq!(other.len(), 300, "read entries are remembered");
        put(store, &PackageDictionary::default(), 2, &packages[..10]);
        put(store, &other, 3, &[]);
        assert_eq!(get(store, &other, 3), []);
        let rows = store.read_blocking(|c| c.query_one("SELECT COUNT(*) FROM package_version", &[])).unwrap().unwrap();
        assert_eq!(rows.int(0).unwrap(), 300, "each package version stands once");
        assert!(!store.read_blocking(|c| inventory::package_set_exists(c, "no digest; DROP TABLE host")).unwrap());
        let missing = store.read_blocking(|c| inventory::package_set_get(c, &other, &digest(9))).unwrap_err();
        assert!(matches!(missing, StoreError::NotFound { .. }), "{missing:?}");
    });
}

#[test]
fn a_set_that_names_a_package_twice_is_refused() {
    on_both(|store| {
        let mut twice = vec![package("a", 1), package("a", 1)];
        twice[1].held = true;
        let error = store
            .write_blocking(move |c| {
                inventory::package_set_put(c, &PackageDictionary::default(), &digest(1), &twice).map(|_| ())
            })
            .unwrap_err();
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    });
}

/// The entry of a write that was given up does not exist, and its number goes to another package.
#[test]
fn what_was_rolled_back_is_not_remembered() {
    on_both(|store| {
        let dictionary = PackageDictionary::default();
        let failed = store.write_blocking({
            let dictionary = dictionary.clone();
            move |c| {
                let learned = inventory::package_set_put(c, &dictionary, &digest(1), &[package("lost", 1)])?;
                // Also reading it within the write teaches nothing.
                assert_eq!(inventory::package_set_get(c, &dictionary, &digest(1))?, [package("lost", 1)]);
                drop(learned);
                Err::<(), _>(StoreError::not_found("something else"))
            }
        });
        assert!(failed.is_err());
        assert!(dictionary.is_empty());
        put(store, &dictionary, 2, &[package("kept", 1)]);
        put(store, &dictionary, 3, &[package("kept", 1), package("lost", 1)]);
        assert_eq!(get(store, &PackageDictionary::default(), 2), [package("kept", 1)]);
        assert_eq!(get(store, &PackageDictionary::default(), 3), [package("kept", 1), package("lost", 1)]);
        assert_eq!(get(store, &dictionary, 3), [package("kept", 1), package("lost", 1)]);
    });
}

#[test]
fn sets_that_no_host_has_are_swept_after_a_while() {
    on_both(|store| {
        let dictionary = PackageDictionary::default();
        for number in 1..=5 {
            put(store, &dictionary, number, &[package("a", u8::try_from(number).unwrap())]);
        }
        let have = |host: u8, number: u64| {
            store.write_blocking(move |c| host::host_set_packages(c, host_of(host), &digest(number))).unwrap();
        };
        for host in [1, 2] {
            store
                .write_blocking(move |c| host::host_create(c, host_of(host), &HostFactsColumns::default(), "1", at(0)))
                .unwrap();
            have(host, 2);
        }
        let sweep = |now: i64| {
            let mut sweep = Sweep::default();
            for _ in 0..10 {
                let mut step = sweep.clone();
                let (next, end) = store
                    .write_blocking(move |c| {
                        let end = inventory::package_set_sweep(c, &mut step, 2, at(now), at(now - 100))?;
                        Ok((step, end))
                    })
                    .unwrap();
                sweep = next;
                if end {
                    return sweep.removed;
                }
            }
            panic!("the sweep does not end");
        };
        assert_eq!(sweep(0), 0, "only noted");
        assert_eq!(sweep(90), 0, "not long enough");
        // A host takes one that was noted; another is sent again.
        have(1, 4);
        put(store, &dictionary, 5, &[package("a", 5)]);
        assert_eq!(sweep(110), 2, "1 and 3");
        assert_eq!(get(store, &dictionary, 2).len(), 1);
        assert_eq!(sweep(300), 1, "5 was noted anew and is not wanted");
        have(2, 4);
        assert_eq!((sweep(300), sweep(500), sweep(900)), (0, 1, 0));
        assert_eq!(get(store, &dictionary, 4), [package("a", 4)]);
        let found = store.read_blocking(|c| inventory::host_packages(c, &dictionary, host_of(1))).unwrap();
        assert_eq!(found, [package("a", 4)]);
        assert_eq!(store.read_blocking(|c| inventory::host_package_count(c, host_of(1))).unwrap(), 1);
    });
}

/// A change of the host between two reports: which packages at which version, and their marks.
fn states() -> impl Strategy<Value = Vec<BTreeSet<InstalledPackage>>> {
    let one = (0_u8..24, 0_u8..3, 0_u8..3, any::<bool>(), any::<bool>()).prop_map(
        |(name, version, origin, held, automatic)| {
            let mut one = package(&format!("p{name:02}"), version);
            one.origin = ["Debian:bookworm", "Debian:bookworm-security", ""][usize::from(origin)].into();
            (one.held, one.automatic) = (held, automatic);
            one
        },
    );
    let set = proptest::collection::vec(one, 0..24).prop_map(|all| {
        let mut names = BTreeSet::new();
        all.into_iter().filter(|one| names.insert(one.package.clone())).collect::<BTreeSet<_>>()
    });
    proptest::collection::vec(set, 1..8)
}

/// Applies random sequences of differences, as intake does, and compares with the whole sets.
#[test]
fn differences_come_to_the_same_as_whole_sets() {
    on_both(|store| {
        let counter = std::cell::Cell::new(0_u64);
        let mut runner =
            proptest::test_runner::TestRunner::new(ProptestConfig { cases: 40, ..ProptestConfig::default() });
        let dictionary = PackageDictionary::default();
        runner
            .run(&states(), |states| {
                let mut former: BTreeSet<InstalledPackage> = BTreeSet::new();
                let mut base = None;
                for state in states {
                    let number = counter.get() + 1;
                    counter.set(number);
                    let removed: Vec<_> = former.difference(&state).cloned().collect();
                    let added: Vec<_> = state.difference(&former).cloned().collect();
                    let known = base.map_or_else(Vec::new, |base| get(store, &dictionary, base));
                    let rebuilt = fettle_domain::package::apply_difference(known, &removed, added);
                    prop_assert_eq!(&rebuilt, &state.iter().cloned().collect::<Vec<_>>());
                    put(store, &dictionary, number, &rebuilt);
                    prop_assert_eq!(get(store, &PackageDictionary::default(), number), rebuilt);
                    (former, base) = (state, Some(number));
                }
                Ok(())
            })
            .unwrap();
    });
}
