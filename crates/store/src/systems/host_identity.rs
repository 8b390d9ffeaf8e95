//! Identities of hosts: whose certificates count, how the chain of check-ins goes on, which machine
//! is a copy of which.

use crate::{Connection, Result, Row, StoreError, Value};
use fettle_domain::{HostId, Timestamp};

/// Keys whose certificates count: sha-256 of the public key; empty: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostKeys {
    /// In use; empty: any certificate of ours for this host counts.
    pub current: Vec<u8>,
    /// Issued and not used yet.
    pub next: Vec<u8>,
    /// The one before, for what was under way.
    pub former: Vec<u8>,
    /// Until then.
    pub former_until: Timestamp,
}

/// From four columns of a row.
pub(super) fn keys_of(row: &Row, column: usize) -> Result<HostKeys> {
    Ok(HostKeys {
        current: row.blob(column)?.to_vec(),
        next: row.blob(column + 1)?.to_vec(),
        former: row.blob(column + 2)?.to_vec(),
        former_until: row.time(column + 3)?,
    })
}

/// The links of a host's chain; empty: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostChain {
    /// Of the last check-in.
    pub link: Vec<u8>,
    /// Of the one before.
    pub before: Vec<u8>,
    /// End of the line left for a back-up.
    pub superseded: Vec<u8>,
    /// End of a copy's line.
    pub barred: Vec<u8>,
}

/// What is kept of a host's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// Whose certificates count.
    pub keys: HostKeys,
    /// The chain of its check-ins.
    pub chain: HostChain,
    /// Certificates issued.
    pub certificates: i64,
    /// When the certificate in use expires, where that is known.
    pub expires_at: Option<Timestamp>,
    /// sha-256 of the marks of the copy that was last told of; empty: none.
    pub copy_digest: Vec<u8>,
    /// The host whose copy this one was.
    pub cloned_from: Option<HostId>,
}

/// Notes the first certificate of a host that was just made.
pub fn host_identity_create(
    connection: &mut Connection,
    host: HostId,
    key: &[u8],
    expires_at: Timestamp,
    cloned_from: Option<HostId>,
) -> Result<()> {
    connection.execute(
        "INSERT INTO host_identity (host, certificates, expires_at, next_expires_at, link_superseded, link_barred, copy_digest, cloned_from)
         VALUES (?1, 1, ?2, 0, ?3, ?3, ?3, ?4)",
        &[host.into(), expires_at.into(), Value::Blob(Vec::new()), cloned_from.into()],
    )?;
    connection.execute("UPDATE host SET key_current = ?2 WHERE id = ?1", &[host.into(), key.into()])?;
    Ok(())
}

/// What is kept; hosts without certificate (of tests) have the empty one.
pub fn host_identity_get(connection: &mut Connection, host: HostId) -> Result<HostIdentity> {
    let row = connection
        .query_one(
            "SELECT h.key_current, h.key_next, h.key_former, h.key_former_until, h.link, h.link_before,
               COALESCE(i.certificates, 0), COALESCE(i.expires_at, 0), COALESCE(i.link_superseded, ?2), COALESCE(i.link_barred, ?2),
               COALESCE(i.copy_digest, ?2), i.cloned_from
             FROM host h LEFT JOIN host_identity i ON i.host = h.id WHERE h.id = ?1",
            &[host.into(), Value::Blob(Vec::new())],
        )?
        .ok_or_else(|| StoreError::not_found(host))?;
    Ok(HostIdentity {
        keys: keys_of(&row, 0)?,
        chain: HostChain {
            link: row.blob(4)?.to_vec(),
            before: row.blob(5)?.to_vec(),
            superseded: row.blob(8)?.to_vec(),
            barred: row.blob(9)?.to_vec(),
        },
        certificates: row.int(6)?,
        expires_at: Some(row.time(7)?).filter(|at| at.unix_millis() > 0),
        copy_digest: row.blob(10)?.to_vec(),
        cloned_from: row.id_or_null(11)?,
    })
}

/// Notes a certificate that was issued; one that was issued before and never used is forgotten.
pub fn host_key_issued(connection: &mut Connection, host: HostId, key: &[u8], expires_at: Timestamp) -> Result<()> {
    connection.execute(
        "INSERT INTO host_identity (host, certificates, expires_at, next_expires_at, link_superseded, link_barred, copy_digest, cloned_from)
         VALUES (?1, 1, 0, ?2, ?3, ?3, ?3, NULL)
         ON CONFLICT (host) DO UPDATE SET certificates = host_identity.certificates + 1, next_expires_at = excluded.next_expires_at",
        &[host.into(), expires_at.into(), Value::Blob(Vec::new())],
    )?;
    connection.execute("UPDATE host SET key_next = ?2 WHERE id = ?1", &[host.into(), key.into()])?;
    Ok(())
}

/// The certificate that was issued last was used: from now on it counts, the one before only until
/// `former_until`. Whether it was still to be done.
pub fn host_key_used(connection: &mut Connection, host: HostId, key: &[u8], former_until: Timestamp) -> Result<bool> {
    let done = connection.execute(
        "UPDATE host SET key_former = key_current, key_former_until = ?3, key_current = key_next, key_next = ?4
         WHERE id = ?1 AND key_next = ?2",
        &[host.into(), key.into(), former_until.into(), Value::Blob(Vec::new())],
    )?;
    if done > 0 {
        connection.execute(
            "UPDATE host_identity SET expires_at = next_expires_at, next_expires_at = 0 WHERE host = ?1",
            &[host.into()],
        )?;
    }
    Ok(done > 0)
}

/// A certificate that is not known here counts from now on: this database is older than it.
pub fn host_key_adopt(
    connection: &mut Connection,
    host: HostId,
    key: &[u8],
    expires_at: Timestamp,
    former_until: Timestamp,
) -> Result<()> {
    connection.execute(
        "UPDATE host SET key_former = key_current, key_former_until = ?3, key_current = ?2, key_next = ?4 WHERE id = ?1",
        &[host.into(), key.into(), former_until.into(), Value::Blob(Vec::new())],
    )?;
    connection.execute(
        "UPDATE host_identity SET expires_at = ?2, next_expires_at = 0, certificates = certificates + 1 WHERE host = ?1",
        &[host.into(), expires_at.into()],
    )?;
    Ok(())
}

/// The host whose certificate in use is over this key.
pub fn host_by_key(connection: &mut Connection, key: &[u8]) -> Result<Option<HostId>> {
    let row =
        connection.query_one("SELECT id FROM host WHERE key_current = ?1 ORDER BY id DESC LIMIT 1", &[key.into()])?;
    row.map(|row| row.id(0)).transpose()
}

/// Writes how the chain stands.
pub fn host_chain_set(connection: &mut Connection, host: HostId, chain: &HostChain) -> Result<()> {
    connection.execute(
        "UPDATE host SET link = ?2, link_before = ?3 WHERE id = ?1",
        &[host.into(), chain.link.as_slice().into(), chain.before.as_slice().into()],
    )?;
    connection.execute(
        "INSERT INTO host_identity (host, certificates, expires_at, next_expires_at, link_superseded, link_barred, copy_digest, cloned_from)
         VALUES (?1, 0, 0, 0, ?2, ?3, ?4, NULL)
         ON CONFLICT (host) DO UPDATE SET link_superseded = excluded.link_superseded, link_barred = excluded.link_barred",
        &[host.into(), chain.superseded.as_slice().into(), chain.barred.as_slice().into(), Value::Blob(Vec::new())],
    )?;
    Ok(())
}

/// Notes that a second machine with this identity spoke, and which.
pub fn host_cloned(connection: &mut Connection, host: HostId, copy_digest: &[u8], now: Timestamp) -> Result<()> {
    connection.execute("UPDATE host SET cloned_at = ?2 WHERE id = ?1", &[host.into(), now.into()])?;
    connection
        .execute("UPDATE host_identity SET copy_digest = ?2 WHERE host = ?1", &[host.into(), copy_digest.into()])?;
    Ok(())
}

/// Takes the mark of a second machine away: it has an identity of its own, or a person has seen to it.
pub fn host_clone_settled(connection: &mut Connection, host: HostId) -> Result<()> {
    connection.execute("UPDATE host SET cloned_at = 0 WHERE id = ?1", &[host.into()])?;
    Ok(())
}

/// Copies of a host that wait for a person.
pub fn host_clones_waiting(connection: &mut Connection, host: HostId) -> Result<u64> {
    let row = connection.query_one(
        "SELECT COUNT(*) FROM host_identity i JOIN host h ON h.id = i.host WHERE i.cloned_from = ?1 AND h.state = 'discovered'",
        &[host.into()],
    )?;
    row.map_or(Ok(0), |row| row.int(0)).map(|number| u64::try_from(number).unwrap_or(0))
}

/// Hosts that were copies of this one, oldest first, with their names.
pub fn host_clones(connection: &mut Connection, host: HostId) -> Result<Vec<(HostId, String)>> {
    let rows = connection.query(
        "SELECT h.id, h.name FROM host_identity i JOIN host h ON h.id = i.host
         WHERE i.cloned_from = ?1 AND h.state <> 'retired' ORDER BY h.id LIMIT 100",
        &[host.into()],
    )?;
    rows.iter().map(|row| Ok((row.id(0)?, row.text(1)?.to_owned()))).collect()
}

/// Notes how far a host's clock is ahead in milliseconds (negative: behind); 0 within bounds.
pub fn host_set_clock(connection: &mut Connection, host: HostId, apart: i64) -> Result<()> {
    connection.execute("UPDATE host SET clock_apart = ?2 WHERE id = ?1", &[host.into(), apart.into()])?;
    Ok(())
}
