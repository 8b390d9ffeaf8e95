//! Foreign plug-ins that flood, hang, fork, crash or lie (`misbehaving/plugin.py`): each is ended with everything
//! it started, and told apart by what it did.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fettle_domain::package::{Ecosystem, InstalledPackage};
use fettle_domain::plan::{Job, Manifest};
use fettle_plugin::host::{Isolation, Launch, StdioFeed, StdioProvider, reader_isolation};
use fettle_plugin::{
    ConffilePolicy, Document, ErrorKind, Feed, PluginError, Provider, ProviderContext, ProviderEvents, ResourceLimits,
    Step, StepRequest,
};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One plug-in of the kind that is wanted, and a word that no other process has.
struct Bad {
    launch: Launch,
    token: String,
    _folder: tempfile::TempDir,
}

fn bad(way: &str) -> Bad {
    bad_with(way, &[])
}

fn bad_with(way: &str, more: &[String]) -> Bad {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let token = folder.path().join(format!("token-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    let token = token.display().to_string();
    // A copy, for readers run as nobody, who may not reach every checkout.
    let program = folder.path().join("plugin.py");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/misbehaving/plugin.py"), &program).unwrap();
    let mut arguments = vec![way.into(), token.clone().into()];
    arguments.extend(more.iter().map(Into::into));
    let mut launch = Launch::trial(&program, &arguments, &folder.path().join("scratch"));
    launch.name = "bad".to_owned();
    launch.limits.grace = Duration::from_millis(300);
    launch.limits.farewell = Duration::from_millis(500);
    Bad { launch, token, _folder: folder }
}

impl Bad {
    fn provider(&self) -> Result<StdioProvider, PluginError> {
        StdioProvider::connect(self.launch.clone())
    }

    fn inventory(&self) -> Result<Vec<InstalledPackage>, PluginError> {
        self.provider()?.inventory(&context(&Quiet, Duration::from_secs(60)))
    }

    fn feed(&self) -> StdioFeed {
        StdioFeed::connect(self.launch.clone()).unwrap()
    }

    /// The error of an inventory, after which nothing of the plug-in runs or lies about any more.
    fn error(&self) -> PluginError {
        let error = self.inventory().unwrap_err();
        self.is_gone();
        error
    }

    fn message(&self) -> String {
        self.error().message
    }

    fn is_gone(&self) {
        assert_eq!(self.processes(), Vec::<String>::new(), "left running");
        let left: Vec<_> = std::fs::read_dir(&self.launch.scratch).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "left lying: {left:?}");
    }

    fn processes(&self) -> Vec<String> {
        let running = |pid: &str| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            if state.rsplit(')').next()?.trim_start().starts_with('Z') {
                return None;
            }
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let found = line.split(|byte| *byte == 0).any(|word| word == self.token.as_bytes());
            found.then(|| format!("{pid}: {}", String::from_utf8_lossy(&line)))
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| running(entry.file_name().to_str()?)).collect()
    }
}

struct Quiet;
impl ProviderEvents for Quiet {
    fn output(&self, _line: &str) {}
    fn progress(&self, _percent: u8, _what: &str) {}
}

fn context(events: &dyn ProviderEvents, time: Duration) -> ProviderContext<'_> {
    ProviderContext {
        root: PathBuf::from("/nonexistent"),
        events,
        deadline: Instant::now() + time,
        lock_patience: Duration::ZERO,
        limits: ResourceLimits::default(),
    }
}

const DOCUMENT: Document<'static> = Document { name: "x.json", bytes: b"{}" };

#[test]
fn the_first_line_decides_whether_it_is_taken_in() {
    let mut silent = bad("silent");
    silent.launch.limits.hello = Duration::from_millis(300);
    assert_eq!(silent.message(), "bad did not answer its first line in its time and was ended");
    let no_hello = bad("no_hello").error();
    assert_eq!(no_hello.message, "bad did not begin with a hello: expected value at line 1 column 1");
    assert_eq!(no_hello.causes, ["Welcome to my plug-in!"]);
    let message = |way: &str| bad(way).message();
    assert_eq!(message("other_version"), "bad speaks protocol versions [98, 99], this host speaks 1");
    assert_eq!(message("both_kinds"), "bad said hello, but it is not exactly one of feed and provider");
    assert_eq!(message("evil_name"), "bad said hello, but its name `../../bin/sh` is not of the form [a-z][a-z0-9-]*");
    assert_eq!(
        message("unknown_ecosystem"),
        "bad said hello, but its ecosystem `windows-update` is none of debian, generic"
    );
    assert_eq!(message("leads_out"), "bad said hello, but `../../etc/shadow` is no path below the root");
    assert_eq!(message("another_hello"), "bad says another thing of itself than when it was taken in");
    assert_eq!(message("feed_path"), "bad is a feed, not a provider");
}

#[test]
fn floods_are_cut_off() {
    for way in ["floods_events", "floods_errors"] {
        let bad = bad(way);
        assert_eq!(bad.message(), "the plug-in bad wrote more than 64 MiB and was ended", "{way}");
    }
    let long = "the plug-in bad wrote a line of more than 8388608 bytes and was ended";
    assert_eq!(bad("endless_line").message(), long);
    assert_eq!(bad("ten_million").message(), long, "an inventory of ten million packages");
}

#[test]
fn who_hangs_is_ended_at_the_deadline_with_its_last_words() {
    for way in ["hangs", "does_not_read"] {
        let bad = bad(way);
        let provider = bad.provider().unwrap();
        let begun = Instant::now();
        let error = provider.inventory(&context(&Quiet, Duration::from_millis(700))).unwrap_err();
        assert_eq!(error.message, "bad did not answer provider.inventory in its time and was ended", "{way}");
        assert_eq!(error.kind, ErrorKind::Failed);
        assert!(begun.elapsed() < Duration::from_secs(20), "{way}: {:?}", begun.elapsed());
        if way == "hangs" {
            assert_eq!(error.causes, ["waiting for a lock"]);
        }
        bad.is_gone();
    }
}

#[test]
fn who_is_told_to_stop_may_say_so_itself() {
    struct Stop;
    impl ProviderEvents for Stop {
        fn output(&self, _line: &str) {}
        fn progress(&self, _percent: u8, _what: &str) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let bad = bad("stops_when_told");
    let mut launch = bad.launch.clone();
    launch.limits.grace = Duration::from_secs(30);
    let provider = StdioProvider::connect(launch).unwrap();
    let error = provider.inventory(&context(&Stop, Duration::from_secs(60))).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, "stopped before anything was changed"));
    bad.is_gone();
}

#[test]
fn forks_are_counted_and_ended() {
    let mut forks = bad("forks");
    forks.launch.limits.processes = 60;
    assert_eq!(forks.message(), "bad started more than 60 processes and was ended");
}

#[test]
fn a_grandchild_in_a_session_of_its_own_is_ended_too() {
    let bad = bad("session_leaver_hangs");
    let provider = bad.provider().unwrap();
    let error = provider.inventory(&context(&Quiet, Duration::from_secs(2))).unwrap_err();
    assert_eq!(error.message, "bad did not answer provider.inventory in its time and was ended");
    bad.is_gone();
    // A reader that answered well leaves nothing running either.
    let mut feed = self::bad("feed_session_leaver");
    for isolation in [Isolation::Host, Isolation::Reader] {
        feed.launch.isolation = isolation;
        assert!(feed.feed().recognises(DOCUMENT));
        if isolation == Isolation::Reader {
            feed.is_gone();
        } else {
            // What a provider leaves may be a service; it is not ended, and the test does it.
            for process in feed.processes() {
                let pid = process.split(':').next().unwrap().parse().unwrap();
                rustix::process::kill_process(
                    rustix::process::Pid::from_raw(pid).unwrap(),
                    rustix::process::Signal::KILL,
                )
                .unwrap();
            }
        }
    }
}

#[test]
fn who_crashes_is_told_with_its_last_words() {
    let half = bad("half_an_answer").error();
    assert_eq!(half.message, "bad ended before it answered provider.inventory (exit status: 3)");
    assert_eq!(half.causes, ["Segmentation fault (not really)"]);
    assert_eq!(
        bad("background_holds_the_pipe").message(),
        "bad ended before it answered provider.inventory (exit status: 3)"
    );
    let lingers = bad("lingers");
    assert_eq!(lingers.inventory().unwrap().len(), 1, "the answer counts, the program is ended");
    lingers.is_gone();
}

#[test]
fn lies_are_refused() {
    let message = |way: &str| bad(way).message();
    assert_eq!(message("wrong_number"), "bad answered request 7 while 1 is asked");
    assert_eq!(message("two_answers"), "bad went on after its answer: there is exactly one for each request");
    assert_eq!(message("ok_and_err"), "bad wrote a reply that is not one of event, ok and err");
    assert_eq!(
        message("no_reply"),
        "bad wrote a line that is no reply: invalid type: string \"what\", expected u64 at line 1 column 7"
    );
    assert_eq!(
        message("other_type"),
        "bad answered provider.inventory with something else: invalid type: map, expected a sequence at line 1 column 13"
    );
    assert_eq!(
        message("other_ecosystem"),
        "the answer of bad to provider.inventory is refused: a is of debian, not of generic"
    );
    assert_eq!(
        message("control_characters"),
        "the answer of bad to provider.inventory is refused: a package's name holds a control character: `a [2Jb`"
    );
    let mut many = bad("too_many");
    many.launch.limits.packages = 1_000;
    assert_eq!(many.message(), "the answer of bad to provider.inventory is refused: 1001 packages, more than 1000");
    let unknown = bad("unknown_kind").error();
    assert_eq!((unknown.kind, unknown.message.as_str()), (ErrorKind::Failed, "a kind of the future "));
    assert_eq!(unknown.causes.len(), 40);
}

#[test]
fn lies_about_acts_and_dry_runs_are_refused() {
    let manifest = Manifest {
        ecosystem: Ecosystem::Generic,
        steps: Vec::new(),
        base_digest: String::new(),
        download_bytes: 0,
        disk_bytes: 0,
    };
    let request = StepRequest {
        step: Step::Install,
        manifest,
        folder: PathBuf::from("/nonexistent"),
        conffiles: ConffilePolicy::Keep,
    };
    let around = || context(&Quiet, Duration::from_secs(60));
    let apply = |way: &str| bad(way).provider().unwrap().apply(&around(), &request).unwrap_err().message;
    assert_eq!(
        apply("deep"),
        "bad answered provider.apply with something else: recursion limit exceeded at line 1 column 145"
    );
    assert_eq!(
        apply("much_for_the_undo"),
        "the answer of bad to provider.apply is refused: 2000002 bytes of data for the undo, more than 1048576"
    );
    let job = Job { ecosystem: Ecosystem::Generic, wanted: Vec::new(), allow_removals: false };
    let error = bad("file_elsewhere").provider().unwrap().rehearse(&around(), &job, false).unwrap_err();
    assert_eq!(
        error.message,
        "the answer of bad to provider.rehearse is refused: `../../etc/cron.d/evil` is no name of a package file: it leads elsewhere"
    );
    let error = bad("no_digest").provider().unwrap().state_digest(&around()).unwrap_err();
    assert_eq!(error.message, "the answer of bad to provider.state_digest is refused: `$(reboot)` is no sha-256");
}

#[test]
fn a_feeds_files_are_plain_ones_of_their_own_digest() {
    let message = |way: &str| {
        let bad = bad(way);
        let message = bad.feed().read(DOCUMENT).unwrap_err().message;
        bad.is_gone();
        message.strip_prefix("the answer of bad to feed.read is refused: ").unwrap_or(&message).to_owned()
    };
    assert_eq!(message("feed_path"), "advisories: `../../../../../etc/passwd` is no sha-256, so it names no file");
    assert!(message("feed_link").starts_with(&format!("facts: the file {} cannot be read: ", "a".repeat(64))));
    assert_eq!(
        message("feed_big"),
        format!("facts: the file {} has 1073741825 bytes, more than the 1073741824 that are read", "b".repeat(64))
    );
    assert_eq!(
        message("feed_other_bytes"),
        format!("facts: the file {} has another sha-256 than its name", "c".repeat(64))
    );
}

#[test]
fn links_that_a_feed_plants_lead_the_host_nowhere() {
    let bad = bad("feed_plants_links");
    std::fs::write(&bad.token, "precious").unwrap();
    std::fs::set_permissions(&bad.token, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(bad.feed().recognises(DOCUMENT), "it finds the document, not its link");
    bad.is_gone();
    let mode = std::fs::metadata(&bad.token).unwrap().permissions().mode() & 0o777;
    assert_eq!((std::fs::read_to_string(&bad.token).unwrap().as_str(), mode), ("precious", 0o600));
}

#[test]
fn a_feed_speaks_for_itself_and_its_wrong_records_are_told_one_by_one() {
    let content = bad("feed_speaks_for_another").feed().read(DOCUMENT).unwrap();
    assert_eq!(content.advisories.len(), 1);
    let problems: Vec<String> = content.problems.iter().map(|it| format!("{}: {}", it.place, it.message)).collect();
    assert_eq!(
        problems,
        [
            "x.json: advisories line 1: it speaks for the feed `debian-tracker`",
            "x.json: advisories line 2: its release is empty",
            "x.json: advisories line 3: missing field `record` at line 1 column 15",
            "x.json: advisories line 4: `not a version!` is not a valid dpkg version: the upstream version has a character outside `A-Za-z0-9.-+~:`",
        ]
    );
}

#[test]
fn it_finds_an_empty_environment_and_no_descriptor_of_the_host() {
    // One of ours that is open while the plug-in is started.
    let _open = std::fs::File::open("/proc/self/status").unwrap();
    let found = bad("confesses").inventory().unwrap();
    let of = |name: &str| found.iter().find(|it| it.package.name == name).unwrap().package.version.as_str();
    assert_eq!(of("environment"), "FETTLE_PLUGIN_RUN HOME LC_ALL PATH TMPDIR TZ");
    let mut expected = vec![0, 1, 2];
    expected.extend(inherited());
    assert_eq!(of("descriptors"), format!("{expected:?}"));
    assert_eq!(of("group"), "True");
    assert_eq!(of("nice"), "10");
}

/// What this process was itself started with and hands on: who started it opened them so. Whatever the host opens
/// is closed by itself when another program is started.
fn inherited() -> Vec<u32> {
    let is_handed_on = |number: &u32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("02000000").trim();
        u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000 == 0
    };
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut numbers: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().filter(|number| *number > 2 && is_handed_on(number)).collect()
}

#[test]
fn a_reader_reaches_nobody() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let user = rustix::process::geteuid().as_raw().to_string();
    let mut bad = bad_with("feed_looks_around", &[listener.local_addr().unwrap().port().to_string(), user]);
    assert!(!bad.feed().recognises(DOCUMENT), "without isolation, the port is reached");
    if !reader_isolation().contains("no network") {
        eprintln!("not tried: {}", reader_isolation());
        return;
    }
    bad.launch.isolation = Isolation::Reader;
    assert!(bad.feed().recognises(DOCUMENT));
    bad.is_gone();
}
