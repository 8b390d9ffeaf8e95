//! What the operating system grants this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything that is no connection: database, feeds, log.
const RESERVED: u64 = 128;
/// What is assumed where no limit is set.
const PLENTY: u64 = 1 << 20;

/// Raises the limit of open files as far as it may be raised, and says how many connections fit in.
pub(crate) fn descriptors_for_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(error = %error, "cannot raise the limit of open files");
            limit.current
        }
    };
    let connections = current.unwrap_or(PLENTY).min(PLENTY).saturating_sub(RESERVED);
    usize::try_from(connections).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_room_for_connections() {
        let first = super::descriptors_for_connections();
        assert!(first > 100, "{first}");
        assert_eq!(super::descriptors_for_connections(), first, "twice is the same");
    }
}
