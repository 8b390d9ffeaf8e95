//! Runs apt on exactly the given package files and no others: it sees no repository at all, so it can neither
//! fetch nor choose; and before it runs for real, its own simulation must say exactly what is expected.

use super::recover::CONFFILES;
use super::run::{Ended, Program};
use super::session::{APT_GET, ONLY_WHAT_IS_ASKED, Scratch, Session};
use super::simulate::{self, Simulated};
use super::status::{Database, argument};
use super::{fail, files};
use fettle_domain::plan::PackageStep;
use fettle_plugin::{ErrorKind, PluginError};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// No sources, no caches on disk (apt would write its own anew for every other set of sources), no extras.
const OFFLINE: [&str; 10] = [
    "-y",
    "-q",
    "-o",
    "Dir::Etc::SourceList=/dev/null",
    "-o",
    "Dir::Etc::SourceParts=/dev/null",
    "-o",
    "Dir::Cache::pkgcache=",
    "-o",
    "Dir::Cache::srcpkgcache=",
];

/// What apt is to do with local files.
pub(super) struct LocalRun {
    /// Package files, as programs in the root see them.
    files: Vec<String>,
    /// `NAME-` for each removal.
    removals: Vec<String>,
    /// What must happen and nothing else: name, architecture where known, version (none for a removal).
    expected: BTreeSet<(String, Option<String>)>,
    downgrades: bool,
    undoing: bool,
    _scratch: Option<Scratch>,
}

/// One package file and the version it brings, or a removal.
pub(super) struct Want<'a> {
    /// The step it belongs to.
    pub step: &'a PackageStep,
    /// Version and file; none for a removal.
    pub file: Option<(&'a str, PathBuf)>,
}

impl LocalRun {
    /// Prepares a run. Files are put where programs in the root can see them.
    pub fn new(
        session: &Session<'_, '_>,
        database: &Database,
        wants: &[Want<'_>],
        undoing: bool,
    ) -> Result<Self, PluginError> {
        let scratch = if session.root.is_host() { None } else { Some(session.scratch("install")?) };
        let mut run = Self {
            files: Vec::new(),
            removals: Vec::new(),
            expected: BTreeSet::new(),
            downgrades: undoing,
            undoing,
            _scratch: None,
        };
        for want in wants {
            let step = want.step;
            let Some((version, path)) = &want.file else {
                run.removals.push(format!("{}-", argument(&step.name, &step.architecture, &database.native)));
                run.expected.insert((step.name.clone(), None));
                continue;
            };
            let installed = database.find(&step.name, &step.architecture);
            run.downgrades |= installed.is_some_and(|entry| super::is_newer(&entry.package.version, version));
            run.expected.insert((step.name.clone(), Some((*version).to_owned())));
            run.files.push(match &scratch {
                None => path.to_string_lossy().into_owned(),
                Some(scratch) => show(scratch, path)?,
            });
        }
        run._scratch = scratch;
        Ok(run)
    }

    /// The files, as programs in the root see them.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    fn arguments(&self, mut args: Vec<String>) -> Vec<String> {
        args.extend(OFFLINE.into_iter().chain(ONLY_WHAT_IS_ASKED).map(str::to_owned));
        if self.removals.is_empty() {
            args.push("--no-remove".to_owned());
        }
        if self.downgrades {
            args.push("--allow-downgrades".to_owned());
        }
        if self.undoing {
            args.push("--allow-change-held-packages".to_owned());
        }
        args.push("install".to_owned());
        args.extend(self.files.iter().cloned());
        args.extend(self.removals.iter().cloned());
        args
    }

    /// Asks apt what it would do; an error names what differs from what is expected.
    pub fn check(&self, session: &Session<'_, '_>) -> Result<(), PluginError> {
        let args = self.arguments(["-s", "-o", "Debug::NoLocking=1"].map(str::to_owned).to_vec());
        let ended = session.run(Program::query(APT_GET).args(args))?;
        if !ended.success {
            let mut error =
                fail(ErrorKind::NotApplicable, "apt would not install exactly these package files on this host")
                    .advise("The host changed since the dry run: make a new dry run.");
            error.causes = simulate::unmet(&ended.stdout)
                .into_iter()
                .map(|unmet| unmet.text)
                .chain(ended.telling(8))
                .take(12)
                .collect();
            return Err(error);
        }
        let found: BTreeSet<_> =
            simulate::steps(&ended.stdout).into_iter().map(|Simulated { name, to, .. }| (name, to)).collect();
        if found == self.expected {
            return Ok(());
        }
        let shown = |(name, to): &(String, Option<String>)| format!("{name} {}", to.as_deref().unwrap_or("removed"));
        let more: Vec<_> = found.difference(&self.expected).map(shown).collect();
        let less: Vec<_> = self.expected.difference(&found).map(shown).collect();
        let message = format!(
            "apt would do something else than planned: additionally [{}], not [{}]",
            more.join(", "),
            less.join(", ")
        );
        Err(fail(ErrorKind::NotApplicable, message).advise("The host changed since the dry run: make a new dry run."))
    }

    /// Lets apt do it. Its exit code says little; the caller looks at the packages.
    pub fn run(&self, session: &Session<'_, '_>, patience: Duration) -> Result<Ended, PluginError> {
        let mut args = vec!["-o".to_owned(), format!("DPkg::Lock::Timeout={}", patience.as_secs())];
        for option in CONFFILES {
            args.extend(["-o".to_owned(), format!("Dpkg::Options::={option}")]);
        }
        // apt's terminal log needs a pseudo terminal; where there is none, apt would swallow what scripts say.
        if !session.root.is_host() || session.root.real("/dev/pts/ptmx").is_err() {
            args.extend(["-o".to_owned(), "Dpkg::Use-Pty=0".to_owned()]);
        }
        session.run(Program::change(APT_GET).args(self.arguments(args)).progress(0, 100))
    }
}

/// Puts a file into the root's scratch folder, as a second name where both are on one file system.
fn show(scratch: &Scratch, path: &std::path::Path) -> Result<String, PluginError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let target = scratch.outside.join(&name);
    if fs::hard_link(path, &target).is_err() {
        fs::copy(path, &target).map_err(|error| files::cannot_write(&target, &error))?;
    }
    Ok(format!("{}/{name}", scratch.inside))
}
