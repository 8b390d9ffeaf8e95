//! Whom the executor obeys: written at enrolment, by root, where the network-facing half cannot write.

use crate::deploy::desk;
use crate::disk::state::{self, StateError};
use crate::disk::{StateDir, files};
use fettle_content::{PublicKey, verify};
use fettle_domain::HostId;
use fettle_wire::offer::{Envelope, HOST_CHANGE_TYPE, HostChange};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

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

    /// This trust, or that of a machine that was a copy of another host and is one of its own now: the
    /// server's signature says so, under a key that is trusted already. Spool and sequence were those
    /// of the former host. A change that is half done is ended first.
    pub(crate) fn after_change(self, state: &StateDir) -> Result<Self, StateError> {
        let Some(bytes) = read_unfollowed(&state.identity_change(), LONGEST) else { return Ok(self) };
        let host = match changed(&bytes, &self) {
            Ok(host) if host == self.host => return Ok(self),
            Ok(host) => host,
            Err(why) => {
                tracing::error!(reason = why, "a change of this machine's identity is not believed");
                return Ok(self);
            }
        };
        if let Some(what) = desk::unfinished(state) {
            tracing::warn!(deployment = what, "this machine's own identity waits for the end of a change");
            return Ok(self);
        }
        files::remove(&state.sequence())?;
        files::remove(&state.spool())?;
        let trust = Self { host, ..self };
        trust.store(state)?;
        tracing::warn!(host.id = %host, "this machine was a copy of another host and is one of its own now");
        Ok(trust)
    }

    /// The keys, parsed.
    pub(crate) fn offer_keys(&self) -> Vec<PublicKey> {
        self.offer_keys.iter().filter_map(|key| PublicKey::from_base64(key).ok()).collect()
    }
}

/// The other half may write there: a link would show it what it may not read.
fn read_unfollowed(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(i32::try_from(flags.bits()).ok()?).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The host that a signed change makes of this one; this one when it is its own already.
fn changed(bytes: &[u8], trust: &Trust) -> Result<HostId, String> {
    let document: Envelope = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let signatures: Vec<(String, String)> =
        document.signatures.iter().take(16).map(|one| (one.keyid.clone(), one.sig.clone())).collect();
    let keys = trust.offer_keys();
    let bytes = verify(&keys, HOST_CHANGE_TYPE, &document.payload_type, &document.payload, &signatures)
        .map_err(|error| error.to_string())?;
    let change: HostChange = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if change.host == trust.host || change.former == trust.host {
        Ok(change.host)
    } else {
        Err(format!("it is for a copy of {}, this is {}", change.former, trust.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_content::{SigningKey, sign};
    use fettle_domain::Timestamp;
    use fettle_wire::offer::EnvelopeSignature;

    fn host(number: u8) -> HostId {
        HostId::new(u64::from(number), [number; 10])
    }

    fn key() -> SigningKey {
        SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap()
    }

    fn signed(key: &SigningKey, kind: &str, former: HostId, to: HostId) -> Vec<u8> {
        let change = HostChange { former, host: to, issued_at: Timestamp::from_unix_millis(0) };
        let signed = sign(key, kind, &serde_json::to_vec(&change).unwrap());
        let signatures = vec![EnvelopeSignature { keyid: signed.key_id, sig: signed.signature }];
        serde_json::to_vec(&Envelope { payload_type: kind.to_owned(), payload: signed.payload, signatures }).unwrap()
    }

    /// What the executor makes of this file, and whether the sequence of orders is still there.
    fn outcome(bytes: &[u8], key: &SigningKey) -> (HostId, bool) {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let trust = Trust { host: host(1), offer_keys: vec![key.public().to_base64()] };
        trust.store(&state).unwrap();
        std::fs::write(state.sequence(), "7").unwrap();
        std::fs::write(state.identity_change(), bytes).unwrap();
        let after = trust.after_change(&state).unwrap();
        assert_eq!(Trust::load(&state).unwrap().unwrap(), after);
        assert_eq!(after.clone().after_change(&state).unwrap(), after, "twice is once");
        (after.host, state.sequence().exists())
    }

    #[test]
    fn only_the_servers_signature_makes_another_host_of_this_machine() {
        let (ours, other) = (key(), key());
        assert_eq!(outcome(&signed(&ours, HOST_CHANGE_TYPE, host(1), host(2)), &ours), (host(2), false));
        let refused = [
            signed(&other, HOST_CHANGE_TYPE, host(1), host(2)),
            signed(&ours, HOST_CHANGE_TYPE, host(3), host(2)),
            // A signed order is no such document, whatever it says.
            signed(&ours, fettle_wire::offer::OFFER_TYPE, host(1), host(2)),
            b"{}".to_vec(),
            Vec::new(),
        ];
        for bytes in refused {
            assert_eq!(outcome(&bytes, &ours), (host(1), true), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_link_in_place_of_the_change_is_not_followed() {
        let (folder, key) = (tempfile::tempdir().unwrap(), key());
        let state = StateDir::open(folder.path()).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, signed(&key, HOST_CHANGE_TYPE, host(1), host(2))).unwrap();
        std::os::unix::fs::symlink(&elsewhere, state.identity_change()).unwrap();
        let trust = Trust { host: host(1), offer_keys: vec![key.public().to_base64()] };
        assert_eq!(trust.clone().after_change(&state).unwrap(), trust);
    }
}
