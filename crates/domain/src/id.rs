//! Ids: newtypes over UUIDv7 (RFC 9562), one kind each, so that kinds cannot be mixed and lists
//! sort by age. In text an id carries its kind: `host_0198f6c2-…`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind} id (expected `{kind}_` and a UUID)")]
pub struct InvalidId {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// The kind that was expected.
    pub kind: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of this kind in text.
            pub const KIND: &'static str = $kind;

            /// A new id from the time (Unix milliseconds) and ten random bytes of the caller's.
            pub fn new(unix_millis: u64, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid())
            }

            /// From the sixteen bytes a database keeps.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The sixteen bytes a database keeps.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($kind, "_{}"), self.0.hyphenated())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix(concat!($kind, "_"))
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or_else(|| InvalidId { text: text.chars().take(80).collect(), kind: $kind })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A machine we know of.
    HostId = "host";
    /// One group of hosts.
    GroupId = "group";
    /// One enrolment token (the secret part is never stored).
    EnrolmentTokenId = "enrol";
    /// A vulnerability present on a host.
    FindingId = "finding";
    /// A request for change.
    ChangeId = "change";
    /// The immutable content of a change.
    PlanId = "plan";
    /// An approved plan under way.
    RolloutId = "rollout";
    /// One plan's patches on one host.
    DeploymentId = "deployment";
    /// A dry run asked of one host.
    RehearsalId = "rehearsal";
    /// A request for the log that a host keeps of a deployment.
    LogRequestId = "log";
    /// A person who may sign in.
    UserId = "user";
    /// A signed-in browser.
    SessionId = "session";
    /// An API token (the secret part is never stored).
    ApiTokenId = "token";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_carries_the_kind_and_reads_back() {
        let id = HostId::new(1_764_000_000_000, [7; 10]);
        assert!(id.to_string().starts_with("host_019ab6"), "{id}");
        assert_eq!(id.to_string().parse::<HostId>(), Ok(id));
    }

    #[test]
    fn kinds_cannot_be_mixed() {
        let id = HostId::new(1, [0; 10]);
        let error = id.to_string().parse::<ChangeId>().unwrap_err();
        assert!(error.to_string().contains("not a change id"), "{error}");
    }

    #[test]
    fn later_ids_sort_later() {
        assert!(HostId::new(1_000, [255; 10]) < HostId::new(1_001, [0; 10]));
    }
}
