//! The apt provider: drives the real `apt-get` and `dpkg` of this host, or of another root directory.
//!
//! apt solves, simulates, fetches and installs; this room reads dpkg's database itself, keeps the files
//! that are replaced, and judges every act by a fresh look at the packages, never by an exit code.
//!
//! Absent on purpose: an own dependency solver, an own downloader, an own unpacker over live files, and
//! any decision *whether* something should be installed.

mod by_hand;
mod deb822;
mod diagnose;
mod download;
mod facts;
mod fetch;
mod files;
mod install;
mod keep;
mod lists;
mod local;
mod locks;
mod marks;
mod md5;
mod plan;
mod recover;
mod rehearse;
mod repack;
mod resolve;
mod restore;
mod rooted;
mod run;
mod session;
mod simulate;
mod snapshot;
mod solve;
mod status;
mod text;
mod undo;

pub use facts::{EditedConffile, InstalledKernel, Owners, edited_conffiles, newest_kernel};

use fettle_domain::package::{Ecosystem, InstalledPackage};
use fettle_domain::plan::{Job, Manifest, PackageStep, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_domain::version::Scheme;
use fettle_plugin::{
    Applied, Candidate, ErrorKind, Manifest as PluginManifest, Plugin, PluginError, Provider, ProviderContext, Step,
    StepRequest,
};
use session::Session;
use status::Database;

/// The provider for Debian and its derivatives. Cheap to keep: it holds what the indexes offer for the
/// packages that are installed, and reads them again only when they changed.
#[derive(Debug, Default)]
pub struct AptProvider {
    index: lists::IndexCache,
}

impl AptProvider {
    /// A provider that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Plugin for AptProvider {
    fn manifest(&self) -> PluginManifest {
        PluginManifest {
            commands: ["apt-get", "apt-cache", "apt-mark", "dpkg", "dpkg-deb", "setsid"].map(str::to_owned).to_vec(),
            root: true,
            ..PluginManifest::new("apt", "Debian packages by apt-get and dpkg")
        }
    }
}

impl Provider for AptProvider {
    fn ecosystem(&self) -> Ecosystem {
        Ecosystem::Debian
    }

    fn database_files(&self) -> Vec<String> {
        ["var/lib/dpkg/status", "var/lib/dpkg/updates", "var/lib/apt/extended_states", "var/lib/apt/lists"]
            .map(str::to_owned)
            .to_vec()
    }

    fn inventory(&self, context: &ProviderContext<'_>) -> Result<Vec<InstalledPackage>, PluginError> {
        let session = Session::new(context)?;
        let database = session.database()?;
        let index = self.index.index(&session.root, &database)?;
        let packages = database.installed().map(|entry| InstalledPackage {
            package: entry.package.clone(),
            origin: index.release_of(&entry.package).map(|release| release.origin.clone()).unwrap_or_default(),
            held: entry.held,
            automatic: entry.automatic,
            state: entry.state.unwrap_or_default(),
        });
        Ok(packages.collect())
    }

    fn state_digest(&self, context: &ProviderContext<'_>) -> Result<String, PluginError> {
        Ok(Session::new(context)?.database()?.digest())
    }

    fn candidates(&self, context: &ProviderContext<'_>, refresh: bool) -> Result<Vec<Candidate>, PluginError> {
        let session = Session::new(context)?;
        if refresh {
            session.refresh()?;
        }
        let database = session.database()?;
        let index = self.index.index(&session.root, &database)?;
        let mut candidates = Vec::new();
        for entry in database.installed() {
            let package = &entry.package;
            let newer = index.of(package).filter(|(offer, _)| is_newer(&offer.version, &package.version));
            candidates.extend(newer.map(|(offer, release)| Candidate {
                name: package.name.clone(),
                architecture: offer.architecture.clone(),
                version: offer.version.clone(),
                source_version: offer.source_version.clone(),
                origin: release.origin.clone(),
                security: release.security,
            }));
        }
        Ok(candidates)
    }

    fn rehearse(
        &self,
        context: &ProviderContext<'_>,
        job: &Job,
        refresh: bool,
    ) -> Result<RehearsalOutcome, PluginError> {
        let session = Session::new(context)?;
        if refresh {
            session.refresh()?;
        }
        let database = session.database()?;
        let index = self.index.index(&session.root, &database)?;
        rehearse::rehearse(&session, &database, &index, job)
    }

    fn apply(&self, context: &ProviderContext<'_>, request: &StepRequest) -> Result<Applied, PluginError> {
        plan::check(&request.manifest)?;
        let session = Session::new(context)?;
        match request.step {
            Step::Fetch => fetch::fetch(&session, request),
            Step::KeepOld => keep::keep_old(&session, request),
            Step::Install => install::install(&session, request),
        }
    }

    fn undo(
        &self,
        context: &ProviderContext<'_>,
        request: &StepRequest,
        _applied: Option<&Applied>,
    ) -> Result<Applied, PluginError> {
        // Nothing of `Applied` is needed: all that undo uses lies in the deployment's folder.
        plan::check(&request.manifest)?;
        let session = Session::new(context)?;
        match request.step {
            Step::Fetch => files::remove_folder(&plan::new_folder(request)),
            Step::KeepOld => files::remove_folder(&plan::old_folder(request)),
            Step::Install => return undo::undo(&session, request),
        }?;
        Ok(Applied::default())
    }

    fn undo_by_hand(&self, context: &ProviderContext<'_>, request: &StepRequest) -> Vec<String> {
        let named = plan::check(&request.manifest).and_then(|()| by_hand::commands(&Session::new(context)?, request));
        named.unwrap_or_default()
    }

    fn verify(
        &self,
        context: &ProviderContext<'_>,
        manifest: &Manifest,
        reverted: bool,
    ) -> Result<Vec<(PackageStep, String)>, PluginError> {
        let session = Session::new(context)?;
        Ok(plan::verify(&session.database()?, manifest, reverted))
    }

    fn recover(&self, context: &ProviderContext<'_>) -> Result<Vec<Reason>, PluginError> {
        recover::recover(&Session::new(context)?)
    }

    fn set_hold(
        &self,
        context: &ProviderContext<'_>,
        names: &[String],
        held: bool,
    ) -> Result<Vec<String>, PluginError> {
        marks::set_hold(&Session::new(context)?, names, held)
    }
}

/// An error without advice yet.
fn fail(kind: ErrorKind, message: impl Into<String>) -> PluginError {
    PluginError::new(kind, message)
}

/// Whether `a` is a later version than `b`; what is no version is never later.
fn is_newer(a: &str, b: &str) -> bool {
    matches!(Scheme::Dpkg.compare(a, b), Ok(std::cmp::Ordering::Greater))
}

/// Whether `a` is at least `b`.
fn is_at_least(a: &str, b: &str) -> bool {
    matches!(Scheme::Dpkg.compare(a, b), Ok(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal))
}

/// What is said of everything installed, for messages that compare two databases.
fn described(database: &Database, name: &str, architecture: &str) -> String {
    match database.find(name, architecture) {
        None => "not installed".to_owned(),
        Some(entry) => match entry.state {
            Some(fettle_domain::package::InstallState::Installed) => entry.package.version.clone(),
            state => format!("{} {}", entry.package.version, status::state_word(state)),
        },
    }
}
