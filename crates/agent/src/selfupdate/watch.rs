//! `fettle agent watch`: the former version watches a new one on trial, from outside: a program that
//! hangs cannot end itself. Started by the launcher for each start of the new one, with its process
//! number; ends when the trial or the process does.

use super::trial::{self, Trial};
use crate::disk::StateDir;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often is looked whether the trial is over.
const STEP: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// Not a process number, or the kernel has no descriptors for processes (before Linux 5.3).
    #[error("cannot watch process {pid}: {source}")]
    Process {
        /// Its number.
        pid: i32,
        /// The system's word.
        source: std::io::Error,
    },
}

/// Watches; blocks until there is nothing to watch any more.
pub fn watch(state_dir: &Path, pid: i32) -> Result<(), WatchError> {
    let state = StateDir::peek(state_dir);
    let Some(trial) = Trial::load(&state) else { return Ok(()) };
    let failed = |source: rustix::io::Errno| WatchError::Process { pid, source: source.into() };
    // A descriptor, so that another process that later gets the same number is never meant.
    let number = Pid::from_raw(pid).ok_or(rustix::io::Errno::INVAL).map_err(failed)?;
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        // It ended before it could be watched.
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let limit = Duration::from_secs(trial.limit_seconds);
    // A version that can still count its own time gives up first.
    let end = Instant::now() + limit + (limit / 2).min(Duration::from_secs(60));
    while trial::is_under_way(&state) && !trial::is_given_up(&state) {
        let mut waiting = [PollFd::new(&process, PollFlags::IN)];
        if poll(&mut waiting, Some(&STEP)).map_err(failed)? > 0 {
            return Ok(());
        }
        if Instant::now() >= end {
            let why = format!("it neither checked in nor ended within {} seconds and was ended", limit.as_secs());
            let _ = trial::give_up(&state, &why);
            return pidfd_send_signal(&process, Signal::KILL).map_err(failed);
        }
    }
    Ok(())
}
