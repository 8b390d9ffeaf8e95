//! Hosts whose inventory comes from a file: by what the machine is known again, and where the file
//! comes from.

use crate::body::{json, parse};
use crate::{Connection, Result, Row, StoreError, Value};
use fettle_domain::machine::{HostState, Machine as _};
use fettle_domain::{HostId, Timestamp};

/// The newest file of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostImport {
    /// Which host.
    pub host: HostId,
    /// Digest of the machine id; empty: unknown.
    pub machine_id: String,
    /// UUID of the hardware; empty: unknown.
    pub product_uuid: String,
    /// When it was made, by the machine's clock.
    pub made_at: Timestamp,
    /// Program and version that made it.
    pub made_by: String,
    /// User there who made it.
    pub made_for: String,
    /// What it says is missing in it.
    pub missing: Vec<String>,
    /// When it was imported.
    pub imported_at: Timestamp,
    /// By whom: user name.
    pub imported_by: String,
}

const COLUMNS: &str = "host, machine_id, product_uuid, made_at, made_by, made_for, missing, imported_at, imported_by";

fn read(row: &Row) -> Result<HostImport> {
    Ok(HostImport {
        host: row.id(0)?,
        machine_id: row.text(1)?.to_owned(),
        product_uuid: row.text(2)?.to_owned(),
        made_at: row.time(3)?,
        made_by: row.text(4)?.to_owned(),
        made_for: row.text(5)?.to_owned(),
        missing: parse(row.text(6)?, "host_import.missing")?,
        imported_at: row.time(7)?,
        imported_by: row.text(8)?.to_owned(),
    })
}

/// The newest file of a host; `None` for hosts with an agent.
pub fn host_import_get(connection: &mut Connection, host: HostId) -> Result<Option<HostImport>> {
    let row = connection.query_one(&format!("SELECT {COLUMNS} FROM host_import WHERE host = ?1"), &[host.into()])?;
    row.as_ref().map(read).transpose()
}

/// Keeps the newest file of a host, and that the host is as of then.
pub fn host_import_put(connection: &mut Connection, import: &HostImport) -> Result<()> {
    connection.execute(
        &format!(
            "INSERT INTO host_import ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (host) DO UPDATE SET machine_id = excluded.machine_id, product_uuid = excluded.product_uuid,
               made_at = excluded.made_at, made_by = excluded.made_by, made_for = excluded.made_for,
               missing = excluded.missing, imported_at = excluded.imported_at, imported_by = excluded.imported_by"
        ),
        &[
            import.host.into(),
            (&import.machine_id).into(),
            (&import.product_uuid).into(),
            import.made_at.into(),
            (&import.made_by).into(),
            (&import.made_for).into(),
            json(&import.missing)?,
            import.imported_at.into(),
            (&import.imported_by).into(),
        ],
    )?;
    connection.execute(
        "UPDATE host SET last_seen = ?2 WHERE id = ?1 AND state = 'imported'",
        &[import.host.into(), import.made_at.into()],
    )?;
    Ok(())
}

/// Hosts that are in use and may be the machine of a file: the same machine id or hardware, or the
/// same name. With the state of each.
pub fn hosts_like(
    connection: &mut Connection,
    machine_id: &str,
    product_uuid: &str,
    name: &str,
) -> Result<Vec<(HostId, String, HostState)>> {
    let rows = connection.query(
        "SELECT h.id, h.name, h.state FROM host h LEFT JOIN host_import i ON i.host = h.id
         WHERE h.state IN ('imported', 'enrolling', 'managed', 'silent')
           AND (h.name = ?1 OR (?2 <> '' AND i.machine_id = ?2) OR (?3 <> '' AND i.product_uuid = ?3))
         ORDER BY h.id LIMIT 100",
        &[name.into(), machine_id.into(), Value::from(product_uuid)],
    )?;
    rows.iter()
        .map(|row| {
            let state =
                HostState::parse(row.text(2)?).ok_or_else(|| StoreError::Corrupt { what: "host.state".into() })?;
            Ok((row.id(0)?, row.text(1)?.to_owned(), state))
        })
        .collect()
}
