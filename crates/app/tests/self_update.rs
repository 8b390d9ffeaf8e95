//! The agent updates itself as any other package: real packages of the real program in a signed apt
//! repository, an agent that is installed in a real Debian root and kept running by the launcher of its
//! package, a real server, approved changes. The good version takes over and has checked in; each of the
//! broken ones ends with the former version running and checked in. Needs root and a Debian mirror in the
//! machine's apt sources.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

#[path = "../../vendors/tests/support/mod.rs"]
mod support;

#[path = "self_update/repository.rs"]
mod repository;
#[path = "self_update/site.rs"]
mod site;

#[path = "self_update/units.rs"]
mod units;

use repository::{REAL, install};
use serde_json::Value;
use site::{Site, until};
use std::path::PathBuf;
use std::process::Child;
use support::Host;

const STATE: &str = "/var/lib/fettle/agent";
/// In agent.toml.
const LIMIT: u64 = 12;

/// A host with the package installed, whose service manager is a loop: it starts the launcher of the
/// package again whenever the agent ends.
struct Installed {
    host: Host,
    manager: Option<Child>,
    log: PathBuf,
    _repository: support::server::Server,
}

impl Installed {
    fn new(testbed: &support::Testbed) -> Self {
        let (host, served) = repository::installed(testbed);
        std::fs::copy(host.path("/usr/bin/fettle"), host.path(REAL)).unwrap();
        host.write(&format!("{STATE}/agent.toml"), &format!("self_update_seconds = {LIMIT}\n"));
        Self { host, manager: None, log: repository::folder().join("agent.log"), _repository: served }
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
    let own = env!("CARGO_PKG_VERSION");
    let mut site = Site::start();
    let mut installed = Installed::new(testbed);
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
    let crashes = |installed: &Installed| installed.said().matches("manager: ended with 7").count();
    let before = crashes(&installed);
    let change = site.begin(&id, "0.1.8");
    until("a start of the broken version", 60, || (crashes(&installed) > before).then_some(()));
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
    install(&installed.host, "0.1.7");
    comes_back(&site, &installed, "0.1.7");
}

/// This version runs, has checked in, is installed, and nothing is on trial any more.
fn comes_back(site: &Site, installed: &Installed, version: &str) {
    until(&format!("{version} to run and check in"), 150, || {
        let host: Value = site.host();
        // The program that runs is the installed file itself, neither the kept copy nor a replaced file.
        let program = running_program(&installed.host)?;
        let settled = !installed.is_on_trial() && program == installed.host.path("/usr/bin/fettle");
        (host["agent_version"] == version && settled).then_some(())
    });
    assert_eq!(installed.host.version("fettle").as_deref(), Some(version));
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

/// What dpkg says of the package.
fn status(host: &Host) -> String {
    let output = host.command(&["/usr/bin/dpkg-query", "-W", "-f=${db:Status-Abbrev} ${Version}", "fettle"]).output();
    String::from_utf8_lossy(&output.unwrap().stdout).trim().to_owned()
}

#[test]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let Some(testbed) = support::demo() else { return };
    let (host, _served) = repository::installed(testbed);
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(status(&host), format!("ii  {own}"));
    assert_eq!(host.inside(&["/usr/bin/dpkg", "--verify", "fettle"]), "");
    for user in ["fettle-agent", "fettle-server"] {
        let line = host.inside(&["/usr/bin/getent", "passwd", user]);
        assert!(line.trim_end().ends_with("/usr/sbin/nologin"), "{line}");
    }
    let owners =
        |host: &Host| host.inside(&["/usr/bin/stat", "-c", "%a %U", STATE, "/var/lib/fettle/server", "/etc/fettle"]);
    assert_eq!(owners(&host), "755 root\n700 fettle-server\n755 root\n");
    for file in ["/lib/systemd/system/fettle-agent.service", "/usr/share/man/man1/fettle-agent-prove.1.gz"] {
        assert!(host.path(file).exists(), "{file}");
    }

    host.write(&format!("{STATE}/kept"), "identity");
    install(&host, "0.1.7");
    assert!(host.inside(&["/usr/bin/fettle", "--version"]).contains("0.1.7"));
    install(&host, own);
    // The scripts may run twice.
    host.inside(&["/usr/sbin/dpkg-reconfigure", "fettle"]);
    assert_eq!((status(&host), host.read(&format!("{STATE}/kept"))), (format!("ii  {own}"), "identity".to_owned()));

    host.inside(&["/usr/bin/apt-get", "remove", "-y", "-qq", "fettle"]);
    assert!(!host.path("/usr/bin/fettle").exists());
    assert_eq!(host.read(&format!("{STATE}/kept")), "identity", "a removal keeps what the agent knows");
    install(&host, own);
    host.inside(&["/usr/bin/apt-get", "purge", "-y", "-qq", "fettle"]);
    assert!(!host.path("/var/lib/fettle").exists() && !host.path("/etc/fettle").exists(), "a purge does not");
    install(&host, own);
    assert_eq!(owners(&host), "755 root\n700 fettle-server\n755 root\n");
}
