//! Hosts, groups and enrolment tokens.

use super::endpoint::{AFTER, LIMIT, sort};
use super::{Answer, Body, Endpoint, Params, PathParam, QueryField};
use crate::AppState;
use crate::access::Actor;
use crate::ops;
use crate::ops::host::HostQuery;
use crate::problem::Refusal;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use fettle_domain::access::Permission;
use fettle_wire::api::finding::Explanation;
use fettle_wire::api::host::{
    EnrolmentTokenCreate, EnrolmentTokenList, EnrolmentTokenMade, GroupCreate, GroupList, GroupMembers, GroupView,
    HostCounts, HostDetail, HostList, HostMerge, HostRevoke, PackageList,
};
use serde::Deserialize;

const QUERY: &[QueryField] = &[
    sort("name (when absent), state, os or last_seen; with `-` before it the greatest first"),
    AFTER,
    LIMIT,
    QueryField {
        name: "state",
        summary: "discovered, enrolling, managed, silent, imported, retired; absent: all but the retired",
    },
    QueryField { name: "group", summary: "only in this group (name)" },
    QueryField { name: "codename", summary: "only of this release" },
    QueryField { name: "restart_needed", summary: "true: only those that need a restart of services or a reboot" },
    QueryField { name: "text", summary: "text in the name" },
];

const PACKAGES: &[QueryField] =
    &[AFTER, LIMIT, QueryField { name: "text", summary: "text in the package's or its source's name" }];

pub(super) fn endpoints() -> Vec<Endpoint> {
    use Permission as P;
    vec![
        Endpoint::get("/hosts", P::HostRead, "List hosts", list).query(QUERY).response::<HostList>(),
        Endpoint::get("/hosts/counts", P::HostRead, "Count hosts by state", counts).response::<HostCounts>(),
        Endpoint::get("/hosts/{host}", P::HostRead, "Show a host, by id or unique name", show).response::<HostDetail>(),
        Endpoint::get("/hosts/{host}/packages", P::HostRead, "List a host's packages", packages)
            .query(PACKAGES)
            .response::<PackageList>(),
        Endpoint::get("/hosts/{host}/explain", P::HostRead, "Say why a host is in its state", explain)
            .response::<Explanation>(),
        Endpoint::post("/hosts/{host}/revoke", P::HostManage, "Revoke a host: its certificate is refused", revoke)
            .request::<HostRevoke>(),
        Endpoint::post("/hosts/{host}/accept", P::HostEnrol, "Accept the copy of a host as a host of its own", accept),
        Endpoint::post("/hosts/{host}/merge", P::HostManage, "Say that a host is an older one, installed anew", merge)
            .request::<HostMerge>(),
        Endpoint::post(
            "/hosts/{host}/dismiss",
            P::HostManage,
            "Say that a host is none of those it resembles",
            dismiss,
        ),
        Endpoint::get("/groups", P::HostRead, "List groups", groups).response::<GroupList>(),
        Endpoint::post("/groups", P::HostManage, "Make a group", group_create)
            .request::<GroupCreate>()
            .response::<GroupView>(),
        Endpoint::post("/groups/{name}/hosts", P::HostManage, "Let hosts join and leave a group", group_members)
            .request::<GroupMembers>(),
        Endpoint::get("/enrolment-tokens", P::HostEnrol, "List enrolment tokens that still work", tokens)
            .response::<EnrolmentTokenList>(),
        Endpoint::post("/enrolment-tokens", P::HostEnrol, "Make an enrolment token", token_create)
            .request::<EnrolmentTokenCreate>()
            .response::<EnrolmentTokenMade>(),
        Endpoint::delete("/enrolment-tokens/{id}", P::HostEnrol, "Take an enrolment token back", token_revoke),
    ]
}

#[derive(Debug, Deserialize)]
struct Filter {
    sort: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
    state: Option<String>,
    group: Option<String>,
    codename: Option<String>,
    restart_needed: Option<bool>,
    text: Option<String>,
}

async fn list(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Params(filter): Params<Filter>,
) -> Answer<HostList> {
    let query = HostQuery {
        state: filter.state,
        group: filter.group,
        codename: filter.codename,
        restart_needed: filter.restart_needed,
        text: filter.text,
        sort: filter.sort,
        after: filter.after,
        limit: filter.limit,
    };
    Ok(Json(ops::host::list(&state, &actor, query).await?))
}

async fn counts(State(state): State<AppState>, Extension(actor): Extension<Actor>) -> Answer<HostCounts> {
    Ok(Json(ops::host::counts(&state, &actor).await?))
}

async fn show(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(host): PathParam<String>,
) -> Answer<HostDetail> {
    Ok(Json(ops::host::show(&state, &actor, &host).await?))
}

#[derive(Debug, Deserialize)]
struct PackageFilter {
    after: Option<String>,
    limit: Option<u32>,
    text: Option<String>,
}

async fn packages(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(host): PathParam<String>,
    Params(filter): Params<PackageFilter>,
) -> Answer<PackageList> {
    Ok(Json(ops::host::packages(&state, &actor, &host, filter.text, filter.after, filter.limit).await?))
}

async fn explain(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(host): PathParam<String>,
) -> Answer<Explanation> {
    Ok(Json(ops::host::explain(&state, &actor, &host).await?))
}

async fn revoke(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(host): PathParam<String>,
    Body(request): Body<HostRevoke>,
) -> Result<StatusCode, Refusal> {
    ops::host::revoke(&state, &actor, &host, request.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn accept(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(host): PathParam<String>,
) -> Result<StatusCode, Refusal> {
    ops::identity::accept(&state, &actor, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn merge(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(host): PathParam<String>,
    Body(request): Body<HostMerge>,
) -> Result<StatusCode, Refusal> {
    ops::identity::merge(&state, &actor, &host, &request.with).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn dismiss(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(host): PathParam<String>,
) -> Result<StatusCode, Refusal> {
    ops::identity::dismiss(&state, &actor, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn groups(State(state): State<AppState>, Extension(actor): Extension<Actor>) -> Answer<GroupList> {
    Ok(Json(ops::group::list(&state, &actor).await?))
}

async fn group_create(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    Body(request): Body<GroupCreate>,
) -> Answer<GroupView> {
    Ok(Json(ops::group::create(&state, &actor, request.name).await?))
}

async fn group_members(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(name): PathParam<String>,
    Body(request): Body<GroupMembers>,
) -> Result<StatusCode, Refusal> {
    ops::group::members(&state, &actor, &name, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn tokens(State(state): State<AppState>, Extension(actor): Extension<Actor>) -> Answer<EnrolmentTokenList> {
    Ok(Json(ops::host::token_list(&state, &actor).await?))
}

async fn token_create(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    Body(request): Body<EnrolmentTokenCreate>,
) -> Answer<EnrolmentTokenMade> {
    let address = crate::headers::own_address(&headers);
    Ok(Json(ops::host::token_create(&state, &actor, request, &address).await?))
}

async fn token_revoke(
    State(state): State<AppState>,
    Extension(actor): Extension<Actor>,
    PathParam(id): PathParam<String>,
) -> Result<StatusCode, Refusal> {
    ops::host::token_revoke(&state, &actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
