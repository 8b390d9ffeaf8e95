//! The audit log.

use crate::ops::audit::Wanted;
use crate::ui::layout;
use crate::ui::part::{ago, empty, link, pager};
use crate::ui::sorting::{Sorting, kept};
use crate::ui::visitor::{Answer, Visitor};
use crate::{AppState, ops};
use axum::extract::{Query, State};
use maud::html;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
pub struct Filter {
    #[serde(default)]
    actor: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    limit: String,
    #[serde(default)]
    after: String,
    #[serde(default)]
    verify: String,
}

/// A page of entries; with `verify` the whole chain is checked.
pub async fn list(State(state): State<AppState>, visitor: Visitor, Query(mut filter): Query<Filter>) -> Answer {
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let narrowed = Wanted { actor: filled(&filter.actor), action: filled(&filter.action), ..Wanted::default() };
    let served = ops::audit::sorts(&narrowed);
    filter.sort = kept(&filter.sort, &ops::audit::sorts(&Wanted::default()), &served);
    let wanted = Wanted {
        sort: filled(&filter.sort),
        after: filled(&filter.after),
        limit: Some(filter.limit.parse().unwrap_or(50)),
        ..narrowed
    };
    let entries = ops::audit::list(&state, visitor.actor(), wanted).await?;
    let verdict =
        if filter.verify.is_empty() { None } else { Some(ops::audit::verify(&state, visitor.actor()).await?) };
    let address = |sort: &str, after: &str| {
        let Filter { actor, action, limit, .. } = &filter;
        link("/audit", &[("actor", actor), ("action", action), ("sort", sort), ("limit", limit), ("after", after)])
    };
    let next = entries.next.clone().map(|next| address(&filter.sort, &next));
    let by = |sort: &str| address(sort, "");
    let sorting = Sorting::new(&filter.sort, "-sequence", &by).within(&served);
    Ok(layout::page(
        &visitor,
        "/audit",
        "Audit log",
        html! {
            div.title {
                div { h1 { "Audit log" } div.sub { "Who did what to what; each entry's digest covers the one before" } }
                div.actions { a.btn href="/audit?verify=yes" { "Check the whole chain" } }
            }
            @if let Some(verdict) = verdict {
                @if verdict.intact { div.notice.good role="status" { b { "Intact: " } (verdict.checked) " entries, head " span.mono { (verdict.head) } } }
                @else { div.notice.bad role="alert" { b { "Changed at entry " (verdict.broken_at.unwrap_or(0)) ": " } (verdict.why) } }
            }
            section.card {
                form.filters action="/audit" method="get" {
                    input name="actor" value=(filter.actor) placeholder="Actor" aria-label="Actor";
                    input name="action" value=(filter.action) placeholder="Action, such as host." aria-label="Action";
                    @for (name, value) in [("sort", &filter.sort), ("limit", &filter.limit)] { @if !value.is_empty() { input type="hidden" name=(name) value=(value); } }
                    button type="submit" { "Filter" }
                }
                @if entries.items.is_empty() { (empty("No entry fits.", "")) } @else {
                    div.scroll { table.stack {
                        thead { tr { (sorting.head("#", "-sequence")) th scope="col" { "When" } (sorting.head("Actor", "actor")) (sorting.head("Action", "action")) (sorting.head("Object", "object")) th scope="col" { "Particulars" } } }
                        tbody { @for entry in &entries.items { tr {
                            td data-label="#" { (entry.sequence) } td.tight data-label="When" { (ago(&entry.at)) } td data-label="Actor" { (entry.actor) }
                            td data-label="Action" { (entry.action) } td.mono data-label="Object" { (entry.object) }
                            td.mono data-label="Particulars" { (entry.detail.to_string()) }
                        } } }
                    } }
                    (pager(entries.items.len(), entries.total, next))
                }
            }
        },
    ))
}
