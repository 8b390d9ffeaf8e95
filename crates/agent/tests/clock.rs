//! A clock that is wrong by years: said on both sides, and nothing is bricked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use fettle_agent::{ClientError, Exit, RunError, status};
use fettle_wire::offer::OfferAction;
use std::sync::Arc;
use support::server::{Authority, Server, now};
use support::{Machine, block_on};

/// An enrolled machine, and its server with another clock from now on.
fn with_server_ahead(days: i64) -> (Server, Machine) {
    let (server, machine) = (Server::start(), Machine::new());
    machine.enrol(&server, &server.token(), false).unwrap();
    let (authority, at) = (server.authority.clone(), server.port());
    drop(server);
    (Server::start_ahead(authority, at, days), machine)
}

#[test]
fn years_either_way_are_told_with_both_times_and_what_to_do() {
    for (days, words) in [(3653, "10 years behind"), (-3653, "10 years ahead")] {
        let (server, machine) = with_server_ahead(days);
        let key = std::fs::read(machine.state.join("network/identity/key.pem")).unwrap();
        let error = machine.once().unwrap_err();
        assert!(matches!(error, RunError::Client(ClientError::Clock { .. })), "{error:?}");
        let text = error.to_string();
        for part in
            [&format!("this host's clock is {words}"), "timedatectl", "takes no orders", &now().to_string()[..10]]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        server.with(|world| {
            // A sign of life with this host's time, so that the server can say it too, and nothing more.
            let [only] = &world.check_ins[..] else { panic!("{:?}", world.check_ins) };
            assert!(only.facts.is_none() && only.packages.is_none() && only.services.is_none());
            assert!(only.time.until(now()).as_secs() < 60 && only.chain.is_some());
            assert!(world.asked.iter().all(|target| target == "/agent/v1/check-in"), "{:?}", world.asked);
        });
        let contact = status(&machine.state).unwrap().last_contact.unwrap();
        assert!(contact.error.contains(words), "{contact:?}");
        assert_eq!(std::fs::read(machine.state.join("network/identity/key.pem")).unwrap(), key);
    }
}

#[test]
fn the_agent_goes_on_trying_and_works_as_soon_as_the_clocks_agree() {
    let (server, machine) = with_server_ahead(3653);
    let running = machine.start();
    server.until("two signs of life", |world| (world.check_ins.len() >= 2).then_some(()));
    let (authority, at) = (server.authority.clone(), server.port());
    drop(server);
    let server = Server::start_with(authority, at);
    server.until("a whole inventory", |world| world.packages.is_some().then_some(()));
    server.until("a question for work", |world| {
        world.asked.iter().any(|target| target.starts_with("/agent/v1/work")).then_some(())
    });
    assert_eq!(running.stop().unwrap(), Exit::Stopped);
}

#[test]
fn days_apart_the_host_reports_and_takes_no_orders() {
    // The certificate is good at both times, so only the answer tells.
    let (server, machine) = with_server_ahead(30);
    server.give(vec![server.sign(&server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2")))]);
    let error = machine.once().unwrap_err();
    assert!(matches!(error, RunError::Client(ClientError::Clock { .. })), "{error:?}");
    assert!(error.to_string().contains("29 days behind") || error.to_string().contains("30 days behind"), "{error}");
    server.with(|world| {
        assert!(world.packages.is_some(), "the inventory is told");
        assert!(world.asked.iter().all(|target| !target.starts_with("/agent/v1/work")), "{:?}", world.asked);
        assert!(world.entries.is_empty());
    });
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-1");
}

#[test]
fn a_wrong_clock_is_no_way_round_the_authority_or_the_certificates_time() {
    let (server, machine) = with_server_ahead(3653);
    let at = server.port();
    drop(server);
    // Another authority whose certificate is out of time: not even a sign of life.
    let impostor = Server::start_ahead(Arc::new(Authority::new()), at, 3653);
    let error = machine.once().unwrap_err();
    assert!(!matches!(error, RunError::Client(ClientError::Clock { .. })), "{error:?}");
    assert!(impostor.with(|world| world.check_ins.is_empty()));
    drop(impostor);
    // An old key of the right authority: what it says of the time is not the time of its certificate.
    let (server, machine) = with_server_ahead(-3653);
    server.with(|world| world.days_ahead = 0);
    let error = machine.once().unwrap_err();
    assert!(matches!(error, RunError::Client(ClientError::OtherTime { .. })), "{error:?}");
    assert!(server.with(|world| world.packages.is_none()));
}

#[test]
fn enrolment_with_a_wrong_clock_says_so() {
    let authority = Arc::new(Authority::new());
    let server = Server::start_ahead(authority, "127.0.0.1:0".parse().unwrap(), 3653);
    let machine = Machine::new();
    let error = block_on(fettle_agent::enrol(machine.enrol_options(&server.address(), &server.token(), false)));
    let text = error.unwrap_err().to_string();
    assert!(text.contains("not valid at this host's time: set this host's clock"), "{text}");
    assert!(server.with(|world| world.enrolled.is_empty()));
}
