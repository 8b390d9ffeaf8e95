//! A change on a small machine of its own that is alive: a real Debian root in namespaces with its own
//! network and process ids, a daemon whose program is replaced while it runs, a web server that a check
//! asks, and a reboot. The real binary is server, agent and command line. Needs root, and the machines
//! of `../shared/testbed`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod process;
#[path = "../../vendors/tests/support/mod.rs"]
mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const FETTLE: &str = env!("CARGO_BIN_EXE_fettle");
const PASSWORD: &str = "correct horse battery staple";
const FIXED: &str = "1.0-1+deb12u1";

/// The daemon as an old system starts it.
const SCRIPT: &str = r#"#!/bin/sh
### BEGIN INIT INFO
# Provides: NAME
### END INIT INFO
case $1 in
start) /usr/sbin/NAME infinity </dev/null >/dev/null 2>&1 & echo $! >/run/NAME.pid;;
stop) kill "$(cat /run/NAME.pid)"; while kill -0 "$(cat /run/NAME.pid)" 2>/dev/null; do :; done;;
restart) "$0" stop; "$0" start;;
esac
"#;

/// A web server that answers with the version that is installed, in perl as every Debian has it.
const SHOP: &str = r#"
use IO::Socket::INET;
$SIG{CHLD} = "IGNORE";
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1:8080", Listen => 5, ReuseAddr => 1) or die;
while (my $client = $server->accept) {
    my $request = <$client>;
    while (defined(my $line = <$client>)) { last if $line =~ /^\r?\n$/ }
    my $version = `dpkg-query -W -f '\${Version}' fettle-demo-app`;
    my $body = "shop with app $version;\n";
    print $client "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
    close $client;
}
"#;

fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    process::until(what, 180, ask)
}

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network of its own with the server in it and one machine.
struct Lab {
    name: String,
    subnet: String,
    folder: PathBuf,
    servers: Vec<Running>,
}

impl Lab {
    fn new(testbed: &support::Testbed) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("health");
        let _ = std::fs::remove_dir_all(&folder);
        let name = format!("f{}", std::process::id());
        let mut lab = Self { subnet: format!("10.79.{}", std::process::id() % 250), name, folder, servers: Vec::new() };
        let share = lab.folder.join("machines").join(&lab.name).join("h1/share");
        std::fs::create_dir_all(&share).unwrap();
        if std::fs::hard_link(FETTLE, share.join("fettle")).is_err() {
            std::fs::copy(FETTLE, share.join("fettle")).unwrap();
        }
        lab.hostbox(&["lab-up", &lab.name, &lab.subnet]);
        let repository = testbed.folder.join("repo").display().to_string();
        let serve = ["python3", "-m", "http.server", "80", "--bind", &lab.gate(), "-d", &repository].map(str::to_owned);
        lab.serve("repository", &serve);
        let data = lab.folder.join("data").display().to_string();
        let announce = lab.folder.join("announce.json").display().to_string();
        let listen = format!("{}:8443", lab.gate());
        let serve = [FETTLE, "server", "run", "--data", &data, "--listen", &listen, "--announce-file", &announce];
        lab.serve("server", &serve.map(str::to_owned));
        lab.hostbox(&["up", &lab.name, "h1", &testbed.folder.join("root").display().to_string()]);
        lab
    }

    /// Where servers of the lab are.
    fn gate(&self) -> String {
        format!("{}.1", self.subnet)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testbed/hostbox"));
        command.args(arguments).env("HOSTBOX_DIR", self.folder.join("machines")).stdin(Stdio::null());
        command
    }

    fn hostbox(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hostbox {}: {error}", arguments.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn serve(&mut self, name: &str, command: &[String]) {
        let log = std::fs::File::create(self.folder.join(format!("{name}.log"))).unwrap();
        let mut arguments = vec!["lab-exec", &self.name];
        arguments.extend(command.iter().map(String::as_str));
        let child = self.command(&arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.servers.push(Running(child));
    }

    /// Runs a command in the machine that must succeed.
    fn inside(&self, argv: &[&str]) -> String {
        let mut arguments = vec!["exec", &self.name, "h1"];
        arguments.extend(argv);
        self.hostbox(&arguments)
    }

    fn write(&self, path: &str, text: &str, mode: &str) {
        let share = self.folder.join("machines").join(&self.name).join("h1/share");
        std::fs::write(share.join("file"), text).unwrap();
        self.inside(&["install", "-D", "-o", "root", "-g", "root", "-m", mode, "/mnt/file", path]);
    }

    fn run(&self, user: &str, arguments: &[&str]) -> Output {
        let mut all = vec!["lab-exec", &self.name, FETTLE];
        all.extend(arguments);
        let mut command = self.command(&all);
        command.env("XDG_CONFIG_HOME", self.folder.join("people").join(user)).env("COLUMNS", "200").output().unwrap()
    }

    fn say(&self, user: &str, arguments: &[&str]) -> String {
        let output = self.run(user, arguments);
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{user}: fettle {}: {out}\n{error}", arguments.join(" "));
        out.into_owned()
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
        let (old, new) = (file("one-time", one_time), file("password", PASSWORD));
        let (server, data) = (format!("https://{}:8443", self.gate()), self.folder.join("data").display().to_string());
        let mut arguments = vec!["login", "--server", &server, "--user", user, "--data", &data];
        arguments.extend(["--password-file", &old, "--new-password-file", &new]);
        self.say(user, &arguments);
    }

    fn people(&self) {
        let announced: Value = until("the server", || {
            serde_json::from_str(&std::fs::read_to_string(self.folder.join("announce.json")).ok()?).ok()
        });
        self.sign_in("admin", announced["one_time_password"].as_str().unwrap());
        for (name, role) in [("olga", "operator"), ("anna", "approver")] {
            let made = self.json("admin", &["user", "create", name, "--role", role]);
            self.sign_in(name, made["one_time_password"].as_str().unwrap());
        }
    }

    /// Two daemons, a web server, the administrator's own checks, and the agent, all started at boot.
    fn furnish(&self) {
        let gate = self.gate();
        self.inside(&["sed", "-i", &format!("s/FETTLE_REPO/{gate}/"), "/etc/apt/sources.list.d/fettle-demo.list"]);
        self.inside(&["apt-get", "update", "-qq"]);
        for name in ["fettle-demo-daemon", "other-daemon"] {
            self.write(&format!("/etc/init.d/{name}"), &SCRIPT.replace("NAME", name), "755");
        }
        self.inside(&["cp", "/usr/sbin/fettle-demo-daemon", "/usr/sbin/other-daemon"]);
        self.write("/usr/local/sbin/shop", SHOP, "644");
        self.write("/var/log/shop.log", "FATAL: this was long ago\n", "644");
        self.write(
            "/etc/fettle/checks.toml",
            "checks = [\"command=as-nobody\", \"log=/var/log/shop.log,absent=FATAL,hold=1s\"]\n\n\
             [command.as-nobody]\nargv = [\"/usr/bin/test\", \"-r\", \"/etc/passwd\"]\n",
            "644",
        );
        // Where the machine would reboot it only says so: the test does it from outside.
        self.write("/sbin/reboot", "#!/bin/sh\n: >/mnt/reboot-wanted\n", "755");
        let start = "#!/bin/sh\n/etc/init.d/fettle-demo-daemon start\n/etc/init.d/other-daemon start\n\
             perl /usr/local/sbin/shop >/dev/null 2>&1 &\n\
             /mnt/fettle agent run --check-in-seconds 2 2>>/mnt/agent.log &\n";
        let server = format!("https://{gate}:8443");
        let line = self.say("olga", &["host", "token", "create", "--server", &server]);
        let mut enrol = vec!["/mnt/fettle"];
        enrol.extend(line.split_whitespace().skip(1));
        self.inside(&enrol);
        self.write("/etc/hostbox-rc", start, "755");
        self.reboot();
    }

    fn reboot(&self) {
        self.hostbox(&["reboot", &self.name, "h1"]);
        until("the daemons", || {
            let ready = self
                .command(&[
                    "exec",
                    &self.name,
                    "h1",
                    "sh",
                    "-c",
                    "test -s /run/fettle-demo-daemon.pid -a -s /run/other-daemon.pid",
                ])
                .output();
            ready.unwrap().status.success().then_some(())
        });
    }

    fn change(&self, arguments: &[&str]) -> String {
        let app = format!("fettle-demo-app={FIXED}");
        let mut all = vec!["change", "create", "--package", &app, "--package", "fettle-demo-daemon"];
        all.extend(arguments);
        let made = self.json("olga", &all);
        let id = made["summary"]["id"].as_str().unwrap().to_owned();
        self.wait(&id, &["proposed"]);
        self.say("anna", &["change", "approve", &id]);
        self.say("olga", &["change", "start", &id]);
        id
    }

    fn wait(&self, id: &str, states: &[&str]) -> Value {
        until(&format!("change {id} to be {states:?}"), || {
            let change = self.json("olga", &["change", "show", id]);
            let now = change["summary"]["state"].as_str().unwrap().to_owned();
            assert!(now != "rejected", "{change:#}");
            states.contains(&now.as_str()).then_some(change)
        })
    }

    fn versions(&self) -> String {
        self.inside(&["dpkg-query", "-W", "-f", "${Version} ", "fettle-demo-app", "fettle-demo-daemon"])
            .trim()
            .to_owned()
    }

    /// What the tasks of the one deployment said, whose id stands in what `change show` printed.
    fn tasks(&self, shown: &str) -> String {
        let at = shown.find("deployment_").unwrap();
        let id: String = shown[at..].chars().take_while(|c| *c != ')').collect();
        self.say("olga", &["deployment", "show", &id])
    }

    /// Process and program of a daemon.
    fn daemon(&self, name: &str) -> (String, String) {
        let pid = self.inside(&["cat", &format!("/run/{name}.pid")]).trim().to_owned();
        let program = self.inside(&["readlink", &format!("/proc/{pid}/exe")]).trim().to_owned();
        (pid, program)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.servers.clear();
        let _ = self.command(&["lab-down", &self.name]).output();
    }
}

#[test]
fn a_machine_that_lives_is_checked_restarted_and_rebooted() {
    let hostbox = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testbed/hostbox");
    if !hostbox.exists() {
        println!("skipped: ../shared/testbed is not here (the simulated host is tested in fettle-agent)");
        return;
    }
    let Some(testbed) = support::demo() else { return };
    let lab = Lab::new(testbed);
    lab.people();
    lab.furnish();
    let host = until("the first inventory", || {
        let list = lab.json("olga", &["host", "list", "--state", "managed"]);
        list["items"][0]["id"].as_str().map(str::to_owned)
    });
    let before = lab.versions();
    assert_eq!(before, "1.0-1 1.0-1");
    let other = lab.daemon("other-daemon");

    // A check that the new version does not meet: undone by itself, and the evidence is there to be read.
    let check = "http=http://127.0.0.1:8080/,contains=app 1.0-1;,within=1s,name=the shop";
    let change = lab.change(&["--host", &host, "--check", check]);
    lab.wait(&change, &["halted"]);
    until("the undo", || {
        let change = lab.json("olga", &["change", "show", &change]);
        (change["deployments"][0]["state"] == "undone").then_some(())
    });
    assert_eq!(lab.versions(), before);
    let shown = lab.say("olga", &["change", "show", &change]);
    assert!(shown.contains("Health of") && shown.contains("failed (health-checks of deployment_"), "{shown}");
    assert!(shown.contains("the shop: held before the change and does not now"), "{shown}");
    assert!(shown.contains("answered 200 without `app 1.0-1;`"), "{shown}");
    let (_, program) = lab.daemon("fettle-demo-daemon");
    assert_eq!(program, "/usr/sbin/fettle-demo-daemon", "the undo's restart: the former program runs");
    assert_eq!(lab.daemon("other-daemon"), other, "who uses nothing of it is left alone");
    let tasks = lab.tasks(&shown);
    assert!(tasks.contains("after the undo: the shop: holds"), "{tasks}");
    assert!(tasks.contains("the shop: held before the change and does not now"), "kept while it was undone: {tasks}");

    // A command that the host does not define: nothing begins.
    let change = lab.change(&["--host", &host, "--check", "command=made-up-by-the-server"]);
    lab.wait(&change, &["halted"]);
    let shown = lab.say("olga", &["change", "show", &change]);
    assert!(shown.contains("defines no command `made-up-by-the-server`"), "{shown}");
    assert_eq!(lab.versions(), before);

    // A good one, with all kinds of checks and a reboot.
    lab.inside(&["touch", "/run/reboot-required"]);
    let checks = [
        "http=http://127.0.0.1:8080/,contains=shop with app,within=1m",
        "port=8080",
        "process=/usr/sbin/fettle-demo-daemon",
        "unit=fettle-demo-daemon",
        "disk=/,at-least=1M,when=always",
        "load=1000",
        "command=as-nobody,when=always,name=the host's own command",
    ];
    let mut arguments = vec!["--host", &host, "--reboot"];
    checks.iter().for_each(|check| arguments.extend(["--check", check]));
    let old_boot = lab.inside(&["cat", "/proc/sys/kernel/random/boot_id"]).trim().to_owned();
    let change = lab.change(&arguments);
    let wanted = lab.folder.join("machines").join(&lab.name).join("h1/share/reboot-wanted");
    until("the agent to ask for the reboot", || wanted.exists().then_some(()));
    assert_eq!(
        lab.daemon("fettle-demo-daemon").1,
        "/usr/sbin/fettle-demo-daemon",
        "restarted: it runs the new program"
    );
    assert_eq!(lab.daemon("other-daemon"), other, "and the other was left alone");
    lab.reboot();
    let new_boot = lab.inside(&["cat", "/proc/sys/kernel/random/boot_id"]).trim().to_owned();
    lab.wait(&change, &["completed"]);
    assert_eq!(lab.versions(), format!("{FIXED} {FIXED}"));
    let shown = lab.say("olga", &["change", "show", &change]);
    for text in [
        "good (verify-after-reboot of deployment_",
        "http http://127.0.0.1:8080/: holds: GET http://127.0.0.1:8080/ answered 200 with `shop with app`",
        "port tcp:8080",
        "fettle-demo-daemon runs (/usr/sbin/fettle-demo-daemon)",
        "the host's own command: holds: `as-nobody` ended with exit code 0",
        "0 lines of /var/log/shop.log since the change began match `FATAL`",
        "sockets of theirs listen as before",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let events = lab.tasks(&shown);
    assert!(events.contains(&old_boot) && events.contains(&new_boot), "{events}");
    assert!(
        events.contains("fettle-demo-daemon was restarted: it used /usr/sbin/fettle-demo-daemon of fettle-demo-daemon"),
        "{events}"
    );
    assert!(!events.contains("other-daemon was restarted"), "{events}");
}
