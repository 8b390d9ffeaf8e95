//! Test bench: a host in a folder, a package manager over plain files that fails or dies where it is
//! told, a simulated system around it, and a power supply that goes at any write.

use super::desk::{Desk, Rights};
use super::engine::{Ended, Engine, EngineError, Host};
use super::needrestart::NeedRestart;
use super::probe::{Origin, Watched};
use super::system::System;
use super::tasks::Limits;
use crate::clock::{self, Stop};
use crate::disk::StateDir;
use crate::disk::log::Fuse;
use crate::facts::PackageSummary;
use crate::report::Spool;
use crate::services::{Holder, Use, UsedFile};
use fettle_content::{PublicKey, SigningKey, sha256_hex};
use fettle_domain::health::{HealthCheck, Seen};
use fettle_domain::host::Kernel;
use fettle_domain::machine::{DeploymentEvent, DeploymentState};
use fettle_domain::package::{Ecosystem, InstallState, InstalledPackage, PackageVersion};
use fettle_domain::plan::{Job, Manifest, PackageFile, PackageStep, RebootPolicy, RehearsalOutcome};
use fettle_domain::reason::Reason;
use fettle_domain::{ChangeId, DeploymentId, HostId, PlanId, Timestamp};
use fettle_plugin::{
    Applied, Candidate, ErrorKind, Manifest as PluginManifest, Plugin, PluginError, Provider, ProviderContext, Step,
    StepRequest,
};
use fettle_wire::agent::{ReportBody, Service};
use fettle_wire::offer::{Approval, Envelope, EnvelopeSignature, OFFER_TYPE, Offer, OfferAction};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The server's hand.
pub(crate) struct Signer(SigningKey);

impl Default for Signer {
    fn default() -> Self {
        Self(SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap())
    }
}

impl Signer {
    pub(crate) fn public(&self) -> PublicKey {
        self.0.public()
    }

    pub(crate) fn sign(&self, offer: &Offer) -> Envelope {
        let signed = fettle_content::sign(&self.0, OFFER_TYPE, &serde_json::to_vec(offer).unwrap());
        Envelope {
            payload_type: OFFER_TYPE.to_owned(),
            payload: signed.payload,
            signatures: vec![EnvelopeSignature { keyid: signed.key_id, sig: signed.signature }],
        }
    }
}

/// The versions before and after.
pub(crate) const BEFORE: [(&str, &str); 3] = [("app", "1.0-1"), ("lib", "1.0-1"), ("old", "1.0-1")];
pub(crate) const AFTER: [(&str, &str); 3] = [("app", "1.0-2"), ("lib", "1.0-2"), ("new", "1.0-2")];

/// An order whose window is around `now`.
pub(crate) fn offer(action: OfferAction, now: Timestamp, sequence: u64) -> Offer {
    let hour = Duration::from_secs(3600);
    let earlier = Timestamp::from_unix_millis(now.unix_millis() - 60_000);
    Offer {
        action,
        deployment: DeploymentId::new(1, [1; 10]),
        host: HostId::new(1, [2; 10]),
        change: ChangeId::new(1, [3; 10]),
        plan: PlanId::new(1, [4; 10]),
        plan_digest: "0".repeat(64),
        approvals: vec![Approval { by: "ann".to_owned(), at: earlier }],
        manifest: manifest(),
        restart_services: true,
        reboot: RebootPolicy::Never,
        checks: Vec::new(),
        window_start: earlier,
        window_end: now.after(hour),
        expires: now.after(2 * hour),
        issued_at: earlier,
        sequence,
    }
}

fn bytes_of(name: &str, version: &str) -> Vec<u8> {
    format!("package {name} {version}").into_bytes()
}

fn manifest() -> Manifest {
    let step = |name: &str, from: Option<&str>, to: Option<&str>| PackageStep {
        name: name.to_owned(),
        architecture: "amd64".to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        asked: name == "app",
        file: to.map(|to| PackageFile {
            name: format!("{name}_{to}_amd64.deb"),
            uri: String::new(),
            size: bytes_of(name, to).len() as u64,
            sha256: sha256_hex(&bytes_of(name, to)),
        }),
    };
    Manifest {
        ecosystem: Ecosystem::Debian,
        steps: vec![
            step("app", Some("1.0-1"), Some("1.0-2")),
            step("lib", Some("1.0-1"), Some("1.0-2")),
            step("new", None, Some("1.0-2")),
            step("old", Some("1.0-1"), None),
        ],
        base_digest: digest(&BEFORE.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()),
        download_bytes: 100,
        disk_bytes: 0,
    }
}

fn digest(versions: &BTreeMap<String, String>) -> String {
    sha256_hex(format!("{versions:?}").as_bytes())
}

/// Which call of the package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Do(Step),
    Undo(Step),
}

/// What goes wrong in it, after so many of its packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It answers with an error.
    Error(usize),
    /// The power goes.
    Death(usize),
    /// It says all is well.
    Silent(usize),
}

/// A package manager over plain files: `db/NAME` holds the installed version.
pub(crate) struct FileProvider {
    root: PathBuf,
    fuse: Fuse,
    pub(crate) fault: Mutex<Option<(Call, Fault)>>,
    pub(crate) tampered: Mutex<bool>,
    /// How often the mirror is still away.
    pub(crate) away: Mutex<u32>,
    pub(crate) commands: Mutex<&'static [&'static str]>,
}

impl FileProvider {
    fn db(&self, name: &str) -> PathBuf {
        self.root.join("db").join(name)
    }

    pub(crate) fn versions(&self) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(self.root.join("db")).unwrap();
        entries
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect()
    }

    pub(crate) fn set(&self, name: &str, version: Option<&str>) {
        match version {
            Some(version) => std::fs::write(self.db(name), version).unwrap(),
            None => {
                let _ = std::fs::remove_file(self.db(name));
            }
        }
    }

    /// Runs one act a package, up to the fault.
    fn each(
        &self,
        call: Call,
        request: &StepRequest,
        act: impl Fn(&PackageStep) -> Result<(), PluginError>,
    ) -> Result<Applied, PluginError> {
        self.alive()?;
        let fault = (*self.fault.lock().unwrap()).filter(|(at, _)| *at == call).map(|(_, fault)| fault);
        let limit = match fault {
            Some(Fault::Error(limit) | Fault::Death(limit) | Fault::Silent(limit)) => limit,
            None => usize::MAX,
        };
        for step in request.manifest.steps.iter().take(limit) {
            act(step)?;
        }
        match fault {
            Some(Fault::Error(_)) => {
                Err(PluginError::new(ErrorKind::Failed, format!("{call:?} failed")).caused_by("dpkg: error"))
            }
            Some(Fault::Death(_)) => {
                *self.fault.lock().unwrap() = None;
                self.fuse.blow();
                Err(PluginError::new(ErrorKind::Failed, "died"))
            }
            _ => Ok(Applied { data: serde_json::json!({ "done": true }), notes: vec![] }),
        }
    }

    fn alive(&self) -> Result<(), PluginError> {
        if self.fuse.is_blown() { Err(PluginError::new(ErrorKind::Failed, "no power")) } else { Ok(()) }
    }
}

impl Plugin for FileProvider {
    fn manifest(&self) -> PluginManifest {
        PluginManifest {
            commands: self.commands.lock().unwrap().iter().map(|command| (*command).to_owned()).collect(),
            ..PluginManifest::new("files", "packages as plain files")
        }
    }
}

impl Provider for FileProvider {
    fn ecosystem(&self) -> Ecosystem {
        Ecosystem::Debian
    }

    fn inventory(&self, _context: &ProviderContext<'_>) -> Result<Vec<InstalledPackage>, PluginError> {
        self.alive()?;
        let packages = self.versions().into_iter().map(|(name, version)| InstalledPackage {
            package: PackageVersion {
                ecosystem: Ecosystem::Debian,
                source: name.clone(),
                source_version: version.clone(),
                name,
                version,
                architecture: "amd64".to_owned(),
            },
            origin: String::new(),
            held: false,
            automatic: false,
            state: InstallState::Installed,
        });
        Ok(packages.collect())
    }

    fn state_digest(&self, _context: &ProviderContext<'_>) -> Result<String, PluginError> {
        self.alive()?;
        Ok(digest(&self.versions()))
    }

    fn candidates(&self, _context: &ProviderContext<'_>, _refresh: bool) -> Result<Vec<Candidate>, PluginError> {
        Ok(Vec::new())
    }

    fn rehearse(
        &self,
        _context: &ProviderContext<'_>,
        _job: &Job,
        _refresh: bool,
    ) -> Result<RehearsalOutcome, PluginError> {
        Ok(RehearsalOutcome::Possible { manifest: manifest(), notes: vec![] })
    }

    fn apply(&self, context: &ProviderContext<'_>, request: &StepRequest) -> Result<Applied, PluginError> {
        let failed = |error: std::io::Error| PluginError::new(ErrorKind::Failed, error.to_string());
        {
            let mut away = self.away.lock().unwrap();
            if request.step == Step::Fetch && *away > 0 {
                *away -= 1;
                return Err(PluginError::new(ErrorKind::Unavailable, "the mirror is away"));
            }
        }
        self.each(Call::Do(request.step), request, |step| match request.step {
            Step::Fetch => {
                let Some(file) = &step.file else { return Ok(()) };
                let mut bytes = bytes_of(&step.name, step.to.as_deref().unwrap_or_default());
                if *self.tampered.lock().unwrap() {
                    bytes[0] ^= 1;
                }
                std::fs::create_dir_all(request.folder.join("new")).map_err(failed)?;
                std::fs::write(request.folder.join("new").join(&file.name), bytes).map_err(failed)
            }
            Step::KeepOld => {
                std::fs::create_dir_all(request.folder.join("old")).map_err(failed)?;
                match &step.from {
                    Some(from) => std::fs::write(request.folder.join("old").join(&step.name), from).map_err(failed),
                    None => Ok(()),
                }
            }
            Step::Install => {
                context.events.output(&format!("Setting up {} ...", step.name));
                self.set(&step.name, step.to.as_deref());
                Ok(())
            }
        })
    }

    fn undo(
        &self,
        _context: &ProviderContext<'_>,
        request: &StepRequest,
        _applied: Option<&Applied>,
    ) -> Result<Applied, PluginError> {
        let folder = |name: &str| request.folder.join(name);
        self.each(Call::Undo(request.step), request, |step| {
            match request.step {
                Step::Fetch => drop(std::fs::remove_dir_all(folder("new"))),
                Step::KeepOld => drop(std::fs::remove_dir_all(folder("old"))),
                Step::Install => {
                    let kept = std::fs::read_to_string(folder("old").join(&step.name)).ok();
                    if kept != step.from {
                        return Err(PluginError::new(ErrorKind::Failed, format!("{} was not kept", step.name)));
                    }
                    self.set(&step.name, step.from.as_deref());
                }
            }
            Ok(())
        })
    }

    fn verify(
        &self,
        _context: &ProviderContext<'_>,
        manifest: &Manifest,
        reverted: bool,
    ) -> Result<Vec<(PackageStep, String)>, PluginError> {
        self.alive()?;
        let versions = self.versions();
        let wrong = manifest.steps.iter().filter_map(|step| {
            let wanted = if reverted { &step.from } else { &step.to };
            let found = versions.get(&step.name);
            (found != wanted.as_ref()).then(|| (step.clone(), found.cloned().unwrap_or_else(|| "absent".to_owned())))
        });
        Ok(wrong.collect())
    }

    fn recover(&self, _context: &ProviderContext<'_>) -> Result<Vec<Reason>, PluginError> {
        self.alive()?;
        Ok(vec![Reason::new("apt.recovered", "finished what was interrupted")])
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

/// The rest of the host, in memory.
#[derive(Default)]
pub(crate) struct SimulatedHost {
    pub(crate) sim: Mutex<Sim>,
    fuse: Fuse,
    root: PathBuf,
}

#[derive(Default)]
pub(crate) struct Sim {
    pub(crate) boots: u32,
    pub(crate) restarts: Vec<String>,
    pub(crate) restart_fails: bool,
    pub(crate) reboot_needed: bool,
    /// The host never comes to reboot.
    pub(crate) reboot_ignored: bool,
    /// The service does not come up with the new version (from this boot on).
    pub(crate) breaks_from_boot: Option<u32>,
    /// The service still runs with the version it was started with.
    started_with: Option<String>,
    /// What a look finds: the check, the installed version of the app, the number of boots.
    pub(crate) look: Option<Box<dyn FnMut(&HealthCheck, &str, u32) -> Seen + Send>>,
    /// Others that use replaced files, always.
    pub(crate) also_uses: Vec<Use>,
    pub(crate) needrestart: Option<NeedRestart>,
    /// The kernel that runs, by boots; the newest installed one is `KERNEL`.
    pub(crate) kernels: Vec<&'static str>,
}

/// Newest installed kernel of the simulated host.
pub(crate) const KERNEL: &str = "6.1.0-20-amd64";

impl SimulatedHost {
    fn app(&self) -> String {
        std::fs::read_to_string(self.root.join("db/app")).unwrap_or_default()
    }
}

impl System for SimulatedHost {
    fn boot_id(&self) -> String {
        format!("boot-{}", self.sim.lock().unwrap().boots)
    }

    fn services(&self) -> Vec<Service> {
        let app = self.app();
        let mut sim = self.sim.lock().unwrap();
        let started = sim.started_with.get_or_insert_with(|| app.clone()).clone();
        let broken = app == "1.0-2" && sim.breaks_from_boot.is_some_and(|boot| boot <= sim.boots);
        let service = Service {
            unit: "app.service".to_owned(),
            executable: "/usr/sbin/app".to_owned(),
            package: "app".to_owned(),
            listens: vec!["tcp 0.0.0.0:80".to_owned()],
            restart_pending: started != app,
            outdated_packages: Vec::new(),
        };
        if broken { Vec::new() } else { vec![service] }
    }

    fn why_failed(&self, _unit: &str) -> Option<String> {
        Some("no process of it runs".to_owned())
    }

    fn may_restart(&self) -> Result<(), String> {
        Ok(())
    }

    fn restart(&self, unit: &str) -> Result<(), String> {
        let app = self.app();
        let mut sim = self.sim.lock().unwrap();
        if sim.restart_fails && app == "1.0-2" {
            return Err("Job for app.service failed".to_owned());
        }
        sim.restarts.push(unit.to_owned());
        sim.started_with = Some(app);
        Ok(())
    }

    fn reboot_reasons(&self, _packages: &PackageSummary) -> Vec<String> {
        let sim = self.sim.lock().unwrap();
        if sim.reboot_needed && sim.boots == 0 { vec!["kernel 2 is installed, 1 runs".to_owned()] } else { Vec::new() }
    }

    fn may_reboot(&self) -> Result<(), String> {
        Ok(())
    }

    fn reboot(&self) -> Result<(), String> {
        let mut sim = self.sim.lock().unwrap();
        if !sim.reboot_ignored {
            sim.boots += 1;
            sim.started_with = None;
            self.fuse.blow();
        }
        Ok(())
    }

    fn free_bytes(&self, _path: &Path) -> Option<u64> {
        None
    }

    fn first_ephemeral_port(&self) -> u16 {
        32_768
    }

    fn watch(&self, offered: &[HealthCheck]) -> Result<Vec<Watched>, Vec<Reason>> {
        let refused = offered.iter().filter(|check| check.probe.kind() == "command");
        let reasons: Vec<Reason> = refused
            .map(|check| Reason::new("health.refused", format!("`{}` is not carried out", check.name)))
            .collect();
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let watched = offered.iter().map(|check| Watched {
            check: check.clone(),
            origin: Origin::Change,
            mark: None,
            before: None,
        });
        Ok(watched.collect())
    }

    fn look(&self, watched: &Watched) -> Seen {
        let app = self.app();
        let mut sim = self.sim.lock().unwrap();
        let boots = sim.boots;
        match &mut sim.look {
            Some(look) => look(&watched.check, &app, boots),
            None => Seen::holds("as simulated"),
        }
    }

    fn uses_replaced(&self) -> Vec<Use> {
        let services = self.services();
        let sim = self.sim.lock().unwrap();
        let pending = services.into_iter().filter(|service| service.restart_pending);
        let uses = pending.map(|service| Use {
            unit: service.unit,
            holder: Holder::Unit,
            executable: service.executable,
            files: vec![UsedFile { path: "/usr/sbin/app".to_owned(), package: "app".to_owned() }],
            own: false,
        });
        uses.chain(sim.also_uses.iter().cloned()).collect()
    }

    fn needrestart(&self) -> Option<NeedRestart> {
        self.sim.lock().unwrap().needrestart.clone()
    }

    fn kernel(&self, _packages: &PackageSummary) -> Kernel {
        let sim = self.sim.lock().unwrap();
        let Some(runs) = sim.kernels.get(sim.boots as usize) else { return Kernel::default() };
        Kernel {
            running_release: (*runs).to_owned(),
            running_version: format!("of {runs}"),
            newest_installed_release: KERNEL.to_owned(),
            newest_installed_version: format!("of {KERNEL}"),
        }
    }
}

/// A host in a folder that can be killed and started again.
pub(crate) struct Bench {
    _folder: tempfile::TempDir,
    pub(crate) state: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) provider: Arc<FileProvider>,
    pub(crate) system: Arc<SimulatedHost>,
    pub(crate) fuse: Fuse,
    pub(crate) signer: Signer,
    pub(crate) limits: Limits,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (state, root) = (folder.path().join("state"), folder.path().join("root"));
        std::fs::create_dir_all(root.join("db")).unwrap();
        let fuse = Fuse::default();
        let provider = FileProvider {
            root: root.clone(),
            fuse: fuse.clone(),
            fault: Mutex::new(None),
            tampered: Mutex::new(false),
            away: Mutex::new(0),
            commands: Mutex::new(&[]),
        };
        for (name, version) in BEFORE {
            provider.set(name, Some(version));
        }
        let system = SimulatedHost { sim: Mutex::default(), fuse: fuse.clone(), root: root.clone() };
        let limits = Limits {
            health_before: Duration::from_millis(5),
            health: Duration::from_millis(20),
            health_after_reboot: Duration::from_millis(20),
            pause: Duration::from_millis(1),
            reboot: Duration::from_secs(60),
        };
        Self {
            _folder: folder,
            state,
            root,
            provider: Arc::new(provider),
            system: Arc::new(system),
            fuse,
            signer: Signer::default(),
            limits,
        }
    }

    pub(crate) fn offer(&self, action: OfferAction, sequence: u64) -> Offer {
        offer(action, clock::now(), sequence)
    }

    /// One life of the agent.
    pub(crate) fn host(&self) -> Host {
        let state = StateDir::open(&self.state).unwrap();
        let mut spool = Spool::open(&state.spool()).unwrap();
        spool.set_fuse(Some(self.fuse.clone()));
        Host {
            root: self.root.clone(),
            providers: vec![self.provider.clone()],
            system: self.system.clone(),
            spool: Arc::new(Mutex::new(spool)),
            policy: crate::policy::Policy::default(),
            stop: Stop::default(),
            limits: self.limits,
            masks: Arc::default(),
            running: Mutex::new(None),
            state,
        }
    }

    pub(crate) fn desk(&self, host: &Host) -> Desk {
        Desk::open(host, self.offer(OfferAction::Deploy, 1).host, vec![self.signer.public()], Rights { why_not: None })
            .unwrap()
    }

    /// Accepts the order, unless an earlier life did, and carries it on. `Err` is death.
    pub(crate) fn live(&self, order: &Offer) -> Result<Ended, EngineError> {
        let host = self.host();
        let mut engine = match Engine::open_with(&host, order.deployment, Some(self.fuse.clone()))? {
            Some(engine) => engine,
            None => Engine::create_with(&host, order.clone(), Some(self.fuse.clone()))?,
        };
        engine.run()
    }

    /// Power on, again and again, until it settles.
    pub(crate) fn survive(&self, order: &Offer) -> DeploymentState {
        for _ in 0..10 {
            self.fuse.set(None);
            match self.live(order) {
                Ok(Ended::Settled(state)) => return state,
                Ok(_) | Err(EngineError::Log(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it does not settle");
    }

    pub(crate) fn is(&self, versions: [(&str, &str); 3]) -> bool {
        let wanted: BTreeMap<String, String> =
            versions.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
        self.provider.versions() == wanted
    }

    /// Puts the fetched files where they were before the end tidied them away.
    pub(crate) fn fetch_again(&self) {
        let folder = self.folder().join("new");
        std::fs::create_dir_all(&folder).unwrap();
        for step in manifest().steps {
            if let (Some(file), Some(to)) = (step.file, step.to) {
                std::fs::write(folder.join(file.name), bytes_of(&step.name, &to)).unwrap();
            }
        }
    }

    /// What the server was told, in order.
    pub(crate) fn told(&self) -> Vec<ReportBody> {
        let mut spool = Spool::open(&self.state.join("spool")).unwrap();
        let mut bodies = Vec::new();
        loop {
            let batch = spool.batch().unwrap();
            let Some(last) = batch.last().map(|entry| entry.sequence) else { return bodies };
            bodies.extend(batch.into_iter().map(|entry| entry.body));
            spool.acknowledge(last).unwrap();
        }
    }

    /// The events of the deployment that the server was told.
    pub(crate) fn told_events(&self) -> Vec<DeploymentEvent> {
        let events = self.told().into_iter().filter_map(|body| match body {
            ReportBody::Deployment { event, .. } => Some(event),
            _ => None,
        });
        events.collect()
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.state.join("deployments").join(self.offer(OfferAction::Deploy, 1).deployment.to_string())
    }
}
