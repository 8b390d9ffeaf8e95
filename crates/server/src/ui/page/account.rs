//! One's own account: who one is, what one may, one's API tokens.

use crate::ui::part::{ago, empty, pager};
use crate::ui::sorting::{Pages, Sorting};
use crate::ui::visitor::{Answer, PageError, Visitor};
use crate::ui::{form, layout};
use crate::{AppState, ops};
use axum::extract::{Form, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Redirect;
use fettle_domain::access::Permission;
use fettle_wire::api::account::{Token, TokenCreate, TokenCreated, TokenList};
use maud::{Markup, html};
use serde::Deserialize;

/// Shows it.
pub async fn show(State(state): State<AppState>, visitor: Visitor, Query(pages): Query<Pages>) -> Answer {
    let tokens = ops::token::list(&state, visitor.actor(), pages.part()).await?;
    Ok(page(&visitor, &tokens, &pages, None))
}

fn page(visitor: &Visitor, tokens: &TokenList, pages: &Pages, made: Option<&TokenCreated>) -> Markup {
    let by = |sort: &str| pages.by("/account", sort);
    let sorting = Sorting::new(pages.sort(), "-created_at", &by);
    let actor = visitor.actor();
    let may: Vec<&str> = Permission::ALL
        .iter()
        .filter(|permission| actor.may(**permission))
        .map(|permission| permission.as_str())
        .collect();
    let next = pages.next("/account", tokens.next.as_ref());
    layout::page(
        visitor,
        "/account",
        "Account",
        html! {
            div.title { div { h1 { (actor.name) } div.sub { (actor.role) ": " (may.join(", ")) } } }
            @if let Some(made) = made {
                section.card { header { h2 { "The new token" } } div.body {
                    div.copy { code id="secret" { (made.secret) } button type="button" data-copy="secret" { "Copy" } }
                    p.soft { "Shown only now. Send it as " code { "Authorization: Bearer …" } "; it ends " (made.token.expires_at) "." }
                } }
            }
            section.card {
                header { h2 { "API tokens" } span.soft { "for programs, in your name" } }
                @if tokens.items.is_empty() { (empty("You have no token. Make one below, or sign in on the command line, which keeps one:", "fettle login")) } @else {
                    div.scroll { table.stack {
                        thead { tr { (sorting.head("What for", "label")) th scope="col" { "Carries" } (sorting.head("Made", "-created_at")) (sorting.head("Last used", "-last_used")) (sorting.head("Ends", "expires_at")) th scope="col" { "Do" } } }
                        tbody { @for token in &tokens.items { (row(visitor, token)) } }
                    } }
                    (pager(tokens.items.len(), tokens.total, next))
                }
            }
            section.card { header { h2 { "New token" } } div.body { form action="/account/tokens" method="post" {
                input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                div.grid {
                    div.field { label for="label" { "What for" } input id="label" name="label" required maxlength="100"; }
                    div.field { label for="hours" { "Hours" } input id="hours" name="hours" type="number" min="1" max="8784" value="24" required; }
                    div.field { label for="scopes" { "Carries" } input id="scopes" name="scopes" placeholder="all that you may"; div.hint { "Permissions, separated by spaces" } }
                }
                button.primary type="submit" { "Make a token" }
            } } }
        },
    )
}

fn row(visitor: &Visitor, token: &Token) -> Markup {
    html! { tr {
        td data-label="What for" { (token.label) }
        td data-label="Carries" { @match &token.scopes { Some(scopes) => (scopes.join(", ")), None => "all that you may" } }
        td.tight data-label="Made" { (ago(&token.created_at)) }
        td.tight data-label="Last used" { @match &token.last_used { Some(at) => (ago(at)), None => "never" } }
        td data-label="Ends" { time datetime=(token.expires_at) { (token.expires_at.get(..16).unwrap_or(&token.expires_at).replace('T', " ")) } }
        td data-label="Do" { details.act {
            summary.btn aria-label={ "Revoke " (token.label) } { "Revoke" }
            form action={ "/account/tokens/" (token.id) "/revoke" } method="post" {
                input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                button.danger type="submit" { "Yes, it ends at once" }
            }
        } }
    } }
}

#[derive(Deserialize)]
pub struct Create {
    csrf: String,
    label: String,
    hours: u64,
    #[serde(default)]
    scopes: String,
}

/// Makes a token. The answer itself carries the secret: it is kept nowhere.
pub async fn create(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(asked): Form<Create>,
) -> Answer {
    form::check(&headers, &visitor, &asked.csrf)?;
    let scopes = Some(form::words(&asked.scopes)).filter(|words| !words.is_empty());
    let request = TokenCreate { label: asked.label, scopes, hours: asked.hours };
    let made = ops::token::create(&state, visitor.actor(), request).await?;
    let pages = Pages::default();
    let tokens = ops::token::list(&state, visitor.actor(), pages.part()).await?;
    Ok(page(&visitor, &tokens, &pages, Some(&made)))
}

#[derive(Deserialize)]
pub struct Revoke {
    csrf: String,
}

/// Revokes a token.
pub async fn revoke(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Path(id): Path<String>,
    Form(asked): Form<Revoke>,
) -> Result<Redirect, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    ops::token::revoke(&state, visitor.actor(), &id).await?;
    Ok(Redirect::to("/account"))
}
