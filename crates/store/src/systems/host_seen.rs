//! Signs of life: one statement for many hosts, which also carries on the chains of their check-ins.

use super::host_identity::{HostKeys, keys_of};
use super::inventory::digest_text;
use crate::patches::advisory::numbered_rows;
use crate::{Connection, Result, StoreError, Value};
use fettle_domain::machine::{HostState, Machine as _};
use fettle_domain::{HostId, Timestamp};
use std::collections::HashMap;

/// One host that spoke.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Which.
    pub host: HostId,
    /// When.
    pub at: Timestamp,
    /// sha-256 of the public key it showed; empty: not asked for.
    pub key: Vec<u8>,
    /// Link of the check-in before, as it says; empty with an empty `link`: it keeps no chain.
    pub previous: Vec<u8>,
    /// Link of this check-in.
    pub link: Vec<u8>,
}

impl Seen {
    /// A host without key and chain.
    pub fn plain(host: HostId, at: Timestamp) -> Self {
        Self { host, at, key: Vec::new(), previous: Vec::new(), link: Vec::new() }
    }
}

/// What a check-in is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostHead {
    /// Agent version.
    pub agent_version: String,
    /// Where the host stands.
    pub state: HostState,
    /// Digest of the facts.
    pub facts_digest: String,
    /// Digest of the services.
    pub services_digest: String,
    /// Digest of the packages.
    pub packages_digest: String,
    /// Whose certificates count.
    pub keys: HostKeys,
    /// Last link of the chain; the one of this check-in when it fitted.
    pub link: Vec<u8>,
    /// Milliseconds its clock was ahead; 0 within bounds.
    pub clock_apart: i64,
}

/// Hosts in one statement of [`host_seen`].
const SEEN: usize = 256;
/// Values of each.
const WIDTH: usize = 5;

/// Notes that hosts spoke, one statement for many, and returns what each check-in is compared with.
/// Missing in the answer are unknown, revoked and not yet accepted hosts, and those that showed a key
/// that does not count. A link that fits becomes the last one; one that does not changes nothing.
pub fn host_seen(connection: &mut Connection, hosts: &[Seen]) -> Result<HashMap<HostId, HostHead>> {
    let mut heads = HashMap::with_capacity(hosts.len());
    for chunk in hosts.chunks(SEEN) {
        let Some(last) = chunk.last() else { continue };
        // Padded with repetitions, so that there are nine texts of this statement and not 256.
        let padded = chunk.len().next_power_of_two();
        let values: Vec<Value> = chunk
            .iter()
            .chain(std::iter::repeat(last))
            .take(padded)
            .flat_map(|seen| {
                [
                    seen.host.into(),
                    seen.at.into(),
                    seen.key.as_slice().into(),
                    seen.previous.as_slice().into(),
                    seen.link.as_slice().into(),
                ]
            })
            .collect();
        let rows = match connection.dialect() {
            crate::Dialect::Sqlite => numbered_rows(padded, WIDTH, "", 1),
            // Without types a VALUES list of parameters is text to PostgreSQL.
            crate::Dialect::Postgres => (0..padded).map(|row| typed_row(row * WIDTH)).collect::<Vec<_>>().join(", "),
        };
        let found = connection.query(
            &format!(
                "WITH seen (id, at, pubkey, previous, link) AS (VALUES {rows}) UPDATE host SET last_seen = seen.at,
                   link_before = CASE WHEN host.link = seen.previous AND host.link <> seen.link THEN host.link ELSE host.link_before END,
                   link = CASE WHEN host.link = seen.previous AND LENGTH(seen.link) > 0 THEN seen.link ELSE host.link END
                 FROM seen
                 WHERE host.id = seen.id AND host.state IN ('enrolling', 'managed', 'silent')
                   AND (LENGTH(seen.pubkey) = 0 OR LENGTH(host.key_current) = 0 OR seen.pubkey = host.key_current
                     OR seen.pubkey = host.key_next OR (seen.pubkey = host.key_former AND seen.at < host.key_former_until))
                 RETURNING host.id, host.state, host.facts_digest, host.services_digest, host.packages_digest, host.agent_version,
                   host.link, host.clock_apart, host.key_current, host.key_next, host.key_former, host.key_former_until"
            ),
            &values,
        )?;
        for row in &found {
            let head = HostHead {
                state: HostState::parse(row.text(1)?)
                    .ok_or_else(|| StoreError::Corrupt { what: "host.state".into() })?,
                facts_digest: digest_text(row, 2)?,
                services_digest: digest_text(row, 3)?,
                packages_digest: digest_text(row, 4)?,
                agent_version: row.text(5)?.to_owned(),
                link: row.blob(6)?.to_vec(),
                clock_apart: row.int(7)?,
                keys: keys_of(row, 8)?,
            };
            heads.insert(row.id(0)?, head);
        }
    }
    Ok(heads)
}

fn typed_row(before: usize) -> String {
    let types = ["BYTEA", "BIGINT", "BYTEA", "BYTEA", "BYTEA"];
    let columns: Vec<String> =
        types.iter().enumerate().map(|(at, kind)| format!("CAST(?{} AS {kind})", before + at + 1)).collect();
    format!("({})", columns.join(", "))
}
