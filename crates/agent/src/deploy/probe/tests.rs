//! Looks at the real thing: a real HTTP server that is well, slow, huge, redirecting, refusing or
//! talking nonsense; commands of a real file; a small file system; and what an order may not ask.

use super::{OwnChecks, Prober};
use crate::disk::files;
use fettle_domain::health::{HealthCheck, Least, Probe, Seen};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What python3 serves: each path is one kind of trouble.
const SERVER: &str = r#"
import http.server, socketserver, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def whole(self, code, body, **headers):
        self.send_response(code)
        for name, value in headers.items(): self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/health": self.whole(200, b"status: ok " + self.headers["Host"].encode())
        elif self.path == "/bad": self.whole(503, b"no database")
        elif self.path == "/moved": self.whole(302, b"", Location="http://192.0.2.1/")
        elif self.path == "/chunked":
            self.send_response(200); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for part in (b"sta", b"tus: o", b"k"): self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/huge":
            self.send_response(200); self.send_header("Content-Length", str(1 << 40)); self.end_headers()
            try:
                while True: self.wfile.write(b"x" * 65536)
            except OSError: pass
        elif self.path == "/drip":
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while True: self.wfile.write(b"X-A: b\r\n"); self.wfile.flush(); time.sleep(0.05)
            except OSError: pass
        elif self.path == "/head":
            try:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while True: self.wfile.write(b"X-A: " + b"b" * 4096 + b"\r\n")
            except OSError: pass
        elif self.path == "/silent": time.sleep(60)
        elif self.path == "/hang-up": self.close_connection = True
        elif self.path == "/nonsense": self.wfile.write(b"220 mail.example ESMTP\r\n\r\n"); self.close_connection = True
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SERVER])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 is needed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("the port") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host's folder of settings, and a prober for the running system.
struct Host(tempfile::TempDir);

impl Host {
    fn new(own: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files::make_folder(&folder.path().join("etc"), 0o755).unwrap();
        std::fs::write(OwnChecks::path(&folder.path().join("etc")), own).unwrap();
        Self(folder)
    }

    fn prober(&self) -> Prober {
        Prober::new(Path::new("/"), &self.0.path().join("etc"), self.0.path())
    }

    /// What the one check that an order asks for finds.
    fn look(&self, text: &str) -> Seen {
        let check: HealthCheck = text.parse().unwrap();
        let prober = self.prober();
        let watched = prober.watch(&[check]).unwrap_or_else(|reasons| panic!("{reasons:?}"));
        prober.look(watched.last().unwrap())
    }

    fn refused(&self, text: &str) -> String {
        let check: HealthCheck = text.parse().unwrap();
        let reasons = self.prober().watch(&[check]).expect_err(text);
        assert_eq!(reasons[0].topic, "health.refused");
        reasons[0].text.clone()
    }
}

#[test]
fn a_real_server_is_asked_and_its_troubles_are_told() {
    let (server, host) = (Server::start(), Host::new(""));
    let url = |path: &str| format!("http=http://127.0.0.1:{}{path}", server.port);
    for (text, holds, evidence) in [
        (url("/health"), true, "/health answered 200 in"),
        (url("/health,status=200,contains=status: ok"), true, "answered 200 with `status: ok`"),
        (url("/health,host=shop.example.org,contains=ok shop.example.org"), true, "with `ok shop.example.org`"),
        (url("/health,contains=status: bad"), false, "answered 200 without `status: bad`"),
        (url("/health,status=204"), false, "answered 200 in"),
        (url("/bad"), false, "wanted is 200 to 299"),
        (url("/bad,status=503"), true, "answered 503"),
        (url("/moved"), false, "redirects are not followed"),
        (url("/moved,status=302"), true, "answered 302"),
        (url("/chunked,contains=status: ok"), true, "with `status: ok`"),
        (url("/chunked,contains=nothing"), false, "without `nothing`"),
        (url("/huge"), true, "answered 200"),
        (url("/huge,contains=nothing"), false, "without `nothing` in its first 262144 bytes"),
        (url("/hang-up"), false, "closed before an answer"),
        (url("/nonsense"), false, "is no HTTP"),
        (url("/head"), false, "head of the answer is longer than 16384 bytes"),
    ] {
        let seen = host.look(&text);
        assert!(seen.holds == holds && seen.evidence.contains(evidence), "{text}: {seen:?}");
    }
    // What takes too long ends in its time, whether nothing comes or a drop now and then.
    for path in ["/silent", "/drip"] {
        let begun = Instant::now();
        let seen = host.look(&format!("{},timeout=1s", url(path)));
        assert!(!seen.holds && seen.evidence.contains("within the time limit"), "{path}: {seen:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{path}: {:?}", begun.elapsed());
    }
    let port = server.port;
    assert!(host.look(&format!("port={port}")).holds);
    drop(server);
    let seen = host.look(&format!("http=http://127.0.0.1:{port}/health"));
    assert!(!seen.holds && seen.evidence.contains("no connection"), "{seen:?}");
}

#[test]
fn an_order_asks_only_this_host() {
    let host = Host::new("");
    for url in [
        "http://192.0.2.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/",
        "http://[2001:db8::1]/",
        "http://[::ffff:10.9.8.7]/",
    ] {
        assert!(host.refused(&format!("http={url}")).contains("an order may probe no other"), "{url}");
    }
    assert!(host.refused("port=tcp:192.0.2.1:22").contains("192.0.2.1 is no address of this host"));
    for own in crate::facts::addresses() {
        let own = if own.contains(':') { format!("[{own}]") } else { own };
        assert!(host.prober().watch(&[format!("http=http://{own}/").parse().unwrap()]).is_ok(), "{own}");
    }
    // The host's own administrator may look elsewhere.
    let host = Host::new("checks = [\"http=http://192.0.2.1/,timeout=1s\"]");
    assert_eq!(host.prober().watch(&[]).unwrap().len(), 1);
}

#[test]
fn an_order_names_commands_and_never_brings_them() {
    let own = "[command.good]\nargv = [\"/bin/echo\", \"all\", \"well\"]\n[command.bad]\nargv = [\"/bin/ls\", \"/no/such/place\"]\n[command.long]\nargv = [\"/bin/sleep\", \"600\"]\n[command.key]\nargv = [\"/bin/echo\", \"password=hunter2\"]\n";
    let host = Host::new(own);
    let why = host.refused("command=reboot");
    assert!(why.contains("defines no command `reboot`") && why.contains("[command.reboot]"), "{why}");
    // A hostile order with a line where a name belongs is refused by what a check may be at all.
    let mut check: HealthCheck = "command=good".parse().unwrap();
    check.probe = Probe::Command { command: "/bin/sh -c evil".to_owned() };
    assert!(host.prober().watch(&[check]).unwrap_err()[0].text.contains("never written out"));
    let mut check: HealthCheck = "disk=/,at-least=1%".parse().unwrap();
    check.probe = Probe::Disk { path: "/../etc".to_owned(), at_least: Least::Percent { percent: 1 } };
    assert!(host.prober().watch(&[check]).is_err());
    if !rustix::process::geteuid().is_root() {
        return;
    }
    assert_eq!(host.look("command=good"), Seen::holds("`good` ended with exit code 0: all well"));
    let seen = host.look("command=bad");
    assert!(!seen.holds && seen.evidence.contains("exit status: 2"), "{seen:?}");
    let seen = host.look("command=long,timeout=1s");
    assert!(!seen.holds && seen.evidence.contains("ended after 1 seconds"), "{seen:?}");
    assert!(!host.look("command=key").evidence.contains("hunter2"), "secrets stay here");
    // Taken away meanwhile: it fails, and says so.
    let prober = host.prober();
    let watched = prober.watch(&["command=good".parse().unwrap()]).unwrap();
    std::fs::write(OwnChecks::path(&host.0.path().join("etc")), "").unwrap();
    assert!(prober.look(&watched[0]).evidence.contains("does not define `good` any more"));
}

#[test]
fn a_damaged_own_file_keeps_changes_from_beginning() {
    let host = Host::new("checks = [\"unit=\"]");
    let reasons = host.prober().watch(&[]).unwrap_err();
    assert_eq!(reasons[0].topic, "health.own-file");
    assert!(reasons[0].text.contains("checks.toml") && reasons[0].text.contains("no name of a unit"), "{reasons:?}");
}

/// Space is looked at on a small file system of its own. Needs root, for the mount, which is made in a
/// namespace of the test's own process tree and seen through its `/proc` folder.
#[test]
fn space_is_measured_on_a_small_file_system() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m tmpfs \"$1\" && head -c 800000 /dev/zero >\"$1/filler\" && echo ready && exec sleep 600";
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let root = format!("/proc/{}/root", child.id());
    let path = folder.path().to_str().unwrap().to_owned();
    let look = |least: &str| {
        let check: HealthCheck = format!("disk={path},at-least={least}").parse().unwrap();
        let Probe::Disk { path, at_least } = check.probe else { panic!() };
        super::machine::disk(Path::new(&root), &path, at_least)
    };
    let seen = [look("50%"), look("900K"), look("10%"), look("100K")];
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(line.trim(), "ready");
    assert!(!seen[0].holds && !seen[1].holds && seen[2].holds && seen[3].holds, "{seen:?}");
    assert!(seen[0].evidence.contains("of 1.0 MiB free"), "{seen:?}");
}
