//! Groups: named hosts.

use crate::{Connection, Result, StoreError};
use fettle_domain::{GroupId, HostId, Timestamp};

/// A group with how many hosts are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Members.
    pub hosts: u64,
}

/// Makes a group.
pub fn group_create(connection: &mut Connection, id: GroupId, name: &str, now: Timestamp) -> Result<()> {
    connection.execute(
        "INSERT INTO host_group (id, name, created_at) VALUES (?1, ?2, ?3)",
        &[id.into(), name.into(), now.into()],
    )?;
    Ok(())
}

/// The group of a name.
pub fn group_by_name(connection: &mut Connection, name: &str) -> Result<GroupId> {
    connection
        .query_one("SELECT id FROM host_group WHERE name = ?1", &[name.into()])?
        .ok_or_else(|| StoreError::not_found(format!("group `{name}`")))?
        .id(0)
}

/// All groups by name.
pub fn group_list(connection: &mut Connection) -> Result<Vec<GroupRecord>> {
    let rows = connection.query(
        "SELECT g.id, g.name, (SELECT COUNT(*) FROM host_group_member m WHERE m.group_id = g.id) FROM host_group g ORDER BY g.name LIMIT 5000",
        &[],
    )?;
    rows.iter()
        .map(|row| {
            Ok(GroupRecord {
                id: row.id(0)?,
                name: row.text(1)?.to_owned(),
                hosts: u64::try_from(row.int(2)?).unwrap_or(0),
            })
        })
        .collect()
}

/// Puts a host into a group; again is fine.
pub fn group_add(connection: &mut Connection, group: GroupId, host: HostId) -> Result<()> {
    connection.execute(
        "INSERT INTO host_group_member (group_id, host) VALUES (?1, ?2) ON CONFLICT (group_id, host) DO NOTHING",
        &[group.into(), host.into()],
    )?;
    Ok(())
}

/// Takes a host out of a group; whether it was in.
pub fn group_remove(connection: &mut Connection, group: GroupId, host: HostId) -> Result<bool> {
    let removed = connection
        .execute("DELETE FROM host_group_member WHERE group_id = ?1 AND host = ?2", &[group.into(), host.into()])?;
    Ok(removed > 0)
}

/// Members of a group, at most `limit`, without the retired.
pub fn group_hosts(connection: &mut Connection, group: GroupId, limit: u32) -> Result<Vec<HostId>> {
    let rows = connection.query(
        "SELECT m.host FROM host_group_member m JOIN host h ON h.id = m.host
         WHERE m.group_id = ?1 AND h.state <> 'retired' ORDER BY m.host LIMIT ?2",
        &[group.into(), limit.into()],
    )?;
    rows.iter().map(|row| row.id(0)).collect()
}

/// Names of a host's groups.
pub fn group_names_of(connection: &mut Connection, host: HostId) -> Result<Vec<String>> {
    let rows = connection.query(
        "SELECT g.name FROM host_group_member m JOIN host_group g ON g.id = m.group_id WHERE m.host = ?1 ORDER BY g.name",
        &[host.into()],
    )?;
    rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
}
