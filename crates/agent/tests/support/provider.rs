//! A package manager over plain files: `db/NAME` holds the installed version.

use fettle_content::sha256_hex;
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_domain::plan::{Job, Manifest, PackageFile, PackageStep, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_plugin::{
    Applied, Candidate, ErrorKind, Manifest as About, Plugin, PluginError, Provider, ProviderContext, Step, StepRequest,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub struct FileProvider {
    root: PathBuf,
    /// How often everything was listed.
    pub listings: Mutex<u32>,
    /// Whether dry runs were permitted to refresh.
    pub refreshes: Mutex<Vec<bool>>,
    /// Nothing can be listed.
    pub broken: Mutex<bool>,
    /// The install fails half way.
    pub fails: Mutex<bool>,
}

impl FileProvider {
    pub fn new(root: &Path) -> Self {
        let provider = Self {
            root: root.to_owned(),
            listings: Mutex::default(),
            refreshes: Mutex::default(),
            broken: Mutex::default(),
            fails: Mutex::default(),
        };
        for number in 0..30 {
            provider.set(&format!("pkg{number:02}"), Some("1.0-1"));
        }
        provider
    }

    pub fn set(&self, name: &str, version: Option<&str>) {
        let path = self.root.join("db").join(name);
        match version {
            // As package managers do: a new file in the old one's place.
            Some(version) => {
                std::fs::write(self.root.join("scratch"), version).unwrap();
                std::fs::rename(self.root.join("scratch"), path).unwrap();
            }
            None => std::fs::remove_file(path).unwrap(),
        }
    }

    pub fn versions(&self) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(self.root.join("db")).unwrap().map(Result::unwrap);
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
            .collect()
    }

    fn digest(&self) -> String {
        sha256_hex(format!("{:?}", self.versions()).as_bytes())
    }

    /// The plan that takes two packages to a version.
    pub fn manifest(&self, to: &str) -> Manifest {
        let versions = self.versions();
        let steps = ["pkg00", "pkg01"].map(|name| PackageStep {
            name: name.to_owned(),
            architecture: "amd64".to_owned(),
            from: versions.get(name).cloned(),
            to: Some(to.to_owned()),
            asked: true,
            file: Some(PackageFile {
                name: format!("{name}_{to}_amd64.deb"),
                uri: String::new(),
                size: to.len() as u64,
                sha256: sha256_hex(to.as_bytes()),
            }),
        });
        Manifest {
            ecosystem: Ecosystem::Debian,
            steps: steps.to_vec(),
            base_digest: self.digest(),
            download_bytes: 10,
            disk_bytes: 0,
        }
    }
}

impl Plugin for FileProvider {
    fn manifest(&self) -> About {
        About::new("files", "packages as plain files")
    }
}

impl Provider for FileProvider {
    fn ecosystem(&self) -> Ecosystem {
        Ecosystem::Debian
    }

    fn database_files(&self) -> Vec<String> {
        vec!["db".to_owned()]
    }

    fn inventory(&self, _context: &ProviderContext<'_>) -> Result<Vec<InstalledPackage>, PluginError> {
        *self.listings.lock().unwrap() += 1;
        if *self.broken.lock().unwrap() {
            return Err(
                PluginError::new(ErrorKind::Failed, "the package database is damaged").advise("run dpkg --audit")
            );
        }
        let packages = self.versions().into_iter().map(|(name, version)| InstalledPackage {
            package: PackageVersion {
                ecosystem: Ecosystem::Debian,
                source: name.clone(),
                source_version: version.clone(),
                name,
                version,
                architecture: "amd64".to_owned(),
            },
            origin: "Debian:bookworm".to_owned(),
            held: false,
            automatic: false,
            state: InstallState::Installed,
        });
        Ok(packages.collect())
    }

    fn state_digest(&self, _context: &ProviderContext<'_>) -> Result<String, PluginError> {
        Ok(self.digest())
    }

    fn candidates(&self, _context: &ProviderContext<'_>, _refresh: bool) -> Result<Vec<Candidate>, PluginError> {
        let offered = self.versions().into_keys().map(|name| Candidate {
            name,
            architecture: "amd64".to_owned(),
            version: "1.0-2".to_owned(),
            source_version: "1.0-2".to_owned(),
            origin: "Files:stable".to_owned(),
            security: false,
        });
        Ok(offered.collect())
    }

    fn rehearse(
        &self,
        _context: &ProviderContext<'_>,
        job: &Job,
        refresh: bool,
    ) -> Result<RehearsalOutcome, PluginError> {
        self.refreshes.lock().unwrap().push(refresh);
        if job.wanted.is_empty() {
            return Err(PluginError::new(ErrorKind::InvalidInput, "nothing is wanted").advise("name a package"));
        }
        Ok(RehearsalOutcome::Possible { manifest: self.manifest("1.0-2"), notes: vec![] })
    }

    fn apply(&self, context: &ProviderContext<'_>, request: &StepRequest) -> Result<Applied, PluginError> {
        let (new, old) = (request.folder.join("new"), request.folder.join("old"));
        std::fs::create_dir_all(&new).unwrap();
        std::fs::create_dir_all(&old).unwrap();
        for step in &request.manifest.steps {
            let (from, to) = (step.from.clone().unwrap(), step.to.clone().unwrap());
            match request.step {
                Step::Fetch => std::fs::write(new.join(&step.file.as_ref().unwrap().name), to).unwrap(),
                Step::KeepOld => std::fs::write(old.join(&step.name), from).unwrap(),
                Step::Install => {
                    context.events.output(&format!("Setting up {} ({to}) with password=hunter2", step.name));
                    self.set(&step.name, Some(&to));
                    if *self.fails.lock().unwrap() {
                        return Err(PluginError::new(ErrorKind::Failed, "dpkg: error processing package"));
                    }
                }
            }
        }
        Ok(Applied::default())
    }

    fn undo(
        &self,
        _context: &ProviderContext<'_>,
        request: &StepRequest,
        _applied: Option<&Applied>,
    ) -> Result<Applied, PluginError> {
        if request.step == Step::Install {
            for step in &request.manifest.steps {
                let kept = std::fs::read_to_string(request.folder.join("old").join(&step.name)).unwrap();
                self.set(&step.name, Some(&kept));
            }
        }
        Ok(Applied::default())
    }

    fn verify(
        &self,
        _context: &ProviderContext<'_>,
        manifest: &Manifest,
        reverted: bool,
    ) -> Result<Vec<(PackageStep, String)>, PluginError> {
        let versions = self.versions();
        let wrong = manifest.steps.iter().filter_map(|step| {
            let wanted = if reverted { &step.from } else { &step.to };
            let found = versions.get(&step.name).cloned();
            (found != *wanted).then(|| (step.clone(), found.unwrap_or_default()))
        });
        Ok(wrong.collect())
    }

    fn recover(&self, _context: &ProviderContext<'_>) -> Result<Vec<Reason>, PluginError> {
        Ok(Vec::new())
    }

    fn set_hold(
        &self,
        _context: &ProviderContext<'_>,
        _names: &[String],
        _held: bool,
    ) -> Result<Vec<String>, PluginError> {
        Ok(Vec::new())
    }
}
