//! Runs the package manager's programs: argument vectors only, an emptied environment, a session of
//! their own, no terminal, a time limit, output that is streamed and bounded.
//!
//! The *process* is waited for, never the end of its output: a maintainer script may leave a child
//! in the background that holds the pipe open for ever.

use super::rooted::Rooted;
use super::{fail, text};
use fettle_plugin::{ErrorKind, PluginError, ProviderContext};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often limits are looked at while a program says nothing.
const TICK: Duration = Duration::from_millis(100);
/// How long output is read on after the program has ended, when a background child holds the pipe.
const DRAIN: Duration = Duration::from_millis(500);
/// How long a program has to end after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Longest line that is passed on; the rest of it is left out.
const LINE_CAP: usize = 4096;
/// Most lines of one run that are passed on.
const LINES_PASSED_ON: u32 = 20_000;
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

    /// The same with apt's status lines (on stderr, by `APT::Status-Fd=2`) shown as progress from one per cent to another.
    pub fn progress(mut self, from: u8, to: u8) -> Self {
        self.progress = Some((from, to));
        self
    }

    /// The same with a look at outside limits.
    pub fn watch(mut self, watch: Watch<'a>) -> Self {
        self.watch = Some(watch);
        self
    }

    fn command(&self, root: &Rooted) -> Command {
        let mut command = Command::new("/usr/bin/setsid");
        if !root.is_host() {
            // A private /proc and process namespace: what a maintainer script starts in an image ends with it.
            command.args(["/usr/bin/unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]);
            let mut flag = std::ffi::OsString::from("--root=");
            flag.push(&root.path);
            command.arg(flag).args(["--mount-proc", "--"]);
        }
        command.arg(self.path).args(&self.args);
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
    let mut child = program.command(root).spawn().map_err(|error| {
        fail(ErrorKind::Unsupported, format!("cannot start {}: {error}", program.path))
            .advise("Install util-linux and apt; both are part of every Debian system.")
    })?;
    let mut reading = Reading::of(&mut child, context, &program)?;
    let ended = attend(context, &program, &mut child, &mut reading);
    if ended.is_err() {
        end_by_force(&mut child, &mut reading);
    }
    let status = ended?;
    let mut ended = reading.finish();
    ended.success = status.success();
    if status.code() == Some(127) || status.code() == Some(126) {
        let lines = ended.telling(3).join("; ");
        return Err(fail(ErrorKind::Unsupported, format!("cannot run {} in {}: {lines}", program.path, root.path.display())));
    }
    Ok(ended)
}

/// What another root needs before anything can run in it.
fn check_root(root: &Rooted) -> Result<(), PluginError> {
    if root.is_host() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        let message = format!("running apt inside {} needs root", root.path.display());
        return Err(fail(ErrorKind::Denied, message).advise("Run the agent as root; without it, only the inventory of another root can be read."));
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

/// SIGTERM to the whole group, then SIGKILL. `setsid` made the child the leader of its group.
fn end_by_force(child: &mut Child, reading: &mut Reading<'_, '_>) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    for (signal, grace) in [(Signal::TERM, GRACE), (Signal::KILL, GRACE)] {
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
        let until = Instant::now() + grace;
        while Instant::now() < until {
            reading.read(Duration::from_millis(50));
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
    tracing::error!(pid = child.id(), "a program of the package manager cannot be ended");
}

/// The output of a running program.
struct Reading<'p, 'c> {
    context: &'p ProviderContext<'c>,
    streams: [Stream; 2],
    shown: bool,
    progress: Option<(u8, u8)>,
    passed_on: u32,
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
    fn of(child: &mut Child, context: &'p ProviderContext<'c>, program: &Program<'_>) -> Result<Self, PluginError> {
        let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        for pipe in pipes.iter().flatten() {
            fcntl_setfl(pipe, OFlags::NONBLOCK)
                .map_err(|error| fail(ErrorKind::Failed, format!("cannot read from {}: {error}", program.path)))?;
        }
        Ok(Self {
            context,
            streams: pipes.map(|pipe| Stream { pipe, line: Vec::new() }),
            shown: program.shown,
            progress: program.progress,
            passed_on: 0,
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
        let mut polled: Vec<_> = pipes.iter().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)).collect();
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
        if let Some(status) = self.progress.and_then(|range| Status::parse(&line).map(|status| (range, status))) {
            return self.show_status(status.0, status.1);
        }
        self.keep(line);
    }

    fn show_status(&mut self, (from, to): (u8, u8), status: Status<'_>) {
        let span = f64::from(to.saturating_sub(from));
        let percent = f64::from(from) + span * (status.percent / 100.0).clamp(0.0, 1.0);
        self.context.events.progress(percent as u8, status.what);
        if status.error {
            self.keep(format!("{}: {}", status.package, status.what));
        }
    }

    fn keep(&mut self, line: String) {
        if self.shown && self.passed_on < LINES_PASSED_ON {
            self.passed_on += 1;
            self.context.events.output(&line);
            if self.passed_on == LINES_PASSED_ON {
                self.context.events.output("(further output is left out)");
            }
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    fn finish(mut self) -> Ended {
        self.end_line(0);
        self.end_line(1);
        Ended {
            success: false,
            stdout: String::from_utf8_lossy(&self.captured).into_owned(),
            lines: self.tail.into(),
        }
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
        // Found anywhere: a script's line without an end may stand before it.
        let (kind, at) = ["pmstatus:", "dlstatus:", "pmerror:", "pmconffile:"]
            .iter()
            .find_map(|kind| line.find(kind).map(|at| (*kind, at + kind.len())))?;
        let rest = line.get(at..)?;
        let mut parts = rest.splitn(3, ':');
        let (package, percent, what) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { error: kind == "pmerror:", package, percent: percent.parse().ok()?, what: what.trim() })
    }
}
