//! The only place of the server where time and randomness for ids come from.

use fettle_domain::*;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// What time it is, in UTC.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// An id that can be made anew.
pub trait FreshId {
    /// From the time (Unix milliseconds) and ten random bytes.
    fn from_parts(unix_millis: u64, random: [u8; 10]) -> Self;
}

macro_rules! fresh_ids {
    ($($name:ident),*) => {$(
        impl FreshId for $name {
            fn from_parts(unix_millis: u64, random: [u8; 10]) -> Self { $name::new(unix_millis, random) }
        }
    )*};
}
fresh_ids!(
    HostId,
    GroupId,
    EnrolmentTokenId,
    FindingId,
    ChangeId,
    PlanId,
    RolloutId,
    DeploymentId,
    RehearsalId,
    LogRequestId,
    UserId,
    SessionId,
    ApiTokenId
);

/// A new id of the wanted kind. Ids are names, not secrets.
pub fn fresh<T: FreshId>() -> T {
    let millis = u64::try_from(now().unix_millis()).unwrap_or_default();
    let mut random = [0; 10];
    if SystemRandom::new().fill(&mut random).is_err() {
        // Without random bytes an id is still unique in this process; secrets are never made here.
        random = unrepeated();
    }
    T::from_parts(millis, random)
}

fn unrepeated() -> [u8; 10] {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 10];
    let count = COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let pair = (u16::try_from(std::process::id() & 0xffff).unwrap_or_default()).to_be_bytes();
    bytes.iter_mut().zip(pair.into_iter().chain(count)).for_each(|(byte, value)| *byte = value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_repeat_even_without_randomness() {
        assert_ne!(fresh::<HostId>(), fresh::<HostId>());
        assert_ne!(unrepeated(), unrepeated());
    }
}
