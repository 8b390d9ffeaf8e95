//! Enrolment over real TLS: the pinned authority, the refusals, the identity on disk.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use fettle_agent::{ClientError, EnrolError, RunError, status};
use fettle_wire::agent::problem;
use std::os::unix::fs::PermissionsExt as _;
use support::server::Server;
use support::{Machine, block_on};

#[test]
fn a_token_becomes_an_identity_whose_key_never_left() {
    let (server, machine) = (Server::start(), Machine::new());
    let enrolled = machine.enrol(&server, &server.token(), false).unwrap();
    assert_eq!(enrolled.server, server.address());
    let request = server.with(|world| world.enrolled[0].clone());
    assert_eq!(request.token, server.token());
    assert!(request.csr.contains("CERTIFICATE REQUEST") && !format!("{request:?}").contains("PRIVATE KEY"));
    assert!(!request.facts.name.is_empty());
    let key = machine.state.join("network/identity/key.pem");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
    let status = status(&machine.state).unwrap();
    assert_eq!((status.host, status.server), (Some(enrolled.host), server.address()));
}

#[test]
fn an_enrolled_machine_is_enrolled_again_only_on_purpose() {
    let (server, machine) = (Server::start(), Machine::new());
    machine.enrol(&server, &server.token(), false).unwrap();
    let key = std::fs::read(machine.state.join("network/identity/key.pem")).unwrap();
    let error = machine.enrol(&server, &server.token(), false).unwrap_err();
    assert!(matches!(error, EnrolError::AlreadyEnrolled { .. }) && error.to_string().contains("--force"), "{error}");
    assert_eq!(std::fs::read(machine.state.join("network/identity/key.pem")).unwrap(), key);
    machine.enrol(&server, &server.token(), true).unwrap();
    assert_ne!(
        std::fs::read(machine.state.join("network/identity/key.pem")).unwrap(),
        key,
        "a new key for a new identity"
    );
}

#[test]
fn each_refusal_has_its_own_words_and_leaves_nothing() {
    let (server, machine) = (Server::start(), Machine::new());
    for (kind, word) in [
        (problem::TOKEN_UNKNOWN, "does not know this token"),
        (problem::TOKEN_USED_UP, "used up"),
        (problem::TOKEN_EXPIRED, "expired"),
        (problem::HOST_REVOKED, "refused"),
    ] {
        server.with(|world| world.refuse_enrolment = Some(kind));
        let error = machine.enrol(&server, &server.token(), false).unwrap_err().to_string();
        assert!(error.contains(word), "{kind}: {error}");
    }
    assert!(!machine.state.join("network/identity").exists());
    let error = machine.enrol(&server, "fettle1.what", false).unwrap_err().to_string();
    assert!(error.contains("paste the whole line"), "{error}");
}

#[test]
fn a_server_without_the_pinned_authority_gets_nothing() {
    let (server, other, machine) = (Server::start(), Server::start(), Machine::new());
    let error = machine.enrol(&server, &other.token(), false).unwrap_err();
    assert!(matches!(error, EnrolError::Client(ClientError::TokenOfOtherServer { .. })), "{error:?}");
    assert!(server.with(|world| world.enrolled.is_empty()), "not even the token was sent");
    assert!(!machine.state.join("network/identity").exists());
}

#[test]
fn the_name_in_the_certificate_counts() {
    let (server, machine) = (Server::start(), Machine::new());
    let address = format!("https://localhost:{}", server.port().port());
    let error = block_on(fettle_agent::enrol(machine.enrol_options(&address, &server.token(), false))).unwrap_err();
    assert!(matches!(error, EnrolError::Client(ClientError::OtherName { .. })), "{error:?}");
}

#[test]
fn nobody_there_is_told_as_such() {
    let machine = Machine::new();
    let (address, token) = {
        let server = Server::start();
        (server.address(), server.token())
    };
    let error = block_on(fettle_agent::enrol(machine.enrol_options(&address, &token, false))).unwrap_err().to_string();
    assert!(error.contains("cannot reach the server") && error.to_lowercase().contains("refused"), "{error}");
}

#[test]
fn a_machine_that_is_not_enrolled_says_what_to_do() {
    let machine = Machine::new();
    let error = machine.once().unwrap_err();
    assert!(matches!(error, RunError::NotEnrolled(_)) && error.to_string().contains("fettle agent enrol"), "{error}");
}
