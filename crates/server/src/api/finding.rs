//! Findings and vulnerabilities.

use super::endpoint::{AFTER, LIMIT, sort};
use super::{Answer, Endpoint, Params, PathParam, QueryField};
use crate::AppState;
use crate::access::Actor;
use crate::ops;
use crate::ops::finding::FindingQuery;
use axum::extract::State;
use axum::{Extension, Json};
use fettle_domain::access::Permission;
use fettle_wire::api::finding::{Explanation, FindingCounts, FindingDetail, FindingList, VulnerabilityDetail};
use serde::Deserialize;

const QUERY: &[QueryField] = &[
    sort(
        "priority, vulnerability, source or first_seen; with `-` before it the greatest first; -priority when absent; narrowed to a vulnerability or source package only by that or priority, to a text only by priority, unless to one host",
    ),
    AFTER,
    LIMIT,
    QueryField { name: "state", summary: "comma-separated states, or `all`; absent: those that mean work" },
    QueryField {
        name: "verdict",
        summary: "comma-separated verdicts (affected, restart-needed, ignored, end-of-life, …)",
    },
    QueryField { name: "host", summary: "only on this host (id)" },
    QueryField { name: "vulnerability", summary: "only of this vulnerability" },
    QueryField { name: "source", summary: "only in this source package" },
    QueryField { name: "severity", summary: "at least: negligible, low, medium, high, critical" },
    QueryField { name: "fixable", summary: "true: a fix is published; false: none" },
    QueryField { name: "exploited", summary: "true: only those exploited in the wild" },
    QueryField { name: "text", summary: "text in the vulnerability's or the source package's name" },
];

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/findings", Permission::FindingRead, "List findings", list)
            .query(QUERY)
            .response::<FindingList>(),
        Endpoint::get("/findings/counts", Permission::FindingRead, "Count findings by kind", counts)
            .response::<FindingCounts>(),
        Endpoint::get("/findings/{id}", Permission::FindingRead, "Show a finding with its reasons and history", show)
            .response::<FindingDetail>(),
        Endpoint::get("/findings/{id}/explain", Permission::FindingRead, "Say why a finding is as it is", explain)
            .response::<Explanation>(),
        Endpoint::get(
            "/vulnerabilities/{id}",
            Permission::FindingRead,
            "Show a vulnerability and what each feed says of it",
            vulnerability,
        )
        .response::<VulnerabilityDetail>(),
    ]
}

#[derive(Debug, Deserialize)]
struct Filter {
    sort: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
    state: Option<String>,
    verdict: Option<String>,
    host: Option<String>,
    vulnerability: Option<String>,
    source: Option<String>,
    severity: Option<String>,
    fixable: Option<bool>,
    exploited: Option<bool>,
    text: Option<String>,
}

async fn list(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Params(filter): Params<Filter>,
) -> Answer<FindingList> {
    let query = FindingQuery {
        state: filter.state,
        verdict: filter.verdict,
        host: filter.host,
        vulnerability: filter.vulnerability,
        source: filter.source,
        severity: filter.severity,
        fixable: filter.fixable,
        exploited: filter.exploited,
        text: filter.text,
        sort: filter.sort,
        after: filter.after,
        limit: filter.limit,
    };
    Ok(Json(ops::finding::list(&state, &actor, query).await?))
}

async fn counts(State(state): State<AppState>, Extension(actor): Extension<Actor>) -> Answer<FindingCounts> {
    Ok(Json(ops::finding::counts(&state, &actor).await?))
}

async fn show(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(id): PathParam<String>,
) -> Answer<FindingDetail> {
    Ok(Json(ops::finding::show(&state, &actor, &id).await?))
}

async fn explain(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(id): PathParam<String>,
) -> Answer<Explanation> {
    Ok(Json(ops::finding::explain(&state, &actor, &id).await?))
}

async fn vulnerability(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(id): PathParam<String>,
) -> Answer<VulnerabilityDetail> {
    Ok(Json(ops::finding::vulnerability_show(&state, &actor, &id).await?))
}
