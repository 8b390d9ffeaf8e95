//! A plug-in with everything it started: found in `/proc`, counted, ended.
//!
//! A process belongs to the plug-in when it is a child of one that does, shares the process group the plug-in was
//! started in, shares a session that one of them opened, or carries the mark of this run in the environment it was
//! started with. Once seen, it stays known until it is gone. So a grandchild that calls `setsid` and whose parent
//! ends is still found. What none of this finds is a process that left by `setsid`, was started anew with an emptied
//! environment and lost its parent, all between two looks: only a process namespace catches that one (see
//! [`super::Isolation::Reader`]).

use rustix::event::{Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// The variable that carries the mark.
pub const MARK: &str = "FETTLE_PLUGIN_RUN";
/// Rounds of ending before it is given up; each is a look at all processes and a short wait.
const ROUNDS: u32 = 200;

/// What of `/proc/PID/stat` tells whose a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: i32,
    group: i32,
    session: i32,
    /// Clock ticks after boot: with the number, it names a process for ever.
    started: u64,
    /// Ended, and only waited for.
    ended: bool,
}

/// Everything that one run of a plug-in started.
#[derive(Debug)]
pub struct Tree {
    /// The plug-in itself, leader of its group.
    leader: i32,
    /// The host's own session, which nobody else's processes are told by.
    own_session: i32,
    mark: String,
    known: BTreeMap<i32, u64>,
}

impl Tree {
    /// Of a process that was just started in a group of its own, with [`MARK`] set to `mark`.
    pub fn of(leader: u32, mark: &str) -> Self {
        let leader = i32::try_from(leader).unwrap_or(0);
        let own_session = stat("self").map_or(0, |stat| stat.session);
        let mut tree = Self { leader, own_session, mark: format!("{MARK}={mark}"), known: BTreeMap::new() };
        tree.look(false);
        tree
    }

    /// Looks who is there and how many; with `thorough`, marks are read too.
    pub fn look(&mut self, thorough: bool) -> usize {
        let all = processes();
        self.known.retain(|pid, started| all.get(pid).is_some_and(|stat| stat.started == *started && !stat.ended));
        let mut members: BTreeSet<i32> = self.known.keys().copied().collect();
        members.insert(self.leader);
        if thorough {
            members.extend(all.keys().filter(|pid| self.is_marked(**pid)));
        }
        let mut sessions: BTreeSet<i32> = BTreeSet::new();
        loop {
            let before = members.len();
            for (pid, stat) in &all {
                if members.contains(pid) && stat.session != self.own_session {
                    sessions.insert(stat.session);
                }
            }
            for (pid, stat) in &all {
                let belongs =
                    members.contains(&stat.parent) || stat.group == self.leader || sessions.contains(&stat.session);
                if belongs {
                    members.insert(*pid);
                }
            }
            if members.len() == before {
                break;
            }
        }
        for pid in members {
            if let Some(stat) = all.get(&pid).filter(|stat| !stat.ended) {
                self.known.insert(pid, stat.started);
            }
        }
        self.known.len()
    }

    /// Lets what is left be: it is no more of this run.
    pub fn forget(&mut self) {
        self.leader = 0;
        self.known.clear();
    }

    /// Whether it was let be.
    pub fn is_forgotten(&self) -> bool {
        self.leader == 0
    }

    fn is_marked(&self, pid: i32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == self.mark.as_bytes())
    }

    /// Ends all of it: first everything is stopped, so that nothing starts more meanwhile, then killed, until a look
    /// finds nobody. The leader must not have been waited for yet: as long as it is not, its number and its group are
    /// nobody else's. False when some could not be ended.
    pub fn end(&mut self) -> bool {
        for round in 0..ROUNDS {
            if let Some(group) = Pid::from_raw(self.leader) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            if self.look(true) == 0 {
                return true;
            }
            for signal in [Signal::STOP, Signal::KILL] {
                for (pid, started) in &self.known {
                    send(*pid, *started, signal);
                }
            }
            pause(Duration::from_millis(if round < 10 { 2 } else { 20 }));
        }
        false
    }
}

/// Sends a signal to just this process, not to another that got its number meanwhile.
fn send(pid: i32, started: u64, signal: Signal) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if stat(&pid.as_raw_nonzero().to_string()).is_some_and(|stat| stat.started == started) {
        let _ = pidfd_send_signal(&handle, signal);
    }
}

/// Waits without a thread of its own.
pub fn pause(time: Duration) {
    let time = Timespec { tv_sec: time.as_secs().try_into().unwrap_or(1), tv_nsec: time.subsec_nanos().into() };
    let _ = poll(&mut [], Some(&time));
}

fn processes() -> BTreeMap<i32, Stat> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((pid, name)) = name.to_str().and_then(|name| Some((name.parse().ok()?, name))) else { continue };
        if let Some(stat) = stat(name) {
            all.insert(pid, stat);
        }
    }
    all
}

/// proc(5): `pid (comm) state ppid pgrp session … starttime`; the command may hold blanks and parentheses.
fn stat(name: &str) -> Option<Stat> {
    let text = fs::read(format!("/proc/{name}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<i32>().ok());
    Some(Stat {
        ended: matches!(fields.first(), Some(&("Z" | "X"))),
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        started: fields.get(19)?.parse().ok()?,
    })
}
