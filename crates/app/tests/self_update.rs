//! The agent updates itself as any other package: real packages of the real program in a signed apt
//! repository, an agent that is installed in a real Debian root and kept running by the launcher of its
//! package, a real server, approved changes. The good version takes over and has checked in; each of the
//! broken ones ends with the former version running and checked in. Needs root and a Debian mirror in the
//! machine's apt sources.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

#[path = "../../vendors/tests/support/mod.rs"]
mod support;

#[path = "self_update/site.rs"]
mod site;

use serde_json::Value;
use site::{Site, until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use support::Host;

const STATE: &str = "/var/lib/fettle/agent";
/// The real program, for versions that are half broken.
const REAL: &str = "/usr/lib/fettle-real";
/// In agent.toml.
const LIMIT: u64 = 12;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The program under test without its debug symbols.
fn stripped(folder: &Path) -> Vec<u8> {
    let path = folder.join("stripped");
    support::run(Command::new("strip").arg("-o").arg(&path).arg(env!("CARGO_BIN_EXE_fettle")));
    std::fs::read(path).unwrap()
}

/// The same program with another version in all of its texts.
fn as_version(program: &[u8], version: &str) -> Vec<u8> {
    let (own, other) = (env!("CARGO_PKG_VERSION").as_bytes(), version.as_bytes());
    assert_eq!(own.len(), other.len(), "a text of the same length");
    let mut program = program.to_vec();
    let places: Vec<usize> =
        program.windows(own.len()).enumerate().filter(|(_, w)| *w == own).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        program[at..at + other.len()].copy_from_slice(other);
    }
    program
}

/// A version that does `prove` and `run` as told and everything else as the real program.
fn half_broken(version: &str, prove: &str, run: &str) -> Vec<u8> {
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in\n    --version) echo 'fettle {version}'; exit 0 ;;\n    'agent prove'*) {prove} ;;\n    \
         'agent run'*) {run} ;;\nesac\nexec {REAL} \"$@\"\n"
    );
    text.into_bytes()
}

/// A signed repository with these versions of the package `fettle`, each made by `cargo xtask package`.
fn publish(folder: &Path, testbed: &Path, versions: &[(&str, Vec<u8>)]) -> PathBuf {
    let repository = folder.join("repo");
    let pool = repository.join("pool");
    std::fs::create_dir_all(&pool).unwrap();
    for (version, program) in versions {
        let path = folder.join(format!("fettle-{version}"));
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(workspace()).args(["xtask", "package", "--version", version]);
        command.arg("--binary").arg(&path).arg("--documented-by").arg(env!("CARGO_BIN_EXE_fettle"));
        support::run(command.arg("--output").arg(&pool));
        std::fs::remove_file(path).unwrap();
    }
    let lists = repository.join("dists/own/main/binary-amd64");
    std::fs::create_dir_all(&lists).unwrap();
    let packages = support::run(Command::new("apt-ftparchive").current_dir(&repository).args(["packages", "pool"]));
    std::fs::write(lists.join("Packages"), packages.stdout).unwrap();
    let suite = repository.join("dists/own");
    let field = |name: &str, value: &str| ["-o".to_owned(), format!("APT::FTPArchive::Release::{name}={value}")];
    let fields =
        [("Origin", "Own"), ("Suite", "own"), ("Codename", "own"), ("Architectures", "amd64"), ("Components", "main")];
    let release = support::run(
        Command::new("apt-ftparchive")
            .current_dir(&suite)
            .args(fields.iter().flat_map(|(name, value)| field(name, value)))
            .args(["release", "."]),
    );
    std::fs::write(suite.join("Release"), release.stdout).unwrap();
    let sign = ["--batch", "--yes", "--quiet", "-u", "fettle-demo", "--clearsign", "-o", "InRelease", "Release"];
    support::run(Command::new("gpg").current_dir(&suite).arg("--homedir").arg(testbed.join("keys")).args(sign));
    repository
}

/// A host with the package installed, whose service manager is a loop: it starts the launcher of the
/// package again whenever the agent ends.
struct Installed {
    host: Host,
    manager: Option<Child>,
    log: PathBuf,
    _repository: support::server::Server,
}

impl Installed {
    fn new(testbed: &support::Testbed, repository: PathBuf, folder: &Path) -> Self {
        let host = Host::without_indexes(testbed);
        let served = support::server::Server::start(repository);
        for entry in std::fs::read_dir(host.path("/etc/apt/sources.list.d")).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let line =
            format!("deb [signed-by=/usr/share/keyrings/fettle-demo.gpg] http://{} own main\n", served.address());
        host.write("/etc/apt/sources.list.d/own.list", &line);
        host.inside(&["/usr/bin/apt-get", "update", "-qq"]);
        let first = format!("fettle={}", env!("CARGO_PKG_VERSION"));
        host.inside(&["/usr/bin/apt-get", "install", "-y", "-qq", &first]);
        std::fs::copy(host.path("/usr/bin/fettle"), host.path(REAL)).unwrap();
        host.write(&format!("{STATE}/agent.toml"), &format!("self_update_seconds = {LIMIT}\n"));
        Self { host, manager: None, log: folder.join("agent.log"), _repository: served }
    }

    fn start(&mut self) {
        let start = format!("/usr/libexec/fettle/start-agent --state {STATE} --check-in-seconds 5");
        let forever = format!("while :; do {start}; echo \"manager: ended with $?\" >&2; sleep 0.3; done");
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.host.command(&["/bin/sh", "-c", &forever]);
        self.manager = Some(command.stderr(log).spawn().unwrap());
    }

    /// Everything on the machine ends at once.
    fn power_cut(&mut self) {
        self.host.cut_power();
        if let Some(mut manager) = self.manager.take() {
            let _ = manager.kill();
            let _ = manager.wait();
        }
    }

    fn is_on_trial(&self) -> bool {
        self.host.path(&format!("{STATE}/trial/former")).exists()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.power_cut();
        if std::thread::panicking() {
            let said = self.said();
            eprintln!("the agent's log ends:\n{}", &said[said.len().saturating_sub(6000)..]);
        }
    }
}

#[test]
fn the_agent_updates_itself_and_comes_back_from_every_broken_version() {
    let Some(testbed) = support::demo() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("self-update");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let program = stripped(&folder);
    let own = env!("CARGO_PKG_VERSION");
    let no_network = format!("exec unshare --net {REAL} \"$@\"");
    let versions = [
        (own, program.clone()),
        ("0.1.1", b"#!/bin/sh\necho 'this version is broken' >&2\nexit 1\n".to_vec()),
        ("0.1.2", half_broken("0.1.2", "exec sleep 1000", "exec sleep 1000")),
        ("0.1.3", half_broken("0.1.3", &no_network, &no_network)),
        ("0.1.4", half_broken("0.1.4", "", "exit 7")),
        ("0.1.5", half_broken("0.1.5", "", "exec sleep 1000")),
        ("0.1.6", as_version(&program, "0.1.6")),
        ("0.1.7", as_version(&program, "0.1.7")),
        ("0.1.8", half_broken("0.1.8", "", "exit 7")),
    ];
    let repository = publish(&folder, &testbed.folder, &versions);
    let mut site = Site::start();
    let mut installed = Installed::new(testbed, repository, &folder);
    let token = site.token();
    let address = site.address();
    installed.host.inside(&["/usr/bin/fettle", "agent", "enrol", "--server", &address, "--token", &token]);
    installed.start();
    let id = until("the first inventory", 60, || {
        let host = site.host();
        (host["state"] == "managed").then(|| host["id"].as_str().unwrap().to_owned())
    });

    // Each broken version, and what is said of it.
    let broken = [
        ("0.1.1", "does not say its version"),
        ("0.1.2", "it was ended after"),
        ("0.1.3", "cannot reach the server"),
        ("0.1.4", "was started 3 times and ended each time"),
        ("0.1.5", "neither checked in nor ended"),
    ];
    for (version, why) in broken {
        let deployment = site.update(&id, version, "undone");
        let text = deployment.to_string();
        assert!(text.contains("self-update.") && text.contains(why), "{version}: {deployment:#}");
        comes_back(&site, &installed, own);
    }

    // A good one that the server never answers: the connection is cut as soon as it is on trial.
    let state = installed.host.path(STATE);
    site.cut_while(move || {
        let about = std::fs::read_to_string(state.join("trial/about")).unwrap_or_default();
        about.contains("0.1.6") && state.join("trial/former").exists()
    });
    let deployment = site.update(&id, "0.1.6", "undone");
    assert!(deployment.to_string().contains("no check-in of it was answered"), "{deployment:#}");
    comes_back(&site, &installed, own);

    // The power goes while a version that cannot run is on trial: the launcher still counts.
    let change = site.begin(&id, "0.1.8");
    until("the trial", 60, || installed.said().contains("manager: ended with 7").then_some(()));
    installed.power_cut();
    assert!(installed.is_on_trial());
    installed.start();
    let deployment = site.ended(&change, "undone");
    assert!(deployment.to_string().contains("ended each time"), "{deployment:#}");
    comes_back(&site, &installed, own);

    // The good one takes over and stays.
    let deployment = site.update(&id, "0.1.7", "succeeded");
    assert!(deployment.to_string().contains("the agent runs as 0.1.7 now and has checked in"), "{deployment:#}");
    comes_back(&site, &installed, "0.1.7");
    assert!(installed.host.inside(&["/usr/bin/fettle", "--version"]).contains("0.1.7"));

    // Its undo brings the former version back, which proves itself in its turn.
    let change = deployment["summary"]["change"].as_str().unwrap().to_owned();
    site.undo(&change);
    comes_back(&site, &installed, own);
    assert!(installed.host.inside(&["/usr/bin/fettle", "--version"]).contains(own));

    // An administrator's own update, past the agent: noticed, tried, taken over.
    installed.host.inside(&["/usr/bin/apt-get", "install", "-y", "-qq", "fettle=0.1.7"]);
    comes_back(&site, &installed, "0.1.7");
}

/// This version runs, has checked in, is installed, and nothing is on trial any more.
fn comes_back(site: &Site, installed: &Installed, version: &str) {
    until(&format!("{version} to run and check in"), 150, || {
        let host: Value = site.host();
        (host["agent_version"] == version && !installed.is_on_trial()).then_some(())
    });
    assert_eq!(installed.host.version("fettle").as_deref(), Some(version));
    // The program that runs is the installed file itself, not the kept copy.
    let link = until("the agent's process", 30, || running_program(&installed.host));
    assert_eq!(link, installed.host.path("/usr/bin/fettle"), "{version}");
}

/// The program of the process that has the agent's lock.
fn running_program(host: &Host) -> Option<PathBuf> {
    let programs = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let process = entry.path();
        let arguments = std::fs::read(process.join("cmdline")).ok()?;
        let is_run = arguments.split(|byte| *byte == 0).skip(1).take(2).eq([b"agent".as_slice(), b"run".as_slice()]);
        let root = std::fs::read_link(process.join("root")).ok()?;
        (is_run && root == host.root).then(|| std::fs::read_link(process.join("exe")).ok()).flatten()
    });
    programs.into_iter().next()
}
