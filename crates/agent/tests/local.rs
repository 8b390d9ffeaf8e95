//! What works on the host with the server away: undo with and without a running agent, the kept log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

mod support;

use fettle_agent::{Exit, KeptLogError, UndoError, UndoOptions, kept_log, scan, status, undo};
use fettle_domain::machine::{DeploymentEvent as E, DeploymentState as S};
use fettle_domain::{DeploymentId, LogRequestId};
use fettle_wire::agent::{ReportBody, WorkItem};
use fettle_wire::log::LogLine;
use fettle_wire::offer::OfferAction;
use support::Machine;
use support::server::Server;

fn deployed() -> (Server, Machine, DeploymentId) {
    let (server, machine) = (Server::start(), Machine::new());
    machine.enrol(&server, &server.token(), false).unwrap();
    let offer = server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2"));
    server.give(vec![server.sign(&offer)]);
    assert_eq!(machine.once().unwrap(), Exit::Done);
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-2");
    (server, machine, offer.deployment)
}

fn options(machine: &Machine, deployment: DeploymentId) -> UndoOptions {
    UndoOptions {
        state_dir: machine.state.clone(),
        root: machine.root.clone(),
        policy: machine.state.join("no-policy"),
        deployment,
        providers: vec![machine.provider.clone()],
        owner: None,
    }
}

fn log(machine: &Machine, deployment: Option<DeploymentId>) -> Result<Vec<LogLine>, KeptLogError> {
    let mut lines = Vec::new();
    kept_log(&machine.state, deployment, &mut |line| lines.push(line)).map(|_| lines)
}

/// Reasons of the event with which the undo began, as the server has them.
fn undo_reason(server: &Server) -> String {
    server.with(|world| {
        let begun = world.entries.iter().find_map(|entry| match &entry.body {
            ReportBody::Deployment { event: E::Undo, reasons, .. } => Some(format!("{reasons:?}")),
            _ => None,
        });
        begun.expect("the server is told of the undo")
    })
}

#[test]
fn undone_without_an_agent_and_without_the_server_which_hears_of_it_later() {
    let (server, machine, deployment) = deployed();
    // The server is away from here on: nothing asks it.
    let mut lines = Vec::new();
    let undone = undo(&options(&machine, deployment), &mut |line| lines.push(line)).unwrap();
    assert_eq!((undone.state, undone.agent_process), (S::Undone, None));
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-1");
    let standing = status(&machine.state).unwrap();
    assert_eq!(standing.deployments[0].state, Some(S::Undone));
    assert!(standing.waiting_reports >= 2, "the server is yet to be told: {standing:?}");
    assert!(!standing.deployments[0].undoable && standing.process.is_none());

    let again = undo(&options(&machine, deployment), &mut |_| {}).unwrap_err();
    assert!(matches!(again, UndoError::Not { .. }), "{again}");
    let unknown = undo(&options(&machine, DeploymentId::new(9, [9; 10])), &mut |_| {}).unwrap_err();
    assert!(matches!(unknown, UndoError::Unknown(_)), "{unknown}");

    // The server is back.
    assert_eq!(machine.once().unwrap(), Exit::Done);
    server.with(|world| assert_eq!(world.events()[6..], [E::Undo, E::FinishUndo]));
    let reason = undo_reason(&server);
    assert!(reason.contains(&format!("undone on the host by {}", undone.by)), "{reason}");
}

#[test]
fn a_running_agent_is_asked_and_does_it() {
    let (server, machine, deployment) = deployed();
    let running = machine.start();
    server.until("the agent runs", |_| status(&machine.state).unwrap().process);
    let undone = undo(&options(&machine, deployment), &mut |_| {}).unwrap();
    assert_eq!(undone.state, S::Undone);
    assert_eq!(undone.agent_process, Some(std::process::id()), "this very process runs the agent");
    assert_eq!(machine.provider.versions()["pkg00"], "1.0-1");
    server.until("the server hears of it", |world| {
        (world.events().get(6..) == Some(&[E::Undo, E::FinishUndo])).then_some(())
    });
    assert_eq!(running.stop().unwrap(), Exit::Stopped);
}

#[test]
fn the_kept_log_and_the_document_need_no_server() {
    let (_server, machine, deployment) = deployed();
    let lines = log(&machine, None).unwrap();
    let setting_up = lines.iter().find(|line| line.text.contains("Setting up pkg00")).unwrap();
    assert_eq!(setting_up.task, "install");
    assert!(setting_up.text.contains("password=***"), "{setting_up:?}");
    assert_eq!(log(&machine, Some(deployment)).unwrap(), lines);
    let error = log(&machine, Some(DeploymentId::new(9, [9; 10]))).unwrap_err();
    assert!(error.to_string().contains("nothing is kept of deployment_"), "{error}");
    assert!(matches!(log(&Machine::new(), None), Err(KeptLogError::Nothing)));

    std::fs::create_dir_all(machine.root.join("etc")).unwrap();
    std::fs::write(machine.root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::write(machine.root.join("etc/hostname"), "island\n").unwrap();
    let providers = options(&machine, deployment).providers;
    let document = scan(&machine.root, &providers, None).unwrap();
    assert_eq!((document.facts.name.as_str(), document.packages.len()), ("island", 30));
    assert!(
        document.facts.macs.is_empty() && document.missing.iter().any(|text| text.contains("not the running system"))
    );
    let json = serde_json::to_vec(&document.packages).unwrap();
    assert_eq!(document.digests.packages, fettle_content::sha256_hex(&json), "the digests are those of a check-in");
}

#[test]
fn the_kept_log_is_sent_in_parts_when_the_server_asks_and_only_as_much_as_it_takes() {
    let (server, machine, deployment) = deployed();
    // A long log, as a package manager that floods leaves it.
    let folder = machine.state.join("deployments").join(deployment.to_string()).join("log");
    let mut text = std::fs::read_to_string(folder.join("000000")).unwrap();
    let kept = text.lines().count();
    for number in kept + 1..=5_000 {
        text.push_str(&format!("{number}\t2026-11-25T04:35:58Z\tinstall\tout\tline {number} {}\n", "x".repeat(80)));
    }
    std::fs::write(folder.join("000000"), text).unwrap();
    let ask = |id: u64, deployment, from, most_bytes| WorkItem::SendLog {
        request: LogRequestId::new(id, [0; 10]),
        deployment,
        from,
        most_bytes,
    };
    server.with(|world| world.log_room = 8 << 20);
    server.give(vec![ask(1, deployment, 1, 8 << 20)]);
    machine.once().unwrap();
    server.with(|world| {
        assert!(world.log_parts.len() > 3, "{} parts", world.log_parts.len());
        let numbers: Vec<u64> = world.log_parts.iter().flat_map(|part| &part.lines).map(|line| line.number).collect();
        assert_eq!(numbers, (1..=5_000).collect::<Vec<u64>>());
        let last: Vec<bool> = world.log_parts.iter().map(|part| part.last).collect();
        assert_eq!(last.iter().filter(|last| **last).count(), 1);
        world.log_parts.clear();
        world.log_room = 300_000;
    });
    // A server that takes less, and one that asks from the middle.
    server.give(vec![ask(2, deployment, 4_000, 300_000)]);
    machine.once().unwrap();
    server.with(|world| {
        let lines: Vec<u64> = world.log_parts.iter().flat_map(|part| &part.lines).map(|line| line.number).collect();
        assert_eq!(lines.first(), Some(&4_000));
        assert!(lines.len() < 1_700, "{}", lines.len());
        world.log_parts.clear();
    });
    server.give(vec![ask(3, DeploymentId::new(9, [9; 10]), 1, 1000)]);
    machine.once().unwrap();
    server.with(|world| {
        assert!(world.log_parts[0].missing.contains("keeps nothing of this deployment"), "{:?}", world.log_parts);
        assert!(world.log_parts[0].last);
    });
}
