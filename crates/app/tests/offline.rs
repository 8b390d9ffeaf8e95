//! What works while the server is away, as people do it: the real binary on a real Debian root with
//! real apt. Plan, deploy, read the kept log, undo on the host, let the server hear of it; fetch the
//! whole log; and a machine without network that becomes a host by a file. Needs root and a Debian
//! mirror in the machine's apt sources.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod process;
#[path = "../../vendors/tests/support/mod.rs"]
mod support;

use process::Running;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::Host;

const PASSWORD: &str = "correct horse battery staple";
const FIXED: &str = "1.0-1+deb12u1";
/// What a change asks for: a newer version is offered too, outside of the security archive.
const WANTED: &str = "fettle-demo-app=1.0-1+deb12u1";
const PACKAGES: [&str; 2] = ["app", "lib"];

fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    process::until(what, 120, ask)
}

/// One administrator, who may also approve, with a server that can be away.
struct Site {
    folder: PathBuf,
    address: String,
    server: Option<Running>,
}

impl Site {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("offline");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut site = Self { folder, address: String::new(), server: None };
        site.start("127.0.0.1:0");
        let announced: Value =
            serde_json::from_slice(&std::fs::read(site.folder.join("announce.json")).unwrap()).unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(site.folder.join(name), text).unwrap();
            site.folder.join(name).display().to_string()
        };
        let (old, new) = (file("old", announced["one_time_password"].as_str().unwrap()), file("new", PASSWORD));
        let data = site.folder.join("data").display().to_string();
        let login = ["login", "--server", &site.address, "--user", "admin", "--password-file", &old];
        site.say(&[&login[..], &["--new-password-file", &new, "--data", &data]].concat());
        site
    }

    fn start(&mut self, listen: &str) {
        let announce = self.folder.join("announce.json");
        let _ = std::fs::remove_file(&announce);
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("server.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(["server", "run", "--listen", listen, "--data"])
            .arg(self.folder.join("data"))
            .arg("--announce-file")
            .arg(&announce)
            .env("FETTLE_CHANGES_REQUESTER_MAY_APPROVE", "true")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(Running(child));
        let announced: Value = until("the server", || serde_json::from_slice(&std::fs::read(&announce).ok()?).ok());
        self.address = format!("https://{}", announced["listen"].as_str().unwrap());
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.folder.join("people"))
            .env("COLUMNS", "80")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn say(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "fettle {}: {:?}\n{out}\n{error}", arguments.join(" "), output.status);
        out.into_owned()
    }

    fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "fettle {}: {error}", arguments.join(" "));
        error
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.say(&[arguments, &["--json"]].concat())).unwrap()
    }

    fn state(&self, change: &str) -> String {
        self.json(&["change", "show", change])["summary"]["state"].as_str().unwrap().to_owned()
    }
}

fn versions(host: &Host) -> Vec<String> {
    PACKAGES.iter().map(|name| host.version(&format!("fettle-demo-{name}")).unwrap_or_default()).collect()
}

/// A change of the demonstration packages, carried out by `round`.
fn deploy(site: &Site, mut round: impl FnMut()) -> (String, String) {
    let made = site.json(&["change", "create", "--package", WANTED, "--host", "island-1"]);
    let change = made["summary"]["id"].as_str().unwrap().to_owned();
    round();
    until("the plan", || (site.state(&change) == "proposed").then_some(()));
    site.say(&["change", "approve", &change]);
    site.say(&["change", "start", &change]);
    until("the rollout", || (site.state(&change) == "running").then_some(()));
    until("the deployment", || {
        round();
        (site.state(&change) == "completed").then_some(())
    });
    let path = site.json(&["change", "show", &change]);
    (change, path["plan_digest"].as_str().unwrap().to_owned())
}

#[test]
fn with_the_server_away() {
    let Some(testbed) = support::demo() else { return };
    let mut site = Site::new();
    let host = Host::new(testbed);
    host.inside(&["/usr/bin/apt-get", "-y", "-qq", "remove", "fettle-demo-fail"]);
    host.write("/etc/hostname", "island-1\n");
    let root = host.path("/").display().to_string();
    let state = site.folder.join("agent").display().to_string();
    let here = ["--state", &state, "--root", &root];

    // Before there is any agent: what would happen, and nothing does.
    let before = host.portrait(&["fettle-demo-app", "fettle-demo-lib"]);
    let plan = site.json(&["agent", "plan", WANTED, "--root", &root]);
    assert_eq!(plan["kind"], "possible", "{plan:#}");
    let steps = plan["manifest"]["steps"].as_array().unwrap().clone();
    let of = |name: &str| steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("{plan:#}"));
    assert_eq!(
        (of("fettle-demo-app")["from"].as_str(), of("fettle-demo-app")["to"].as_str()),
        (Some("1.0-1"), Some(FIXED))
    );
    let table = site.say(&["agent", "plan", WANTED, "--root", &root]);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.contains("PACKAGE") && table.contains("Nothing was changed."), "{table}");
    let security = site.json(&["agent", "plan", "--security", "--root", &root]);
    let steps_of = security["manifest"]["steps"].as_array().unwrap();
    let app = steps_of.iter().find(|step| step["name"] == "fettle-demo-app").unwrap();
    assert_eq!(app["to"], FIXED, "the newest of the security archive, not the newest of all: {security:#}");
    let wrong = site.refused(&["agent", "plan", "fettle-demo-app=9", "--root", &root], 1);
    assert!(wrong.contains("it cannot be done"), "{wrong}");
    site.refused(&["agent", "plan", "-o", "json", "--root", &root, "--", "-y"], 2);
    support::assert_same(&before, &host.portrait(&["fettle-demo-app", "fettle-demo-lib"]), &[]);

    // Enrolled, and a change is carried out; its dry run says what the plan said.
    let line = site.say(&["host", "token", "create", "--server", &site.address]);
    let enrol: Vec<&str> = line.split_whitespace().skip(1).collect();
    site.say(&[&enrol[..], &here[..]].concat());
    let once = || {
        // A change that is under way counts as done or not by the server's word, not by this exit code.
        drop(site.run(&[&["agent", "run", "--once"][..], &here[..]].concat()));
    };
    once();
    let (first, _) = deploy(&site, once);
    assert_eq!(versions(&host), [FIXED; 2]);
    let hosts = site.json(&["change", "show", &first]);
    let planned = site.json(&["agent", "status", "--state", &state]);
    let deployment = planned["deployments"][0]["deployment"].as_str().unwrap().to_owned();
    assert_eq!(planned["deployments"][0]["packages"].as_u64(), Some(steps.len() as u64), "{hosts:#}");
    assert_eq!(planned["deployments"][0]["undoable"], true);
    assert!(planned["deployments"][0]["tasks"].to_string().contains("keep-old"), "{planned:#}");

    // The server is away from here on.
    let listen = site.address.trim_start_matches("https://").to_owned();
    site.server.take();
    let log = site.say(&["agent", "log", &deployment, "--state", &state]);
    assert!(log.lines().any(|line| line.contains("install | Setting up fettle-demo-app")), "{log}");
    let lines = site.say(&["agent", "log", "--json", "--state", &state]);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert!(last["number"].as_u64().unwrap() >= 4 && last["at"].is_string(), "{last}");
    let undo = [&["agent", "undo", &deployment][..], &here[..]].concat();
    let asked = site.refused(&undo, 2);
    assert!(asked.contains("--yes"), "{asked}");
    let undone = site.say(&[&undo[..], &["--yes"]].concat());
    assert!(undone.contains("is undone, by root; the server is told when it can be reached"), "{undone}");
    assert_eq!(versions(&host), ["1.0-1"; 2]);
    assert!(site.refused(&[&undo[..], &["--yes"]].concat(), 5).contains("it is undone already"));
    let status = site.say(&["agent", "status", "--state", &state]);
    assert!(status.contains("entries wait for the server") && status.contains("does not run"), "{status}");

    // It is back, and hears of it.
    site.start(&listen);
    drop(site.run(&[&["agent", "run", "--once"][..], &here[..]].concat()));
    let told = site.json(&["deployment", "show", &deployment]);
    assert_eq!(told["summary"]["state"], "undone", "{told:#}");
    assert!(told["reasons"].to_string().contains("undone on the host by root"), "{told:#}");
    assert_eq!(told["summary"]["anomalies"], 0);

    // A running agent: it is asked, and sends the whole log when the server asks.
    let agent = Running(
        Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(["agent", "run", "--check-in-seconds", "5", "--network-user", "no-such-user"])
            .args(here)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(site.folder.join("agent.log")).unwrap())
            .spawn()
            .unwrap(),
    );
    let (second, _) = deploy(&site, || ());
    assert_eq!(versions(&host), [FIXED; 2]);
    let whole = site.say(&["change", "log", &second, "--whole"]);
    assert!(whole.lines().any(|line| line.contains("install | Setting up fettle-demo-app")), "{whole}");
    let live = site.say(&["change", "log", &second, "--host", "island-1"]);
    assert!(live.contains("Setting up fettle-demo-app"), "{live}");
    let newest = site.json(&["agent", "status", "--state", &state]);
    let newest = newest["deployments"][0]["deployment"].as_str().unwrap().to_owned();
    let asked = site.json(&[&["agent", "undo", &newest, "--yes"][..], &here[..]].concat());
    assert_eq!(
        (asked["state"].as_str(), asked["agent_process"].as_u64()),
        (Some("undone"), Some(u64::from(agent.0.id())))
    );
    assert_eq!(versions(&host), ["1.0-1"; 2]);
    drop(agent);
    let silent = site.refused(&["change", "log", &second, "--whole", "--wait", "1"], 1);
    assert!(
        silent.contains("island-1 has not answered for 1 s: it was asked at") && silent.contains("last spoke at"),
        "{silent}"
    );

    without_network(&site, testbed);
}

/// A machine that was never enrolled becomes a host by a file.
fn without_network(site: &Site, testbed: &support::Testbed) {
    let island = Host::new(testbed);
    island.write("/etc/hostname", "island-2\n");
    island.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let root = island.path("/").display().to_string();
    let file = site.folder.join("island.scan").display().to_string();
    let said = site.say(&["agent", "scan", "--out", &file, "--root", &root]);
    assert!(said.contains("not the running system"), "{said}");
    let feeds = site.folder.join("feeds");
    std::fs::create_dir_all(&feeds).unwrap();
    std::fs::copy(testbed.folder.join("tracker.json"), feeds.join("tracker.json")).unwrap();
    for sample in ["epss_scores.csv", "known_exploited_vulnerabilities.json"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/feeds").join(sample);
        std::fs::copy(from, feeds.join(sample)).unwrap();
    }
    let table = site.say(&["host", "import", &file]);
    assert!(table.starts_with("HOST      NEW  KNOWN BY  AS OF"), "{table}");
    let again = site.json(&["host", "import", &file]);
    assert_eq!(again["items"][0]["known_by"], "machine id");
    drop(site.run(&["feed", "sync", "--from", &feeds.display().to_string(), "debian-tracker"]));
    let shown = site.say(&["host", "show", "island-2"]);
    assert!(shown.contains("imported") && shown.contains("agentless: imported by admin"), "{shown}");
    let id = site.json(&["host", "show", "island-2"])["summary"]["id"].as_str().unwrap().to_owned();
    let finding = until("its finding", || {
        let list = site.json(&["finding", "list", "--vulnerability", "CVE-2099-1001", "--host", &id]);
        list["items"].as_array().unwrap().first().cloned()
    });
    let why = site.say(&["explain", finding["id"].as_str().unwrap()]);
    assert!(why.split_whitespace().collect::<Vec<_>>().join(" ").contains("imported by admin"), "{why}");
    let refused = site.refused(&["change", "create", "--vulnerability", "CVE-2099-1001", "--host", "island-2"], 5);
    assert!(refused.contains("no agent runs there"), "{refused}");
    std::fs::write(&file, b"\x1f\x8bnot gzip").unwrap();
    let broken = site.refused(&["host", "import", &file], 2);
    assert!(broken.contains("island.scan: cannot be unpacked"), "{broken}");
}
