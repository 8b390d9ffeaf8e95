//! Output of a deployment on its way: masked and cut, the whole of it kept on this host, the live
//! lines in batches into the spool as long as there is room, its last lines as evidence for a failure.
//!
//! Nothing here makes the package manager wait for the network: where the server is slow or away,
//! live lines are left out and counted, and the count is told.

use super::keep::Keep;
use super::mask::{Masker, Patterns};
use super::spool::Spool;
use crate::clock::{self, Stop};
use fettle_domain::DeploymentId;
use fettle_plugin::ProviderEvents;
use fettle_wire::agent::ReportBody;
use fettle_wire::log::LogStream;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

/// Longest line; what is longer is cut and says so.
const LONGEST_LINE: usize = 4 << 10;
/// Most bytes of one deployment's output that are sent live; the whole log is sent on request.
const MOST_BYTES: usize = 1 << 20;
/// A batch is told when it has so many lines, or is so old.
const BATCH_LINES: usize = 50;
const BATCH_AGE: Duration = Duration::from_millis(500);
/// Lines that wait at most while the spool is busy with the disk.
const MOST_PENDING: usize = 1_000;
/// Last lines that go into the reasons of a failure.
const LAST_LINES: usize = 20;
/// Last lines of those left out that are sent at the end after all.
const LAST_LEFT_OUT: usize = 10;

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
    keep: Keep,
    /// The task that writes.
    task: String,
    batch: Vec<String>,
    begun: Instant,
    told_bytes: usize,
    /// Lines not sent since the last gap that was told, and the last of them.
    left_out: u64,
    last_left_out: VecDeque<String>,
    last: VecDeque<String>,
}

impl OutputSink {
    /// Of the deployment with this folder.
    pub(crate) fn new(
        deployment: DeploymentId,
        folder: &Path,
        spool: Arc<Mutex<Spool>>,
        stop: Stop,
        masks: Arc<Patterns>,
    ) -> Self {
        let lines = Lines {
            masker: Masker::new(masks),
            keep: Keep::new(folder),
            task: String::new(),
            batch: Vec::new(),
            begun: Instant::now(),
            told_bytes: 0,
            left_out: 0,
            last_left_out: VecDeque::new(),
            last: VecDeque::new(),
        };
        Self { deployment, spool, stop, whole: AtomicBool::new(false), lines: Mutex::new(lines) }
    }

    /// Whether the act that follows must not be stopped half way.
    pub(crate) fn set_whole(&self, whole: bool) {
        self.whole.store(whole, Ordering::Relaxed);
    }

    /// Names the task whose lines follow.
    pub(crate) fn set_task(&self, task: &str) {
        let mut lines = clock::lock(&self.lines);
        task.clone_into(&mut lines.task);
    }

    /// Hands over what is waiting, if the spool has time and room.
    pub(crate) fn flush(&self) {
        self.hand_over(&mut clock::lock(&self.lines), false);
    }

    /// Hands over what is waiting, and tells what was left out: nothing follows for now.
    pub(crate) fn finish(&self) {
        let mut lines = clock::lock(&self.lines);
        self.hand_over(&mut lines, true);
        lines.keep.sync();
        if lines.left_out == 0 {
            return;
        }
        let mut spool = clock::lock(&self.spool);
        let last: Vec<String> = lines.last_left_out.drain(..).collect();
        let shown = if spool.has_room_for_output() { last } else { Vec::new() };
        // These come after all.
        let left_out = std::mem::take(&mut lines.left_out).saturating_sub(shown.len() as u64);
        let told = [gap(left_out)].into_iter().chain(shown).collect();
        tell(&mut spool, self.deployment, told);
    }

    /// The last lines, as evidence; empties them, so that the next task's evidence is its own.
    pub(crate) fn take_last_lines(&self) -> Vec<String> {
        clock::lock(&self.lines).last.drain(..).collect()
    }

    /// A text as it may leave this host.
    pub(crate) fn mask_text(&self, text: &str) -> String {
        clock::lock(&self.lines).masker.mask_text(text)
    }

    fn take(&self, line: &str, stream: LogStream) {
        let mut lines = clock::lock(&self.lines);
        if lines.take(line, stream) {
            self.hand_over(&mut lines, false);
        }
    }

    /// Never waits for the spool unless told to: whoever reports may be syncing the disk.
    fn hand_over(&self, lines: &mut Lines, wait: bool) {
        if lines.batch.is_empty() {
            return;
        }
        let mut spool = match self.spool.try_lock() {
            Ok(spool) => spool,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if wait => clock::lock(&self.spool),
            Err(TryLockError::WouldBlock) => {
                if lines.batch.len() > MOST_PENDING {
                    lines.leave_out();
                }
                return;
            }
        };
        let bytes: usize = lines.batch.iter().map(|line| line.len() + 1).sum();
        if lines.told_bytes + bytes > MOST_BYTES || !spool.has_room_for_output() {
            lines.leave_out();
            return;
        }
        lines.told_bytes += bytes;
        let mut told = std::mem::take(&mut lines.batch);
        if lines.left_out > 0 {
            told.insert(0, gap(std::mem::take(&mut lines.left_out)));
            lines.last_left_out.clear();
        }
        tell(&mut spool, self.deployment, told);
    }
}

fn gap(lines: u64) -> String {
    format!("[{lines} lines not sent; the whole log is on the host]")
}

fn tell(spool: &mut Spool, deployment: DeploymentId, lines: Vec<String>) {
    // Output is the one thing that may be lost: the disk may be full, the deployment goes on.
    if let Err(error) = spool.add(ReportBody::Output { deployment, lines }, None) {
        tracing::warn!(deployment.id = %deployment, error.text = %error, "output is not reported");
    }
}

impl Lines {
    /// Takes a line; true when a batch is due.
    fn take(&mut self, line: &str, stream: LogStream) -> bool {
        let shown = cut(&self.masker.mask(&printable(line)));
        self.keep.add(clock::now(), &self.task, stream, &shown);
        push(&mut self.last, &shown, LAST_LINES);
        if self.batch.is_empty() {
            self.begun = Instant::now();
        }
        self.batch.push(shown);
        self.batch.len() >= BATCH_LINES || self.begun.elapsed() >= BATCH_AGE
    }

    fn leave_out(&mut self) {
        self.left_out += self.batch.len() as u64;
        for line in self.batch.drain(..) {
            push(&mut self.last_left_out, &line, LAST_LEFT_OUT);
        }
    }
}

fn push(ring: &mut VecDeque<String>, line: &str, most: usize) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(line.to_owned());
}

impl ProviderEvents for OutputSink {
    fn output(&self, line: &str) {
        self.take(line, LogStream::Output);
    }

    fn error_output(&self, line: &str) {
        self.take(line, LogStream::Error);
    }

    fn progress(&self, percent: u8, what: &str) {
        tracing::debug!(deployment.id = %self.deployment, progress.percent = percent, progress.what = what, "progress");
    }

    fn cancelled(&self) -> bool {
        !self.whole.load(Ordering::Relaxed) && self.stop.told()
    }
}

/// Without control characters, which a terminal would obey.
pub(crate) fn printable(line: &str) -> String {
    line.trim_end().chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

pub(crate) fn cut(line: &str) -> String {
    if line.len() <= LONGEST_LINE {
        return line.to_owned();
    }
    let end = (0..=LONGEST_LINE).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    format!("{} [cut, {} bytes]", line.get(..end).unwrap_or_default(), line.len())
}

#[cfg(test)]
mod tests {
    use super::super::keep;
    use super::*;

    fn sink() -> (tempfile::TempDir, Arc<Mutex<Spool>>, OutputSink) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Mutex::new(Spool::open(&folder.path().join("spool")).unwrap()));
        let sink = OutputSink::new(deployment(), folder.path(), spool.clone(), Stop::default(), Arc::default());
        (folder, spool, sink)
    }

    fn deployment() -> DeploymentId {
        DeploymentId::new(1, [0; 10])
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
    fn the_whole_log_stays_here_with_task_and_stream_masked_before_it_is_written() {
        let (folder, _spool, sink) = sink();
        sink.set_task("install");
        sink.output("password=hunter2");
        sink.set_task("reboot");
        sink.error_output("boom");
        let kept = keep::read(folder.path(), 1, 1_000).unwrap().lines;
        let told: Vec<_> = kept.iter().map(|line| (line.task.as_str(), line.stream, line.text.as_str())).collect();
        assert_eq!(told, [("install", LogStream::Output, "password=***"), ("reboot", LogStream::Error, "boom")]);
    }

    #[test]
    fn a_flood_that_nobody_takes_is_thinned_told_and_kept_while_events_have_room() {
        let (folder, spool, sink) = sink();
        let text = "y".repeat(992);
        for number in 0..20_000 {
            sink.output(&format!("{number:06} {text}"));
            if number % 2_000 == 0 {
                let body = ReportBody::Refused { deployment: Some(deployment()), reasons: vec![] };
                spool.lock().unwrap().add(body, None).unwrap();
            }
        }
        sink.finish();
        let spool_bytes = std::fs::metadata(folder.path().join("spool")).unwrap().len();
        assert!(spool_bytes < 2 << 20, "20 MB left {spool_bytes} bytes in the spool");
        assert!(!spool.lock().unwrap().is_overfull());
        let lines = told(&spool);
        let sent = lines.iter().filter(|line| line.contains('y')).count() as u64;
        // On a slow machine some more fit in between: then there is more than one gap.
        let gap = |line: &String| -> Option<u64> {
            line.strip_suffix(" lines not sent; the whole log is on the host]")?.strip_prefix('[')?.parse().ok()
        };
        assert_eq!(lines.iter().filter_map(gap).sum::<u64>(), 20_000 - sent);
        assert!(sent < 3_000, "{sent} lines were sent");
        let last = sink.take_last_lines();
        assert_eq!(last.len(), LAST_LINES);
        assert!(last[19].starts_with("019999"));
        let kept = keep::read(folder.path(), 19_990, 1 << 20).unwrap();
        assert_eq!(kept.lines.last().map(|line| line.number), Some(20_000));
    }

    #[test]
    fn when_the_server_is_back_the_gap_is_told_before_the_lines_that_follow() {
        let (_folder, spool, sink) = sink();
        spool.lock().unwrap().set_most_output(2_000);
        for number in 0..200 {
            sink.output(&format!("{number:03} {}", "y".repeat(100)));
        }
        assert!(!spool.lock().unwrap().has_room_for_output());
        assert_eq!(told(&spool).len(), 50, "one batch found room");
        for number in 200..250 {
            sink.output(&format!("{number:03}"));
        }
        let lines = told(&spool);
        assert_eq!(lines[0], "[150 lines not sent; the whole log is on the host]");
        assert_eq!(lines[1], "200");
        sink.finish();
        assert_eq!(told(&spool), [] as [&str; 0], "nothing was left out since");
    }

    #[test]
    fn whoever_writes_does_not_wait_for_a_busy_spool() {
        let (_folder, spool, sink) = sink();
        let busy = spool.lock().unwrap();
        // Would never return if it waited.
        for number in 0..1_200 {
            sink.output(&format!("{number}"));
        }
        sink.flush();
        drop(busy);
        sink.finish();
        let lines = told(&spool);
        assert!(lines[0].contains("lines not sent"), "{}", lines[0]);
        assert_eq!(lines.last().unwrap(), "1199");
    }
}
