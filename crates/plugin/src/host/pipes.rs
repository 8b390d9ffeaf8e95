//! The three pipes of a running plug-in: written and read without ever blocking, each line bounded, all of it counted.

use crate::PluginError;
use crate::protocol::LINE_LIMIT;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Child;
use std::time::Duration;

/// Longest line of standard error that is kept; the rest of it is left out.
const ERROR_LINE: usize = 4096;
/// Lines of standard error that are kept for messages.
const TAIL: usize = 20;

/// One reading end and the line that is not complete yet.
struct Stream {
    pipe: Option<OwnedFd>,
    line: Vec<u8>,
}

/// What a look at the pipes brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A line of standard output is longer than the protocol allows.
    LongLine,
    /// More bytes than one run may say.
    Flood,
}

/// The pipes.
pub struct Pipes {
    input: Option<OwnedFd>,
    unwritten: VecDeque<u8>,
    output: Stream,
    errors: Stream,
    lines: VecDeque<Vec<u8>>,
    logged: VecDeque<String>,
    tail: VecDeque<String>,
    said: u64,
    most: u64,
}

impl Pipes {
    /// Takes the pipes of a child; `most` bytes may be said in all.
    pub fn of(child: &mut Child, most: u64) -> io::Result<Self> {
        let input = child.stdin.take().map(OwnedFd::from);
        let output = child.stdout.take().map(OwnedFd::from);
        let errors = child.stderr.take().map(OwnedFd::from);
        for pipe in input.iter().chain(&output).chain(&errors) {
            fcntl_setfl(pipe, OFlags::NONBLOCK)?;
        }
        Ok(Self {
            input,
            unwritten: VecDeque::new(),
            output: Stream { pipe: output, line: Vec::new() },
            errors: Stream { pipe: errors, line: Vec::new() },
            lines: VecDeque::new(),
            logged: VecDeque::new(),
            tail: VecDeque::new(),
            said: 0,
            most,
        })
    }

    /// Puts a line into the queue; it is written as the plug-in reads.
    pub fn write_line(&mut self, line: &[u8]) {
        self.unwritten.extend(line);
        self.unwritten.push_back(b'\n');
    }

    /// No more requests.
    pub fn close_input(&mut self) {
        self.unwritten.clear();
        self.input = None;
    }

    /// The next whole line of standard output.
    pub fn next_line(&mut self) -> Option<Vec<u8>> {
        self.lines.pop_front()
    }

    /// The next line of standard error.
    pub fn next_logged(&mut self) -> Option<String> {
        self.logged.pop_front()
    }

    /// The last lines of standard error.
    pub fn tail(&self) -> impl Iterator<Item = &String> {
        self.tail.iter()
    }

    /// Whether standard output is still open.
    pub fn is_open(&self) -> bool {
        self.output.pipe.is_some()
    }

    /// Waits up to `wait` for something to happen and does it.
    pub fn turn(&mut self, wait: Duration) -> Result<(), Trouble> {
        let wait = Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(1), tv_nsec: wait.subsec_nanos().into() };
        let reading = [self.output.pipe.as_ref(), self.errors.pipe.as_ref()];
        let mut polled: Vec<PollFd<'_>> =
            reading.into_iter().flatten().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)).collect();
        if let Some(input) = self.input.as_ref().filter(|_| !self.unwritten.is_empty()) {
            polled.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::OUT));
        }
        if !matches!(poll(&mut polled, Some(&wait)), Ok(1..)) {
            return Ok(());
        }
        self.write();
        self.read_output()?;
        self.read_errors()
    }

    fn write(&mut self) {
        while !self.unwritten.is_empty() {
            let Some(input) = &self.input else { return };
            match rustix::io::write(input, self.unwritten.as_slices().0) {
                Ok(count) => drop(self.unwritten.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // It does not read any more; whether it answers all the same is seen by its output.
                Err(_) => return self.close_input(),
            }
        }
    }

    /// At most a megabyte a turn, so that deadlines are looked at in between.
    fn read_output(&mut self) -> Result<(), Trouble> {
        let mut buffer = [0u8; 16 * 1024];
        for _ in 0..64 {
            let Some(count) = read(&mut self.output.pipe, &mut buffer) else { return Ok(()) };
            self.count(count)?;
            for part in buffer.get(..count).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                let whole = part.strip_suffix(b"\n");
                self.output.line.extend_from_slice(whole.unwrap_or(part));
                if self.output.line.len() > LINE_LIMIT {
                    return Err(Trouble::LongLine);
                }
                if whole.is_some() {
                    self.lines.push_back(std::mem::take(&mut self.output.line));
                }
            }
        }
        Ok(())
    }

    fn read_errors(&mut self) -> Result<(), Trouble> {
        let mut buffer = [0u8; 16 * 1024];
        for _ in 0..16 {
            let Some(count) = read(&mut self.errors.pipe, &mut buffer) else { return Ok(()) };
            self.count(count)?;
            for byte in buffer.get(..count).unwrap_or_default() {
                match byte {
                    b'\n' => self.end_error_line(),
                    byte if self.errors.line.len() < ERROR_LINE => self.errors.line.push(*byte),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn end_error_line(&mut self) {
        let line = printable(&std::mem::take(&mut self.errors.line));
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.clone());
        self.logged.push_back(line);
        // Nobody has asked for them in a while: the oldest are left out.
        if self.logged.len() > 10_000 {
            self.logged.pop_front();
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.said += bytes as u64;
        if self.said > self.most { Err(Trouble::Flood) } else { Ok(()) }
    }
}

/// Text without what would move a cursor.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

/// Reads what is there; `None` when nothing is, or there will be no more.
fn read(pipe: &mut Option<OwnedFd>, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match rustix::io::read(pipe.as_ref()?, &mut *buffer) {
            Ok(0) => break,
            Ok(count) => return Some(count),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return None,
            Err(_) => break,
        }
    }
    *pipe = None;
    None
}

/// What is said of trouble.
pub fn trouble(name: &str, trouble: Trouble, most: u64) -> PluginError {
    let message = match trouble {
        Trouble::LongLine => format!("the plug-in {name} wrote a line of more than {LINE_LIMIT} bytes and was ended"),
        Trouble::Flood => format!("the plug-in {name} wrote more than {} MiB and was ended", most >> 20),
    };
    PluginError::new(crate::ErrorKind::Failed, message).advise(super::ASK_ITS_AUTHOR)
}
