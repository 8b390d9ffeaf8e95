//! The whole log of a deployment: asked of its host by a button, shown when it is here.

use crate::ui::part::{ago, badge, bytes, link};
use crate::ui::visitor::{Answer, PageError, Visitor};
use crate::ui::{form, layout};
use crate::{AppState, ops};
use axum::extract::{Form, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Redirect;
use fettle_wire::api::log::WholeLog;
use maud::{Markup, html};
use serde::Deserialize;

/// Lines of one page.
const LINES: u32 = 1000;

#[derive(Debug, Default, Deserialize)]
pub struct Behind {
    #[serde(default)]
    after: u64,
}

#[derive(Deserialize)]
pub struct Ask {
    csrf: String,
}

fn address(deployment: &str) -> String {
    format!("/deployments/{deployment}/log")
}

/// Where the request stands, and a page of lines.
pub async fn show(
    State(state): State<AppState>,
    visitor: Visitor,
    Path(id): Path<String>,
    Query(behind): Query<Behind>,
) -> Answer {
    let detail = ops::change::show_deployment(&state, visitor.actor(), &id).await?;
    let log = ops::change::whole_log(&state, visitor.actor(), &id, Some(behind.after), Some(LINES)).await?;
    let next = log.next.as_deref().map(|next| link(&address(&log.deployment), &[("after", next)]));
    let events = format!("/api/v1/changes/{}/events", detail.summary.change);
    Ok(layout::page(
        &visitor,
        "/changes",
        &format!("Log of {}", log.host_name),
        html! {
            // The page looks again when the log is here.
            @if matches!(log.state.as_str(), "asked" | "arriving") { div data-events=(events) data-kinds="log" {} }
            div.title {
                div { h1 { "Log of #" (detail.change_number) " on " (log.host_name) } div.sub { a href={ "/deployments/" (log.deployment) } { "Tasks and live output" } } }
                div.actions { (ask(&visitor, &log)) }
            }
            (standing(&log))
            section.card data-part="log" { header { h2 { "Whole log" } span.soft { (bytes(log.bytes)) } } div.body {
                @if log.lines.is_empty() { p.soft { "No line is here." } } @else {
                    pre.log tabindex="0" aria-label="Whole log" { @for line in &log.lines { (line.at.get(11..19).unwrap_or_default()) " " (line.task) @if line.stream == "error" { " ! " } @else if line.stream == "fettle" { " * " } @else { " | " } (line.text) "\n" } }
                }
            }
            @if let Some(next) = next { div.pager { a.btn href=(next) { "Following lines" } } }
            }
        },
    ))
}

/// The button.
pub fn ask(visitor: &Visitor, log: &WholeLog) -> Markup {
    let words = if log.state == "not-asked" { "Fetch the whole log" } else { "Fetch it again" };
    html! {
        @if !matches!(log.state.as_str(), "asked" | "arriving") {
            form action=(address(&log.deployment)) method="post" {
                input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                button type="submit" { (words) }
            }
        }
    }
}

fn standing(log: &WholeLog) -> Markup {
    html! {
        div data-part="standing" {
            @match log.state.as_str() {
                "not-asked" => { div.notice { "The host keeps the beginning and the end of its output, with secrets masked. It is fetched when somebody asks, and forgotten here after a day." } },
                state => { div.notice {
                    (badge(state)) " asked by " (log.asked_by) " " @if let Some(at) = &log.asked_at { (ago(at)) }
                    @if !log.waiting_for.is_empty() { @if state == "missing" { ": " } @else { "; waits for " } (log.waiting_for) }
                    @if matches!(state, "asked" | "arriving") { ". " (log.host_name) " last spoke " (ago(&log.host_last_seen)) ". " a href=(address(&log.deployment)) { "Look again" } }
                    @if let Some(end) = &log.expires_at { span.soft { " Kept here until " (end) } }
                } },
            }
        }
    }
}

/// Asks the host.
pub async fn fetch(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(asked): Form<Ask>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    let log = ops::change::ask_log(&state, visitor.actor(), &id).await?;
    Ok(Redirect::to(&address(&log.deployment)))
}
