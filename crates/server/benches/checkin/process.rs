//! Child processes, and what the kernel knows of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Units of `/proc/PID/stat` in a second: USER_HZ, a hundred for every program on Linux (proc(5)).
const TICKS: f64 = 100.0;

/// A child that is told things by lines and answers by lines. It ends when this is dropped.
pub struct Talking {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Talking {
    /// This very program in another role.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap();
        assert!(read > 0, "a child of the benchmark ended early; what it said is above");
        line.trim().to_owned()
    }

    pub fn kernel(&self) -> Kernel {
        Kernel(self.child.id())
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        drop(self.input.take());
        let ended = self.child.wait().unwrap();
        assert!(ended.success() || std::thread::panicking(), "a child of the benchmark failed: {ended}");
    }
}

/// A process as `/proc` shows it.
#[derive(Clone, Copy)]
pub struct Kernel(pub u32);

impl Kernel {
    /// Resident memory (bytes).
    pub fn resident(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most it ever was (bytes).
    pub fn peak(self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(self, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Resident memory with each shared page counted by its share (bytes, proc(5) `Pss`).
    pub fn proportional(self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.0)).unwrap();
        let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Its children.
    pub fn child_processes(self) -> Vec<u32> {
        let text = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0)).unwrap();
        text.split_whitespace().map(|child| child.parse().unwrap()).collect()
    }

    /// Processor time of its children that have ended (seconds).
    pub fn children(self) -> f64 {
        self.ticks([13, 14])
    }

    /// Processor time so far (seconds), in and out of the kernel.
    pub fn processor(self) -> f64 {
        self.ticks([11, 12])
    }

    fn ticks(self, places: [usize; 2]) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = places.iter().map(|place| fields[*place].parse::<u64>().unwrap()).sum();
        ticks as f64 / TICKS
    }
}
