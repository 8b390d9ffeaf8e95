//! Changes, rollouts and deployments.

use super::endpoint::{AFTER, LIMIT, sort};
use super::{Answer, Body, Endpoint, Params, PathParam, QueryField, stream};
use crate::AppState;
use crate::access::Actor;
use crate::ops;
use crate::ops::change::ChangeQuery;
use crate::problem::Refusal;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::{Extension, Json};
use fettle_domain::access::Permission::{
    ChangeApprove as MayApprove, ChangeCreate as MayCreate, ChangeRead as MayRead, ChangeRun as MayRun,
};
use fettle_wire::api::change::{
    ChangeAct, ChangeApprove, ChangeCreate, ChangeDetail, ChangeEvent, ChangeEventList, ChangeHostList, ChangeList,
    DeploymentDetail, DeploymentList, DeploymentLog, HostChecksList,
};
use fettle_wire::api::finding::Explanation;
use fettle_wire::api::log::WholeLog;
use serde::Deserialize;

const PAGE: &[QueryField] = &[AFTER, LIMIT];
const CHANGES: &[QueryField] = &[
    sort("number, title or requester; with `-` before it the greatest first; -number when absent"),
    AFTER,
    LIMIT,
    QueryField {
        name: "state",
        summary: "comma-separated states, of plans (draft, proposed, …) or of rollouts (running, halted, …)",
    },
    QueryField { name: "requester", summary: "only those asked for by this user" },
    QueryField { name: "text", summary: "text in the title" },
];
const DEPLOYMENTS: &[QueryField] = &[
    sort("host_name (when absent) or state; with `-` before it the greatest first"),
    AFTER,
    LIMIT,
    QueryField { name: "state", summary: "comma-separated states" },
];
const STREAM: &[QueryField] = &[QueryField {
    name: "after",
    summary: "number of the last event that was seen; the header `Last-Event-ID` counts before it",
}];

/// Lists of names may be long.
const CREATE_BODY: usize = 4 << 20;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/changes", MayRead, "List changes", list).query(CHANGES).response::<ChangeList>(),
        Endpoint::post("/changes", MayCreate, "Ask for a change", create)
            .request::<ChangeCreate>()
            .response::<ChangeDetail>()
            .body_limit(CREATE_BODY),
        Endpoint::get("/changes/{id}", MayRead, "Show a change (by id or number)", show).response::<ChangeDetail>(),
        Endpoint::get("/changes/{id}/hosts", MayRead, "List what exactly happens on each host", hosts)
            .query(PAGE)
            .response::<ChangeHostList>(),
        Endpoint::get("/changes/{id}/deployments", MayRead, "List the deployments of a change", deployments)
            .query(DEPLOYMENTS)
            .response::<DeploymentList>(),
        Endpoint::get("/changes/{id}/checks", MayRead, "List what the health checks of each host found last", checks)
            .query(PAGE)
            .response::<HostChecksList>(),
        Endpoint::get("/changes/{id}/explain", MayRead, "Say why a change is as it is, and what it waits for", explain)
            .response::<Explanation>(),
        Endpoint::get("/changes/{id}/history", MayRead, "List the events of a change, oldest first", history)
            .query(PAGE)
            .response::<ChangeEventList>(),
        Endpoint::get(
            "/changes/{id}/events",
            MayRead,
            "Watch a change: its events as they come, replayed from a number on",
            events,
        )
        .query(STREAM)
        .stream::<ChangeEvent>(),
        Endpoint::post("/changes/{id}/approve", MayApprove, "Approve exactly the plan with this digest", approve)
            .request::<ChangeApprove>()
            .response::<ChangeDetail>(),
        Endpoint::post("/changes/{id}/reject", MayApprove, "Refuse a plan", reject)
            .request::<ChangeAct>()
            .response::<ChangeDetail>(),
        Endpoint::post("/changes/{id}/start", MayRun, "Start an approved change, now or when its window begins", start)
            .request::<ChangeAct>()
            .response::<ChangeDetail>(),
        Endpoint::post("/changes/{id}/pause", MayRun, "Hand out no further orders for a while", pause)
            .request::<ChangeAct>()
            .response::<ChangeDetail>(),
        Endpoint::post("/changes/{id}/resume", MayRun, "Go on with a paused or halted rollout", resume)
            .request::<ChangeAct>()
            .response::<ChangeDetail>(),
        Endpoint::post("/changes/{id}/cancel", MayRun, "End a change: what has not begun will not begin", cancel)
            .request::<ChangeAct>()
            .response::<ChangeDetail>(),
        Endpoint::post("/changes/{id}/undo", MayRun, "Put the former versions back on every host", undo)
            .request::<ChangeAct>()
            .response::<ChangeDetail>(),
        Endpoint::get("/hosts/{host}/deployments", MayRead, "List the newest deployments of a host", of_host)
            .query(&[LIMIT])
            .response::<DeploymentList>(),
        Endpoint::get("/deployments/{id}", MayRead, "Show a deployment with its tasks", deployment)
            .response::<DeploymentDetail>(),
        Endpoint::get("/deployments/{id}/log", MayRead, "Read the output of a deployment", log)
            .query(PAGE)
            .response::<DeploymentLog>(),
        Endpoint::post("/deployments/{id}/whole-log", MayRead, "Ask the host for the whole log it keeps", ask_log)
            .response::<WholeLog>(),
        Endpoint::get(
            "/deployments/{id}/whole-log",
            MayRead,
            "Read what the host has sent of the whole log, and where the request stands",
            whole_log,
        )
        .query(PAGE)
        .response::<WholeLog>(),
        Endpoint::get(
            "/deployments/{id}/explain",
            MayRead,
            "Say why a deployment is as it is, and what it waits for",
            explain_deployment,
        )
        .response::<Explanation>(),
    ]
}

#[derive(Debug, Deserialize)]
struct Filter {
    sort: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
    state: Option<String>,
    requester: Option<String>,
    text: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Page {
    sort: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
    state: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Behind {
    after: Option<u64>,
    limit: Option<u32>,
}

type Id = PathParam<String>;
type Who = Extension<Actor>;

async fn list(
    State(state): State<AppState>,
    Extension(actor): Who,
    Params(filter): Params<Filter>,
) -> Answer<ChangeList> {
    let Filter { sort, after, limit, state: wanted, requester, text } = filter;
    let query = ChangeQuery { state: wanted, requester, text, sort, after, limit };
    Ok(Json(ops::change::list(&state, &actor, query).await?))
}

async fn create(
    State(state): State<AppState>,
    Extension(actor): Who,
    Body(request): Body<ChangeCreate>,
) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::create(&state, &actor, request).await?))
}

async fn show(State(state): State<AppState>, Extension(actor): Who, PathParam(id): Id) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::show(&state, &actor, &id).await?))
}

async fn hosts(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Params(page): Params<Page>,
) -> Answer<ChangeHostList> {
    Ok(Json(ops::change::hosts(&state, &actor, &id, page.after, page.limit).await?))
}

async fn deployments(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Params(page): Params<Page>,
) -> Answer<DeploymentList> {
    let part = ops::Part { sort: page.sort, after: page.after, limit: page.limit };
    Ok(Json(ops::change::deployments(&state, &actor, &id, page.state, part).await?))
}

async fn checks(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Params(page): Params<Page>,
) -> Answer<HostChecksList> {
    Ok(Json(ops::change::checks(&state, &actor, &id, page.after, page.limit).await?))
}

async fn explain(State(state): State<AppState>, Extension(actor): Who, PathParam(id): Id) -> Answer<Explanation> {
    Ok(Json(ops::change::explain(&state, &actor, &id).await?))
}

async fn history(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Params(page): Params<Behind>,
) -> Answer<ChangeEventList> {
    Ok(Json(ops::change::events(&state, &actor, &id, page.after, page.limit).await?))
}

async fn events(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Params(behind): Params<Behind>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let mut watch = ops::change::watch(&state, &actor, &id, last.or(behind.after).unwrap_or(0)).await?;
    Ok(stream::response(async move |sender| {
        while let Some(Some(events)) = sender.alive(watch.next()).await {
            for event in events {
                let json = serde_json::to_string(&event).unwrap_or_default();
                if !sender.event(event.number, &event.machine, &json).await {
                    return;
                }
            }
        }
    }))
}

async fn approve(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Body(request): Body<ChangeApprove>,
) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::approve(&state, &actor, &id, request).await?))
}

async fn reject(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Body(act): Body<ChangeAct>,
) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::reject(&state, &actor, &id, act.reason).await?))
}

async fn start(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Body(act): Body<ChangeAct>,
) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::start(&state, &actor, &id, act.reason).await?))
}

async fn pause(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Body(act): Body<ChangeAct>,
) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::pause(&state, &actor, &id, act.reason).await?))
}

async fn resume(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Body(act): Body<ChangeAct>,
) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::resume(&state, &actor, &id, act.reason).await?))
}

async fn cancel(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Body(act): Body<ChangeAct>,
) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::cancel(&state, &actor, &id, act.reason).await?))
}

async fn undo(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Body(act): Body<ChangeAct>,
) -> Answer<ChangeDetail> {
    Ok(Json(ops::change::undo(&state, &actor, &id, act.reason).await?))
}

async fn of_host(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(host): Id,
    Params(page): Params<Page>,
) -> Answer<DeploymentList> {
    Ok(Json(ops::change::deployments_of_host(&state, &actor, &host, page.limit).await?))
}

async fn deployment(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
) -> Answer<DeploymentDetail> {
    Ok(Json(ops::change::show_deployment(&state, &actor, &id).await?))
}

async fn log(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Params(page): Params<Behind>,
) -> Answer<DeploymentLog> {
    Ok(Json(ops::change::log(&state, &actor, &id, page.after, page.limit).await?))
}

async fn ask_log(State(state): State<AppState>, Extension(actor): Who, PathParam(id): Id) -> Answer<WholeLog> {
    Ok(Json(ops::change::ask_log(&state, &actor, &id).await?))
}

async fn whole_log(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
    Params(page): Params<Behind>,
) -> Answer<WholeLog> {
    Ok(Json(ops::change::whole_log(&state, &actor, &id, page.after, page.limit).await?))
}

async fn explain_deployment(
    State(state): State<AppState>,
    Extension(actor): Who,
    PathParam(id): Id,
) -> Answer<Explanation> {
    Ok(Json(ops::change::explain_deployment(&state, &actor, &id).await?))
}
