//! Where a run is cut: a system call that some process of it makes, found by a run that is only watched, and
//! met again by `strace`, which holds that very process at that very call.

use crate::machine::Machine;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The calls at which a run can be cut: what writes, what makes durable, what talks, what starts programs.
const CALLS: &str = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,openat,unlink,unlinkat,mkdir,mkdirat,\
                     link,ftruncate,execve,sendto,recvfrom";
/// How long strace holds a process, in microseconds: time to end what is to end. Others that come to their own
/// such call later only lose this time.
const HOLD: u32 = 1_500_000;
/// Longest that one run of the agent may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The agent; what it started goes on.
    Agent,
    /// A process of the package manager; the agent goes on.
    Manager,
    /// Everything, with the loss of what was not synced.
    Power,
}

/// One call of one process of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Name of the process or thread.
    pub process: String,
    /// Name of the call.
    pub call: String,
    /// The file it is about; empty when there is none.
    pub path: String,
    /// The how many-th such call of that thread it is, from 1.
    pub nth: usize,
    /// What is written, for the agent's journal and spool.
    pub text: String,
}

impl Point {
    /// Whether the agent itself makes it. (What starts a program is a child of it already.)
    pub fn is_agents(&self) -> bool {
        (self.process == "fettle" || self.process.starts_with("tokio")) && self.call != "execve"
    }
}

/// Runs the agent once, watched.
pub fn watch(machine: &Machine, log: &Path) -> Vec<Point> {
    let mut command = strace(log, &format!("trace={CALLS}"));
    command.args(["-s", "400", "--decode-pids=comm"]);
    let mut child = start(machine, command);
    wait(&mut child, || false);
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    // Of open files strace tells the path as seen from here.
    points(&text.replace(&machine.root().display().to_string(), ""))
}

/// Runs the agent once; true when the cut came, false when the agent ended before. The process is held before
/// the call; what it waits for or waits for it stands still too.
pub fn cut(machine: &mut Machine, point: &Point, victim: Victim, log: &Path) -> bool {
    let _ = std::fs::remove_file(log);
    let mut command = strace(log, &format!("trace={}", point.call));
    command.args(["-e", &format!("inject={}:delay_enter={HOLD}:when={}", point.call, point.nth)]);
    if !point.path.is_empty() {
        command.args(["-P", &point.path, "-P"]).arg(machine.path(&point.path));
    }
    let held = || held(&std::fs::read_to_string(log).unwrap_or_default(), point);
    let mut child = start(machine, command);
    wait(&mut child, || held().is_some());
    let held = held();
    match (victim, held) {
        (Victim::Power, _) => machine.cut_power(),
        (Victim::Agent, Some(_)) => machine.kill_agent(),
        (Victim::Manager, Some(pid)) => kill(pid, Signal::KILL),
        (_, None) => {}
    }
    if victim == Victim::Agent && held.is_some() {
        crate::support::wait_for("the end of the agent", || !machine.has_agent());
        // A child that is held right before it becomes another program still has all the agent's files open, its
        // lock among them, which without strace it has for an instant only.
        if point.call == "execve" {
            let begun = Instant::now();
            let hold = Duration::from_micros(u64::from(HOLD)) + Duration::from_millis(500);
            crate::support::wait_for("the child", || begun.elapsed() > hold);
        }
        // What the agent started goes on, and strace with it, as long as the machine is on.
        std::thread::spawn(move || child.wait());
    } else {
        wait(&mut child, || false);
    }
    held.is_some()
}

fn kill(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

/// The process that came to the call, and is held there.
fn held(log: &str, point: &Point) -> Option<Pid> {
    let mut seen = std::collections::HashMap::new();
    let call = format!("{}(", point.call);
    for line in log.lines() {
        let (pid, rest) = line.split_once(' ')?;
        let count = seen.entry(pid).or_insert(0);
        *count += usize::from(rest.trim_start().starts_with(&call));
        if *count >= point.nth {
            return pid.parse().ok().and_then(Pid::from_raw);
        }
    }
    None
}

fn strace(log: &Path, trace: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-q", "-y", "--seccomp-bpf", "-o"]).arg(log).args(["-e", trace]);
    command
}

fn start(machine: &Machine, mut command: Command) -> Child {
    command.args(machine.entry()).args(Machine::AGENT_ONCE);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(machine.log()).spawn().unwrap()
}

/// Waits until it ends or the condition holds.
fn wait(child: &mut Child, until: impl Fn() -> bool) {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && !until() {
        assert!(begun.elapsed() < LIMIT, "the agent did not end in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Reads what strace wrote: `123<comm> call(3</a/path>, ...`, `123<comm> call(AT_FDCWD</>, "/a/path", ...`.
fn points(log: &str) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let mut seen = std::collections::HashMap::new();
    for line in log.lines() {
        let Some((who, rest)) = line.split_once('>') else { continue };
        let Some((pid, process)) = who.split_once('<') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        // What leads to the agent is none of it yet.
        if !CALLS.split(',').any(|known| known == call) || ["nsenter", "env"].contains(&process) {
            continue;
        }
        let quoted = || arguments.split('"').nth(1).filter(|text| text.starts_with('/'));
        let of_descriptor =
            || arguments.split(['<', '>']).nth(1).filter(|text| text.starts_with('/') && text.len() > 1);
        let path = if ["write", "pwrite64", "fsync", "fdatasync", "ftruncate"].contains(&call) {
            of_descriptor()
        } else {
            quoted()
        };
        let path = path.unwrap_or_default().to_owned();
        let nth = seen.entry((pid.to_owned(), call.to_owned(), path.clone())).or_insert(0);
        *nth += 1;
        points.push(Point {
            process: process.to_owned(),
            call: call.to_owned(),
            text: if path.starts_with(crate::machine::STATE) { arguments.replace('\\', "") } else { String::new() },
            path,
            nth: *nth,
        });
    }
    points
}
