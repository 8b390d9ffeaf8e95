//! Sign-in, the first password, sign-out.

use crate::access::{cross_site, session};
use crate::listener::PeerAddress;
use crate::ops::OpsError;
use crate::ui::visitor::{PageError, Visitor, theme};
use crate::ui::{form, layout};
use crate::{AppState, ops};
use axum::Extension;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Next {
    #[serde(default)]
    next: String,
}

/// The sign-in form.
pub async fn form(headers: HeaderMap, Query(next): Query<Next>) -> Markup {
    sign_in_page(&headers, &next.next, "", None)
}

fn sign_in_page(headers: &HeaderMap, next: &str, user: &str, error: Option<&str>) -> Markup {
    layout::alone(
        theme(headers),
        "Sign in",
        html! {
            h1 { "Sign in" }
            @if let Some(error) = error { div.notice.bad role="alert" { (error) } }
            form action="/sign-in" method="post" {
                input type="hidden" name="next" value=(next);
                div.field { label for="user" { "User" } input id="user" name="user" value=(user) autocomplete="username" autofocus required; }
                div.field { label for="password" { "Password" } input id="password" name="password" type="password" autocomplete="current-password" required; }
                button.primary type="submit" { "Sign in" }
            }
            p.soft { "The first administrator is " code { "admin" } "; the server printed its one-time password at its first start." }
        },
    )
}

#[derive(Deserialize)]
pub struct SignIn {
    user: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// Takes the sign-in form.
pub async fn submit(
    State(state): State<AppState>,
    Extension(address): Extension<PeerAddress>,
    headers: HeaderMap,
    Form(sign_in): Form<SignIn>,
) -> Result<Response, PageError> {
    cross_site::same_origin(&headers)?;
    match ops::account::sign_in(&state, address.0, &headers, &sign_in.user, &sign_in.password).await {
        Ok(session) => welcome(&session, &sign_in.next),
        Err(OpsError::PasswordChangeRequired { .. }) => Ok(first_page(&headers, &sign_in.user, None).into_response()),
        Err(error @ (OpsError::Unauthenticated { .. } | OpsError::TooMany { .. })) => {
            let page = sign_in_page(&headers, &sign_in.next, &sign_in.user, Some(&error.to_string()));
            Ok((StatusCode::UNAUTHORIZED, page).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

fn welcome(session: &session::Session, next: &str) -> Result<Response, PageError> {
    // Only paths of our own: never another site.
    // Browsers drop tabs and line ends out of addresses: `/<tab>/elsewhere` would lead away.
    let own = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && next.bytes().all(|byte| byte.is_ascii_graphic());
    let mut response = Redirect::to(if own { next } else { "/" }).into_response();
    response.headers_mut().append(header::SET_COOKIE, session.cookie()?);
    Ok(response)
}

fn first_page(headers: &HeaderMap, user: &str, error: Option<&str>) -> Markup {
    layout::alone(
        theme(headers),
        "Choose a password",
        html! {
            h1 { "Choose a password" }
            p.soft { "The one-time password must be changed at the first sign-in. Several words are best." }
            @if let Some(error) = error { div.notice.bad role="alert" { (error) } }
            form action="/first-password" method="post" {
                div.field { label for="user" { "User" } input id="user" name="user" value=(user) autocomplete="username" required; }
                div.field { label for="current" { "One-time password" } input id="current" name="current" type="password" autocomplete="current-password" required; }
                div.field { label for="new" { "New password" } input id="new" name="new" type="password" autocomplete="new-password" required; }
                div.field { label for="again" { "Once more" } input id="again" name="again" type="password" autocomplete="new-password" required; }
                button.primary type="submit" { "Change and sign in" }
            }
        },
    )
}

#[derive(Deserialize)]
pub struct FirstPassword {
    user: String,
    current: String,
    new: String,
    again: String,
}

/// Takes the first password.
pub async fn first_password(
    State(state): State<AppState>,
    Extension(address): Extension<PeerAddress>,
    headers: HeaderMap,
    Form(asked): Form<FirstPassword>,
) -> Result<Response, PageError> {
    cross_site::same_origin(&headers)?;
    if asked.new != asked.again {
        return Ok(first_page(&headers, &asked.user, Some("The two new passwords differ.")).into_response());
    }
    if let Err(error) = ops::account::change_password(&state, address.0, &asked.user, &asked.current, &asked.new).await
    {
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, first_page(&headers, &asked.user, Some(&error.to_string())))
            .into_response());
    }
    let session = ops::account::sign_in(&state, address.0, &headers, &asked.user, &asked.new).await?;
    welcome(&session, "/")
}

#[derive(Deserialize)]
pub struct Csrf {
    csrf: String,
}

/// Ends the session.
pub async fn sign_out(
    State(state): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(asked): Form<Csrf>,
) -> Result<Response, PageError> {
    form::check(&headers, &visitor, &asked.csrf)?;
    ops::account::sign_out(&state, &visitor.session).await?;
    let mut response = Redirect::to("/sign-in").into_response();
    response.headers_mut().append(header::SET_COOKIE, session::forgetting_cookie());
    Ok(response)
}
