//! The host's own policy, and the executor against a network-facing half that has been taken over.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use fettle_agent::{Exit, RunError, confirm, status};
use fettle_domain::RehearsalId;
use fettle_domain::machine::{DeploymentEvent as E, DeploymentState};
use fettle_domain::package::Ecosystem;
use fettle_domain::plan::{Job, RehearsalOutcome, WantedPackage, WantedVersion};
use fettle_wire::agent::{ReportBody, WorkItem};
use fettle_wire::offer::OfferAction;
use std::os::unix::fs::PermissionsExt as _;
use support::Machine;
use support::server::Server;

const GOOD: [E; 6] = [E::Accept, E::Fetch, E::Prepare, E::Apply, E::Check, E::Succeed];

fn with_policy(text: &str) -> (Server, Machine) {
    let (server, machine) = (Server::start(), Machine::new());
    machine.enrol(&server, &server.token(), false).unwrap();
    std::fs::write(machine.state.join("policy.toml"), text).unwrap();
    (server, machine)
}

/// What one signed, approved, timely order meets on a host with this policy.
fn refusal(text: &str) -> Option<String> {
    let (server, machine) = with_policy(text);
    server.give(vec![server.sign(&server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2")))]);
    machine.once().unwrap();
    let refused = server.with(|world| {
        world.entries.iter().find_map(|entry| match &entry.body {
            ReportBody::Refused { reasons, .. } => Some(reasons[0].clone()),
            ReportBody::Deployment { event: E::NotApply | E::Fail, reasons, .. } => Some(reasons[0].clone()),
            _ => None,
        })
    });
    let changed = machine.provider.versions()["pkg00"] == "1.0-2";
    assert_eq!(changed, refused.is_none(), "refused and changed, or neither: {refused:?}");
    if let Some(reason) = &refused {
        assert_eq!(reason.topic, "order.host-policy", "{reason:?}");
    }
    refused.map(|reason| reason.text)
}

#[test]
fn an_order_outside_the_policy_is_refused_whoever_signed_it() {
    assert_eq!(refusal(""), None);
    assert_eq!(refusal("forbidden_packages = [\"other-*\"]\nallowed_origins = [\"Files:*\"]\n"), None);
    let text = refusal("forbidden_packages = [\"linux-*\", \"pkg0?\"]\n").unwrap();
    assert!(text.contains("forbids changes of the package pkg00"), "{text}");
    let text = refusal("allowed_origins = [\"Debian:*\"]\n").unwrap();
    assert!(text.contains("pkg00 1.0-2 comes from Files:stable"), "{text}");
    // No window of the host opens before the order's own is over: the next is days away.
    let day = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let today =
        (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400 + 3) % 7;
    let far = day[((today + 3) % 7) as usize];
    let text = refusal(&format!("[[window]]\ndays = [\"{far}\"]\nfrom = \"12:00\"\nlength = \"1h\"\n")).unwrap();
    assert!(text.contains("only in its own windows"), "{text}");
    assert_eq!(refusal("[[window]]\nfrom = \"00:00\"\nlength = \"1d\"\n"), None);
}

#[test]
fn a_provider_that_is_not_listed_is_not_run_at_all() {
    let (server, machine) = with_policy("providers = [\"apt\"]\n");
    server.give(vec![server.sign(&server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2")))]);
    machine.once().unwrap();
    assert_eq!(server.with(|world| world.refusals()), ["order.no-provider"]);
    assert_eq!(*machine.provider.listings.lock().unwrap(), 0);
}

#[test]
fn a_dry_run_says_what_an_order_would_be_refused_for() {
    let (server, machine) = with_policy("forbidden_packages = [\"pkg*\"]\n");
    let job = Job {
        ecosystem: Ecosystem::Debian,
        wanted: vec![WantedPackage { name: "pkg00".to_owned(), version: WantedVersion::Candidate }],
        allow_removals: false,
    };
    server.give(vec![WorkItem::Rehearse { rehearsal: RehearsalId::new(1, [1; 10]), job }]);
    machine.once().unwrap();
    let answers = server.with(|world| world.entries.clone());
    assert!(
        matches!(&answers[0].body, ReportBody::Rehearsal { outcome: RehearsalOutcome::Impossible { reasons }, .. } if reasons[0].text.contains("policy forbids")),
        "{answers:?}"
    );
}

#[test]
fn a_change_that_needs_it_waits_for_a_person_on_the_host() {
    let (server, machine) = with_policy("confirm = [\"pkg01\"]\n");
    let offer = server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2"));
    server.give(vec![server.sign(&offer)]);
    assert_eq!(machine.once().unwrap(), Exit::Done);
    assert_eq!(server.with(|world| world.events()), [E::Accept], "it waits");
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-1");

    let id = offer.deployment.to_string();
    assert!(confirm(&machine.state, "deploy_x").unwrap_err().to_string().contains("fettle agent status"));
    confirm(&machine.state, &id).unwrap();
    assert_eq!(machine.once().unwrap(), Exit::Done);
    assert_eq!(server.with(|world| world.events()), GOOD);
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-2");
    let late = confirm(&machine.state, &id).unwrap_err().to_string();
    assert!(late.contains("nothing to confirm"), "{late}");
    assert_eq!(status(&machine.state).unwrap().deployments[0].state, Some(DeploymentState::Succeeded));
}

#[test]
fn a_policy_that_cannot_be_trusted_or_understood_stops_the_agent() {
    let error = |text: &str, mode: u32| {
        let (_server, machine) = with_policy(text);
        std::fs::set_permissions(machine.state.join("policy.toml"), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = machine.once().unwrap_err();
        assert!(matches!(error, RunError::Policy(_)), "{error:?}");
        error.to_string()
    };
    assert!(error("", 0o666).contains("can be written by others"));
    let text = error("read_only = true\nforbiden_packages = []\n", 0o600);
    assert!(text.contains("line 2") && text.contains("forbidden_packages"), "{text}");
    let text = error("[[window]]\nfrom = \"25:00\"\nlength = \"4h\"\n", 0o600);
    assert!(text.contains("no time of day"), "{text}");
    let text = error("[[window]]\nfrom = \"22:00\"\nlength = \"9d\"\n", 0o600);
    assert!(text.contains("at most 7 days"), "{text}");
}
