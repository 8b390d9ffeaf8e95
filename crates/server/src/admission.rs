//! Whether a host may speak, and whether the certificate it shows is one that counts: asked by every
//! component that hosts speak to, after `agent_api` has looked at the certificate's time.

use crate::identity::PeerCertificate;
use crate::problem::Refusal;
use crate::{AppState, clock};
use axum::http::StatusCode;
use fettle_domain::Timestamp;
use fettle_domain::machine::HostState;
use fettle_domain::reason::Reason;
use fettle_store::Connection;
use fettle_store::systems::audit::{self, AuditRecord};
use fettle_store::systems::host_identity::{self, HostKeys};
use fettle_store::systems::{host, work};
use fettle_wire::agent::problem;
use std::time::Duration;

/// How long the former certificate counts after the next one was first used: long polls and reports
/// of the same agent that were under way end in peace.
const OVERLAP: Duration = Duration::from_secs(600);

/// How a key stands to the certificates of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyStanding {
    Counts,
    /// Issued, and used now for the first time.
    FirstUse,
    Superseded,
}

fn standing_of(keys: &HostKeys, key: &[u8; 32], now: Timestamp) -> KeyStanding {
    if keys.current.is_empty() || keys.current == key {
        KeyStanding::Counts
    } else if keys.next == key {
        KeyStanding::FirstUse
    } else if keys.former == key && now < keys.former_until {
        KeyStanding::Counts
    } else {
        KeyStanding::Superseded
    }
}

/// What a host may not do, in the order in which it is told. `Ok(true)`: it shows its next
/// certificate for the first time ([`first_use`]).
pub(crate) fn check(peer: PeerCertificate, state: HostState, keys: &HostKeys, now: Timestamp) -> Result<bool, Refusal> {
    match state {
        // An imported host has no certificate; whoever shows one for it is nobody.
        HostState::Retired | HostState::Ignored | HostState::Imported => return Err(Refusal::host_revoked(peer.host)),
        HostState::Discovered => return Err(pending(peer)),
        HostState::Enrolling | HostState::Managed | HostState::Silent => {}
    }
    match standing_of(keys, &peer.key, now) {
        KeyStanding::Counts => Ok(false),
        KeyStanding::FirstUse => Ok(true),
        KeyStanding::Superseded => Err(superseded(peer)),
    }
}

/// From now on the next certificate counts, and the one before no longer.
pub(crate) fn first_use(
    connection: &mut Connection,
    peer: PeerCertificate,
    now: Timestamp,
) -> fettle_store::Result<()> {
    if host_identity::host_key_used(connection, peer.host, &peer.key, now.after(OVERLAP))? {
        let why = format!("it was shown for the first time; the one before is refused from {} on", now.after(OVERLAP));
        let reasons = [Reason::new("identity.certificate-used", why)];
        host::host_note(connection, peer.host, now, "use-certificate", "certificate", &reasons)?;
    }
    Ok(())
}

/// Both of these, for who has read the host already.
pub(crate) async fn admit(
    state: &AppState,
    peer: PeerCertificate,
    host: HostState,
    keys: &HostKeys,
) -> Result<(), Refusal> {
    let now = clock::now();
    if check(peer, host, keys, now)? {
        state.store.write(move |connection| first_use(connection, peer, now)).await?;
    }
    Ok(())
}

/// A host was not let in: read anew why. `Ok`: its certificate is newer than what is known here, so
/// this database was set back to a back-up; it counts from now on, and the host may be let in.
pub(crate) async fn reconsider(state: &AppState, peer: PeerCertificate) -> Result<(), Refusal> {
    let now = clock::now();
    let standing = state.store.read(move |connection| work::work_standing(connection, peer.host)).await?;
    let standing = standing.ok_or_else(|| Refusal::host_revoked(peer.host))?;
    match check(peer, standing.state, &standing.keys, now) {
        Err(refusal) if refusal.0.kind == problem::CERTIFICATE_SUPERSEDED => {
            let adopted = state.store.write(move |connection| adopt_or_note(connection, peer, now)).await?;
            if adopted { Ok(()) } else { Err(refusal) }
        }
        Err(refusal) => Err(refusal),
        // Let in by whoever was faster.
        Ok(_) => Ok(()),
    }
}

/// Only our authority makes certificates, so one that is unknown and newer was made by a server that
/// this database does not remember. An older one is a copy's, or of a machine that was set back.
fn adopt_or_note(connection: &mut Connection, peer: PeerCertificate, now: Timestamp) -> fettle_store::Result<bool> {
    let identity = host_identity::host_identity_get(connection, peer.host)?;
    if identity.expires_at.is_some_and(|known| known < peer.expires_at) {
        host_identity::host_key_adopt(connection, peer.host, &peer.key, peer.expires_at, now.after(OVERLAP))?;
        let why = "it shows a certificate of ours that is newer than the one known here: this database was set back to a back-up";
        let reasons = [Reason::new("identity.certificate-adopted", why)];
        host::host_note(connection, peer.host, now, "adopt-certificate", "certificate", &reasons)?;
        let record = record(peer, "host.certificate-adopted", &reasons);
        audit::append(connection, now, &record)?;
        return Ok(true);
    }
    // Told once of each.
    if identity.copy_digest != peer.key {
        let why = "a machine shows a certificate of this host that was replaced: it is a copy, or was set back to an old back-up";
        let reasons = [Reason::new("identity.certificate-replaced", why)];
        host::host_note(connection, peer.host, now, "notice-clone", "certificate", &reasons)?;
        let record = record(peer, "host.clone-noticed", &reasons);
        audit::append(connection, now, &record)?;
    }
    host_identity::host_cloned(connection, peer.host, &peer.key, now)?;
    Ok(false)
}

fn record(peer: PeerCertificate, action: &'static str, reasons: &[Reason]) -> AuditRecord {
    AuditRecord {
        actor: "server".to_owned(),
        action,
        object: peer.host.to_string(),
        detail: serde_json::json!({ "reasons": reasons }),
    }
}

/// Only who made the last check-in is given orders and believed in reports: of two machines with one
/// identity that is one at a time, and `census` sees which one.
pub(crate) fn check_link(peer: PeerCertificate, presented: &str, last: &[u8]) -> Result<(), Refusal> {
    if presented.is_empty() || last.is_empty() || link_of(presented).is_some_and(|link| link == last) {
        return Ok(());
    }
    Err(again(peer))
}

fn again(peer: PeerCertificate) -> Refusal {
    Refusal::new(
        StatusCode::CONFLICT,
        problem::CHECK_IN_FIRST,
        "The last check-in was another one",
        format!("the newest check-in of {} is not the one that this request goes on from", peer.host),
    )
    .advise("Check in, then ask again. When this stays, two agents run with one identity.")
}

/// Sixteen bytes from thirty-two digits of lowercase hex.
pub(crate) fn link_of(text: &str) -> Option<Vec<u8>> {
    if text.len() != 32 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    (0..32).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn pending(peer: PeerCertificate) -> Refusal {
    let mut refusal = Refusal::new(
        StatusCode::FORBIDDEN,
        problem::HOST_PENDING,
        "This host waits for a person to accept it",
        format!("{} is the copy of another host and was not accepted yet", peer.host),
    )
    .advise(format!("On the server: `fettle host accept {}`, or `fettle host revoke` to refuse it.", peer.host));
    refusal.0.retry_after = 60;
    refusal
}

fn superseded(peer: PeerCertificate) -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        problem::CERTIFICATE_SUPERSEDED,
        "This certificate has been replaced",
        format!("{} uses a newer certificate: this one is refused", peer.host),
    )
    .advise(
        "A machine that was set back, or is a copy, asks for an identity of its own by itself and waits for a person; or enrol it anew with a fresh token and --force.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_key_counts_at_its_first_use_and_the_former_for_a_while() {
        let now = Timestamp::from_unix_millis(1_000_000);
        let keys = HostKeys {
            current: vec![1; 32],
            next: vec![2; 32],
            former: vec![3; 32],
            former_until: Timestamp::from_unix_millis(1_000_001),
        };
        let standing = |key: u8, now| standing_of(&keys, &[key; 32], now);
        assert_eq!(standing(1, now), KeyStanding::Counts);
        assert_eq!(standing(2, now), KeyStanding::FirstUse);
        assert_eq!(standing(3, now), KeyStanding::Counts);
        assert_eq!(standing(3, Timestamp::from_unix_millis(1_000_001)), KeyStanding::Superseded);
        assert_eq!(standing(4, now), KeyStanding::Superseded);
        assert_eq!(standing_of(&HostKeys::default(), &[9; 32], now), KeyStanding::Counts);
    }

    #[test]
    fn links_are_hex_or_none() {
        assert_eq!(link_of(&"0a".repeat(16)), Some(vec![10; 16]));
        for wrong in ["", "0a", &"0A".repeat(16), &"g".repeat(32), &"ä".repeat(16)] {
            assert_eq!(link_of(wrong), None, "{wrong}");
        }
    }
}
