//! A whole agent whose disk is full, at every page of room that is left: it says so, loses nothing, and
//! goes on by itself when there is room again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod support;

use fettle_agent::Exit;
use fettle_domain::machine::DeploymentEvent as E;
use fettle_wire::offer::OfferAction;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::Machine;
use support::server::Server;

const GOOD: [E; 6] = [E::Accept, E::Fetch, E::Prepare, E::Apply, E::Check, E::Succeed];
const PAGE: usize = 4096;

/// A file system of two megabytes; taken away when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where it may not be made.
    fn mount(folder: &Path) -> Option<Self> {
        let made =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=0755", "fettle-test"]).arg(folder).output();
        match made {
            Ok(output) if output.status.success() => Some(Self(folder.to_owned())),
            other => {
                println!("skipped: a small file system cannot be mounted here (needs root): {other:?}");
                None
            }
        }
    }

    /// Leaves so many pages of room.
    fn leave(&self, pages: usize) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; PAGE]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length - (pages * PAGE) as u64).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing_wherever_it_fills_up() {
    let (mut told, mut went_on) = (0, 0);
    for pages in 0..24 {
        let (server, machine) = (Server::start(), Machine::new());
        std::fs::create_dir_all(&machine.state).unwrap();
        let Some(disk) = SmallDisk::mount(&machine.state) else { return };
        machine.enrol(&server, &server.token(), false).unwrap();
        machine.once().unwrap();
        machine.provider.set("pkg09", Some("3"));
        server.give(vec![server.sign(&server.offer(OfferAction::Deploy, 1, 1, machine.provider.manifest("1.0-2")))]);

        disk.leave(pages);
        let outcome = machine.once();
        match &outcome {
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("the disk is full; free some space"), "{pages} pages: {error}");
                told += 1;
            }
            Ok(_) => went_on += 1,
        }
        // What the host has is either as before or as planned, and no half of it.
        let versions = machine.provider.versions();
        assert_eq!(versions["pkg00"], versions["pkg01"], "{pages} pages");

        disk.free();
        let mut exits = Vec::new();
        while exits.last() != Some(&Exit::Done) && exits.len() < 3 {
            exits.push(machine.once().unwrap());
        }
        server.with(|world| {
            let sequences: Vec<u64> = world.entries.iter().map(|entry| entry.sequence).collect();
            assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "{pages} pages");
            assert!(world.refusals().is_empty(), "{pages} pages: {:?}", world.refusals());
            let events = world.events();
            let undone = events.contains(&E::Undo) || events.contains(&E::Fail);
            assert!(events == GOOD || undone, "{pages} pages: {events:?} after {outcome:?}, {exits:?}");
            let wanted = if undone { "1.0-1" } else { "1.0-2" };
            assert_eq!(machine.provider.versions()["pkg00"], wanted, "{pages} pages: {events:?}");
            // The inventory that was due came as well.
            let known = world.packages.as_ref().unwrap();
            assert!(known.iter().any(|package| package.package.version == "3"), "{pages} pages");
            assert!(known.iter().any(|package| package.package.version == wanted), "{pages} pages");
        });
    }
    assert!(told > 0 && went_on > 0, "{told} told, {went_on} went on: the room that was left meets neither");
}
