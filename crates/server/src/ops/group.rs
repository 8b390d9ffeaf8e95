//! What a person may ask of groups.

use super::{OpsError, host};
use crate::access::Actor;
use crate::{AppState, clock};
use fettle_domain::GroupId;
use fettle_domain::access::Permission;
use fettle_store::systems::{audit, group};
use fettle_wire::api::host::{GroupList, GroupMembers, GroupView};

/// Most hosts in one request.
const MEMBERS: usize = 10_000;

/// Whether a name may be a group's.
pub(super) fn check_name(name: &str) -> Result<(), OpsError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    Err(OpsError::invalid("group", "not a group's name", "1 to 64 letters, digits, `.`, `_` and `-`"))
}

/// All groups.
pub async fn list(state: &AppState, actor: &Actor) -> Result<GroupList, OpsError> {
    actor.require(Permission::HostRead)?;
    let groups = state.store.read(group::group_list).await?;
    Ok(GroupList {
        items: groups
            .into_iter()
            .map(|group| GroupView { id: group.id.to_string(), name: group.name, hosts: group.hosts })
            .collect(),
    })
}

/// Makes a group.
pub async fn create(state: &AppState, actor: &Actor, name: String) -> Result<GroupView, OpsError> {
    actor.require(Permission::HostManage)?;
    check_name(&name)?;
    let (id, now): (GroupId, _) = (clock::fresh(), clock::now());
    let record = actor.record("group.create", id, serde_json::json!({ "name": name }));
    let made = name.clone();
    state
        .store
        .write(move |connection| {
            group::group_create(connection, id, &made, now)?;
            audit::append(connection, now, &record).map(|_| ())
        })
        .await?;
    Ok(GroupView { id: id.to_string(), name, hosts: 0 })
}

/// Lets hosts join and leave a group.
pub async fn members(state: &AppState, actor: &Actor, name: &str, request: GroupMembers) -> Result<(), OpsError> {
    actor.require(Permission::HostManage)?;
    if request.add.len() + request.remove.len() > MEMBERS {
        return Err(OpsError::invalid("add", "too many hosts in one request", format!("at most {MEMBERS}")));
    }
    let (name, now) = (name.to_owned(), clock::now());
    let record =
        actor.record("group.members", &name, serde_json::json!({ "add": request.add, "remove": request.remove }));
    state
        .store
        .write(move |connection| {
            let id = group::group_by_name(connection, &name)?;
            for text in &request.add {
                let host = host::resolve(connection, text)?;
                group::group_add(connection, id, host)?;
            }
            for text in &request.remove {
                let host = host::resolve(connection, text)?;
                group::group_remove(connection, id, host)?;
            }
            audit::append(connection, now, &record).map(|_| ())
        })
        .await?;
    Ok(())
}
