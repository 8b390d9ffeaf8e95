//! The spool: entries wait on disk until the server has acknowledged them, and survive a restart.
//!
//! It is bounded: when it is full, output of deployments goes first, the oldest first. What happened
//! to deployments, tasks and rehearsals is never dropped; instead new orders are refused while such
//! entries alone fill it ([`Spool::is_overfull`]).

use crate::clock;
use crate::disk::log::Place;
use crate::disk::{AppendLog, LogError, files};
use fettle_domain::DeploymentId;
use fettle_wire::agent::{ReportBody, ReportEntry};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Notify;

const KIND: &str = "fettle-spool";
const VERSION: u32 = 1;
/// Most bytes that wait: some dozen deployments with all their output.
const MOST_BYTES: u64 = 16 << 20;
/// Most entries that wait.
const MOST_ENTRIES: usize = 20_000;
/// Most bytes of output that wait. While so much waits no more is taken, so that a server that is
/// away costs live lines and never the room of what must be told.
const MOST_OUTPUT: u64 = 1 << 20;
/// Acknowledged bytes that may lie in the file before it is written anew.
const MOST_WASTE: u64 = 256 << 10;
/// A report carries at most so much.
const BATCH_BYTES: u64 = 512 << 10;
const BATCH_ENTRIES: usize = 200;
/// How far the server may be ahead of a folder that was restored from a copy.
const MOST_AHEAD: u64 = 1_000_000_000;
/// Deployments whose last reported record is remembered.
const MOST_REMEMBERED: usize = 500;

/// Which journal record an entry tells of, so that after a crash nothing is told twice or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) deployment: DeploymentId,
    /// Number of the record in that deployment's journal, from 1.
    pub(crate) record: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Record {
    /// First record of a file: what earlier files knew.
    Base {
        next_sequence: u64,
        reported: Vec<Origin>,
    },
    Entry {
        entry: ReportEntry,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    },
    Acknowledged {
        up_to: u64,
    },
}

struct Waiting {
    sequence: u64,
    place: Place,
    /// Output: may be dropped when the spool is full.
    droppable: bool,
}

/// The spool. In memory is only where each entry lies.
pub(crate) struct Spool {
    path: PathBuf,
    log: AppendLog<Record>,
    waiting: VecDeque<Waiting>,
    next_sequence: u64,
    reported: BTreeMap<DeploymentId, u64>,
    most_bytes: u64,
    most_output: u64,
    /// Something was appended that may not be on the disk yet.
    unsynced: bool,
    /// Wakes whoever reports.
    nudge: Arc<Notify>,
}

impl Spool {
    /// Opens it, or makes an empty one.
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let (log, records) = match AppendLog::open(path, KIND, VERSION)? {
            Some(found) => found,
            None => (AppendLog::create(path, KIND, VERSION)?, Vec::new()),
        };
        let mut spool = Self {
            path: path.to_owned(),
            log,
            waiting: VecDeque::new(),
            next_sequence: 1,
            reported: BTreeMap::new(),
            most_bytes: MOST_BYTES,
            most_output: MOST_OUTPUT,
            unsynced: false,
            nudge: Arc::new(Notify::new()),
        };
        for (record, place) in records {
            spool.replay(&record, place);
        }
        Ok(spool)
    }

    /// How many entries wait, without opening it for writing.
    pub(crate) fn peek(path: &Path) -> Result<usize, LogError> {
        let mut waiting = VecDeque::new();
        for record in AppendLog::<Record>::peek(path, KIND, VERSION)? {
            match record {
                Record::Entry { entry, .. } => waiting.push_back(entry.sequence),
                Record::Acknowledged { up_to } => waiting.retain(|sequence| *sequence > up_to),
                Record::Base { .. } => {}
            }
        }
        Ok(waiting.len())
    }

    fn replay(&mut self, record: &Record, place: Place) {
        match record {
            Record::Base { next_sequence, reported } => {
                self.next_sequence = self.next_sequence.max(*next_sequence);
                reported.iter().for_each(|origin| self.remember(*origin));
            }
            Record::Entry { entry, origin } => {
                self.next_sequence = self.next_sequence.max(entry.sequence + 1);
                self.waiting.push_back(Waiting { sequence: entry.sequence, place, droppable: droppable(&entry.body) });
                if let Some(origin) = origin {
                    self.remember(*origin);
                }
            }
            Record::Acknowledged { up_to } => self.forget(*up_to),
        }
    }

    fn remember(&mut self, origin: Origin) {
        let last = self.reported.entry(origin.deployment).or_default();
        *last = (*last).max(origin.record);
        while self.reported.len() > MOST_REMEMBERED {
            self.reported.pop_first();
        }
    }

    fn forget(&mut self, up_to: u64) {
        while self.waiting.front().is_some_and(|waiting| waiting.sequence <= up_to) {
            self.waiting.pop_front();
        }
    }

    /// Adds an entry; what matters is on the disk when this returns.
    pub(crate) fn add(&mut self, body: ReportBody, origin: Option<Origin>) -> Result<(), LogError> {
        let droppable = droppable(&body);
        let entry = ReportEntry { sequence: self.next_sequence, at: clock::now(), body };
        let record = Record::Entry { entry, origin };
        let place = self.log.append(&record, !droppable)?;
        self.unsynced = droppable;
        self.replay(&record, place);
        if self.is_full() {
            self.drop_output()?;
        }
        self.nudge.notify_one();
        Ok(())
    }

    /// Test only: the power that goes.
    #[cfg(test)]
    pub(crate) fn set_fuse(&mut self, fuse: Option<crate::disk::log::Fuse>) {
        self.log.set_fuse(fuse);
    }

    /// Told at each new entry.
    pub(crate) fn nudge(&self) -> Arc<Notify> {
        self.nudge.clone()
    }

    /// Number of the last journal record of a deployment that was put into the spool.
    pub(crate) fn last_reported(&self, deployment: DeploymentId) -> u64 {
        self.reported.get(&deployment).copied().unwrap_or_default()
    }

    /// The next entries to report, oldest first, bounded. All are on the disk before anyone hears of
    /// them: a number the server has seen must never be given out again after a power cut.
    pub(crate) fn batch(&mut self) -> Result<Vec<ReportEntry>, LogError> {
        if self.unsynced {
            self.log.sync()?;
            self.unsynced = false;
        }
        let mut bytes = 0;
        let places: Vec<Place> = self
            .waiting
            .iter()
            .take(BATCH_ENTRIES)
            .map(|waiting| waiting.place)
            .take_while(|place| {
                let first = bytes == 0;
                bytes += place.length;
                first || bytes <= BATCH_BYTES
            })
            .collect();
        let mut entries = Vec::with_capacity(places.len());
        for place in places {
            if let Record::Entry { entry, .. } = self.log.read(place)? {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// The server has everything up to this sequence.
    pub(crate) fn acknowledge(&mut self, up_to: u64) -> Result<(), LogError> {
        if up_to.saturating_sub(self.next_sequence) > MOST_AHEAD {
            tracing::error!(up_to, "what was never written cannot be acknowledged: the answer is left out of account");
            return Ok(());
        }
        if up_to >= self.next_sequence {
            // It has more from this host than was ever written here: this folder is a restored copy.
            // What waits is told again under numbers that the server will not take for old ones.
            return self.rewrite(Some(up_to + 1));
        }
        if self.waiting.front().is_none_or(|waiting| waiting.sequence > up_to) {
            return Ok(());
        }
        self.forget(up_to);
        let waiting: u64 = self.waiting_bytes();
        if self.log.bytes().saturating_sub(waiting) > MOST_WASTE {
            return self.rewrite(None);
        }
        self.log.append(&Record::Acknowledged { up_to }, false)?;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether output of deployments finds room.
    pub(crate) fn has_room_for_output(&self) -> bool {
        let output = self.waiting.iter().filter(|waiting| waiting.droppable);
        output.map(|waiting| waiting.place.length).sum::<u64>() < self.most_output && !self.is_full()
    }

    /// Test only: less room.
    #[cfg(test)]
    pub(crate) fn set_most_output(&mut self, bytes: u64) {
        self.most_output = bytes;
    }

    /// What must not be dropped fills the spool alone: take no new orders.
    pub(crate) fn is_overfull(&self) -> bool {
        let kept = self.waiting.iter().filter(|waiting| !waiting.droppable);
        let (count, bytes) = kept.fold((0, 0), |(count, bytes), waiting| (count + 1, bytes + waiting.place.length));
        count > MOST_ENTRIES || bytes > self.most_bytes
    }

    fn is_full(&self) -> bool {
        self.waiting.len() > MOST_ENTRIES || self.waiting_bytes() > self.most_bytes
    }

    fn waiting_bytes(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.place.length).sum()
    }

    /// Drops the older half of the waiting output, so that this is not needed at each line.
    fn drop_output(&mut self) -> Result<(), LogError> {
        let output = self.waiting.iter().filter(|waiting| waiting.droppable).count();
        if output == 0 {
            return Ok(());
        }
        let mut drop = output.div_ceil(2);
        tracing::warn!(spool.dropped = drop, "the spool is full: output of deployments is dropped");
        self.waiting.retain(|waiting| {
            let goes = waiting.droppable && drop > 0;
            drop -= usize::from(goes);
            !goes
        });
        self.rewrite(None)
    }

    /// Writes the file anew with only what waits; with `from`, under new sequence numbers.
    fn rewrite(&mut self, from: Option<u64>) -> Result<(), LogError> {
        let scratch = files::beside(&self.path, ".new");
        let mut log = AppendLog::create(&scratch, KIND, VERSION)?;
        #[cfg(test)]
        log.set_fuse(self.log.fuse());
        let reported =
            self.reported.iter().map(|(deployment, record)| Origin { deployment: *deployment, record: *record });
        let next_sequence = from.unwrap_or(self.next_sequence);
        log.append(&Record::Base { next_sequence, reported: reported.collect() }, false)?;
        let mut waiting = VecDeque::with_capacity(self.waiting.len());
        let mut sequence = next_sequence;
        for old in &self.waiting {
            let Record::Entry { mut entry, origin } = self.log.read(old.place)? else { continue };
            if from.is_some() {
                entry.sequence = sequence;
                sequence += 1;
            }
            let kept = Waiting {
                sequence: entry.sequence,
                droppable: old.droppable,
                place: log.append(&Record::Entry { entry, origin }, false)?,
            };
            waiting.push_back(kept);
        }
        log.move_to(&self.path)?;
        self.log = log;
        self.waiting = waiting;
        self.next_sequence = sequence.max(next_sequence);
        Ok(())
    }
}

fn droppable(body: &ReportBody) -> bool {
    matches!(body, ReportBody::Output { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_domain::machine::DeploymentEvent;

    fn deployment() -> DeploymentId {
        DeploymentId::new(1, [0; 10])
    }

    fn event(event: DeploymentEvent) -> ReportBody {
        ReportBody::Deployment { deployment: deployment(), event, reasons: vec![] }
    }

    fn output(text: &str) -> ReportBody {
        ReportBody::Output { deployment: deployment(), lines: vec![text.to_owned()] }
    }

    fn open(folder: &tempfile::TempDir) -> Spool {
        Spool::open(&folder.path().join("spool")).unwrap()
    }

    fn sequences(spool: &mut Spool) -> Vec<u64> {
        spool.batch().unwrap().into_iter().map(|entry| entry.sequence).collect()
    }

    #[test]
    fn nothing_is_lost_or_numbered_twice_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(&folder);
        let origin = |record| Some(Origin { deployment: deployment(), record });
        spool.add(event(DeploymentEvent::Accept), origin(1)).unwrap();
        spool.add(output("a"), None).unwrap();
        spool.add(event(DeploymentEvent::Fetch), origin(4)).unwrap();
        drop(spool);
        let mut spool = open(&folder);
        assert_eq!(sequences(&mut spool), [1, 2, 3]);
        assert_eq!(spool.last_reported(deployment()), 4);
        spool.acknowledge(2).unwrap();
        drop(spool);
        let mut spool = open(&folder);
        assert_eq!(sequences(&mut spool), [3]);
        spool.acknowledge(3).unwrap();
        spool.add(output("b"), None).unwrap();
        assert_eq!(sequences(&mut spool), [4]);
        assert_eq!(Spool::peek(&folder.path().join("spool")).unwrap(), 1);
    }

    #[test]
    fn acknowledged_entries_leave_the_disk_and_what_was_reported_stays_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(&folder);
        spool.add(event(DeploymentEvent::Accept), Some(Origin { deployment: deployment(), record: 7 })).unwrap();
        for round in 0..200 {
            spool.add(output(&"x".repeat(4000)), None).unwrap();
            spool.acknowledge(round + 2).unwrap();
        }
        assert_eq!(spool.len(), 0);
        assert!(spool.log.bytes() < 2 * MOST_WASTE, "{}", spool.log.bytes());
        drop(spool);
        let mut spool = open(&folder);
        assert_eq!(spool.last_reported(deployment()), 7);
        spool.add(output("next"), None).unwrap();
        assert_eq!(sequences(&mut spool), [202]);
    }

    #[test]
    fn when_full_output_goes_first_and_events_never() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(&folder);
        spool.most_bytes = 100_000;
        for _ in 0..40 {
            spool.add(event(DeploymentEvent::Fetch), None).unwrap();
            spool.add(output(&"y".repeat(4000)), None).unwrap();
        }
        assert!(spool.waiting_bytes() <= 100_000);
        assert_eq!(spool.waiting.iter().filter(|waiting| !waiting.droppable).count(), 40);
        assert!(!spool.is_overfull());
        spool.most_bytes = 1_000;
        assert!(spool.is_overfull());
        let kept: Vec<u64> = spool.waiting.iter().map(|waiting| waiting.sequence).collect();
        assert!(kept.is_sorted());
    }

    #[test]
    fn a_restored_copy_numbers_anew_behind_what_the_server_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = open(&folder);
        spool.add(event(DeploymentEvent::Accept), None).unwrap();
        spool.add(event(DeploymentEvent::Fetch), None).unwrap();
        spool.acknowledge(500).unwrap();
        assert_eq!(sequences(&mut spool), [501, 502]);
        spool.acknowledge(502).unwrap();
        drop(spool);
        let mut spool = open(&folder);
        assert_eq!(sequences(&mut spool), [] as [u64; 0]);
        spool.add(output("b"), None).unwrap();
        assert_eq!(sequences(&mut spool), [503]);
    }
}
