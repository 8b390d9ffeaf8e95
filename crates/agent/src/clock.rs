//! The room's only clock, its bounded waits, and its randomness for jitter.

use fettle_domain::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The host's time.
pub(crate) fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    Timestamp::from_unix_millis(millis)
}

/// The host's time zone, as `TZ` or `/etc/localtime` say.
pub(crate) fn time_zone() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::system()
}

/// Takes a lock even when a thread died while it held it: everything behind our locks is written
/// whole or not at all.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Told once that the agent is to stop; blocking code waits on it instead of sleeping.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Tells everyone who waits.
    pub(crate) fn tell(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Whether it was told.
    pub(crate) fn told(&self) -> bool {
        *lock(&self.0.0)
    }

    /// Waits at most so long; true when told to stop.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut told = lock(&self.0.0);
        while !*told {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            told = self.0.1.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *told
    }
}

/// Exponential back-off with full jitter between half and the whole of the step, bounded.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    first: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { failures: 0, first, most }
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + 0.5 * random_fraction())
    }
}

/// A duration varied by a tenth either way, so that a fleet started together spreads out.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * random_fraction())
}

fn random_fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    // Without randomness the fleet only spreads out less.
    let _ = SystemRandom::new().fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_grows_is_bounded_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let first = backoff.next_wait();
        assert!(first >= Duration::from_millis(500) && first <= Duration::from_secs(1), "{first:?}");
        for _ in 0..100 {
            assert!(backoff.next_wait() <= Duration::from_secs(60));
        }
        assert!(backoff.next_wait() >= Duration::from_secs(30));
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_secs(1));
    }

    #[test]
    fn a_told_stop_ends_a_wait_at_once() {
        let stop = Stop::default();
        assert!(!stop.wait(Duration::from_millis(1)));
        let other = stop.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(60)));
        stop.tell();
        assert!(waiter.join().unwrap());
    }
}
