//! The main job, end to end, as people do it: the real binary as server, agent and command line, a
//! real Debian root with old versions and pending security updates, real apt and dpkg. On SQLite, and
//! on PostgreSQL where one is given. Needs root and a Debian mirror in the machine's apt sources.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod process;
#[path = "../../vendors/tests/support/mod.rs"]
mod support;

use process::{Running, until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use support::Host;

const PASSWORD: &str = "correct horse battery staple";
const FIXED: &str = "1.0-1+deb12u1";

/// A server with its people.
struct Site {
    folder: PathBuf,
    address: String,
    server: Option<Running>,
    database_url: Option<String>,
}

impl Site {
    fn new(folder: &Path, database_url: Option<String>) -> Self {
        let mut site = Self { folder: folder.to_path_buf(), address: String::new(), server: None, database_url };
        site.start("127.0.0.1:0");
        let announced = site.announced();
        let one_time = announced["one_time_password"].as_str().unwrap().to_owned();
        site.sign_in("admin", &one_time);
        for (name, role) in [("olga", "operator"), ("anna", "approver")] {
            let made = site.json("admin", &["user", "create", name, "--role", role]);
            site.sign_in(name, made["one_time_password"].as_str().unwrap());
        }
        site
    }

    fn start(&mut self, listen: &str) {
        let announce = self.folder.join("announce.json");
        let _ = std::fs::remove_file(&announce);
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("server.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fettle"));
        command.args(["server", "run", "--data"]).arg(self.folder.join("data")).args(["--listen", listen]);
        command.arg("--announce-file").arg(&announce);
        if let Some(url) = &self.database_url {
            command.args(["--database-url", url]);
        }
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.server = Some(Running(child));
        let announced = until("the server", 60, || {
            let text = std::fs::read_to_string(&announce).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        });
        self.address = format!("https://{}", announced["listen"].as_str().unwrap());
    }

    fn announced(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.folder.join("announce.json")).unwrap()).unwrap()
    }

    /// Stops it gracefully and starts it again on the same port.
    fn restart(&mut self) {
        let listen = self.address.trim_start_matches("https://").to_owned();
        self.server.take().unwrap().stop();
        self.start(&listen);
    }

    fn run(&self, user: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.folder.join("people").join(user))
            .env("COLUMNS", "80")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed.
    fn say(&self, user: &str, arguments: &[&str]) -> String {
        let output = self.run(user, arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{user}: fettle {}: {:?}\n{out}\n{error}", arguments.join(" "), output.status);
        out.into_owned()
    }

    /// Runs a command that must be refused with this exit code.
    fn refused(&self, user: &str, arguments: &[&str], code: i32) -> String {
        let output = self.run(user, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{user}: fettle {}: {error}", arguments.join(" "));
        error
    }

    fn json(&self, user: &str, arguments: &[&str]) -> Value {
        let mut with_form = arguments.to_vec();
        with_form.extend(["--output", "json"]);
        serde_json::from_str(&self.say(user, &with_form)).unwrap()
    }

    fn sign_in(&self, user: &str, one_time: &str) {
        let file = |name: &str, text: &str| {
            let path = self.folder.join(format!("{user}.{name}"));
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let old = file("one-time", one_time);
        let new = file("password", PASSWORD);
        let data = self.folder.join("data").display().to_string();
        self.say(
            user,
            &[
                "login",
                "--server",
                &self.address,
                "--user",
                user,
                "--password-file",
                &old,
                "--new-password-file",
                &new,
                "--data",
                &data,
            ],
        );
    }

    /// Enrols a root as a host and starts its agent.
    fn enrol(&self, name: &str, host: &Host) -> Running {
        let state = self.folder.join(name).display().to_string();
        let root = host.path("/").display().to_string();
        let line = self.say("olga", &["host", "token", "create", "--group", name, "--address", &self.address]);
        let mut words: Vec<&str> = line.split_whitespace().skip(1).collect();
        words.extend(["--state", &state, "--root", &root]);
        self.say("nobody", &words);
        let log = std::fs::File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_fettle"))
            .args(["agent", "run", "--state", &state, "--root", &root, "--check-in-seconds", "2"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Findings of one vulnerability in every state.
    fn finding(&self, vulnerability: &str, host: &str) -> Option<Value> {
        let list =
            self.json("olga", &["finding", "list", "--state", "all", "--vulnerability", vulnerability, "--host", host]);
        list["items"].as_array().unwrap().first().cloned()
    }

    fn change(&self, id: &str) -> Value {
        self.json("olga", &["change", "show", id])
    }

    fn wait_for_change(&self, id: &str, state: &str) -> Value {
        until(&format!("change {id} to be {state}"), 180, || {
            let change = self.change(id);
            let now = change["summary"]["state"].as_str().unwrap().to_owned();
            assert!(!["rejected", "superseded"].contains(&now.as_str()) || now == state, "{change:#}");
            (now == state).then_some(change)
        })
    }

    /// Proposed, approved by another person, started.
    fn approve_and_start(&self, id: &str) {
        self.approve(id);
        self.say("olga", &["change", "start", id]);
    }

    fn approve(&self, id: &str) {
        self.wait_for_change(id, "proposed");
        let refusal = self.refused("olga", &["change", "approve", id], 3);
        assert!(refusal.contains("change-approve"), "{refusal}");
        self.say("anna", &["change", "approve", id]);
    }
}

/// A person in a browser who walks every page and then follows a change live.
struct Walk(Child, std::io::BufReader<std::process::ChildStdout>);

impl Walk {
    /// Begins; returns when the browser waits on the page of the change. `None` where there is no browser.
    fn begin(site: &Site, change: &str) -> Option<Self> {
        if !Path::new("/usr/bin/chromedriver").exists() {
            println!("skipped: the walk through the pages needs Debian's chromium and chromium-driver");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbed/browser");
        let mut child = Command::new(script)
            .args([&site.address, "admin", PASSWORD])
            .arg(site.folder.join("pictures"))
            .args(["--follow", change])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert_eq!(line.trim(), "following", "the browser ended early");
        Some(Self(child, said))
    }

    fn end(mut self) {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.1, &mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
    }
}

/// A folder that stays when the test fails, so that its logs can be read.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("e2e-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("feeds")).unwrap();
    folder
}

fn versions(host: &Host) -> Vec<String> {
    ["app", "lib", "conf", "daemon"]
        .iter()
        .map(|name| host.version(&format!("fettle-demo-{name}")).unwrap_or_default())
        .collect()
}

fn id_of(value: &Value) -> String {
    value["summary"]["id"].as_str().unwrap().to_owned()
}

fn story(name: &str, database_url: Option<String>) {
    let Some(testbed) = support::demo() else { return };
    let folder = folder(name);
    let mut site = Site::new(&folder, database_url);

    // Two machines: on one the update works, on the other a package's postinst fails.
    let (good, bad) = (Host::new(testbed), Host::new(testbed));
    good.inside(&["/usr/bin/apt-get", "-y", "-qq", "remove", "fettle-demo-fail"]);
    good.write("/etc/fettle-demo/main.cfg", "listen=9090\n");
    let (_good_agent, _bad_agent) = (site.enrol("good", &good), site.enrol("bad", &bad));
    let host_of = |group: &str| {
        until("the first inventory", 60, || {
            let list = site.json("olga", &["host", "list", "--group", group, "--state", "managed"]);
            list["items"][0]["id"].as_str().map(str::to_owned)
        })
    };
    let (good_id, bad_id) = (host_of("good"), host_of("bad"));

    // Feeds: what the tracker would say of the demonstration packages, and the real sample.
    std::fs::copy(testbed.folder.join("tracker.json"), folder.join("feeds/tracker.json")).unwrap();
    for sample in ["debian-tracker.json", "epss_scores.csv", "known_exploited_vulnerabilities.json"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/feeds").join(sample);
        std::fs::copy(from, folder.join("feeds").join(sample)).unwrap();
    }
    std::fs::write(folder.join("feeds/pending.json"), pending_tracker(testbed, &folder)).unwrap();
    let feeds = folder.join("feeds").display().to_string();
    let said = site.say("olga", &["feed", "sync", "--from", &feeds]);
    assert!(said.contains("debian-tracker: loaded"), "{said}");
    let open = until("the finding", 60, || site.finding("CVE-2099-1001", &good_id));
    assert_eq!((open["state"].as_str(), open["fixed_version"].as_str()), (Some("open"), Some(FIXED)));
    let unfixed = site.finding("CVE-2099-1002", &good_id).unwrap();
    assert_eq!((unfixed["state"].as_str(), unfixed["fixed_version"].as_str()), (Some("open"), None));
    let why = site.say("olga", &["explain", open["id"].as_str().unwrap()]);
    assert!(why.contains("below") && why.contains("debian-tracker"), "{why}");

    // A change that closes it, approved by another person.
    let before = versions(&good);
    assert_eq!(before, ["1.0-1"; 4]);
    let made = site.json(
        "olga",
        &["change", "create", "--vulnerability", "CVE-2099-1001", "--host", &good_id, "--reason", "a test"],
    );
    let change = id_of(&made);
    let proposed = site.wait_for_change(&change, "proposed");
    assert_eq!(proposed["summary"]["hosts"].as_u64(), Some(1), "{proposed:#}");
    site.approve(&change);
    let browser = (name == "sqlite").then(|| Walk::begin(&site, &change)).flatten();
    site.say("olga", &["change", "start", &change]);
    site.say("olga", &["change", "watch", &change]);
    if let Some(browser) = browser {
        browser.end();
    }
    let done = site.wait_for_change(&change, "completed");
    assert_eq!(versions(&good), [FIXED; 4], "{done:#}");
    assert_eq!(good.read("/etc/fettle-demo/main.cfg"), "listen=9090\n", "the administrator's file is kept");
    until("the proof", 60, || (site.finding("CVE-2099-1001", &good_id)?["state"] == "verified").then_some(()));
    assert_eq!(site.finding("CVE-2099-1001", &bad_id).unwrap()["state"], "open", "the other host is as it was");

    let real = real_updates(&site, &good, &good_id, testbed);

    // A restart of the server loses nothing; then the change is undone without any repository.
    site.restart();
    good.server.stop();
    site.say("olga", &["change", "undo", &change, "--reason", "a test"]);
    site.wait_for_change(&change, "rolled-back");
    assert_eq!(versions(&good), before);
    if let Some((change, former)) = real {
        site.say("olga", &["change", "undo", &change]);
        site.wait_for_change(&change, "rolled-back");
        for (package, version) in former {
            assert_eq!(good.version(&package), Some(version), "{package} is back");
        }
    }
    assert_eq!(good.read("/etc/fettle-demo/main.cfg"), "listen=9090\n");
    until("the finding to be open again", 60, || {
        (site.finding("CVE-2099-1001", &good_id)?["state"] == "open").then_some(())
    });

    // A package whose postinst fails is undone by itself, and the failure is there to be read.
    let failing = site.json("olga", &["change", "create", "--package", "fettle-demo-fail", "--host", &bad_id]);
    let failing = id_of(&failing);
    site.approve_and_start(&failing);
    site.wait_for_change(&failing, "halted");
    until("the failed host to undo itself", 120, || {
        let states = site.change(&failing)["deployments"].clone();
        (states[0]["state"] == "undone").then_some(())
    });
    assert_eq!(bad.version("fettle-demo-fail").as_deref(), Some("1.0-1"));
    let audit = bad.inside(&["/usr/bin/dpkg", "--audit"]);
    assert_eq!(audit.trim(), "", "dpkg finds nothing wrong");
    let why = site.say("olga", &["explain", &failing]);
    assert!(why.contains("undone"), "{why}");

    let verdict = site.say("admin", &["audit", "verify"]);
    assert!(verdict.starts_with("intact"), "{verdict}");
    refusals(&site);
}

/// What the real pending updates' own changelogs say, in the tracker's form: which version fixed which CVE.
fn pending_tracker(testbed: &support::Testbed, folder: &Path) -> String {
    let mut tracker = serde_json::Map::new();
    let pool = testbed.folder.join("repo/pool-real");
    for entry in std::fs::read_dir(pool).into_iter().flatten() {
        let file = entry.unwrap().path();
        let tree = folder.join("changelog");
        let _ = std::fs::remove_dir_all(&tree);
        support::run(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&tree));
        let found = Command::new("find")
            .arg(tree.join("usr/share/doc"))
            .args(["-name", "changelog.Debian.gz"])
            .output()
            .unwrap();
        let Some(changelog) = String::from_utf8_lossy(&found.stdout).lines().next().map(str::to_owned) else {
            continue;
        };
        let text = Command::new("zcat").arg(&changelog).output().unwrap();
        let (mut source, mut version) = (String::new(), String::new());
        // The newest three uploads: what lies before is in the root already.
        let mut uploads = 0;
        for line in String::from_utf8_lossy(&text.stdout).lines() {
            if !line.starts_with(' ') && line.contains(" (") {
                uploads += 1;
                source = line.split(" (").next().unwrap().to_owned();
                version = line.split('(').nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default().to_owned();
            }
            if uploads > 3 {
                break;
            }
            for word in
                line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter(|word| word.starts_with("CVE-"))
            {
                let flaws = tracker.entry(source.clone()).or_insert_with(|| serde_json::json!({}));
                flaws[word] = serde_json::json!({ "scope": "remote", "releases": { "bookworm": {
                    "status": "resolved", "repositories": {}, "fixed_version": version, "urgency": "not yet assigned" } } });
            }
        }
    }
    // The feed takes a document without any package for a broken one.
    if tracker.is_empty() {
        tracker.insert(
            "fettle-demo-none".into(),
            serde_json::json!({ "CVE-2099-1999": { "releases": { "bookworm": {
            "status": "resolved", "repositories": {}, "fixed_version": "0", "urgency": "low" } } } }),
        );
    }
    Value::Object(tracker).to_string()
}

/// Real Debian security updates that are pending in the root, found by real tracker facts: installed by
/// an approved change, proved, and what the packages' former versions were. `None` where none is pending.
fn real_updates(
    site: &Site,
    host: &Host,
    id: &str,
    testbed: &support::Testbed,
) -> Option<(String, Vec<(String, String)>)> {
    let offered =
        std::fs::read_to_string(testbed.folder.join("repo/dists/real/main/binary-amd64/Packages")).unwrap_or_default();
    let list = site.json("olga", &["finding", "list", "--host", id, "--fixable", "--limit", "1000"]);
    let findings: Vec<&Value> = list["items"]
        .as_array()?
        .iter()
        .filter(|finding| {
            finding["packages"]
                .as_array()
                .unwrap()
                .iter()
                .all(|name| offered.contains(&format!("Package: {}\n", name.as_str().unwrap())))
        })
        .take(5)
        .collect();
    if findings.is_empty() {
        println!("no real security update is pending that the sample feed speaks of");
        return None;
    }
    let mut command = vec!["change", "create", "--reason", "real updates"];
    for finding in &findings {
        command.extend(["--finding", finding["id"].as_str().unwrap()]);
    }
    let change = id_of(&site.json("olga", &command));
    let former: Vec<(String, String)> = findings
        .iter()
        .flat_map(|finding| finding["packages"].as_array().unwrap())
        .map(|name| name.as_str().unwrap().to_owned())
        .filter_map(|name| host.version(&name).map(|version| (name, version)))
        .collect();
    site.approve_and_start(&change);
    site.wait_for_change(&change, "completed");
    for finding in &findings {
        until("the proof of a real update", 60, || {
            let now = site.json("olga", &["finding", "show", finding["id"].as_str().unwrap()]);
            (now["summary"]["state"] == "verified").then_some(())
        });
    }
    println!("{} real findings closed by {} packages", findings.len(), former.len());
    Some((change, former))
}

/// What is refused, each with its own clear message.
fn refusals(site: &Site) {
    let enrol = |token: &str, extra: &str| {
        let state = site.folder.join("refused").display().to_string();
        let output = site
            .run("nobody", &["agent", "enrol", "--server", &site.address, "--token", token, "--state", &state, extra]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let line = site.say("olga", &["host", "token", "create", "--address", &site.address]);
    let token = line.split_whitespace().last().unwrap().to_owned();
    let unknown = enrol(&format!("{token}x"), "--read-only");
    assert!(unknown.contains("does not know this token"), "{unknown}");
    let list = site.json("olga", &["host", "token", "list"]);
    let id = list["items"][0]["id"].as_str().unwrap();
    site.say("olga", &["host", "token", "revoke", id]);
    let used_up = enrol(&token, "--read-only");
    assert!(used_up.contains("no uses left") || used_up.contains("used up"), "{used_up}");
    let (pin, rest) = token.trim_start_matches("fettle1.").split_at(2);
    let other = enrol(&format!("fettle1.AA{rest}"), "--read-only");
    assert!(pin != "AA" && other.contains("authority"), "{other}");
}

#[test]
fn the_main_job_on_sqlite() {
    story("sqlite", None);
}

#[test]
fn the_main_job_on_postgres() {
    let Ok(server) = std::env::var("FETTLE_TEST_POSTGRES") else {
        println!("skipped: FETTLE_TEST_POSTGRES is not set (./test starts a PostgreSQL)");
        return;
    };
    let name = format!("fettle_e2e_{}", std::process::id());
    let run = |sql: &str| {
        let done = Command::new("psql").args([&server, "-q", "-c", sql]).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run(&format!("CREATE DATABASE {name}"));
    let base = server.rsplit_once('/').unwrap().0;
    story("postgres", Some(format!("{base}/{name}")));
    run(&format!("DROP DATABASE {name} WITH (FORCE)"));
}
