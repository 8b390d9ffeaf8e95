//! Output of a deployment on its way into the spool: masked, cut, in batches, its last lines kept as
//! evidence for a failure.

use super::mask::Masker;
use super::spool::Spool;
use crate::clock::{self, Stop};
use fettle_domain::DeploymentId;
use fettle_plugin::ProviderEvents;
use fettle_wire::agent::ReportBody;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest line; what is longer is cut and says so.
const LONGEST_LINE: usize = 4 << 10;
/// Most bytes of one deployment's output that are told.
const MOST_BYTES: usize = 1 << 20;
/// A batch is told when it has so many lines, or is so old.
const BATCH_LINES: usize = 50;
const BATCH_AGE: Duration = Duration::from_millis(500);
/// Last lines that go into the reasons of a failure.
const LAST_LINES: usize = 20;

/// Takes lines and hands them to the spool.
pub(crate) struct OutputSink {
    deployment: DeploymentId,
    spool: Arc<Mutex<Spool>>,
    stop: Stop,
    /// The act under way must not be stopped half way.
    whole: AtomicBool,
    lines: Mutex<Lines>,
}

struct Lines {
    masker: Masker,
    batch: Vec<String>,
    begun: Instant,
    told_bytes: usize,
    cut: bool,
    last: VecDeque<String>,
}

impl OutputSink {
    pub(crate) fn new(deployment: DeploymentId, spool: Arc<Mutex<Spool>>, stop: Stop) -> Self {
        let lines = Lines {
            masker: Masker::default(),
            batch: Vec::new(),
            begun: Instant::now(),
            told_bytes: 0,
            cut: false,
            last: VecDeque::new(),
        };
        Self { deployment, spool, stop, whole: AtomicBool::new(false), lines: Mutex::new(lines) }
    }

    /// Whether the act that follows must not be stopped half way.
    pub(crate) fn set_whole(&self, whole: bool) {
        self.whole.store(whole, Ordering::Relaxed);
    }

    /// Hands over what is waiting.
    pub(crate) fn flush(&self) {
        let batch = std::mem::take(&mut clock::lock(&self.lines).batch);
        self.tell(batch);
    }

    /// The last lines, as evidence; empties them, so that the next task's evidence is its own.
    pub(crate) fn take_last_lines(&self) -> Vec<String> {
        clock::lock(&self.lines).last.drain(..).collect()
    }

    fn tell(&self, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let body = ReportBody::Output { deployment: self.deployment, lines };
        // Output is the one thing that may be lost: the disk may be full, the deployment goes on.
        if let Err(error) = clock::lock(&self.spool).add(body, None) {
            tracing::warn!(deployment.id = %self.deployment, error.text = %error, "output is not reported");
        }
    }
}

impl Lines {
    /// Takes a line; returns a batch when one is due.
    fn take(&mut self, line: &str) -> Option<Vec<String>> {
        let shown = cut(&self.masker.mask(&printable(line)));
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(shown.clone());
        if self.cut {
            return None;
        }
        if self.batch.is_empty() {
            self.begun = Instant::now();
        }
        self.told_bytes += shown.len() + 1;
        if self.told_bytes > MOST_BYTES {
            self.cut = true;
            self.batch.push(format!("[more than {MOST_BYTES} bytes of output: the rest is not reported]"));
        } else {
            self.batch.push(shown);
        }
        let due = self.cut || self.batch.len() >= BATCH_LINES || self.begun.elapsed() >= BATCH_AGE;
        due.then(|| std::mem::take(&mut self.batch))
    }
}

impl ProviderEvents for OutputSink {
    fn output(&self, line: &str) {
        let due = clock::lock(&self.lines).take(line);
        if let Some(batch) = due {
            self.tell(batch);
        }
    }

    fn progress(&self, percent: u8, what: &str) {
        tracing::debug!(deployment.id = %self.deployment, progress.percent = percent, progress.what = what, "progress");
    }

    fn cancelled(&self) -> bool {
        !self.whole.load(Ordering::Relaxed) && self.stop.told()
    }
}

/// Without control characters, which a terminal would obey.
fn printable(line: &str) -> String {
    line.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn cut(line: &str) -> String {
    if line.len() <= LONGEST_LINE {
        return line.to_owned();
    }
    let end = (0..=LONGEST_LINE).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    format!("{} [cut, {} bytes]", line.get(..end).unwrap_or_default(), line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> (tempfile::TempDir, Arc<Mutex<Spool>>, OutputSink) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Mutex::new(Spool::open(&folder.path().join("spool")).unwrap()));
        let sink = OutputSink::new(DeploymentId::new(1, [0; 10]), spool.clone(), Stop::default());
        (folder, spool, sink)
    }

    fn told(spool: &Mutex<Spool>) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let batch = spool.lock().unwrap().batch().unwrap();
            let Some(last) = batch.last().map(|entry| entry.sequence) else { return all };
            for entry in batch {
                if let ReportBody::Output { lines, .. } = entry.body {
                    all.extend(lines);
                }
            }
            spool.lock().unwrap().acknowledge(last).unwrap();
        }
    }

    #[test]
    fn lines_come_masked_cut_and_in_order() {
        let (_folder, spool, sink) = sink();
        sink.output("password=hunter2");
        sink.output(&"x".repeat(10_000));
        sink.output("bell\u{7}");
        sink.flush();
        let lines = told(&spool);
        assert_eq!(lines[0], "password=***");
        assert!(lines[1].len() < 5_000 && lines[1].ends_with("[cut, 10000 bytes]"));
        assert_eq!(lines[2], "bell\u{fffd}");
    }

    #[test]
    fn a_flood_is_bounded_and_says_so_while_the_last_lines_stay_evidence() {
        let (_folder, spool, sink) = sink();
        for number in 0..20_000 {
            sink.output(&format!("{number:06} {}", "y".repeat(100)));
        }
        sink.flush();
        let lines = told(&spool);
        assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() <= MOST_BYTES + 200);
        assert!(lines.last().unwrap().contains("the rest is not reported"));
        let last = sink.take_last_lines();
        assert_eq!(last.len(), LAST_LINES);
        assert!(last[19].starts_with("019999"));
    }
}
