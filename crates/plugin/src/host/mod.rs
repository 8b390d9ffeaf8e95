//! The host's side of the protocol: starts a foreign executable, asks it, believes nothing it says before it is
//! checked, and ends it with all it started.
//!
//! [`StdioProvider`] and [`StdioFeed`] implement the very traits that built-in plugins implement, so nothing else
//! in the program knows which kind it has. A plug-in is started anew for each call: nothing of one call is left
//! for the next but what lies on disk.

mod check;
mod pipes;
mod registry;
mod remote;
mod session;
mod tree;

pub use registry::{KindOf, Listed, Registry, RegistryError};
pub(crate) use remote::document_message;
pub use remote::{StdioFeed, StdioProvider};
pub use session::{Session, Silent};

use crate::{ErrorKind, PluginError};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// What is said when a plug-in broke the protocol.
const ASK_ITS_AUTHOR: &str =
    "The plug-in does not keep to docs/protocol.md; its author can see it with `cargo xtask check-plugin`.";

/// Variables every plug-in gets besides the mark of its run, and no others. (`TMPDIR` is its scratch folder.)
const ENVIRONMENT: [(&str, &str); 5] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C.UTF-8"),
    ("TZ", "UTC"),
    ("TMPDIR", "."),
];
/// The user that readers run as where the host is root (`nobody` on every Linux).
const NOBODY: u32 = 65534;

/// What a plug-in may use up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Until the first line.
    pub hello: Duration,
    /// For one call to a feed, which has no deadline of its own.
    pub feed_call: Duration,
    /// After the deadline, for an answer to the wish to stop, before all its processes are ended.
    pub grace: Duration,
    /// After the answer, for the program to end by itself.
    pub farewell: Duration,
    /// Bytes on standard output and error together, in one call.
    pub said: u64,
    /// Processes at once. A provider's package manager may build with all processors.
    pub processes: usize,
    /// Packages of an inventory, and candidates.
    pub packages: usize,
    /// Bytes of all advisories, or all facts, of one document.
    pub answer_file: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(30),
            feed_call: Duration::from_secs(600),
            grace: Duration::from_secs(15),
            farewell: Duration::from_secs(5),
            said: 64 << 20,
            processes: 256,
            packages: 100_000,
            answer_file: 1 << 30,
        }
    }
}

/// How far a plug-in is kept from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// It acts on the host: own process group, emptied environment, nothing more.
    Host,
    /// It only reads: besides, in name spaces of its own for processes, network, mounts and messages where the
    /// system lets the host make them, and as `nobody` where the host is root.
    Reader,
}

/// An executable and how it is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// For messages.
    pub name: String,
    /// Absolute path; never searched for.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What the file must be, looked at before every start; absent only for who tries a plug-in out.
    pub sha256: Option<String>,
    /// Where scratch folders are made.
    pub scratch: PathBuf,
    /// How it is kept apart.
    pub isolation: Isolation,
    /// What it may use up.
    pub limits: Limits,
}

impl Launch {
    /// An executable that is tried out: no digest, no isolation.
    pub fn trial(program: &Path, arguments: &[OsString], scratch: &Path) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self {
            name,
            program: program.to_owned(),
            arguments: arguments.to_vec(),
            sha256: None,
            scratch: scratch.to_owned(),
            isolation: Isolation::Host,
            limits: Limits::default(),
        }
    }

    /// The command, by argument vector. Descriptors of the host are closed by themselves at `exec`.
    fn command(&self, folder: &Path, mark: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut words: Vec<OsString> = Vec::new();
        if self.isolation == Isolation::Reader {
            words.extend(wrapper().iter().map(OsString::from));
        }
        words.push(self.program.clone().into_os_string());
        words.extend(self.arguments.iter().cloned());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).env_clear().envs(ENVIRONMENT).env(tree::MARK, mark);
        command.current_dir(folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// What readers are wrapped in on this system, found out once.
fn wrapper() -> &'static [String] {
    static FOUND: OnceLock<Vec<String>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let root = rustix::process::geteuid().is_root();
        let mut words: Vec<String> = vec!["/usr/bin/unshare".into()];
        if !root {
            words.extend(["--user", "--map-current-user"].map(String::from));
        }
        let spaces = ["--pid", "--fork", "--kill-child", "--net", "--ipc", "--mount-proc", "--"];
        words.extend(spaces.map(String::from));
        let mut inner: Vec<String> = vec!["/usr/bin/setpriv".into()];
        if root {
            inner.extend([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
            inner.extend(["--clear-groups", "--bounding-set=-all"].map(String::from));
        }
        inner.extend(["--no-new-privs", "--pdeathsig=KILL", "--"].map(String::from));
        let whole: Vec<String> = words.iter().chain(&inner).cloned().collect();
        // As root, to give root up is worth it even where there are no name spaces.
        let ways = [whole, if root { inner } else { words }];
        ways.into_iter().find(|words| works(words)).unwrap_or_default()
    })
}

fn works(words: &[String]) -> bool {
    let mut words = words.iter();
    let Some(program) = words.next() else { return false };
    let mut command = Command::new(program);
    command.args(words).arg("/bin/true").env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// In words, what readers are kept from on this system (`fettle plugin list`).
pub fn reader_isolation() -> String {
    let words = wrapper();
    let has = |word: &str| words.iter().any(|found| found.starts_with(word));
    let mut kept = Vec::new();
    if has("--net") {
        kept.push("no network, processes of its own name space");
    }
    if has("--reuid") {
        kept.push("as nobody");
    }
    if has("--no-new-privs") {
        kept.push("no new privileges");
    }
    if kept.is_empty() {
        return "own process group only: unshare(1) and setpriv(1) cannot be used here".to_owned();
    }
    kept.join(", ")
}

/// Whether a reader will run as another user than the host, so that its file must be readable for all.
fn readers_are_nobody() -> bool {
    wrapper().iter().any(|word| word.starts_with("--reuid"))
}

fn fail(kind: ErrorKind, message: impl Into<String>) -> PluginError {
    PluginError::new(kind, message)
}
