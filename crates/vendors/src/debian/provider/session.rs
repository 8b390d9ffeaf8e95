//! One call of the provider: the context it got, the root it works on, the programs it may start there.

use super::rooted::Rooted;
use super::run::{Ended, Program, run};
use super::status::Database;
use super::{diagnose, fail, files, locks};
use fettle_plugin::{ErrorKind, PluginError, ProviderContext};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Full paths: nothing is looked for.
pub(super) const APT_GET: &str = "/usr/bin/apt-get";
pub(super) const APT_CACHE: &str = "/usr/bin/apt-cache";
pub(super) const APT_MARK: &str = "/usr/bin/apt-mark";
pub(super) const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
pub(super) const DPKG: &str = "/usr/bin/dpkg";
pub(super) const DPKG_DEB: &str = "/usr/bin/dpkg-deb";

/// Never trust less than the host itself would: an unsigned or weak repository stays refused.
pub(super) const SIGNED_ONLY: [&str; 8] = [
    "-o",
    "Acquire::AllowInsecureRepositories=false",
    "-o",
    "Acquire::AllowDowngradeToInsecureRepositories=false",
    "-o",
    "Acquire::AllowWeakRepositories=false",
    "-o",
    "APT::Get::AllowUnauthenticated=false",
];

/// apt adds nothing of its own accord: no recommended packages, no other packages of the same source, no clearing away.
pub(super) const ONLY_WHAT_IS_ASKED: [&str; 5] = [
    "--no-install-recommends",
    "-o",
    "APT::Get::Upgrade-By-Source-Package=false",
    "-o",
    "APT::Get::AutomaticRemove=false",
];

/// What one call works with.
pub(super) struct Session<'a, 'c> {
    /// From the caller.
    pub context: &'a ProviderContext<'c>,
    /// Where packages are.
    pub root: Rooted,
}

impl<'a, 'c> Session<'a, 'c> {
    /// Opens the root.
    pub fn new(context: &'a ProviderContext<'c>) -> Result<Self, PluginError> {
        Ok(Self { context, root: Rooted::new(&context.root)? })
    }

    /// Runs a program in the root.
    pub fn run(&self, program: Program<'_>) -> Result<Ended, PluginError> {
        run(self.context, &self.root, program)
    }

    /// Runs a program of this machine, whatever root the session works on: to look into package files.
    pub fn run_outside(&self, program: Program<'_>) -> Result<Ended, PluginError> {
        if self.root.is_host() {
            return self.run(program);
        }
        run(self.context, &Rooted::new(Path::new("/"))?, program)
    }

    /// dpkg's database as it is now.
    pub fn database(&self) -> Result<Database, PluginError> {
        Database::read(&self.root)
    }

    /// Refuses early what only root may do.
    pub fn need_root(&self) -> Result<(), PluginError> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        Err(fail(ErrorKind::Denied, "changing packages needs root")
            .advise("Run the agent as root, or use it with --read-only."))
    }

    /// Fetches the indexes anew. Whatever goes wrong, apt keeps the last good ones in use.
    pub fn refresh(&self) -> Result<(), PluginError> {
        self.need_root()?;
        locks::wait(self.context, &self.root, &locks::LISTS)?;
        self.context.events.progress(0, "fetching the package indexes");
        // Without this error mode a mirror that is away is a warning only, and old indexes look like new ones.
        let update = Program::query(APT_GET)
            .args(["-q", "-o", "APT::Update::Error-Mode=any"])
            .args(SIGNED_ONLY)
            .args(["update"]);
        let ended = self.run(update.shown())?;
        if ended.success {
            return Ok(());
        }
        Err(diagnose::error_of("cannot refresh the package indexes", &ended))
    }

    /// Makes all that was done durable: what is reported as done must still be so after a power cut.
    pub fn sync(&self) -> Result<(), PluginError> {
        self.root.sync().map_err(|error| files::cannot_write(&self.root.path, &error))
    }

    /// A folder inside the root, gone when dropped.
    pub fn scratch(&self, purpose: &str) -> Result<Scratch, PluginError> {
        Scratch::new(&self.root, purpose)
    }
}

/// A folder inside the root for files that programs in there read or write; removed at the end.
pub(super) struct Scratch {
    /// As programs in the root see it.
    pub inside: String,
    /// As the agent sees it.
    pub outside: PathBuf,
}

const SCRATCH: &str = "/var/cache/fettle";

impl Scratch {
    fn new(root: &Rooted, purpose: &str) -> Result<Self, PluginError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let cannot = |error: std::io::Error| files::cannot_write(Path::new(SCRATCH), &error);
        let parent = root.real("/var/cache").map_err(cannot)?.join("fettle");
        match fs::create_dir(&parent) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(cannot(error)),
            _ => {}
        }
        if !fs::symlink_metadata(&parent).map_err(cannot)?.is_dir() {
            return Err(fail(ErrorKind::Failed, format!("{} is no directory", parent.display())));
        }
        sweep(&parent);
        let name = format!("{purpose}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let outside = parent.join(&name);
        files::remove_folder(&outside)?;
        fs::create_dir(&outside).map_err(cannot)?;
        Ok(Self { inside: format!("{SCRATCH}/{name}"), outside })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = files::remove_folder(&self.outside) {
            tracing::warn!(error = %error.message, "a scratch folder stays behind");
        }
    }
}

/// Removes what agents left that are no longer there (killed, power cut).
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.rsplit('-');
        let pid = parts.nth(1).unwrap_or_default();
        let alive = pid.parse::<u32>().is_ok_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
        if !alive && fs::symlink_metadata(entry.path()).is_ok_and(|meta| meta.is_dir()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
