//! Parts of a host's page about which machine it is, with their forms.

use super::super::form;
use super::super::visitor::{PageError, Visitor};
use crate::AppState;
use crate::ops;
use crate::ui::part::{badge, escape};
use axum::Form;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Redirect;
use fettle_domain::access::Permission;
use fettle_wire::api::host::{HostDetail, HostName};
use maud::{Markup, html};
use serde::Deserialize;

/// What a person should see to.
pub(super) fn notices(visitor: &Visitor, host: &HostDetail) -> Markup {
    let (identity, id, actor) = (&host.identity, host.summary.id.as_str(), visitor.actor());
    let csrf = || html! { input type="hidden" name="csrf" value=(visitor.session.csrf_token()); };
    html! {
        @if !identity.clock.is_empty() {
            div.notice { b { "Clock " (identity.clock) ": " } "windows and expiry of orders go by the host's clock. It takes no orders while that is more than an hour; set it there." }
        }
        @if let Some(at) = &identity.cloned_at {
            div.notice { b { "Two machines use this identity" } " (last noticed at " (at) "). This one keeps it; the copy gets one of its own and waits to be accepted." }
        }
        @if let Some(of) = &identity.copy_of { div.notice {
            b { "A copy: " } "it came with the identity of " (named(of)) " and has one of its own."
            @if host.summary.state == "discovered" && actor.may(Permission::HostEnrol) {
                form action={ "/hosts/" (id) "/accept" } method="post" { (csrf()) button.primary type="submit" { "Accept as a host" } }
            }
        } }
        @for copy in &identity.copies { div.notice { "Its copy " (named(copy)) " has an identity of its own." } }
        @for one in &identity.may_be { div.notice {
            b { "Maybe installed anew: " } "it may be the same machine as " (named(&one.host)) " " (badge(&one.state))
            ul.why { @for reason in &one.reasons { li { (reason.text) } } }
            @if actor.may(Permission::HostManage) {
                form action={ "/hosts/" (id) "/merge" } method="post" {
                    (csrf()) input type="hidden" name="with" value=(one.host.id);
                    button type="submit" { "Yes: it takes over groups and history, the older one is revoked" }
                }
            }
        } }
        @if !identity.may_be.is_empty() && actor.may(Permission::HostManage) {
            form action={ "/hosts/" (id) "/dismiss" } method="post" { (csrf()) button type="submit" { "No: it is another machine" } }
        }
        @for former in &identity.formerly { div.notice { "It was " (named(former)) " before it was installed anew." } }
        @if let Some(next) = &identity.goes_on_as { div.notice { "Its machine goes on as " (named(next)) "." } }
    }
}

fn named(host: &HostName) -> Markup {
    html! { a href={ "/hosts/" (escape(&host.id)) } { (host.name) } }
}

#[derive(Deserialize)]
pub struct Ask {
    csrf: String,
    #[serde(default)]
    with: String,
}

fn back(id: &str) -> Redirect {
    Redirect::to(&format!("/hosts/{}", escape(id)))
}

/// Accepts a copy as a host of its own.
pub async fn accept(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(asked): Form<Ask>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    ops::identity::accept(&state, visitor.actor(), &id).await?;
    Ok(back(&id))
}

/// It is an older host, installed anew.
pub async fn merge(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(asked): Form<Ask>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    ops::identity::merge(&state, visitor.actor(), &id, &asked.with).await?;
    Ok(back(&id))
}

/// It is none of those it resembles.
pub async fn dismiss(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(asked): Form<Ask>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    ops::identity::dismiss(&state, visitor.actor(), &id).await?;
    Ok(back(&id))
}
