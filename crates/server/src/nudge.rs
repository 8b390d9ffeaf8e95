//! Nudges: hints that there may be something to do. They carry nothing and may be lost or come
//! twice; whoever is woken reads the store again.

use fettle_domain::HostId;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// One bell for each reconciler, and the waiting agents.
#[derive(Default)]
pub struct Nudges {
    /// Inventories or advisories changed.
    pub gathering: Notify,
    /// Changes, rehearsals or approvals changed.
    pub change: Notify,
    /// Rollouts or deployments changed.
    pub installation: Notify,
    /// Something was installed, or an inventory came: look for proof.
    pub audit: Notify,
    /// Feeds were asked to be loaded.
    pub feeds: Notify,
    /// Agents that wait for work.
    pub work: WorkWaiters,
}

/// Buckets of the counters: wakes of other hosts in the same bucket only cost one look.
const BUCKETS: usize = 4096;

/// Agents' long polls. A wake between looking into the store and waiting is not lost: take
/// [`WorkWaiters::version`] before looking, and hand it to [`WorkWaiters::wait`].
pub struct WorkWaiters {
    versions: Vec<AtomicU64>,
    waiting: Mutex<HashMap<HostId, Bell>>,
    closed: AtomicBool,
}

struct Bell {
    notify: Arc<Notify>,
    waiters: usize,
}

impl Default for WorkWaiters {
    fn default() -> Self {
        Self {
            versions: std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect(),
            waiting: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }
}

impl WorkWaiters {
    /// Counts the wakes that may have been for this host.
    pub fn version(&self, host: HostId) -> u64 {
        self.counter(host).map_or(0, |counter| counter.load(Ordering::SeqCst))
    }

    /// There may be work for this host.
    pub fn wake(&self, host: HostId) {
        if let Some(counter) = self.counter(host) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(bell) = self.lock().get(&host) {
            bell.notify.notify_waiters();
        }
    }

    /// Waits until this host is woken after `version`, at most `limit`. Whether it was woken.
    pub async fn wait(&self, host: HostId, version: u64, limit: Duration) -> bool {
        let seat = Seat::take(self, host);
        let woken = seat.notify.notified();
        tokio::pin!(woken);
        // Registered before the second look, so that a wake in between rings.
        woken.as_mut().enable();
        if self.version(host) != version || self.closed.load(Ordering::SeqCst) {
            return true;
        }
        tokio::time::timeout(limit, woken).await.is_ok()
    }

    /// How many agents wait now.
    pub fn waiting(&self) -> usize {
        self.lock().values().map(|bell| bell.waiters).sum()
    }

    /// Wakes everybody, and lets nobody wait any more: the server ends.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for bell in self.lock().values() {
            bell.notify.notify_waiters();
        }
    }

    fn counter(&self, host: HostId) -> Option<&AtomicU64> {
        let mut hasher = DefaultHasher::new();
        host.hash(&mut hasher);
        self.versions.get(usize::try_from(hasher.finish() % BUCKETS as u64).unwrap_or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<HostId, Bell>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the waiting, given back when dropped (an agent may hang up at any time).
struct Seat<'a> {
    waiters: &'a WorkWaiters,
    host: HostId,
    notify: Arc<Notify>,
}

impl<'a> Seat<'a> {
    fn take(waiters: &'a WorkWaiters, host: HostId) -> Self {
        let mut waiting = waiters.lock();
        let bell = waiting.entry(host).or_insert_with(|| Bell { notify: Arc::default(), waiters: 0 });
        bell.waiters += 1;
        Self { waiters, host, notify: bell.notify.clone() }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        if let Some(bell) = waiting.get_mut(&self.host) {
            bell.waiters -= 1;
            if bell.waiters == 0 {
                waiting.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_wake_between_looking_and_waiting_is_not_lost() {
        runtime().block_on(async {
            let waiters = WorkWaiters::default();
            let host = crate::clock::fresh();
            let seen = waiters.version(host);
            waiters.wake(host);
            assert!(waiters.wait(host, seen, Duration::from_secs(60)).await);
            let seen = waiters.version(host);
            assert!(!waiters.wait(host, seen, Duration::from_millis(1)).await);
            assert_eq!(waiters.waiting(), 0, "seats are given back");
        });
    }

    #[test]
    fn close_wakes_everybody_for_ever() {
        runtime().block_on(async {
            let waiters = Arc::new(WorkWaiters::default());
            let host = crate::clock::fresh();
            let waiting = tokio::spawn({
                let waiters = waiters.clone();
                async move { waiters.wait(host, waiters.version(host), Duration::from_secs(60)).await }
            });
            while waiters.waiting() == 0 {
                tokio::task::yield_now().await;
            }
            waiters.close();
            assert!(waiting.await.unwrap());
            assert!(waiters.wait(host, waiters.version(host), Duration::from_secs(60)).await);
        });
    }
}
