//! The running agent against a server in memory: differences, work, reports, outages, refusals.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use fettle_agent::{ClientError, Exit, RunError, status};
use fettle_domain::RehearsalId;
use fettle_domain::machine::{DeploymentEvent as E, DeploymentState};
use fettle_domain::package::Ecosystem;
use fettle_domain::plan::{Job, RehearsalOutcome, WantedPackage, WantedVersion};
use fettle_wire::agent::{CheckIn, PackagesReport, ReportBody, SectionDigests, WorkItem, problem};
use fettle_wire::offer::OfferAction;
use std::time::{Duration, Instant};
use support::Machine;
use support::server::{Authority, Server};

const GOOD: [E; 6] = [E::Accept, E::Fetch, E::Prepare, E::Apply, E::Check, E::Succeed];

fn enrolled() -> (Server, Machine) {
    let (server, machine) = (Server::start(), Machine::new());
    machine.enrol(&server, &server.token(), false).unwrap();
    (server, machine)
}

fn last_check_in(server: &Server) -> CheckIn {
    server.with(|world| world.check_ins.last().unwrap().clone())
}

#[test]
fn sections_are_sent_once_then_differences_then_whole_when_wanted() {
    let (server, machine) = enrolled();
    assert_eq!(machine.once().unwrap(), Exit::Done);
    let first = server.with(|world| world.check_ins[0].clone());
    assert!(first.facts.is_some() && first.services.is_some());
    assert!(matches!(first.packages, Some(PackagesReport::Complete { ref packages }) if packages.len() == 30));
    // The same round checks in once more at its end: only the digest.
    assert!(last_check_in(&server).packages.is_none());

    machine.provider.set("pkg07", Some("1.0-2"));
    machine.once().unwrap();
    let changed = server.with(|world| world.check_ins[2].clone());
    let Some(PackagesReport::Difference { removed, added, .. }) = changed.packages else { panic!("{changed:?}") };
    assert_eq!((removed.len(), added.len()), (1, 1));
    assert_eq!(added[0].package.version, "1.0-2");
    assert!(changed.facts.is_none());

    // The server has lost everything: it wants all of it, and gets it in the same round.
    server.with(|world| {
        (world.digests, world.packages, world.facts, world.services) = (SectionDigests::default(), None, None, None);
    });
    machine.once().unwrap();
    server.with(|world| {
        assert_eq!(world.packages.as_ref().unwrap().len(), 30);
        assert!(world.facts.is_some() && world.services.is_some());
    });
}

#[test]
fn packages_are_listed_only_when_their_database_changed() {
    let (server, machine) = enrolled();
    let running = machine.start();
    server.until("two check-ins", |world| (world.check_ins.len() >= 2).then_some(()));
    assert_eq!(*machine.provider.listings.lock().unwrap(), 1);
    machine.provider.set("pkg01", Some("9"));
    server.until("the change", |world| {
        world.packages.as_ref()?.iter().any(|package| package.package.version == "9").then_some(())
    });
    assert_eq!(running.stop().unwrap(), Exit::Stopped);
    let status = status(&machine.state).unwrap();
    let contact = status.last_contact.unwrap();
    assert!(contact.answered_at.is_some() && contact.error.is_empty(), "{contact:?}");
}

#[test]
fn new_work_comes_within_seconds_and_is_proved_by_an_inventory_and_can_be_undone() {
    let (server, machine) = enrolled();
    let running = machine.start();
    server.until("the first check-in", |world| world.packages.is_some().then_some(()));
    let manifest = machine.provider.manifest("1.0-2");
    let given = Instant::now();
    server.give(vec![server.sign(&server.offer(OfferAction::Deploy, 1, 1, manifest.clone()))]);
    server.until("success", |world| (world.events() == GOOD).then_some(()));
    assert!(given.elapsed() < Duration::from_secs(10), "{:?}", given.elapsed());
    server.until("the proof", |world| {
        let patched = world.packages.as_ref()?.iter().filter(|package| package.package.version == "1.0-2").count();
        (patched == 2).then_some(())
    });
    let output = server.with(|world| format!("{:?}", world.entries));
    assert!(output.contains("Setting up pkg00 (1.0-2) with password=***") && !output.contains("hunter2"));

    server.give(vec![
        server.sign(&server.offer(OfferAction::Deploy, 1, 1, manifest.clone())),
        server.sign(&server.offer(OfferAction::Undo, 1, 2, manifest)),
    ]);
    server.until("the undo", |world| (world.events()[6..] == [E::Undo, E::FinishUndo]).then_some(()));
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-1");
    assert!(server.with(|world| world.refusals().is_empty()), "what comes twice is known");
    assert_eq!(running.stop().unwrap(), Exit::Stopped);
    let status = status(&machine.state).unwrap();
    assert_eq!(status.deployments[0].state, Some(DeploymentState::Undone));
    assert_eq!(status.waiting_reports, 0);
}

#[test]
fn once_does_it_all_and_its_exit_tells() {
    let (server, machine) = enrolled();
    server.give(vec![server.sign(&server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2")))]);
    assert_eq!(machine.once().unwrap(), Exit::Done);
    server.with(|world| {
        assert_eq!(world.events(), GOOD);
        assert_eq!(world.packages.as_ref().unwrap()[0].package.version, "1.0-2");
    });
    *machine.provider.fails.lock().unwrap() = true;
    server.give(vec![server.sign(&server.offer(OfferAction::Deploy, 2, 2, machine.provider.manifest("1.0-3")))]);
    assert_eq!(machine.once().unwrap(), Exit::DeploymentFailed);
    server.with(|world| {
        assert_eq!(world.events()[6..], [E::Accept, E::Fetch, E::Prepare, E::Apply, E::Undo, E::FinishUndo]);
        assert!(format!("{:?}", world.entries).contains("dpkg: error processing package"));
    });
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-2");
}

#[test]
fn dry_runs_are_answered() {
    let (server, machine) = enrolled();
    let job = |names: &[&str]| Job {
        ecosystem: Ecosystem::Debian,
        wanted: names
            .iter()
            .map(|name| WantedPackage { name: (*name).to_owned(), version: WantedVersion::Candidate })
            .collect(),
        allow_removals: false,
    };
    let ids = [RehearsalId::new(1, [1; 10]), RehearsalId::new(2, [2; 10])];
    server.give(vec![
        WorkItem::Rehearse { rehearsal: ids[0], job: job(&["pkg00"]) },
        WorkItem::Rehearse { rehearsal: ids[1], job: job(&[]) },
    ]);
    machine.once().unwrap();
    let answers = server.with(|world| world.entries.clone());
    let [first, second] = &answers[..] else { panic!("{answers:?}") };
    assert!(
        matches!(&first.body, ReportBody::Rehearsal { rehearsal, outcome: RehearsalOutcome::Possible { .. } } if *rehearsal == ids[0])
    );
    assert!(
        matches!(&second.body, ReportBody::Rehearsal { outcome: RehearsalOutcome::Impossible { reasons }, .. } if reasons[0].text.contains("name a package"))
    );
}

#[test]
fn what_happened_while_the_server_was_away_is_told_in_order_later() {
    let (server, machine) = enrolled();
    server.give(vec![server.sign(&server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2")))]);
    let running = machine.start();
    server.until("acceptance", |world| {
        world.events().contains(&E::Accept).then(|| world.refuse = Some((503, "urn:x:away")))
    });
    let journal = machine
        .state
        .join("deployments")
        .join(server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1")).deployment.to_string())
        .join("journal");
    let end = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(&journal).unwrap_or_default().contains(r#""event":"succeed""#) {
        assert!(Instant::now() < end, "the deployment does not go on without its server");
        std::thread::yield_now();
    }
    assert_eq!(running.stop().unwrap(), Exit::Stopped);
    assert!(status(&machine.state).unwrap().waiting_reports > 0);
    server.with(|world| world.refuse = None);
    assert_eq!(machine.once().unwrap(), Exit::Done);
    server.with(|world| {
        assert_eq!(world.events(), GOOD);
        let sequences: Vec<u64> = world.entries.iter().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    });
}

#[test]
fn a_revoked_host_stops_with_its_own_exit() {
    let (server, machine) = enrolled();
    let mut running = machine.start();
    server.until("a check-in", |world| (!world.check_ins.is_empty()).then_some(()));
    server.with(|world| world.refuse = Some((403, problem::HOST_REVOKED)));
    server.shared_nudge();
    assert_eq!(running.wait().unwrap(), Exit::Revoked);
    assert_eq!(machine.once().unwrap(), Exit::Revoked);
}

#[test]
fn another_authority_at_the_same_address_is_told_and_gets_nothing() {
    let (server, machine) = enrolled();
    let at = server.port();
    drop(server);
    let impostor = Server::start_with(std::sync::Arc::new(Authority::new()), at);
    let error = machine.once().unwrap_err();
    assert!(matches!(error, RunError::Client(ClientError::OtherAuthority { .. })), "{error:?}");
    assert!(error.to_string().contains("--force"), "{error}");
    assert!(impostor.with(|world| world.check_ins.is_empty()));
}

#[test]
fn a_certificate_of_another_authority_is_refused_in_words() {
    let (server, machine) = enrolled();
    let other = Server::start();
    let stranger = Machine::new();
    stranger.enrol(&other, &other.token(), false).unwrap();
    for file in ["key.pem", "certificate.pem"] {
        std::fs::copy(
            stranger.state.join("network/identity").join(file),
            machine.state.join("network/identity").join(file),
        )
        .unwrap();
    }
    let error = machine.once().unwrap_err().to_string();
    assert!(error.contains("does not accept the certificate of this host"), "{error}");
    assert!(server.with(|world| world.check_ins.is_empty()));
}

#[test]
fn a_read_only_agent_refuses_orders_and_refreshes_nothing() {
    let (server, machine) = enrolled();
    let job = Job {
        ecosystem: Ecosystem::Debian,
        wanted: vec![WantedPackage { name: "pkg00".to_owned(), version: WantedVersion::Candidate }],
        allow_removals: false,
    };
    server.give(vec![
        server.sign(&server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2"))),
        WorkItem::Rehearse { rehearsal: RehearsalId::new(1, [1; 10]), job },
    ]);
    let mut options = machine.options(true);
    options.read_only = true;
    let exit = support::block_on(fettle_agent::run(options, std::future::pending())).unwrap();
    assert_eq!(exit, Exit::Done);
    server.with(|world| {
        assert_eq!(world.refusals(), ["order.read-only"]);
        assert!(world.facts.as_ref().unwrap().read_only);
    });
    assert_eq!(*machine.provider.refreshes.lock().unwrap(), [false]);
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-1");
}

#[test]
fn an_endless_answer_is_cut_off() {
    let (server, machine) = enrolled();
    server.with(|world| world.flood = Some(17 << 20));
    let error = machine.once().unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn a_host_whose_packages_cannot_be_listed_still_gives_a_sign_of_life() {
    let (server, machine) = enrolled();
    *machine.provider.broken.lock().unwrap() = true;
    machine.once().unwrap_err();
    assert_eq!(last_check_in(&server).digests.packages.len(), 64, "even the first one");
    *machine.provider.broken.lock().unwrap() = false;
    machine.once().unwrap();
    *machine.provider.broken.lock().unwrap() = true;
    let error = machine.once().unwrap_err().to_string();
    assert!(error.contains("database is damaged") && error.contains("dpkg --audit"), "{error}");
    let last = last_check_in(&server);
    assert!(last.packages.is_none() && last.facts.is_none());
    assert_eq!(server.with(|world| world.packages.as_ref().unwrap().len()), 30, "the last good inventory stays");
}

#[test]
fn a_check_in_without_news_writes_one_small_file() {
    let (server, machine) = enrolled();
    machine.once().unwrap();
    let files = || {
        let mut found = std::collections::BTreeMap::new();
        let mut folders = vec![machine.state.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let about = entry.metadata().unwrap();
                if about.is_dir() {
                    folders.push(entry.path());
                } else {
                    use std::os::unix::fs::MetadataExt as _;
                    found.insert(entry.path(), (about.ino(), about.mtime(), about.mtime_nsec(), about.size()));
                }
            }
        }
        found
    };
    let before = files();
    let check_ins = server.with(|world| world.check_ins.len());
    machine.once().unwrap();
    assert!(server.with(|world| world.check_ins.len()) > check_ins);
    let after = files();
    let written: Vec<_> =
        after.iter().filter(|(path, about)| before.get(*path) != Some(about)).map(|(path, _)| path).collect();
    assert_eq!(written, [&machine.state.join("network/last-contact")]);
    assert!(after[&machine.state.join("network/last-contact")].3 < 512);
}
