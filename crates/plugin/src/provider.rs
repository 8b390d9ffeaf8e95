//! Providers: they act on a host through its own package manager, with a dry run and an undo for each act.

use crate::{Plugin, PluginError};
use fettle_domain::package::{Ecosystem, InstalledPackage};
use fettle_domain::plan::{Job, Manifest, PackageStep, RehearsalOutcome};
use fettle_domain::reason::Reason;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a provider may tell while it works. Implemented by the agent.
pub trait ProviderEvents: Sync {
    /// One line of the package manager's output.
    fn output(&self, line: &str);
    /// One line that it wrote to its error stream.
    fn error_output(&self, line: &str) {
        self.output(line);
    }
    /// How far it is, 0 to 100, and what it does.
    fn progress(&self, percent: u8, what: &str);
    /// Whether to stop as soon as it is safe.
    fn cancelled(&self) -> bool {
        false
    }
}

/// What surrounds one call.
pub struct ProviderContext<'a> {
    /// The host's file system: `/`, or the root directory of an image or chroot.
    pub root: PathBuf,
    /// Where events go.
    pub events: &'a dyn ProviderEvents,
    /// When to give up.
    pub deadline: Instant,
    /// How long to wait for the package manager's lock.
    pub lock_patience: Duration,
    /// What the package manager may take of the host.
    pub limits: ResourceLimits,
}

/// What a package manager may take of the host while it works (the paper's CPU governor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Niceness, 0 (as everything else) to 19 (only what is left over). Disk priority follows it.
    pub nice: u8,
    /// Address space of each of its processes, in bytes.
    pub memory_bytes: Option<u64>,
    /// Share of processor time in per cent of one processor, where the system has control groups for it.
    pub cpu_percent: Option<u32>,
}

impl Default for ResourceLimits {
    fn default() -> Self {
        Self { nice: 10, memory_bytes: None, cpu_percent: None }
    }
}

/// A newer version that the host's own repositories offer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    /// Binary package name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Offered version.
    pub version: String,
    /// Source version of the offered package.
    pub source_version: String,
    /// Where it comes from, `Origin:Suite`.
    pub origin: String,
    /// Whether it comes from a security archive.
    pub security: bool,
}

/// What to do about configuration files that both sides changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConffilePolicy {
    /// Keep the administrator's, put the vendor's beside it, report it.
    #[default]
    Keep,
}

/// One act of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Bring every package file of the manifest into `<folder>/new` and verify size and sha-256.
    Fetch,
    /// Put the package files of every version that is replaced or removed into `<folder>/old`
    /// (from cache or repository, else repacked from the installed files), with a checksum list.
    KeepOld,
    /// Install exactly the manifest from `<folder>/new`, without network.
    Install,
}

/// One act with all it needs. Written to the journal before it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRequest {
    /// Which act.
    pub step: Step,
    /// What exactly.
    pub manifest: Manifest,
    /// Folder of this deployment on the real file system (outside `root` when that is another one).
    pub folder: PathBuf,
    /// Conffile policy.
    pub conffiles: ConffilePolicy,
}

/// What an act left; kept in the journal and handed back for undo. Only its provider looks inside.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// The provider's own data.
    pub data: serde_json::Value,
    /// What people should know (conffiles kept, packages repacked).
    pub notes: Vec<Reason>,
}

/// A package manager of a host.
pub trait Provider: Plugin {
    /// Whose manifests it carries out.
    fn ecosystem(&self) -> Ecosystem;

    /// Files and folders below the root, relative to it, that change whenever [`Provider::inventory`]
    /// would answer differently. The host looks at their size and time before it asks for a new
    /// inventory; an empty list makes it ask every time.
    fn database_files(&self) -> Vec<String> {
        Vec::new()
    }

    /// Everything installed, with marks and states. Needs no root and takes no lock.
    fn inventory(&self, context: &ProviderContext<'_>) -> Result<Vec<InstalledPackage>, PluginError>;

    /// Digest of the installed set, as `Manifest::base_digest` has it.
    fn state_digest(&self, context: &ProviderContext<'_>) -> Result<String, PluginError>;

    /// Newer versions that the host's repositories offer, all of them, not only the preferred ones.
    /// With `refresh`, the indexes are fetched first; a mirror that is away is an error, not "no updates".
    fn candidates(&self, context: &ProviderContext<'_>, refresh: bool) -> Result<Vec<Candidate>, PluginError>;

    /// Dry run: what exactly would happen, or why it cannot be done. Changes nothing but indexes.
    fn rehearse(
        &self,
        context: &ProviderContext<'_>,
        job: &Job,
        refresh: bool,
    ) -> Result<RehearsalOutcome, PluginError>;

    /// Does one act. May run twice.
    fn apply(&self, context: &ProviderContext<'_>, request: &StepRequest) -> Result<Applied, PluginError>;

    /// Undoes one act, from the request alone where the act was cut off (`applied` is `None`). May run twice,
    /// needs no network.
    fn undo(
        &self,
        context: &ProviderContext<'_>,
        request: &StepRequest,
        applied: Option<&Applied>,
    ) -> Result<Applied, PluginError>;

    /// The exact commands with which a person brings back what an undo could not, in their order; what is back
    /// already needs none. For a host on which nothing more is done by itself.
    fn undo_by_hand(&self, _context: &ProviderContext<'_>, _request: &StepRequest) -> Vec<String> {
        Vec::new()
    }

    /// The steps of the manifest whose `to` is not (or, with `reverted`, whose `from` is not) what
    /// is installed and configured now, each with the state found. Empty means proved.
    fn verify(
        &self,
        context: &ProviderContext<'_>,
        manifest: &Manifest,
        reverted: bool,
    ) -> Result<Vec<(PackageStep, String)>, PluginError>;

    /// Finishes what an earlier, interrupted run of the package manager left. Returns what was mended.
    fn recover(&self, context: &ProviderContext<'_>) -> Result<Vec<Reason>, PluginError>;

    /// Puts or lifts a hold on packages. Returns the names that changed.
    fn set_hold(&self, context: &ProviderContext<'_>, names: &[String], held: bool)
    -> Result<Vec<String>, PluginError>;
}
