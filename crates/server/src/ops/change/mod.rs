//! What a person may ask of changes: ask for one, look at it, approve, start, undo it, watch it.

mod act;
mod checks;
mod create;
mod deployment;
mod explain;
mod kept_log;
mod show;
mod view;
mod watch;

pub use act::{approve, cancel, pause, reject, resume, start, undo};
pub use checks::checks;
pub use create::create;
pub use deployment::{deployments, deployments_of_host, explain_deployment, log, show_deployment};
pub use explain::explain;
pub(crate) use kept_log::forget_ended as forget_ended_logs;
pub use kept_log::{ask_log, whole_log};
pub use show::{ChangeQuery, hosts, list, show};
pub use watch::{Watch, events, watch};

use super::OpsError;
use fettle_domain::ChangeId;
use fettle_store::systems::change::{self, ChangeRecord};
use fettle_store::{Connection, StoreError};

/// The change that an id or a number means.
pub(crate) fn resolve(connection: &mut Connection, text: &str) -> fettle_store::Result<ChangeRecord> {
    let text = text.trim();
    let id: ChangeId = match text.parse::<u64>() {
        Ok(number) => change::change_by_number(connection, number)?,
        Err(_) => text.parse().map_err(|_| {
            let shown: String = text.chars().take(80).collect();
            StoreError::not_found(format!("change `{shown}`"))
        })?,
    };
    change::change_get(connection, id)
}

/// A word of a fixed list, by its machine.
fn states<M: fettle_domain::machine::Machine>(field: &str, list: Option<&str>) -> Result<Vec<M>, OpsError> {
    let words = list.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            M::parse(word).ok_or_else(|| {
                let known: Vec<&str> = M::STATES.iter().map(|state| state.as_str()).collect();
                OpsError::invalid(
                    field,
                    format!("`{word}` is no state of a {}", M::NAME),
                    format!("some of {}", known.join(", ")),
                )
            })
        })
        .collect()
}
