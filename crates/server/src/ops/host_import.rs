//! What a person may do with inventories of machines that reach no server.

use super::OpsError;
use crate::AppState;
use crate::access::Actor;
use fettle_domain::HostId;
use fettle_domain::access::Permission;
use fettle_domain::reason::Reason;
use fettle_store::Connection;
use fettle_store::systems::host_import;
use fettle_wire::api::host::HostImportView;
use fettle_wire::scan::{Imported, Scan};

/// Takes the file of a machine in: a host without agent is made, or brought up to date.
pub async fn import(state: &AppState, actor: &Actor, scan: Scan) -> Result<Imported, OpsError> {
    actor.require(Permission::HostManage)?;
    crate::census::import(state, actor, scan).await
}

/// Where the inventory of a host comes from, when it is from a file.
pub(super) fn view(connection: &mut Connection, host: HostId) -> fettle_store::Result<Option<HostImportView>> {
    Ok(host_import::host_import_get(connection, host)?.map(|import| HostImportView {
        as_of: import.made_at.to_string(),
        imported_at: import.imported_at.to_string(),
        imported_by: import.imported_by,
        made_by: import.made_by,
        made_for: import.made_for,
        missing: import.missing,
    }))
}

/// The same as a reason of what rests on it.
pub(super) fn reason(host_name: &str, import: &HostImportView) -> Reason {
    let text = format!(
        "the inventory of {host_name} is as of {}, imported by {}: no agent keeps it up to date",
        import.as_of, import.imported_by
    );
    Reason::new("host.imported", text)
}
