//! Users.

use crate::ui::part::{ago, badge};
use crate::ui::visitor::{Answer, Visitor};
use crate::ui::{form, layout};
use crate::{AppState, ops};
use axum::extract::{Form, State};
use axum::http::HeaderMap;
use fettle_domain::access::Role;
use fettle_wire::api::account::{UserCreate, UserCreated, UserList};
use maud::{Markup, html};
use serde::Deserialize;

/// All users.
pub async fn list(State(state): State<AppState>, visitor: Visitor) -> Answer {
    let users = ops::user::list(&state, visitor.actor(), None, Some(1000)).await?;
    Ok(page(&visitor, &users, None))
}

fn page(visitor: &Visitor, users: &UserList, made: Option<&UserCreated>) -> Markup {
    layout::page(visitor, "/users", "Users", html! {
        div.title { div { h1 { "Users" } div.sub { "Who asks for a change does not approve it: give each role to another person" } } }
        @if let Some(made) = made {
            div.notice.good role="status" { b { (made.user.name) } ": one-time password " code { (made.one_time_password) } " (shown only now; to be changed at the first sign-in)" }
        }
        section.card { div.scroll { table.stack {
            thead { tr { th { "User" } th { "Role" } th { "State" } th { "Last sign-in" } } }
            tbody { @for user in &users.items { tr {
                td data-label="User" { (user.name) } td data-label="Role" { (user.role) }
                td data-label="State" { div { @if user.disabled { (badge("disabled")) } @else if user.password_change_required { (badge("one-time password")) } @else { (badge("active")) } } }
                td.tight data-label="Last sign-in" { @match &user.last_sign_in { Some(at) => (ago(at)), None => "never" } }
            } } }
        } } }
        section.card { header { h2 { "New user" } } div.body { form action="/users" method="post" {
            input type="hidden" name="csrf" value=(visitor.session.csrf_token());
            div.grid {
                div.field { label for="name" { "Name" } input id="name" name="name" required; }
                div.field { label for="role" { "Role" } select id="role" name="role" { @for role in Role::ALL.iter().rev() { option value=(role) { (role) } } } }
            }
            button.primary type="submit" { "Make the user" }
        } } }
    })
}

#[derive(Deserialize)]
pub struct Create {
    csrf: String,
    name: String,
    role: String,
}

/// Makes a user.
pub async fn create(State(state): State<AppState>, visitor: Visitor, headers: HeaderMap, Form(asked): Form<Create>) -> Answer {
    form::check(&headers, &visitor, &asked.csrf)?;
    let made = ops::user::create(&state, visitor.actor(), UserCreate { name: asked.name, role: asked.role }).await?;
    let users = ops::user::list(&state, visitor.actor(), None, Some(1000)).await?;
    Ok(page(&visitor, &users, Some(&made)))
}
