//! The network-facing half as a process of its own: another user, no capabilities, an emptied
//! environment, nothing inherited but the socket.

use super::{Executor, Served};
use crate::clock::Backoff;
use crate::disk::files::{self, DiskError};
use crate::run::{Exit, RunError};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// Waits between two starts of a half that ends by itself.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How long a half that said goodbye may take to end.
const LEAVE: Duration = Duration::from_secs(5);

/// How the network-facing half is started.
#[derive(Debug, Clone)]
pub struct NetworkProcess {
    /// This very program.
    pub program: PathBuf,
    /// Its arguments; the socket is handed to it as standard input.
    pub arguments: Vec<OsString>,
    /// Its whole environment, but for how it uses memory.
    pub environment: Vec<(OsString, OsString)>,
    /// Who it runs as; `None`: as who we are, which root must not be.
    pub user: Option<NetworkUser>,
}

/// An unprivileged user of this system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkUser {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
}

impl NetworkUser {
    /// Looks a user up in `/etc/passwd`; `None` when there is none of this name, or it is root.
    pub fn find(name: &str) -> Option<Self> {
        Self::find_in(&files::text("/etc/passwd"), name)
    }

    fn find_in(passwd: &str, name: &str) -> Option<Self> {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0 && gid != 0).then(|| Self { name: name.to_owned(), uid, gid })
    }
}

/// Starts the other half, again when it ends by itself, and serves it.
pub(crate) async fn in_two_processes(
    executor: &Arc<Executor>,
    process: &NetworkProcess,
    once: bool,
) -> Result<Exit, RunError> {
    if let Some(user) = &process.user {
        give(&executor.state().network(), user)?;
    }
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let (ours, theirs) = UnixStream::pair().map_err(|error| failed("make a socket pair", &error))?;
        let theirs = theirs.into_std().map_err(|error| failed("make a socket pair", &error))?;
        theirs.set_nonblocking(false).map_err(|error| failed("make a socket pair", &error))?;
        let mut child = start(process, theirs.into())?;
        let served = executor.serve(ours).await;
        leave(&mut child).await;
        let why = match served {
            Served::Goodbye(Ok(exit)) => return Ok(exit),
            Served::Goodbye(Err(why)) | Served::Gone(why) => why,
        };
        if once {
            return Err(RunError::Work(why));
        }
        if executor.host.stop.told() {
            return Ok(Exit::Stopped);
        }
        let wait = backoff.next_wait();
        tracing::error!(
            error.text = why,
            wait.seconds = wait.as_secs(),
            "the network-facing half ended; it is started again"
        );
        tokio::time::sleep(wait).await;
    }
}

fn start(process: &NetworkProcess, socket: OwnedFd) -> Result<Child, RunError> {
    let mut command = command(process);
    command.stdin(Stdio::from(socket));
    command.spawn().map_err(|error| failed("start the network-facing half", &error))
}

/// Runs a short one, which needs no socket, to its end. What it says on standard error is ours to say.
pub(crate) fn run_to_end(process: &NetworkProcess) -> Result<(), RunError> {
    let status = command(process).stdin(Stdio::null()).status();
    let status = status.map_err(|error| failed("start the network-facing half", &error))?;
    if status.success() { Ok(()) } else { Err(RunError::Work(format!("the network-facing half ended with {status}"))) }
}

fn command(process: &NetworkProcess) -> Command {
    let mut command = Command::new(&process.program);
    // The name that process lists show, whatever path it is started by.
    command.arg0("fettle").args(&process.arguments).env_clear().current_dir("/");
    // Frees what it does not use at once: it waits most of its life.
    command.env("MALLOC_ARENA_MAX", "1").env("MALLOC_TRIM_THRESHOLD_", "65536");
    command.envs(process.environment.iter().cloned());
    command.stdout(Stdio::null()).stderr(Stdio::inherit());
    // A group of its own: Ctrl-C is for the executor, which tells it.
    command.process_group(0);
    if let Some(user) = &process.user {
        // Giving up root gives up all capabilities and all other groups.
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Waits for its end, and ends it when it takes too long.
async fn leave(child: &mut Child) {
    let end = tokio::time::Instant::now() + LEAVE;
    while tokio::time::Instant::now() < end {
        match child.try_wait() {
            Ok(None) => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn failed(what: &str, error: &std::io::Error) -> RunError {
    RunError::Work(format!("cannot {what}: {error}"))
}

/// In the other half, first of all: nothing that it may start ever gets more rights.
pub(crate) fn give_up_privileges() -> Result<(), RunError> {
    rustix::thread::set_no_new_privs(true).map_err(|error| failed("give up privileges", &error.into()))?;
    // Its memory holds the key of this host: not for debuggers or core files of other programs of this user.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| failed("give up privileges", &error.into()))
}

/// Gives the folder and what stands in it to the user. The user may have put links there: nothing is
/// followed, and only files with one name are given.
pub(crate) fn give(folder: &Path, user: &NetworkUser) -> Result<(), DiskError> {
    let refused = |path: &Path, error| DiskError::io("give away", path, error);
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits());
    let nofollow = nofollow.unwrap_or_default();
    let file = File::options().read(true).custom_flags(nofollow).open(folder);
    let file = file.map_err(|error| refused(folder, error))?;
    let about = file.metadata().map_err(|error| refused(folder, error))?;
    let own = about.uid() == user.uid && about.gid() == user.gid;
    if !own && (about.is_dir() || about.is_file() && about.nlink() == 1) {
        std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid)).map_err(|error| refused(folder, error))?;
    }
    if about.is_dir() {
        for entry in std::fs::read_dir(folder).map_err(|error| refused(folder, error))?.flatten() {
            // What cannot be opened (a link) is not ours to give.
            if entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_file()) {
                give(&entry.path(), user)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name_and_never_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\nfettle-agent2:x:7:7::/:/bin/false\nfettle-agent:x:990:991::/:/bin/false\nodd:x:5:0::/:/\n";
        let found = NetworkUser::find_in(passwd, "fettle-agent").unwrap();
        assert_eq!((found.uid, found.gid), (990, 991));
        assert_eq!(NetworkUser::find_in(passwd, "root"), None);
        assert_eq!(NetworkUser::find_in(passwd, "odd"), None);
        assert_eq!(NetworkUser::find_in(passwd, "fettle"), None);
    }
}
