//! Feeds.

use crate::ui::part::{ago, badge, empty};
use crate::ui::visitor::{Answer, PageError, Visitor};
use crate::ui::{form, layout};
use crate::{AppState, ops};
use axum::extract::{Form, Query, State};
use axum::http::HeaderMap;
use axum::response::Redirect;
use fettle_domain::access::Permission;
use fettle_wire::api::feed::FeedSyncRequest;
use maud::html;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
pub struct Shown {
    load: Option<i64>,
}

/// All feeds, and a load that was asked for.
pub async fn list(State(state): State<AppState>, visitor: Visitor, Query(shown): Query<Shown>) -> Answer {
    let feeds = ops::feed::list(&state, visitor.actor()).await?;
    let load = match shown.load {
        Some(id) => Some(ops::feed::progress(&state, visitor.actor(), id).await?),
        None => None,
    };
    Ok(layout::page(
        &visitor,
        "/feeds",
        "Feeds",
        html! {
            div.title { div { h1 { "Feeds" } div.sub { "What publishers say about vulnerabilities, and how old it is" } } }
            @if let Some(load) = load {
                section.card { header { h2 { "Load " (load.id) } @if load.done { (badge("done")) } @else { a.btn href={ "/feeds?load=" (load.id) } { "Look again" } } }
                    div.body { ul.legend { @for feed in &load.feeds { li { (badge(&feed.phase)) (feed.name) span.soft { (feed.error) } b { (feed.advisories + feed.facts) " records" } } } } } }
            }
            section.card {
                @if feeds.items.is_empty() { (empty("This server knows no feed.", "")) } @else { div.scroll { table.stack {
                    thead { tr { th { "Feed" } th { "Age" } th { "Statements" } th { "Facts" } th { "Source" } th { "Last attempt" } } }
                    tbody { @for feed in &feeds.items { tr {
                        td data-label="Feed" { div { (feed.title) div.under { (feed.name) } } }
                        td.tight data-label="Age" { @match &feed.loaded_at { Some(at) => (ago(at)), None => "never loaded" } }
                        td data-label="Statements" { (feed.advisories) } td data-label="Facts" { (feed.facts) }
                        td data-label="Source" { (if feed.source.is_empty() { &feed.url } else { &feed.source }) }
                        td data-label="Attempt" { div { @if !feed.last_error.is_empty() { span.bad-text { (feed.last_error) } } @else if feed.loaded_at.is_some() { (badge("loaded")) } @else { "–" }
                            @for problem in feed.problems.iter().take(3) { div.under { (problem.place) ": " (problem.message) } } } }
                    } } }
                } } }
            }
            @if visitor.actor().may(Permission::FeedSync) {
                section.card { header { h2 { "Load now" } } div.body { form action="/feeds" method="post" {
                    input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                    div.field { label for="from" { "From" } input id="from" name="from" placeholder="the publishers"; div.hint { "A URL, or a directory on the server; the publishers themselves when left empty" } }
                    button.primary type="submit" { "Load all feeds" }
                } } }
            }
        },
    ))
}

#[derive(Deserialize)]
pub struct Sync {
    csrf: String,
    from: Option<String>,
}

/// Asks for a load.
pub async fn sync(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(asked): Form<Sync>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    let request = FeedSyncRequest { from: form::filled(asked.from), names: Vec::new() };
    let load = ops::feed::sync(&state, visitor.actor(), request).await?;
    Ok(Redirect::to(&format!("/feeds?load={}", load.id)))
}
