//! Where a run is cut: a system call that some process of it makes, found by a run that is only watched, and
//! met again by `strace`, which stops or kills that very process at that very call.

use crate::machine::Machine;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The calls at which a run can be cut: what writes, what makes durable, what talks, what starts programs.
const CALLS: &str = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,openat,unlink,unlinkat,mkdir,mkdirat,\
                     link,ftruncate,execve,sendto,recvfrom";
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

/// Runs the agent once; true when the cut came, false when the agent ended before.
pub fn cut(machine: &mut Machine, point: &Point, victim: Victim, log: &Path) -> bool {
    let _ = std::fs::remove_file(log);
    let at_once = point.is_agents() || victim == Victim::Manager;
    let signal = if at_once { "SIGKILL" } else { "SIGSTOP" };
    let mut command = strace(log, &format!("trace={}", point.call));
    command.args(["-e", &format!("inject={}:signal={signal}:when={}", point.call, point.nth)]);
    if !point.path.is_empty() {
        command.args(["-P", &point.path, "-P"]).arg(machine.path(&point.path));
    }
    let sign = if at_once { "+++ killed by SIGKILL +++" } else { "--- stopped by SIGSTOP ---" };
    let happened = || std::fs::read_to_string(log).unwrap_or_default().contains(sign);
    let mut child = start(machine, command);
    wait(&mut child, || victim != Victim::Manager && happened());
    let cut = happened();
    match victim {
        Victim::Power => machine.cut_power(),
        Victim::Agent if cut => {
            // Where another process stands still, that is the moment; then it goes on without the agent.
            if !at_once {
                machine.kill_agent_and_go_on();
            }
            crate::support::wait_for("the end of the agent", || !machine.has_agent());
        }
        Victim::Agent | Victim::Manager => {}
    }
    // What the agent started may go on after it: strace ends with the last of it.
    if victim != Victim::Agent || !cut {
        wait(&mut child, || false);
    } else {
        std::thread::spawn(move || child.wait());
    }
    cut
}

fn strace(log: &Path, trace: &str) -> Command {
    let mut command = Command::new("strace");
    // Not with `--seccomp-bpf`: then signals are not injected.
    command.args(["-f", "-q", "-y", "-o"]).arg(log).args(["-e", trace]);
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
        if !CALLS.split(',').any(|known| known == call) {
            continue;
        }
        let quoted = || arguments.split('"').nth(1).filter(|text| text.starts_with('/'));
        let of_descriptor = || arguments.split(['<', '>']).nth(1).filter(|text| text.starts_with('/') && text.len() > 1);
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
