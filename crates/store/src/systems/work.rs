//! Which hosts have new work. The marks grow over all hosts and servers; each server asks for the
//! highest one once a second and wakes the hosts it has waiting.

use super::host_identity::{HostKeys, keys_of};
use crate::body::{positive, signed};
use crate::{Connection, Result, StoreError};
use fettle_domain::HostId;
use fettle_domain::machine::HostState;

/// Notes that there is something new for a host.
pub fn work_touch(connection: &mut Connection, host: HostId) -> Result<()> {
    work_touch_many(connection, &[host])
}

/// The same for many, with one mark.
pub fn work_touch_many(connection: &mut Connection, hosts: &[HostId]) -> Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    connection.execute("INSERT INTO work_mark (id, mark) VALUES (1, 0) ON CONFLICT (id) DO NOTHING", &[])?;
    // Its row is locked until the commit: another server's later mark is committed later, so a
    // server that has seen a mark has seen all before it.
    let row = connection
        .query_one("UPDATE work_mark SET mark = mark + 1 WHERE id = 1 RETURNING mark", &[])?
        .ok_or_else(|| StoreError::Corrupt { what: "the mark of the work is missing".into() })?;
    let mark = row.int(0)?;
    for host in hosts {
        connection.execute(
            "INSERT INTO work (host, mark) VALUES (?1, ?2) ON CONFLICT (host) DO UPDATE SET mark = excluded.mark",
            &[host.into(), mark.into()],
        )?;
    }
    Ok(())
}

/// The mark of a host's newest work; 0 when it never had any.
pub fn work_mark(connection: &mut Connection, host: HostId) -> Result<u64> {
    let row = connection.query_one("SELECT mark FROM work WHERE host = ?1", &[host.into()])?;
    row.map_or(Ok(0), |row| row.int(0)).map(positive)
}

/// The highest mark of all.
pub fn work_highest(connection: &mut Connection) -> Result<u64> {
    let row = connection.query_one("SELECT mark FROM work_mark WHERE id = 1", &[])?;
    row.map_or(Ok(0), |row| row.int(0)).map(positive)
}

/// The hosts that were marked after `seen`, up to and with `highest`.
pub fn work_between(connection: &mut Connection, seen: u64, highest: u64) -> Result<Vec<HostId>> {
    let rows = connection.query(
        "SELECT host FROM work WHERE mark > ?1 AND mark <= ?2",
        &[signed(seen).into(), signed(highest).into()],
    )?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// What one look for work needs to know of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkStanding {
    /// Where the host stands.
    pub state: HostState,
    /// Its name.
    pub name: String,
    /// Mark of its newest work; 0 when it never had any.
    pub mark: u64,
    /// Whose certificates count.
    pub keys: HostKeys,
    /// Link of its last check-in; empty: none.
    pub link: Vec<u8>,
}

/// Whether a host may work and whether there is something new; `None`: no such host.
pub fn work_standing(connection: &mut Connection, host: HostId) -> Result<Option<WorkStanding>> {
    let row = connection.query_one(
        "SELECT h.state, h.name, COALESCE(w.mark, 0), h.link, h.key_current, h.key_next, h.key_former, h.key_former_until FROM host h LEFT JOIN work w ON w.host = h.id WHERE h.id = ?1",
        &[host.into()],
    )?;
    row.map(|row| {
        Ok(WorkStanding {
            state: crate::body::state(row.text(0)?)?,
            name: row.text(1)?.to_owned(),
            mark: positive(row.int(2)?),
            link: row.blob(3)?.to_vec(),
            keys: keys_of(&row, 4)?,
        })
    })
    .transpose()
}
