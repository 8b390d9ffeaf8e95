//! The audit log.

use super::endpoint::{AFTER, LIMIT, sort};
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
    sort(
        "sequence, actor, action or object; with `-` before it the greatest first; -sequence when absent; a narrowed log only by sequence and by what it is narrowed to",
    ),
    AFTER,
    LIMIT,
    QueryField { name: "actor", summary: "only of this actor" },
    QueryField { name: "action", summary: "only this action, or with a trailing dot all that begin so (`host.`)" },
    QueryField { name: "object", summary: "only about this object" },
];

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/audit", Permission::AuditRead, "List audit entries", list).query(QUERY).response::<AuditList>(),
        Endpoint::get("/audit/verify", Permission::AuditRead, "Check the whole chain of audit entries", verify)
            .response::<AuditVerdict>(),
    ]
}

#[derive(Debug, Deserialize)]
struct Filter {
    sort: Option<String>,
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
        sort: filter.sort,
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
