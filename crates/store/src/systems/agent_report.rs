//! How far the reports of each host are stored: what comes again is told apart by its sequence.

use crate::body::{positive, signed};
use crate::{Connection, Result};
use fettle_domain::HostId;

/// Sequence of the last stored entry; 0 when there is none.
pub fn agent_report_acknowledged(connection: &mut Connection, host: HostId) -> Result<u64> {
    let row = connection.query_one("SELECT acknowledged FROM agent_report WHERE host = ?1", &[host.into()])?;
    row.map_or(Ok(0), |row| row.int(0)).map(positive)
}

/// Notes that everything up to this sequence is stored. Never goes back.
pub fn agent_report_acknowledge(connection: &mut Connection, host: HostId, sequence: u64) -> Result<()> {
    connection.execute(
        "INSERT INTO agent_report (host, acknowledged) VALUES (?1, ?2)
         ON CONFLICT (host) DO UPDATE SET acknowledged = CASE
           WHEN agent_report.acknowledged < excluded.acknowledged THEN excluded.acknowledged ELSE agent_report.acknowledged END",
        &[host.into(), signed(sequence).into()],
    )?;
    Ok(())
}
