//! Users, for administrators.

use crate::ui::part::{ago, badge, pager};
use crate::ui::sorting::{Pages, Sorting};
use crate::ui::visitor::{Answer, PageError, Visitor};
use crate::ui::{form, layout};
use crate::{AppState, ops};
use axum::extract::{Form, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use fettle_domain::access::Role;
use fettle_wire::api::account::{User, UserChange, UserCreate, UserList};
use maud::{Markup, html};
use serde::Deserialize;

/// A page of users.
pub async fn list(State(state): State<AppState>, visitor: Visitor, Query(pages): Query<Pages>) -> Answer {
    let users = ops::user::list(&state, visitor.actor(), pages.part()).await?;
    Ok(page(&visitor, &users, &pages, None))
}

/// `made`: a name and its one-time password, said only here: this page is the answer itself, never kept.
fn page(visitor: &Visitor, users: &UserList, pages: &Pages, made: Option<(&str, &str)>) -> Markup {
    let by = |sort: &str| pages.by("/users", sort);
    let sorting = Sorting::new(pages.sort(), "name", &by);
    layout::page(
        visitor,
        "/users",
        "Users",
        html! {
            div.title { div { h1 { "Users" } div.sub { "Who asks for a change does not approve it: give each role to another person" } } }
            @if let Some((name, password)) = made {
                div.notice.good role="status" { b { (name) } ": one-time password " code { (password) } " (shown only now; to be changed at the first sign-in)" }
            }
            section.card { div.scroll { table.stack {
                thead { tr { (sorting.head("User", "name")) (sorting.head("Role", "role")) th scope="col" { "State" } (sorting.head("Last sign-in", "-last_sign_in")) th scope="col" { "Do" } } }
                tbody { @for user in &users.items { tr {
                    td data-label="User" { (user.name) } td data-label="Role" { (user.role) }
                    td data-label="State" { div { @if user.disabled { (badge("disabled")) } @else if user.password_change_required { (badge("one-time password")) } @else { (badge("may sign in")) } } }
                    td.tight data-label="Last sign-in" { @match &user.last_sign_in { Some(at) => (ago(at)), None => "never" } }
                    td data-label="Do" { @if user.name == visitor.actor().name { span.soft { "yourself" } } @else { (acts(visitor, user)) } }
                } } }
            } } (pager(users.items.len(), users.total, pages.next("/users", users.next.as_ref()))) }
            section.card { header { h2 { "New user" } } div.body { form action="/users" method="post" {
                input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                div.grid {
                    div.field { label for="name" { "Name" } input id="name" name="name" required; }
                    div.field { label for="role" { "Role" } select id="role" name="role" { @for role in Role::ALL.iter().rev() { option value=(role) { (role) } } } }
                }
                button.primary type="submit" { "Make the user" }
            } } }
        },
    )
}

fn acts(visitor: &Visitor, user: &User) -> Markup {
    let (verb, word) = if user.disabled { ("enable", "Let in again") } else { ("disable", "Shut out") };
    html! {
        div.actions {
            @for (verb, word) in [(verb, word), ("reset", "New one-time password")] {
                details.act {
                    summary.btn aria-label={ (word) ": " (user.name) } { (word) }
                    form action={ "/users/" (crate::ui::part::escape(&user.name)) "/" (verb) } method="post" {
                        input type="hidden" name="csrf" value=(visitor.session.csrf_token());
                        button.danger type="submit" { "Yes, " (user.name) }
                    }
                }
            }
        }
    }
}

#[derive(Deserialize)]
pub struct Create {
    csrf: String,
    name: String,
    role: String,
}

/// Makes a user.
pub async fn create(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(asked): Form<Create>,
) -> Answer {
    form::check(&headers, &visitor, &asked.csrf)?;
    let made = ops::user::create(&state, visitor.actor(), UserCreate { name: asked.name, role: asked.role }).await?;
    let pages = Pages::default();
    let users = ops::user::list(&state, visitor.actor(), pages.part()).await?;
    Ok(page(&visitor, &users, &pages, Some((&made.user.name, &made.one_time_password))))
}

#[derive(Deserialize)]
pub struct Act {
    csrf: String,
}

/// Shuts out, lets in again, or makes a new one-time password.
pub async fn act(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Path((name, verb)): Path<(String, String)>,
    Form(asked): Form<Act>,
) -> Result<Response, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    let request = match verb.as_str() {
        "disable" => UserChange { disabled: Some(true), ..UserChange::default() },
        "enable" => UserChange { disabled: Some(false), ..UserChange::default() },
        "reset" => UserChange { reset_password: true, ..UserChange::default() },
        _ => return Err(ops::OpsError::not_found("this act on a user").into()),
    };
    let changed = ops::user::change(&state, visitor.actor(), &name, request).await?;
    let Some(password) = changed.one_time_password else { return Ok(Redirect::to("/users").into_response()) };
    let pages = Pages::default();
    let users = ops::user::list(&state, visitor.actor(), pages.part()).await?;
    Ok(page(&visitor, &users, &pages, Some((&changed.user.name, &password))).into_response())
}
