//! Both units of the package under a real systemd.

use crate::repository;
use crate::site::until;
use crate::support;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testbed/systemd-root");

/// A machine with systemd as its first process.
struct Machine(PathBuf);

impl Machine {
    fn boot() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("systemd");
        let machine = Self(folder);
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("apt-cache");
        let mut make = Command::new(SCRIPT);
        if std::env::var_os("FETTLE_CACHE").is_none() {
            make.env("FETTLE_CACHE", cache);
        }
        support::run(make.arg("make").arg(&machine.0));
        support::run(Command::new(SCRIPT).arg("boot").arg(&machine.0));
        machine
    }

    fn try_run(&self, arguments: &[&str]) -> Output {
        Command::new(SCRIPT).arg("run").arg(&self.0).args(arguments).output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", "--property", name, "--value", unit]).trim().to_owned()
    }

    /// A line of `/proc/PID/status`.
    fn status(&self, pid: &str, name: &str) -> String {
        let text = self.run(&["cat", &format!("/proc/{pid}/status")]);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// As the server's own user, who may act as the local operator.
    fn operator(&self, arguments: &[&str]) -> String {
        let user = ["runuser", "-u", "fettle-server", "--", "env", "HOME=/tmp/operator", "/usr/bin/fettle"];
        self.run(&[&user, arguments].concat())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.try_run(&["journalctl", "--no-pager", "-n", "40", "-u", "fettle-*"]);
            eprintln!("{}", String::from_utf8_lossy(&log.stdout));
        }
        let _ = Command::new(SCRIPT).arg("stop").arg(&self.0).status();
    }
}

#[test]
fn the_units_run_under_a_real_systemd() {
    let Some(testbed) = support::demo() else { return };
    let pool = repository::repository(testbed).join("pool");
    let machine = Machine::boot();
    let package = |version: &str| {
        let name = format!("fettle_{version}_amd64.deb");
        std::fs::copy(pool.join(&name), machine.0.join("root/root").join(&name)).unwrap();
        machine.run(&["dpkg", "--force-downgrade", "--install", &format!("/root/{name}")])
    };
    package(env!("CARGO_PKG_VERSION"));
    assert_eq!(machine.property("fettle-agent", "ActiveState"), "inactive", "the package starts nothing");

    // The server, with everything closed that its unit closes.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("https://127.0.0.1:{port}");
    std::fs::write(machine.0.join("root/etc/fettle/server.env"), format!("FETTLE_LISTEN=127.0.0.1:{port}\n")).unwrap();
    machine.run(&["systemctl", "start", "fettle-server"]);
    until("the server", 60, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let server = machine.property("fettle-server", "MainPID");
    for (name, value) in [("CapBnd", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
        assert_eq!(machine.status(&server, name), value, "server: {name}");
    }
    machine.operator(&["server", "local-token", "--data", "/var/lib/fettle/server", "--server", &address]);

    // The agent: not before it is enrolled, then in two halves.
    machine.run(&["systemctl", "start", "fettle-agent"]);
    assert_eq!(machine.property("fettle-agent", "ConditionResult"), "no", "not enrolled: skipped, no failure");
    let line = machine.operator(&["host", "token", "create"]);
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    machine.run(&[&["/usr/bin/fettle"], words.as_slice()].concat());
    machine.run(&["systemctl", "start", "fettle-agent"]);
    until("a check-in", 60, || {
        let status = machine.run(&["/usr/bin/fettle", "agent", "status", "--output", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["last_contact"]["answered_at"].as_str().map(str::to_owned)
    });
    let agent = machine.property("fettle-agent", "MainPID");
    let half = machine.run(&["pgrep", "--parent", &agent, "-u", "fettle-agent"]).trim().to_owned();
    assert_eq!(machine.run(&["readlink", &format!("/proc/{agent}/exe")]).trim(), "/usr/bin/fettle", "no shell stays");
    assert_eq!(machine.status(&agent, "Seccomp"), "2");
    for (name, value) in [("CapEff", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
        assert_eq!(machine.status(&half, name), value, "network half: {name}");
    }

    // An upgrade neither stops nor restarts the agent. It sees the new program by itself and hands over:
    // still the same process for systemd.
    package("0.1.7");
    assert_eq!(machine.property("fettle-agent", "MainPID"), agent);
    until("the new version to have proved itself", 120, || {
        let log = machine.run(&["journalctl", "--no-pager", "-u", "fettle-agent"]);
        log.contains("the new version of the agent has proved itself").then_some(())
    });
    assert_eq!(machine.property("fettle-agent", "MainPID"), agent);
    assert_eq!(machine.property("fettle-agent", "NRestarts"), "0");

    // A stop ends both halves; a removal stops what runs.
    machine.run(&["systemctl", "stop", "fettle-agent"]);
    assert!(!machine.try_run(&["pgrep", "-u", "fettle-agent"]).status.success(), "the network half ended too");
    machine.run(&["systemctl", "start", "fettle-agent"]);
    machine.run(&["dpkg", "--purge", "fettle"]);
    assert!(!machine.try_run(&["pgrep", "-x", "fettle"]).status.success(), "nothing of it runs");
    assert!(!machine.0.join("root/var/lib/fettle").exists());
}
