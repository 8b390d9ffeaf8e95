//! Whom the executor obeys: written at enrolment, by root, where the network-facing half cannot write.

use crate::disk::StateDir;
use crate::disk::state::{self, StateError};
use fettle_content::PublicKey;
use fettle_domain::HostId;
use serde::{Deserialize, Serialize};

/// Cap of the file.
const LONGEST: u64 = 64 << 10;

/// This host's id and the keys whose signatures on orders count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trust {
    /// Orders for other hosts are refused.
    pub(crate) host: HostId,
    /// Base64 of the raw ed25519 keys.
    pub(crate) offer_keys: Vec<String>,
}

impl Trust {
    /// Reads it; `None` when this host is not enrolled.
    pub(crate) fn load(state: &StateDir) -> Result<Option<Self>, StateError> {
        state::read_json(&state.trust(), LONGEST)
    }

    /// Writes it, in place of an earlier one.
    pub(crate) fn store(&self, state: &StateDir) -> Result<(), StateError> {
        state::write_json(&state.trust(), self)
    }

    /// The keys, parsed.
    pub(crate) fn offer_keys(&self) -> Vec<PublicKey> {
        self.offer_keys.iter().filter_map(|key| PublicKey::from_base64(key).ok()).collect()
    }
}
