//! One run of a plug-in: hello, requests, farewell; and the end of all it started, whatever happens.

use super::pipes::{self, Pipes, printable};
use super::tree::{Tree, pause};
use super::{ASK_ITS_AUTHOR, Isolation, Launch, NOBODY, fail, readers_are_nobody, registry};
use crate::protocol::*;
use crate::provider::{ProviderEvents, ResourceLimits};
use crate::scratch::Scratch;
use crate::{ErrorKind, PluginError};
use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions, prlimit, setpriority_process, waitid};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// How often limits are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How often processes are counted.
const COUNT: Duration = Duration::from_millis(250);
/// How long output is read on after the program ended, when a background process holds the pipe.
const DRAIN: Duration = Duration::from_millis(300);
/// Longest event that is passed on, and most lines of one call.
const EVENT_CAP: usize = 4096;
const EVENTS: u32 = 20_000;
/// Longest text of an error, and most causes.
const TEXT_CAP: usize = 4096;
const CAUSES: usize = 40;

/// For calls whose events nobody follows.
pub struct Silent;

impl ProviderEvents for Silent {
    fn output(&self, _line: &str) {}
    fn progress(&self, _percent: u8, _what: &str) {}
}

/// A running plug-in. Dropped, it is ended with everything it started.
pub struct Session {
    name: String,
    limits: super::Limits,
    /// What only reads leaves nothing behind.
    reader: bool,
    child: Child,
    pipes: Pipes,
    tree: Tree,
    scratch: Scratch,
    counted: Instant,
    next_id: u64,
    hello: Option<Hello>,
}

impl Session {
    /// Starts it and waits for its first line, at most until `deadline`.
    pub fn start(launch: &Launch, deadline: Instant) -> Result<Self, PluginError> {
        let mut session = Self::start_unheard(launch)?;
        let until = deadline.min(Instant::now() + launch.limits.hello);
        let line = session.line(until, "its first line", &|| false)?;
        let said: HelloLine = serde_json::from_slice(&line).map_err(|error| {
            session.broke(format!("did not begin with a hello: {error}")).caused_by(short(&printable(&line), 200))
        })?;
        session.take_hello(said.hello)?;
        Ok(session)
    }

    /// Starts it; its first line is still to be read.
    fn start_unheard(launch: &Launch) -> Result<Self, PluginError> {
        if let Some(sha256) = &launch.sha256 {
            registry::look_again(&launch.program, sha256)?;
        }
        let cannot =
            |error: std::io::Error| fail(ErrorKind::Unavailable, format!("cannot start {}: {error}", launch.name));
        let scratch = Scratch::new(&launch.scratch).map_err(cannot)?;
        let reader = launch.isolation == Isolation::Reader;
        if reader && readers_are_nobody() {
            std::os::unix::fs::chown(scratch.path(), Some(NOBODY), Some(NOBODY)).map_err(cannot)?;
        }
        let mark = scratch.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child = launch.command(scratch.path(), &mark).spawn().map_err(cannot)?;
        let tree = Tree::of(child.id(), &mark);
        limit(&child, reader);
        let pipes = match Pipes::of(&mut child, launch.limits.said) {
            Ok(pipes) => pipes,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(cannot(error));
            }
        };
        Ok(Self {
            name: launch.name.clone(),
            limits: launch.limits.clone(),
            reader,
            child,
            pipes,
            tree,
            scratch,
            counted: Instant::now(),
            next_id: 0,
            hello: None,
        })
    }

    fn take_hello(&mut self, hello: Hello) -> Result<(), PluginError> {
        if !hello.versions.contains(&VERSION) {
            let theirs: Vec<String> = hello.versions.iter().take(10).map(u32::to_string).collect();
            let message =
                format!("{} speaks protocol versions [{}], this host speaks {VERSION}", self.name, theirs.join(", "));
            return Err(fail(ErrorKind::Unsupported, message).advise("Install a version of the plug-in for this host."));
        }
        super::check::hello(&hello).map_err(|what| self.broke(format!("said hello, but {what}")))?;
        self.hello = Some(hello);
        Ok(())
    }

    /// What it said of itself.
    pub fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Its scratch folder.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Number of its first process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it, and what it starts from now on, may take of the host.
    pub fn govern(&self, limits: &ResourceLimits) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        let _ = setpriority_process(Some(pid), i32::from(limits.nice.min(19)));
        if let Some(bytes) = limits.memory_bytes {
            let _ = prlimit(Some(pid), Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) });
        }
    }

    /// Asks, passes events on, and waits for the one answer.
    pub fn call(
        &mut self,
        method: &str,
        params: &impl Serialize,
        deadline: Instant,
        events: &dyn ProviderEvents,
    ) -> Result<Box<RawValue>, PluginError> {
        let id = self.ask(method, params, deadline)?;
        self.answer(id, method, deadline, events)
    }

    /// Sends a request and gives its number.
    pub fn ask(&mut self, method: &str, params: &impl Serialize, deadline: Instant) -> Result<u64, PluginError> {
        self.next_id += 1;
        let cannot = |error: serde_json::Error| {
            fail(ErrorKind::InvalidInput, format!("cannot ask {} for {method}: {error}", self.name))
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let request = Request {
            v: VERSION,
            id: self.next_id,
            method: method.to_owned(),
            params: to_raw_value(params).map_err(cannot)?,
            deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        };
        let line = serde_json::to_vec(&request).map_err(cannot)?;
        if line.len() > LINE_LIMIT {
            let message = format!("{method} is too much to ask of {}: {} bytes in one line", self.name, line.len());
            return Err(fail(ErrorKind::InvalidInput, message).advise("Split the change into smaller ones."));
        }
        self.pipes.write_line(&line);
        Ok(self.next_id)
    }

    /// Waits for the answer to a request.
    pub fn answer(
        &mut self,
        id: u64,
        method: &str,
        deadline: Instant,
        events: &dyn ProviderEvents,
    ) -> Result<Box<RawValue>, PluginError> {
        let last = deadline + self.limits.grace;
        let mut asked_to_stop = false;
        let mut passed_on = 0;
        loop {
            if !asked_to_stop && (events.cancelled() || Instant::now() >= deadline) {
                self.cancel(id);
                asked_to_stop = true;
            }
            // Once asked, it has until the very end; before, it is looked whether it should be asked.
            let until = if asked_to_stop { last } else { deadline };
            let wanted_stop = || !asked_to_stop && events.cancelled();
            let line = match self.line(until, method, &wanted_stop) {
                Ok(line) => line,
                Err(_) if !asked_to_stop && self.is_running() && (wanted_stop() || Instant::now() >= deadline) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let reply: Reply = serde_json::from_slice(&line).map_err(|error| {
                self.broke(format!("wrote a line that is no reply: {error}")).caused_by(short(&printable(&line), 200))
            })?;
            if reply.id != id && !(reply.id == 0 && reply.err.is_some()) {
                return Err(self.broke(format!("answered request {} while {id} is asked", reply.id)));
            }
            match reply {
                Reply { event: Some(event), ok: None, err: None, line, percent, what, .. } => {
                    if passed_on < EVENTS {
                        passed_on += 1;
                        pass_on(events, &event, line, percent, what);
                    }
                }
                Reply { event: None, ok: Some(ok), err: None, .. } => return Ok(ok),
                Reply { event: None, ok: None, err: Some(err), .. } => return Err(bounded(err)),
                _ => return Err(self.broke("wrote a reply that is not one of event, ok and err".to_owned())),
            }
        }
    }

    /// Waits for the answer until a moment only, without ending anything then: an error of kind `unavailable`
    /// says that none has come yet (the conformance suite).
    pub fn answer_until(&mut self, id: u64, method: &str, moment: Instant) -> Result<Box<RawValue>, PluginError> {
        loop {
            let line = self.line(Instant::now() + Duration::from_secs(600), method, &|| Instant::now() >= moment)?;
            let reply: Reply =
                serde_json::from_slice(&line).map_err(|error| self.broke(format!("wrote no reply: {error}")))?;
            match reply {
                Reply { id: of, ok: Some(ok), .. } if of == id => return Ok(ok),
                Reply { id: of, err: Some(err), .. } if of == id => return Err(bounded(err)),
                _ => {}
            }
        }
    }

    /// Asks it to stop as soon as it is safe.
    pub fn cancel(&mut self, id: u64) {
        if let Ok(line) = serde_json::to_vec(&Cancel { cancel: id }) {
            self.pipes.write_line(&line);
        }
    }

    /// Sends bytes as a line, whatever they are (the conformance suite).
    pub fn write_raw(&mut self, line: &[u8]) {
        self.pipes.write_line(line);
    }

    /// The next line, whatever it is (the conformance suite).
    pub fn read_raw(&mut self, until: Instant) -> Result<Vec<u8>, PluginError> {
        self.line(until, "a line", &|| false)
    }

    /// How it ended, if it did. It is looked at without being taken from the table of processes: until the very end
    /// its number stays its own, so that no other process is ever taken for it or for one of its group.
    fn ended(&self) -> Option<String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(pid), look).ok().flatten()?;
        Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit status: {code}"),
            (None, Some(signal)) => format!("signal: {signal}"),
            (None, None) => "ended".to_owned(),
        })
    }

    fn is_running(&self) -> bool {
        self.ended().is_none()
    }

    /// The next line of standard output. Past `until`, or when `stop` says so, there is none.
    fn line(&mut self, until: Instant, what: &str, stop: &dyn Fn() -> bool) -> Result<Vec<u8>, PluginError> {
        let mut ended_at = None;
        loop {
            if let Some(line) = self.pipes.next_line() {
                return Ok(line);
            }
            let now = Instant::now();
            if now >= until {
                let message = format!("{} did not answer {what} in its time and was ended", self.name);
                return Err(self.with_tail(
                    fail(ErrorKind::Failed, message)
                        .advise("Its last words may tell what it waited for; on a slow machine, try again."),
                ));
            }
            let ended = match ended_at {
                Some(at) => now.duration_since(at) >= DRAIN,
                None => false,
            };
            if !self.pipes.is_open() || ended {
                return Err(self.ended_early(what));
            }
            if ended_at.is_none() && !self.is_running() {
                ended_at = Some(now);
            }
            if stop() {
                return Err(fail(ErrorKind::Unavailable, "a stop was asked for"));
            }
            let wait = TICK.min(until - now);
            self.pipes.turn(wait).map_err(|trouble| pipes::trouble(&self.name, trouble, self.limits.said))?;
            self.log();
            self.count()?;
        }
    }

    fn log(&mut self) {
        while let Some(line) = self.pipes.next_logged() {
            tracing::debug!(plugin.name = %self.name, plugin.line = %line, "a plug-in says");
        }
    }

    /// Looks now and then how many processes there are.
    fn count(&mut self) -> Result<(), PluginError> {
        if self.counted.elapsed() < COUNT {
            return Ok(());
        }
        let found = self.tree.look(false);
        self.counted = Instant::now();
        if found > self.limits.processes {
            let message = format!("{} started more than {} processes and was ended", self.name, self.limits.processes);
            return Err(fail(ErrorKind::Failed, message).advise(ASK_ITS_AUTHOR));
        }
        Ok(())
    }

    fn ended_early(&mut self, what: &str) -> PluginError {
        let until = Instant::now() + DRAIN;
        while self.is_running() && Instant::now() < until {
            pause(Duration::from_millis(5));
        }
        let how = self.ended().unwrap_or_else(|| "closed its output".to_owned());
        // What it said last may still be in the pipe.
        let _ = self.pipes.turn(Duration::ZERO);
        self.with_tail(fail(ErrorKind::Failed, format!("{} ended before it answered {what} ({how})", self.name)))
    }

    fn with_tail(&self, error: PluginError) -> PluginError {
        self.pipes.tail().fold(error, |error, line| error.caused_by(short(line, 500)))
    }

    pub(super) fn broke(&self, what: String) -> PluginError {
        fail(ErrorKind::Failed, format!("{} {what}", self.name)).advise(ASK_ITS_AUTHOR)
    }

    /// No more requests: lets it end by itself for a short time, and wants no further word from it. What a reader
    /// left running is ended; what a provider's package manager started may be a service, and stays.
    pub fn finish(mut self) -> Result<(), PluginError> {
        self.pipes.close_input();
        let until = Instant::now() + self.limits.farewell;
        while self.pipes.is_open() && Instant::now() < until && self.is_running() {
            self.pipes.turn(TICK).map_err(|trouble| pipes::trouble(&self.name, trouble, self.limits.said))?;
            self.log();
            self.count()?;
        }
        let _ = self.pipes.turn(Duration::ZERO);
        while self.is_running() && Instant::now() < until {
            pause(Duration::from_millis(2));
        }
        if let Some(line) = self.pipes.next_line() {
            let error = self.broke("went on after its answer: there is exactly one for each request".to_owned());
            return Err(error.caused_by(short(&printable(&line), 200)));
        }
        if !self.reader && !self.is_running() {
            self.tree.forget();
            let _ = self.child.try_wait();
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.tree.is_forgotten() {
            return;
        }
        let Self { child, tree, name, .. } = self;
        if !tree.end() {
            tracing::error!(plugin.name = %name, "processes of a plug-in cannot be ended");
        }
        let _ = child.try_wait();
    }
}

fn pass_on(events: &dyn ProviderEvents, event: &str, line: Option<String>, percent: Option<u8>, what: Option<String>) {
    match event {
        "log" => events.output(&clean(&line.unwrap_or_default(), EVENT_CAP)),
        "progress" => {
            events.progress(percent.unwrap_or(0).min(100), &clean(&what.unwrap_or_default(), EVENT_CAP));
        }
        _ => {}
    }
}

/// Of an error, as much as people read.
fn bounded(mut err: ErrorMessage) -> PluginError {
    err.message = clean(&err.message, TEXT_CAP);
    err.advice = clean(&err.advice, TEXT_CAP);
    err.causes.truncate(CAUSES);
    err.causes.iter_mut().for_each(|cause| *cause = clean(cause, TEXT_CAP));
    err.into()
}

/// Without control characters, and not longer than `most` characters.
pub(super) fn clean(text: &str, most: usize) -> String {
    short(&printable(text.as_bytes()), most)
}

fn short(text: &str, most: usize) -> String {
    let cut: String = text.chars().take(most).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

/// Limits of the operating system, set from outside in the moment after the start. A reader's are close; a
/// provider's package manager needs what it needs.
fn limit(child: &Child, reader: bool) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    let of = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    let mut limits = vec![(Resource::Core, of(0))];
    if reader {
        limits.extend([(Resource::Nofile, of(256)), (Resource::Fsize, of(2 << 30)), (Resource::As, of(4 << 30))]);
    }
    for (resource, limit) in limits {
        // A limit that cannot be set is one that is lower already.
        let _ = prlimit(Some(pid), resource, limit);
    }
}
