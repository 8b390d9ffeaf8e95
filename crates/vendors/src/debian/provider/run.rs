//! Runs the package manager's programs: argument vectors only, an emptied environment, a session of
//! their own, no terminal, a time limit, output that is streamed and bounded.
//!
//! The *process* is waited for, never the end of its output: a maintainer script may leave a child
//! in the background that holds the pipe open for ever.

use super::rooted::Rooted;
use super::{fail, text};
use fettle_plugin::{ErrorKind, PluginError, ProviderContext, ResourceLimits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often limits are looked at while a program says nothing.
const TICK: Duration = Duration::from_millis(100);
/// How long output is read on after the program has ended, when a background child holds the pipe.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a program has to end after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// Longest line that is passed on; the rest of it is left out.
const LINE_CAP: usize = 4096;
/// Which of the streams is apt's status; 0 and 1 are standard output and error.
const STATUS: usize = 2;
/// Which is standard error.
const ERROR: usize = 1;
/// Last lines kept for messages.
const TAIL: usize = 400;

/// Variables every program gets, and no others. The front ends that would ask a person are silenced.
const ENVIRONMENT: [(&str, &str); 11] = [
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LC_ALL", "C.UTF-8"),
    ("LANGUAGE", "C"),
    ("TERM", "dumb"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBIAN_PRIORITY", "critical"),
    ("NEEDRESTART_SUSPEND", "1"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("APT_LISTBUGS_FRONTEND", "none"),
    ("UCF_FORCE_CONFFOLD", "1"),
];

/// A look at limits outside the program (a growing file); an error ends it.
pub(super) type Watch<'a> = &'a dyn Fn() -> Result<(), PluginError>;

/// One program to run.
pub(super) struct Program<'a> {
    path: &'static str,
    args: Vec<String>,
    shown: bool,
    capture: usize,
    interruptible: bool,
    progress: Option<(u8, u8)>,
    watch: Option<Watch<'a>>,
}

impl<'a> Program<'a> {
    /// A program that is only read: its output is captured, not shown, and it may be ended at any time.
    pub fn query(path: &'static str) -> Self {
        Self {
            path,
            args: Vec::new(),
            shown: false,
            capture: 64 << 20,
            interruptible: true,
            progress: None,
            watch: None,
        }
    }

    /// A program that changes packages: its output is shown, and a wish to stop does not end it.
    pub fn change(path: &'static str) -> Self {
        Self { shown: true, capture: 0, interruptible: false, ..Self::query(path) }
    }

    /// The same with more arguments.
    pub fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The same with its output shown.
    pub fn shown(mut self) -> Self {
        self.shown = true;
        self
    }

    /// The same with apt's status lines shown as progress from one per cent to another. They come on a pipe
    /// of their own, for apt closes that descriptor in all it starts: on stderr, scripts could not write any more.
    pub fn progress(mut self, from: u8, to: u8) -> Self {
        self.progress = Some((from, to));
        self
    }

    /// The same with a look at outside limits.
    pub fn watch(mut self, watch: Watch<'a>) -> Self {
        self.watch = Some(watch);
        self
    }

    fn command(&self, root: &Rooted, status: Option<i32>, limits: &ResourceLimits) -> Command {
        let mut command = Command::new("/usr/bin/nice");
        // Disk priority follows niceness (ioprio_set(2)).
        command.args(["-n", &limits.nice.to_string()]);
        if let Some(bytes) = limits.memory_bytes {
            command.arg("/usr/bin/prlimit").arg(format!("--as={bytes}"));
        }
        if let Some(percent) = limits.cpu_percent.filter(|_| Path::new("/run/systemd/system").is_dir()) {
            // A scope of its own carries the limit, and outlives a stop of the agent's own unit.
            command.args(["/usr/bin/systemd-run", "--scope", "--quiet", "--collect"]);
            command.arg(format!("--property=CPUQuota={percent}%")).arg("--");
        }
        command.arg("/usr/bin/setsid");
        if !root.is_host() {
            // A private /proc and process namespace: what a maintainer script starts in an image ends with it.
            command.args(["/usr/bin/unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]);
            let mut flag = std::ffi::OsString::from("--root=");
            flag.push(&root.path);
            command.arg(flag).args(["--mount-proc", "--"]);
        }
        command.arg(self.path);
        if let Some(status) = status {
            command.arg("-o").arg(format!("APT::Status-Fd={status}"));
        }
        command.args(&self.args);
        command.env_clear().envs(ENVIRONMENT).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// How a program ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Whether it returned 0. Never proof of success: the state of the packages is.
    pub success: bool,
    /// Standard output, as far as it was asked for.
    pub stdout: String,
    /// The last lines of both streams, without status lines.
    pub lines: Vec<String>,
}

impl Ended {
    /// The most telling lines: errors first, then what stood around them, at most `most`.
    pub fn telling(&self, most: usize) -> Vec<String> {
        let errors = |line: &&String| {
            let line = line.trim_start();
            ["E: ", "dpkg: error", "dpkg-deb: error", "error: "].iter().any(|start| line.starts_with(start))
                || line.contains("returned error exit status")
        };
        let mut lines: Vec<String> = self.lines.iter().filter(errors).take(most / 2 + 1).cloned().collect();
        let rest = most.saturating_sub(lines.len());
        let last = self.lines.iter().filter(|line| !line.trim().is_empty() && !lines.contains(line));
        let last: Vec<String> = last.rev().take(rest).cloned().collect();
        lines.extend(last.into_iter().rev());
        lines
    }
}

/// Runs the program inside `root` to its end.
pub(super) fn run(context: &ProviderContext<'_>, root: &Rooted, program: Program<'_>) -> Result<Ended, PluginError> {
    check_root(root)?;
    tracing::debug!(program = program.path, args = ?program.args, root = %root.path.display(), "package manager starts");
    let cannot = |error: std::io::Error| {
        fail(ErrorKind::Unsupported, format!("cannot start {}: {error}", program.path))
            .advise("Install util-linux and apt; both are part of every Debian system.")
    };
    let status = program.progress.is_some().then(status_pipe).transpose().map_err(cannot)?;
    let number = status.as_ref().map(|(_, write)| write.as_raw_fd());
    let mut child = program.command(root, number, &context.limits).spawn().map_err(cannot)?;
    let status = status.map(|(read, _)| read);
    let mut reading = Reading::of(&mut child, status, context, &program)?;
    let ended = attend(context, &program, &mut child, &mut reading);
    if ended.is_err() {
        end_by_force(&mut child, &mut reading);
    }
    let status = ended?;
    let mut ended = reading.finish();
    ended.success = status.success();
    if status.code() == Some(127) || status.code() == Some(126) {
        let lines = ended.telling(3).join("; ");
        return Err(fail(
            ErrorKind::Unsupported,
            format!("cannot run {} in {}: {lines}", program.path, root.path.display()),
        ));
    }
    Ok(ended)
}

/// A pipe whose writing end is inherited by what is started next. Should another thread start a program in the
/// same moment, that one inherits it too, which does no harm: nobody waits for this pipe's end.
fn status_pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = std::io::pipe()?;
    let write = OwnedFd::from(write);
    fcntl_setfd(&write, FdFlags::empty())?;
    Ok((read.into(), write))
}

/// What another root needs before anything can run in it.
fn check_root(root: &Rooted) -> Result<(), PluginError> {
    if root.is_host() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        let message = format!("running apt inside {} needs root", root.path.display());
        return Err(fail(ErrorKind::Denied, message)
            .advise("Run the agent as root; without it, only the inventory of another root can be read."));
    }
    for path in ["/dev/null", "/proc"] {
        if root.real(path).is_err() {
            let message = format!("{} has no {path}", root.path.display());
            return Err(fail(ErrorKind::Unsupported, message)
                .advise(format!("Make {path} there (as debootstrap does), or mount the machine's over it.")));
        }
    }
    Ok(())
}

/// Reads and waits until the program has ended, or a limit is reached.
fn attend(
    context: &ProviderContext<'_>,
    program: &Program<'_>,
    child: &mut Child,
    reading: &mut Reading<'_, '_>,
) -> Result<ExitStatus, PluginError> {
    let mut patience = Duration::from_millis(1);
    loop {
        let wait = if reading.open() { TICK } else { patience };
        patience = (patience * 2).min(TICK);
        reading.read(wait);
        if let Some(status) = child.try_wait().map_err(|error| cannot_wait(program, &error))? {
            reading.close(STATUS);
            let until = Instant::now() + DRAIN;
            while reading.open() && Instant::now() < until && reading.read(Duration::from_millis(20)) {}
            return Ok(status);
        }
        if Instant::now() >= context.deadline {
            let message = format!("{} did not end in its time and was ended", program.path);
            return Err(fail(ErrorKind::Failed, message).advise(
                "Look at the last lines of its output for what it waited for; `dpkg --audit` tells what it left undone.",
            ));
        }
        if program.interruptible && context.events.cancelled() {
            return Err(fail(ErrorKind::Unavailable, format!("{} was ended: a stop was asked for", program.path)));
        }
        if let Some(watch) = program.watch {
            watch()?;
        }
    }
}

fn cannot_wait(program: &Program<'_>, error: &std::io::Error) -> PluginError {
    fail(ErrorKind::Failed, format!("cannot wait for {}: {error}", program.path))
}

/// SIGTERM to the whole group, then SIGKILL, until nobody is left in it: `setsid` made the child the leader of
/// its group, and the first of a process namespace ignores SIGTERM.
fn end_by_force(child: &mut Child, reading: &mut Reading<'_, '_>) {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    // After SIGKILL there is little to wait for: those that nobody reaps stay members of the group.
    for (signal, grace) in [(Signal::TERM, GRACE), (Signal::KILL, Duration::from_secs(2))] {
        let _ = kill_process_group(group, signal);
        let until = Instant::now() + grace;
        while Instant::now() < until {
            reading.read(Duration::from_millis(50));
            let _ = child.try_wait();
            if test_kill_process_group(group).is_err() {
                return;
            }
        }
    }
    if !matches!(child.try_wait(), Ok(Some(_))) {
        tracing::error!(pid = child.id(), "a program of the package manager cannot be ended");
    }
}

/// The output of a running program.
struct Reading<'p, 'c> {
    context: &'p ProviderContext<'c>,
    streams: [Stream; 3],
    shown: bool,
    progress: Option<(u8, u8)>,
    captured: Vec<u8>,
    capture: usize,
    tail: VecDeque<String>,
}

/// One pipe and the line that is not complete yet.
struct Stream {
    pipe: Option<OwnedFd>,
    line: Vec<u8>,
}

impl<'p, 'c> Reading<'p, 'c> {
    fn of(
        child: &mut Child,
        status: Option<OwnedFd>,
        context: &'p ProviderContext<'c>,
        program: &Program<'_>,
    ) -> Result<Self, PluginError> {
        let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from), status];
        for pipe in pipes.iter().flatten() {
            fcntl_setfl(pipe, OFlags::NONBLOCK)
                .map_err(|error| fail(ErrorKind::Failed, format!("cannot read from {}: {error}", program.path)))?;
        }
        Ok(Self {
            context,
            streams: pipes.map(|pipe| Stream { pipe, line: Vec::new() }),
            shown: program.shown,
            progress: program.progress,
            captured: Vec::new(),
            capture: program.capture,
            tail: VecDeque::new(),
        })
    }

    /// Whether a pipe is still open.
    fn open(&self) -> bool {
        self.streams.iter().any(|stream| stream.pipe.is_some())
    }

    /// Waits up to `wait` for output and takes what is there. False when nothing came.
    fn read(&mut self, wait: Duration) -> bool {
        let pipes: Vec<_> = self.streams.iter().filter_map(|stream| stream.pipe.as_ref()).collect();
        let mut polled: Vec<_> =
            pipes.iter().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)).collect();
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        if !matches!(poll(&mut polled, Some(&wait)), Ok(1..)) {
            return false;
        }
        for index in 0..self.streams.len() {
            self.take(index);
        }
        true
    }

    /// Takes what one pipe has now, at most a megabyte, so that limits are looked at in between.
    fn take(&mut self, index: usize) {
        let mut buffer = [0u8; 16 * 1024];
        for _ in 0..64 {
            let Some(pipe) = self.streams.get(index).and_then(|stream| stream.pipe.as_ref()) else { return };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => return self.close(index),
                Ok(count) => self.took(index, buffer.get(..count).unwrap_or_default()),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => return self.close(index),
            }
        }
    }

    fn close(&mut self, index: usize) {
        if let Some(stream) = self.streams.get_mut(index) {
            stream.pipe = None;
        }
        self.end_line(index);
    }

    fn took(&mut self, index: usize, bytes: &[u8]) {
        if index == 0 {
            let room = self.capture.saturating_sub(self.captured.len()).min(bytes.len());
            self.captured.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(index),
                byte => {
                    if let Some(stream) = self.streams.get_mut(index)
                        && stream.line.len() < LINE_CAP
                    {
                        stream.line.push(*byte);
                    }
                }
            }
        }
    }

    fn end_line(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let line = text::printable(&stream.line);
        stream.line.clear();
        if line.is_empty() {
            return;
        }
        match (index == STATUS, self.progress) {
            (false, _) => self.keep(line, index == ERROR),
            (true, Some(range)) => Status::parse(&line).into_iter().for_each(|status| self.show_status(range, status)),
            (true, None) => {}
        }
    }

    fn show_status(&mut self, (from, to): (u8, u8), status: Status<'_>) {
        let span = f64::from(to.saturating_sub(from));
        let percent = f64::from(from) + span * (status.percent / 100.0).clamp(0.0, 1.0);
        self.context.events.progress(percent as u8, status.what);
        if status.error {
            self.keep(format!("{}: {}", status.package, status.what), true);
        }
    }

    /// Passes a line on, however many there are: who listens bounds what is kept and sent.
    fn keep(&mut self, line: String, error: bool) {
        match (self.shown, error) {
            (true, true) => self.context.events.error_output(&line),
            (true, false) => self.context.events.output(&line),
            (false, _) => {}
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn finish(mut self) -> Ended {
        (0..self.streams.len()).for_each(|index| self.end_line(index));
        Ended { success: false, stdout: String::from_utf8_lossy(&self.captured).into_owned(), lines: self.tail.into() }
    }
}

/// A line of apt's status descriptor: `pmstatus:PACKAGE:PERCENT:TEXT`.
struct Status<'a> {
    error: bool,
    package: &'a str,
    percent: f64,
    what: &'a str,
}

impl<'a> Status<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(4, ':');
        let (kind, package, percent, what) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let known = matches!(kind, "pmstatus" | "dlstatus" | "pmerror" | "pmconffile");
        let percent = percent.parse().ok().filter(|_| known)?;
        Some(Self { error: kind == "pmerror", package, percent, what: what.trim() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_plugin::ProviderEvents;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    #[derive(Default)]
    struct Events {
        lines: Mutex<Vec<String>>,
        progress: Mutex<Vec<(u8, String)>>,
    }
    impl ProviderEvents for Events {
        fn output(&self, line: &str) {
            self.lines.lock().unwrap().push(line.to_owned());
        }
        fn progress(&self, percent: u8, what: &str) {
            self.progress.lock().unwrap().push((percent, what.to_owned()));
        }
    }

    fn start(events: &Events, limit: Duration, program: Program<'_>) -> Result<Ended, PluginError> {
        let context = ProviderContext {
            root: PathBuf::from("/"),
            events,
            deadline: Instant::now() + limit,
            lock_patience: Duration::ZERO,
            limits: fettle_plugin::ResourceLimits::default(),
        };
        run(&context, &Rooted::new(Path::new("/")).unwrap(), program)
    }

    fn shell(events: &Events, limit: Duration, script: &str) -> (Result<Ended, PluginError>, Duration) {
        let begin = Instant::now();
        let program = Program { capture: 1000, ..Program::change("/bin/sh") };
        let ended = start(events, limit, program.args(["-c", script]));
        (ended, begin.elapsed())
    }

    #[test]
    fn a_child_left_in_the_background_holds_nobody_up() {
        let (ended, took) = shell(&Events::default(), Duration::from_secs(20), "sleep 60 & echo $!; exit 3");
        let ended = ended.unwrap();
        assert!(!ended.success && took < Duration::from_secs(5), "{took:?}");
        let left = ended.stdout.trim().parse().ok().and_then(Pid::from_raw).unwrap();
        rustix::process::kill_process(left, Signal::KILL).expect("it lives on");
    }

    #[test]
    fn what_hangs_is_ended_with_all_it_started() {
        let events = Events::default();
        let (ended, took) =
            shell(&events, Duration::from_millis(300), "sh -c 'trap : TERM; echo $$; while :; do sleep 1; done'");
        assert!(ended.unwrap_err().message.contains("did not end in its time"));
        assert!(took < Duration::from_secs(25), "{took:?}");
        let pid: i32 = events.lines.lock().unwrap()[0].parse().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ"), "{status}");
    }

    #[test]
    fn there_is_nobody_to_ask_and_nothing_inherited() {
        let script = "read answer && exit 9; test -t 0 && exit 8; (: </dev/tty) 2>/dev/null && exit 7; env | sort";
        let ended = shell(&Events::default(), Duration::from_secs(20), script).0.unwrap();
        assert!(ended.success, "{ended:?}");
        assert!(
            ended.stdout.contains("DEBIAN_FRONTEND=noninteractive") && !ended.stdout.contains("CARGO"),
            "{}",
            ended.stdout
        );
    }

    #[test]
    fn lines_are_bounded_and_harmless() {
        let events = Events::default();
        let script = "printf '\\033[31mred\\n'; yes x | head -n 30000; head -c 100000 /dev/zero | tr '\\0' y; echo; echo end >&2";
        let ended = shell(&events, Duration::from_secs(20), script).0.unwrap();
        assert!(ended.success && ended.stdout.len() == 1000);
        let lines = events.lines.lock().unwrap();
        assert_eq!(lines[0], "\u{fffd}[31mred");
        assert_eq!(lines.len(), 30_003, "who listens bounds what is kept");
        assert!(ended.lines.len() <= TAIL && ended.lines.iter().all(|line| line.len() <= LINE_CAP));
    }

    #[test]
    fn status_lines_become_progress_and_errors() {
        // A stand-in for apt, that writes where `-o APT::Status-Fd=N` says.
        let script = "#!/bin/bash\nfd=${2#APT::Status-Fd=}\nprintf 'pmstatus:a:50.0:Unpacking a (amd64)\\npmerror:a:60:it failed: 7\\nnoise\\n' >&$fd\necho out\necho err >&2\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("apt");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let events = Events::default();
        let program = Program::change(path.to_string_lossy().into_owned().leak()).progress(0, 50);
        let ended = start(&events, Duration::from_secs(20), program).unwrap();
        assert!(ended.success, "{ended:?}");
        assert_eq!(
            events.progress.lock().unwrap().as_slice(),
            [(25, "Unpacking a (amd64)".to_owned()), (30, "it failed: 7".to_owned())]
        );
        let mut lines = ended.lines;
        lines.sort();
        assert_eq!(lines, ["a: it failed: 7", "err", "out"]);
    }
}
