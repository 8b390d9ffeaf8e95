//! Changes: asked for, read, approved, followed live, undone.

use crate::ops::change::ChangeQuery;
use crate::ui::part::{ago, badge, bytes, chips, empty, escape, link, many, pager, reasons};
use crate::ui::sorting::Sorting;
use crate::ui::visitor::{Answer, PageError, Visitor};
use crate::ui::{form, layout};
use crate::{AppState, ops};
use axum::extract::{Form, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Redirect;
use fettle_domain::access::Permission;
use fettle_wire::api::change::{
    ChangeApprove, ChangeCreate, ChangeDetail, ChangeHostList, ChangePackage, DeploymentList, HostChecks,
    HostChecksList,
};
use maud::{Markup, html};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    state: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    limit: String,
    #[serde(default)]
    after: String,
}

/// A page of changes.
pub async fn list(State(state): State<AppState>, visitor: Visitor, Query(filter): Query<Filter>) -> Answer {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let query = ChangeQuery {
        state: filled(&filter.state),
        text: filled(&filter.text),
        sort: filled(&filter.sort),
        after: filled(&filter.after),
        limit: filter.limit.parse().ok(),
        ..ChangeQuery::default()
    };
    let changes = ops::change::list(&state, visitor.actor(), query).await?;
    let address = |wanted: &str, sort: &str, after: &str| {
        let (text, limit) = (filter.text.as_str(), filter.limit.as_str());
        link("/changes", &[("state", wanted), ("text", text), ("sort", sort), ("limit", limit), ("after", after)])
    };
    let next = changes.next.clone().map(|next| address(&filter.state, &filter.sort, &next));
    let only = |wanted: &str| address(wanted, &filter.sort, "");
    let by = |sort: &str| address(&filter.state, sort, "");
    let sorting = Sorting::new(&filter.sort, "-number", &by);
    let chosen = |wanted: &str| filter.state == wanted;
    Ok(layout::page(
        &visitor,
        "/changes",
        "Changes",
        html! {
            div.title {
                div { h1 { "Changes" } div.sub { "Asked for, tried dry, approved, rolled out, proved" } }
                @if visitor.actor().may(Permission::ChangeCreate) { div.actions { a.btn.primary href="/changes/new" { "Ask for a change" } } }
            }
            section.card {
                form.filters action="/changes" method="get" {
                    input type="search" name="text" value=(filter.text) placeholder="Title" aria-label="Title";
                    @for (name, value) in [("state", &filter.state), ("sort", &filter.sort), ("limit", &filter.limit)] { @if !value.is_empty() { input type="hidden" name=(name) value=(value); } }
                    (chips(&[
                        ("All", only(""), chosen("")),
                        ("To approve", only("proposed"), chosen("proposed")),
                        ("Approved", only("approved"), chosen("approved")),
                        ("Running", only("running"), chosen("running")),
                        ("Halted", only("halted"), chosen("halted")),
                        ("Completed", only("completed"), chosen("completed")),
                    ]))
                }
                @if changes.items.is_empty() {
                    (empty("No change fits. Choose a finding, or:", "fettle change create --vulnerability CVE-… --host NAME"))
                } @else {
                    div.scroll { table.stack {
                        thead { tr { (sorting.head("#", "-number")) (sorting.head("Title", "title")) th scope="col" { "State" } th scope="col" { "Hosts" } (sorting.head("Asked by", "requester")) th scope="col" { "When" } } }
                        tbody { @for change in &changes.items { tr {
                            td data-label="#" { (change.number) } td data-label="Title" { a href={ "/changes/" (change.id) } { (change.title) } }
                            td data-label="State" { div { (badge(&change.state)) } } td data-label="Hosts" { (change.hosts) }
                            td data-label="Asked by" { (change.requester) } td.tight data-label="When" { (ago(&change.created_at)) }
                        } } }
                    } }
                    (pager(changes.items.len(), changes.total, next))
                }
            }
        },
    ))
}

#[derive(Debug, Default, Deserialize)]
pub struct Prefilled {
    #[serde(default)]
    finding: String,
    #[serde(default)]
    vulnerability: String,
    #[serde(default)]
    host: String,
}

/// The form of a change.
pub async fn form(visitor: Visitor, Query(given): Query<Prefilled>) -> Answer {
    visitor.actor().require(Permission::ChangeCreate)?;
    Ok(layout::page(
        &visitor,
        "/changes",
        "Ask for a change",
        html! {
            div.title { div { h1 { "Ask for a change" } div.sub { "Every host tries it dry first; then exactly that is proposed, and another person approves it" } } }
            section.card { div.body { form action="/changes" method="post" {
                input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                div.field { label for="title" { "Title" } input id="title" name="title" placeholder="made from the content when left empty"; }
                div.field { label for="reason" { "Why" } textarea id="reason" name="reason" {} }
                div.field { label for="findings" { "Findings to close" } textarea id="findings" name="findings" { (given.finding) } div.hint { "Ids, separated by spaces; each names its host" } }
                div.field { label for="vulnerabilities" { "Vulnerabilities to close" } input id="vulnerabilities" name="vulnerabilities" value=(given.vulnerability) placeholder="CVE-2026-4775"; div.hint { "On the hosts below, or wherever they are open when no host is named" } }
                div.field { label for="packages" { "Packages to update" } input id="packages" name="packages" placeholder="libtiff6, or libtiff6=4.5.0-6+deb12u4"; }
                div.grid {
                    div.field { label for="hosts" { "Hosts" } input id="hosts" name="hosts" value=(given.host) placeholder="names or ids"; }
                    div.field { label for="groups" { "Groups" } input id="groups" name="groups"; }
                    div.field { label for="success" { "Must succeed, per cent of the hosts" } input id="success" name="success" type="number" min="0" max="100" value="100"; }
                }
                div.field { label for="checks" { "Health checks" } textarea id="checks" name="checks" placeholder="http=http://127.0.0.1:8080/health,within=30s" {} div.hint { "One a line; what listens and runs before must do so after without being named here" } }
                div.field { label.check { input type="checkbox" name="reboot" value="yes"; "Reboot hosts when the change needs it" } label.check { input type="checkbox" name="removals" value="yes"; "Other packages may be removed to get there" } }
                button.primary type="submit" { "Ask for it" }
            } } }
        },
    ))
}

#[derive(Deserialize)]
pub struct Create {
    csrf: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    findings: String,
    #[serde(default)]
    vulnerabilities: String,
    #[serde(default)]
    packages: String,
    #[serde(default)]
    hosts: String,
    #[serde(default)]
    groups: String,
    #[serde(default)]
    success: Option<u8>,
    #[serde(default)]
    checks: String,
    #[serde(default)]
    reboot: String,
    #[serde(default)]
    removals: String,
}

/// Asks for a change.
pub async fn create(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(asked): Form<Create>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    let (hosts, groups, vulnerabilities) =
        (form::words(&asked.hosts), form::words(&asked.groups), form::words(&asked.vulnerabilities));
    let request = ChangeCreate {
        title: asked.title,
        reason: asked.reason,
        findings: form::words(&asked.findings),
        packages: form::words(&asked.packages),
        all_affected: !vulnerabilities.is_empty() && hosts.is_empty() && groups.is_empty(),
        vulnerabilities,
        hosts,
        groups,
        allow_removals: !asked.removals.is_empty(),
        success_percent: asked.success,
        checks: form::lines(&asked.checks),
        reboot: Some(if asked.reboot.is_empty() { "never" } else { "if-needed" }.to_owned()),
        ..ChangeCreate::default()
    };
    let change = ops::change::create(&state, visitor.actor(), request).await?;
    Ok(Redirect::to(&format!("/changes/{}", change.summary.id)))
}

/// Where its two lists stand: the plan's hosts, and the deployments.
#[derive(Debug, Default, Deserialize)]
pub struct Pages {
    #[serde(default)]
    after: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    deployments: String,
}

impl Pages {
    fn address(&self, id: &str, after: &str, sort: &str, deployments: &str) -> String {
        link(&format!("/changes/{id}"), &[("after", after), ("sort", sort), ("deployments", deployments)])
    }
}

/// One change with live progress.
pub async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(pages): Query<Pages>,
) -> Answer {
    let actor = visitor.actor();
    let change = ops::change::show(&state, actor, &id).await?;
    let id = change.summary.id.clone();
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let hosts = ops::change::hosts(&state, actor, &id, filled(&pages.after), Some(25)).await?;
    let part = ops::Part { sort: filled(&pages.sort), after: filled(&pages.deployments), limit: Some(100) };
    let deployments = ops::change::deployments(&state, actor, &id, None, part).await?;
    let checks = ops::change::checks(&state, actor, &id, None, Some(200)).await?;
    let events = format!("/api/v1/changes/{}/events?after={}", escape(&id), change.last_event);
    Ok(layout::page(
        &visitor,
        "/changes",
        &change.summary.title,
        html! {
            div data-events=(events) data-kinds="change rehearsal plan rollout wave deployment task output" {}
            div.title data-part="title" {
                div { h1 { "#" (change.summary.number) " " (change.summary.title) } div.sub { (badge(&change.summary.state)) " asked by " (change.summary.requester) " " (ago(&change.summary.created_at)) } }
                (actions(&visitor, &change))
            }
            @if !change.waiting_for.is_empty() { div.notice data-part="waiting" { b { "Waiting for: " } (change.waiting_for.join("; ")) } } @else { div data-part="waiting" {} }
            div.two {
                div.column {
                section.card data-part="progress" { header { h2 { "Rollout" } @if let Some(state) = &change.summary.rollout_state { (badge(state)) } }
                    div.body { (super::overview::progress(&change)) p.soft { (change.proved) " proved by a later inventory" } } }
                (deployment_table(&id, &pages, &deployments))
                (check_table(&change, &checks))
                section.card { header { h2 { "Live output" } span data-part="live" { @if matches!(change.summary.rollout_state.as_deref(), Some("running" | "rolling-back")) { span class="badge info live" { "live" } } } } div.body { pre.log id="live-log" tabindex="0" role="log" aria-label="Live output" data-empty="What the hosts print appears here while the change runs. Earlier output: tasks and log of a deployment." {} } }
                }
                (about(&change))
            }
            (plan(&id, &change, &hosts, &pages))
        },
    ))
}

fn actions(visitor: &Visitor, change: &ChangeDetail) -> Markup {
    let words = |verb: &str| match verb {
        "approve" => ("Approve", "Exactly the plan shown here is approved."),
        "reject" => ("Reject", "The plan is refused for good."),
        "start" => ("Start", "The hosts are offered it now, or when its window begins."),
        "pause" => ("Pause", "No further host begins."),
        "resume" => ("Resume", "Hosts begin again."),
        "cancel" => ("Cancel", "Hosts that have not begun are left alone; finished ones stay."),
        "undo" => ("Undo", "Former versions are put back on every changed host."),
        _ => ("Do it", ""),
    };
    html! {
        div.actions {
            @for verb in &change.may {
                @let (word, consequence) = words(verb);
                details.act {
                    summary class={ "btn " @if verb == "approve" || verb == "start" { "primary" } @else if verb != "resume" { "danger" } } { (word) }
                    div.card { div.body { form action={ "/changes/" (change.summary.id) "/" (verb) } method="post" {
                        input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                        input type="hidden" name="digest" value=(change.plan_digest);
                        p { (consequence) }
                        div.field { label for={ "reason-" (verb) } { @if verb == "approve" { "Comment" } @else { "Why" } } input id={ "reason-" (verb) } name="reason"; }
                        button.primary type="submit" { "Yes: " (word.to_lowercase()) }
                    } } }
                }
            }
        }
    }
}

fn about(change: &ChangeDetail) -> Markup {
    html! {
        section.card data-part="about" { header { h2 { "Request" } } div.body { dl.pairs {
            dt { "What" } dd { (change.asked_for.join("; ")) }
            dt { "Why" } dd { @if change.reason.is_empty() { "–" } @else { (change.reason) } }
            dt { "Closes" } dd { (many(change.findings, "finding")) }
            dt { "Where" } dd { (change.summary.hosts) " of " (many(change.summary.asked, "host")) " asked" }
            dt { "Risk" } dd { @match &change.risk { Some(risk) => { (badge(&risk.level)) (reasons(&risk.reasons)) }, None => "known when the dry runs are in" } }
            dt { "Acceptance" } dd { "at least " (change.acceptance.success_percent) " % of the hosts proved; silent for " (change.acceptance.silence_seconds) " s counts as failed" }
            dt { "Back-out" } dd { (change.back_out) }
            dt { "Restarts" } dd { "services: " @if change.restart_services { "yes" } @else { "no" } ", reboot: " (change.reboot) }
            dt { "Health checks" } dd {
                "what listens and runs before must do so after"
                @for check in &change.checks { div.under { span.mono { (check.text) } } }
            }
            dt { "Window" } dd { @match &change.window.start { Some(start) => { "from " (start) }, None => "as soon as it is started" } ", until " (change.window.end) }
            dt { "Approvals" } dd { (change.approvals.len()) " of " (change.approvals_needed) @for approval in &change.approvals { div { b { (approval.by) } " " (ago(&approval.at)) " " (approval.comment) } } }
            @if !change.plan_digest.is_empty() { dt { "Plan digest" } dd.mono { (change.plan_digest) } }
        } } }
    }
}

fn deployment_table(id: &str, pages: &Pages, deployments: &DeploymentList) -> Markup {
    let by = |sort: &str| pages.address(id, &pages.after, sort, "");
    let sorting = Sorting::new(&pages.sort, "host_name", &by);
    let next = deployments.next.as_ref().map(|next| pages.address(id, &pages.after, &pages.sort, next));
    html! {
        section.card data-part="deployments" { header { h2 { "Deployments" } }
            @if deployments.items.is_empty() { (empty("None yet: they are made when the change starts.", "")) } @else {
                div.scroll { table.stack {
                    thead { tr { (sorting.head("Host", "host_name")) (sorting.head("State", "state")) th scope="col" { "Proof" } th scope="col" { "Last word" } th scope="col" {} } }
                    tbody { @for deployment in &deployments.items { tr {
                        td data-label="Host" { a href={ "/hosts/" (deployment.host) } { (deployment.host_name) } }
                        td data-label="State" { div { (badge(&deployment.state)) } } td data-label="Proof" { div { (badge(&deployment.proof)) } }
                        td.tight data-label="Last word" { (ago(&deployment.heard_at)) } td data-label="" { a href={ "/deployments/" (deployment.id) } { "Tasks and log" } " · " a href={ "/deployments/" (deployment.id) "/log" } { "Whole log" } }
                    } } }
                } }
                @if next.is_some() || !pages.deployments.is_empty() { (pager(deployments.items.len(), None, next)) }
            }
        }
    }
}

fn check_table(change: &ChangeDetail, checks: &HostChecksList) -> Markup {
    let seen: Vec<&HostChecks> = checks.items.iter().filter(|host| !host.results.is_empty()).collect();
    html! {
        section.card data-part="checks" { header { h2 { "Health" } span.soft { "as each host saw it last" } }
            @if seen.is_empty() {
                (empty(if change.checks.is_empty() { "Not looked at yet. What listens and runs on a host before must do so after." } else { "Not looked at yet." }, ""))
            } @else { div.scroll { table.stack {
                thead { tr { th { "Host" } th { "State" } th { "What was seen" } } }
                tbody { @for host in &seen { tr {
                    td data-label="Host" { div { a href={ "/deployments/" (host.deployment) } { (host.host_name) } div.under { (host.task) } } }
                    td data-label="State" { div { (badge(if host.failed { "failed" } else { "holds" })) } }
                    td data-label="What was seen" { div { @for result in &host.results { div { (result.text) } } } }
                } } }
            } } }
            @if checks.next.is_some() { div.pager { "Only the first hosts are shown; all: GET /api/v1/changes/" (change.summary.number) "/checks" } }
        }
    }
}

fn plan(id: &str, change: &ChangeDetail, hosts: &ChangeHostList, pages: &Pages) -> Markup {
    let next = hosts.next.as_ref().map(|next| pages.address(id, next, &pages.sort, &pages.deployments));
    html! {
        section.card data-part="plan" { header { h2 { "Plan" } span.soft { "exactly this, nothing else" } }
            div.body { (reasons(&change.report)) }
            @for host in &hosts.items {
                div.body { h2 { a href={ "/hosts/" (host.host) } { (host.host_name) } " " span.soft { (host.os) " · " (bytes(host.download_bytes)) } } }
                (packages(&host.packages))
                @if !host.notes.is_empty() { div.body { (reasons(&host.notes)) } }
            }
            @if hosts.items.is_empty() { (empty("The dry runs are not in yet.", "")) } @else { (pager(hosts.items.len(), hosts.total, next)) }
        }
    }
}

fn packages(packages: &[ChangePackage]) -> Markup {
    html! {
        div.scroll { table.stack {
            thead { tr { th { "Package" } th { "From" } th { "To" } th {} } }
            tbody { @for package in packages { tr {
                td data-label="Package" { div { (package.name) span.soft { ":" (package.architecture) } } }
                td.mono data-label="From" { @match &package.from { Some(version) => (version), None => "new" } }
                td.mono data-label="To" { @match &package.to { Some(version) => (version), None => "removed" } }
                td.soft data-label="" { @if package.asked { "asked for" } @else { "comes along" } }
            } } }
        } }
    }
}

#[derive(Deserialize)]
pub struct Act {
    csrf: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    reason: String,
}

/// Approve, reject, start, pause, resume, cancel, undo.
pub async fn act(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Path((id, verb)): Path<(String, String)>,
    Form(asked): Form<Act>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    let (actor, reason) = (visitor.actor(), asked.reason);
    match verb.as_str() {
        "approve" => {
            ops::change::approve(&state, actor, &id, ChangeApprove { digest: asked.digest, comment: reason }).await?
        }
        "reject" => ops::change::reject(&state, actor, &id, reason).await?,
        "start" => ops::change::start(&state, actor, &id, reason).await?,
        "pause" => ops::change::pause(&state, actor, &id, reason).await?,
        "resume" => ops::change::resume(&state, actor, &id, reason).await?,
        "cancel" => ops::change::cancel(&state, actor, &id, reason).await?,
        "undo" => ops::change::undo(&state, actor, &id, reason).await?,
        _ => {
            return Err(
                ops::OpsError::not_found(format!("the act `{}`", verb.chars().take(40).collect::<String>())).into()
            );
        }
    };
    Ok(Redirect::to(&format!("/changes/{}", escape(&id))))
}

/// One deployment with its tasks and its log.
pub async fn deployment(State(state): State<AppState>, visitor: Visitor, Path(id): Path<String>) -> Answer {
    let detail = ops::change::show_deployment(&state, visitor.actor(), &id).await?;
    let log = ops::change::log(&state, visitor.actor(), &id, None, Some(1000)).await?;
    let deployment = &detail.summary;
    Ok(layout::page(
        &visitor,
        "/changes",
        &deployment.host_name,
        html! {
            div.title { div {
                h1 { "#" (detail.change_number) " on " (deployment.host_name) }
                div.sub { (badge(&deployment.state)) " " (badge(&deployment.proof)) " " a href={ "/changes/" (deployment.change) } { (detail.change_title) } }
            } div.actions { a.btn href={ "/deployments/" (deployment.id) "/log" } { "Whole log" } } }
            div.two {
                section.card { header { h2 { "Tasks" } }
                    @if detail.tasks.is_empty() { (empty("No task has begun.", "")) } @else { div.scroll { table.stack {
                        thead { tr { th { "#" } th { "Task" } th { "State" } th { "When" } } }
                        tbody { @for task in &detail.tasks { tr {
                            td data-label="#" { (task.number) } td data-label="Task" { div { (task.name) @for reason in &task.reasons { div.under { (reason.text) } } } }
                            td data-label="State" { div { (badge(&task.state)) } } td.tight data-label="When" { (ago(&task.at)) }
                        } } }
                    } } } }
                section.card { header { h2 { "Why" } } div.body { (reasons(&detail.reasons)) (reasons(&detail.proof_reasons)) } }
            }
            section.card { header { h2 { "What changes" } } (packages(&detail.packages)) }
            section.card { header { h2 { "Log" } span.soft { (bytes(detail.output_bytes)) } } div.body {
                @if log.lines.is_empty() { p.soft { "No output was reported." } } @else { pre.log tabindex="0" aria-label="Log" { @for line in &log.lines { (line) "\n" } } }
            } }
        },
    ))
}
