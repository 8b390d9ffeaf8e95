//! Throwaway Debian hosts for the apt provider: an overlay on a real root each, a repository server that can
//! be switched off, and what the provider said.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod server;

use fettle_domain::package::{Ecosystem, InstalledPackage};
use fettle_domain::plan::{Job, Manifest, RehearsalOutcome, WantedPackage, WantedVersion};
use fettle_domain::reason::Reason;
use fettle_plugin::{
    Applied, ConffilePolicy, PluginError, Provider, ProviderContext, ProviderEvents, Step, StepRequest,
};
use fettle_vendors::debian::provider::AptProvider;
use ring::digest::{SHA256, digest};
use server::Server;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A fresh host, or the end of the test where there can be none.
#[allow(unused_macros, reason = "each test file uses its part")]
macro_rules! host {
    () => {
        match $crate::support::testbed() {
            Some(testbed) => $crate::support::Host::new(testbed),
            None => return,
        }
    };
}

/// Where roots and hosts live.
fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn workspace() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap()
}

/// A built root with its repository.
pub struct Testbed {
    pub folder: PathBuf,
    /// What stands for the server's address in the root's sources.
    placeholder: &'static str,
}

/// The big one with all the awkward packages, from the folder `shared` beside the workspace.
pub fn testbed() -> Option<&'static Testbed> {
    static BUILT: OnceLock<Option<Testbed>> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let script = workspace().join("../shared/testbed/make-apt-testbed");
            if !script.exists() {
                eprintln!(
                    "skipped: ../shared/testbed is not here; the project's own root is tested instead (tests/demo.rs)"
                );
                return None;
            }
            build(&script, "apt-testbed", "TB_CACHE", "TB_REPO_HOST")
        })
        .as_ref()
}

/// The project's own small one.
pub fn demo() -> Option<&'static Testbed> {
    static BUILT: OnceLock<Option<Testbed>> = OnceLock::new();
    BUILT
        .get_or_init(|| build(&workspace().join("testbed/make-apt-root"), "apt-demo", "FETTLE_CACHE", "FETTLE_REPO"))
        .as_ref()
}

/// Builds it once and keeps it as long as the script stays the same.
fn build(script: &Path, name: &str, cache: &str, placeholder: &'static str) -> Option<Testbed> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root (overlay, chroot, dpkg); run the tests as root to include it");
        return None;
    }
    let folder = place().join(name);
    fs::create_dir_all(&folder).unwrap();
    // Test programs may run side by side: one builds, the others wait.
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let stamp = folder.join("stamp");
    let wanted = format!("{:?}", digest(&SHA256, &fs::read(script).unwrap()));
    if fs::read_to_string(&stamp).unwrap_or_default() != wanted {
        eprintln!("building {} (about 90 s the first time)", folder.display());
        let mut command = Command::new(script);
        command.arg(&folder).stdin(Stdio::null());
        if std::env::var_os(cache).is_none() {
            command.env(cache, place().join("apt-cache"));
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} failed:\n{said}", script.display());
        fs::write(&stamp, wanted).unwrap();
    }
    Some(Testbed { folder, placeholder })
}

/// One throwaway machine with its own repository server.
pub struct Host {
    pub root: PathBuf,
    pub folder: PathBuf,
    pub server: Server,
    pub provider: AptProvider,
    pub said: Said,
    mounted: bool,
}

impl Host {
    /// A fresh machine with fetched indexes.
    pub fn new(testbed: &Testbed) -> Self {
        let host = Self::without_indexes(testbed);
        host.inside(&["/usr/bin/apt-get", "update", "-qq"]);
        host
    }

    /// A fresh machine.
    pub fn without_indexes(testbed: &Testbed) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        sweep();
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = place().join("apt-hosts").join(name);
        let (root, upper, work) = (folder.join("root"), folder.join("upper"), folder.join("work"));
        for path in [&root, &upper, &work] {
            fs::create_dir_all(path).unwrap();
        }
        let lower = testbed.folder.join("root");
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let mounted = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&root)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success();
        if !mounted {
            run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(lower.join(".")).arg(&root));
        }
        let server = Server::start(testbed.folder.join("repo"));
        let host = Self { root, folder, server, provider: AptProvider::new(), said: Said::default(), mounted };
        let sources = host.path("/etc/apt/sources.list.d");
        for entry in fs::read_dir(sources).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace(testbed.placeholder, &host.server.address())).unwrap();
        }
        host
    }

    /// A path of the machine as the test sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// A file of the machine.
    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    pub fn write(&self, inside: &str, text: &str) {
        fs::create_dir_all(self.path(inside).parent().unwrap()).unwrap();
        fs::write(self.path(inside), text).unwrap();
    }

    /// Gives the machine pseudo terminals, as every running one has.
    pub fn mount_pts(&self) {
        let pts = self.path("/dev/pts");
        fs::create_dir_all(&pts).unwrap();
        run(Command::new("mount").args(["-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts"]).arg(pts));
    }

    /// Adds a repository of small packages made on the spot, see [`package_repository`].
    pub fn add_repository(&self, packages: &[(&str, &str, &str, &[(&str, &str)])]) {
        package_repository(&self.root, &self.folder.join("tree"), packages);
        self.inside(&["/usr/bin/apt-get", "update", "-qq"]);
    }

    /// Replaces the sources by these suites.
    pub fn use_suites(&self, suites: &[&str]) {
        let list = self.path("/etc/apt/sources.list.d/testbed.list");
        let line = |suite: &&str| {
            format!(
                "deb [signed-by=/usr/share/keyrings/tb-archive.gpg] http://{} {suite} main\n",
                self.server.address()
            )
        };
        fs::write(list, suites.iter().map(line).collect::<String>()).unwrap();
    }

    /// A command of the administrator, on the machine.
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(format!("--root={}", self.root.display())).arg("--").args(argv);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
    }

    /// Runs it and wants success.
    pub fn inside(&self, argv: &[&str]) -> String {
        let output = self.command(argv).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{argv:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// Ends all that runs on this machine at once. The first process of each of its process namespaces has an
    /// `unshare` with this very root as its parent; all others end with it.
    pub fn cut_power(&self) {
        let flag = format!("--root={}", self.root.display());
        let has_flag = |pid: &str| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == flag.as_bytes())
        };
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default().trim();
            let pid = entry.file_name().to_string_lossy().parse().ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid.filter(|_| has_flag(parent)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// The context of one call: a minute, two seconds for locks.
    pub fn context(&self) -> ProviderContext<'_> {
        ProviderContext {
            root: self.root.clone(),
            events: &self.said,
            deadline: Instant::now() + Duration::from_secs(120),
            lock_patience: Duration::from_secs(2),
            limits: fettle_plugin::ResourceLimits::default(),
        }
    }

    pub fn rehearse(&self, job: &Job) -> RehearsalOutcome {
        self.provider.rehearse(&self.context(), job, false).unwrap()
    }

    /// The manifest of a job that must be possible.
    pub fn manifest(&self, job: &Job) -> (Manifest, Vec<Reason>) {
        match self.rehearse(job) {
            RehearsalOutcome::Possible { manifest, notes } => (manifest, notes),
            other => panic!("not possible: {other:?}"),
        }
    }

    /// The reasons of a job that must not be possible.
    pub fn impossible(&self, job: &Job) -> Vec<Reason> {
        match self.rehearse(job) {
            RehearsalOutcome::Impossible { reasons } => reasons,
            other => panic!("should be impossible: {other:?}"),
        }
    }

    pub fn request(&self, step: Step, manifest: &Manifest) -> StepRequest {
        StepRequest {
            step,
            manifest: manifest.clone(),
            folder: self.folder.join("deployment"),
            conffiles: ConffilePolicy::Keep,
        }
    }

    pub fn apply(&self, step: Step, manifest: &Manifest) -> Result<Applied, PluginError> {
        self.provider.apply(&self.context(), &self.request(step, manifest))
    }

    /// Fetch and keep, which must work.
    pub fn prepare(&self, manifest: &Manifest) -> Vec<Reason> {
        let mut notes = self.apply(Step::Fetch, manifest).unwrap().notes;
        notes.extend(self.apply(Step::KeepOld, manifest).unwrap().notes);
        notes
    }

    /// Fetch, keep, install; all must work.
    pub fn deploy(&self, manifest: &Manifest) -> Vec<Reason> {
        let mut notes = self.prepare(manifest);
        notes.extend(self.apply(Step::Install, manifest).unwrap().notes);
        assert!(self.provider.verify(&self.context(), manifest, false).unwrap().is_empty());
        notes
    }

    pub fn undo(&self, manifest: &Manifest) -> Result<Applied, PluginError> {
        self.provider.undo(&self.context(), &self.request(Step::Install, manifest), None)
    }

    pub fn inventory(&self) -> Vec<InstalledPackage> {
        self.provider.inventory(&self.context()).unwrap()
    }

    pub fn version(&self, name: &str) -> Option<String> {
        self.inventory().into_iter().find(|found| found.package.name == name).map(|found| found.package.version)
    }

    /// Whatever an undo must bring back: packages, marks, holds, and every file of the named packages with
    /// content, owner and mode.
    pub fn portrait(&self, packages: &[&str]) -> BTreeMap<String, String> {
        let mut portrait = BTreeMap::new();
        for found in self.inventory() {
            let p = &found.package;
            let text = format!("{} held={} automatic={} {:?}", p.version, found.held, found.automatic, found.state);
            portrait.insert(format!("package {}:{}", p.name, p.architecture), text);
        }
        for name in packages {
            let Ok(list) = fs::read_to_string(self.path(&format!("/var/lib/dpkg/info/{name}.list"))) else { continue };
            for line in list.lines().skip(1) {
                let path = self.path(line);
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                let mut text = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
                if meta.is_file() {
                    text += &format!(" {:?}", digest(&SHA256, &fs::read(&path).unwrap()));
                }
                portrait.insert(format!("file {line}"), text);
            }
        }
        portrait
    }
}

/// Maintainer scripts of a package made on the spot.
const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

/// Puts a repository of small packages into a root, trusted as it is: name, version, more fields of the control
/// file, and files (path and content; those under `/etc` are conffiles, `postinst` and its kin are scripts).
pub fn package_repository(root: &Path, tree: &Path, packages: &[(&str, &str, &str, &[(&str, &str)])]) {
    let folder = root.join("srv/own");
    fs::create_dir_all(&folder).unwrap();
    let mut index = String::new();
    for (name, version, fields, files) in packages {
        let _ = fs::remove_dir_all(tree);
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@t.invalid>\n{fields}Description: t\n"
        );
        fs::write(tree.join("DEBIAN/control"), &control).unwrap();
        let mut conffiles = String::new();
        for (path, text) in *files {
            let is_script = SCRIPTS.contains(path);
            let target =
                if is_script { tree.join("DEBIAN").join(path) } else { tree.join(path.trim_start_matches('/')) };
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(&target, text).unwrap();
            let mode = if is_script { 0o755 } else { 0o644 };
            fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            if path.starts_with("/etc/") {
                conffiles += &format!("{path}\n");
            }
        }
        fs::write(tree.join("DEBIAN/conffiles"), conffiles).unwrap();
        let file = format!("{name}_{version}_all.deb");
        run(Command::new("dpkg-deb")
            .args(["-Zgzip", "--root-owner-group", "--build"])
            .arg(tree)
            .arg(folder.join(&file)));
        let bytes = fs::read(folder.join(&file)).unwrap();
        let hash: String = digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        index += &format!("{control}Filename: ./{file}\nSize: {}\nSHA256: {hash}\n\n", bytes.len());
    }
    fs::write(folder.join("Packages"), index).unwrap();
    fs::write(root.join("etc/apt/sources.list.d/own.list"), "deb [trusted=yes] file:/srv/own ./\n").unwrap();
}

impl Drop for Host {
    fn drop(&mut self) {
        tear_down(&self.folder, self.mounted);
    }
}

fn tear_down(folder: &Path, mounted: bool) {
    if mounted {
        let _ = Command::new("umount").args(["-l", "-R"]).arg(folder.join("root")).stderr(Stdio::null()).status();
    }
    let _ = fs::remove_dir_all(folder);
}

/// Removes what killed test runs left.
fn sweep() {
    for entry in fs::read_dir(place().join("apt-hosts")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('-').next().unwrap_or_default();
        if !Path::new(&format!("/proc/{pid}")).exists() {
            tear_down(&entry.path(), true);
        }
    }
}

/// What the provider said.
#[derive(Default)]
pub struct Said {
    pub lines: Mutex<Vec<String>>,
    pub progress: Mutex<Vec<(u8, String)>>,
    pub stop: AtomicBool,
}

impl Said {
    pub fn contains(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|line| line.contains(text))
    }
}

impl ProviderEvents for Said {
    fn output(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }
    fn progress(&self, percent: u8, what: &str) {
        self.progress.lock().unwrap().push((percent, what.to_owned()));
    }
    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Waits for a condition, with a limit.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < until, "waited too long for {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

pub fn job(wanted: &[WantedPackage]) -> Job {
    Job { ecosystem: Ecosystem::Debian, wanted: wanted.to_vec(), allow_removals: false }
}

pub fn candidate(name: &str) -> WantedPackage {
    WantedPackage { name: name.into(), version: WantedVersion::Candidate }
}

pub fn exactly(name: &str, version: &str) -> WantedPackage {
    WantedPackage { name: name.into(), version: WantedVersion::Exactly { version: version.into() } }
}

pub fn at_least(name: &str, version: &str) -> WantedPackage {
    WantedPackage { name: name.into(), version: WantedVersion::SourceAtLeast { version: version.into() } }
}

/// `name from -> to`, one line a step.
pub fn shown(manifest: &Manifest) -> String {
    let line = |step: &fettle_domain::plan::PackageStep| {
        let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".into());
        format!(
            "{} {} -> {}{}",
            step.name,
            version(&step.from),
            version(&step.to),
            if step.asked { "" } else { " (comes along)" }
        )
    };
    manifest.steps.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub fn topics(reasons: &[Reason]) -> Vec<&str> {
    reasons.iter().map(|reason| reason.topic.as_str()).collect()
}

pub fn has(reasons: &[Reason], topic: &str, text: &str) -> bool {
    reasons.iter().any(|reason| reason.topic == topic && reason.text.contains(text))
}

/// Compares two portraits and names the first differences.
pub fn assert_same(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, notes: &[Reason]) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let different: Vec<String> = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| format!("{key}: {:?} -> {:?}", before.get(key), after.get(key)))
        .take(10)
        .collect();
    assert!(different.is_empty(), "{different:#?}\nnotes: {notes:?}");
}
