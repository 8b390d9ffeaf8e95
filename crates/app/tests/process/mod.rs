//! What the end-to-end tests share: waiting for a condition, and processes that end with their owner.
#![allow(dead_code, reason = "each test file uses its part")]

use rustix::process::{Pid, Signal, kill_process};
use std::process::Child;
use std::time::{Duration, Instant};

/// Asks until the answer is there, within a limit.
pub fn until<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(seconds), "waited {seconds} seconds for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A process that ends with its owner: asked first, then made to.
pub struct Running(pub Child);

impl Running {
    /// Asks it to end, and ends it when it does not in half a minute.
    pub fn stop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM);
        }
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
