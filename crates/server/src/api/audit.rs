//! The audit log.

use super::{Answer, Endpoint, Params, QueryField};
use crate::AppState;
use crate::access::Actor;
use crate::ops;
use axum::extract::State;
use axum::{Extension, Json};
use fettle_domain::access::Permission;
use fettle_wire::api::audit::{AuditList, AuditVerdict};
use serde::Deserialize;

const QUERY: &[QueryField] = &[
    QueryField { name: "after", summary: "`next` of the page before" },
    QueryField { name: "limit", summary: "items at most, 1 to 1000; 100 when absent" },
    QueryField { name: "actor", summary: "only of this actor" },
    QueryField { name: "action", summary: "only this action, or with a trailing dot all that begin so (`host.`)" },
    QueryField { name: "object", summary: "only about this object" },
];

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/audit", Permission::AuditRead, "List audit entries, newest first", list)
            .query(QUERY)
            .response::<AuditList>(),
        Endpoint::get("/audit/verify", Permission::AuditRead, "Check the whole chain of audit entries", verify)
            .response::<AuditVerdict>(),
    ]
}

#[derive(Debug, Deserialize)]
struct Filter {
    after: Option<String>,
    limit: Option<u32>,
    actor: Option<String>,
    action: Option<String>,
    object: Option<String>,
}

async fn list(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Params(filter): Params<Filter>,
) -> Answer<AuditList> {
    let wanted = ops::audit::Wanted {
        after: filter.after,
        limit: filter.limit,
        actor: filter.actor,
        action: filter.action,
        object: filter.object,
    };
    Ok(Json(ops::audit::list(&state, &actor, wanted).await?))
}

async fn verify(State(state): State<AppState>, Extension(actor): Extension<Actor>) -> Answer<AuditVerdict> {
    Ok(Json(ops::audit::verify(&state, &actor).await?))
}
