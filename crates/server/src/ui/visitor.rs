//! Who looks at a page. Nobody: to the sign-in. Errors become pages that say what to do.

use super::layout;
use crate::AppState;
use crate::access::Actor;
use crate::access::session::{self, Session};
use crate::ops::OpsError;
use crate::problem::Refusal;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;

/// A signed-in person and what the layout needs.
pub struct Visitor {
    /// The session.
    pub session: Session,
    /// Colours chosen: `light`, `dark` or empty for the system's.
    pub theme: &'static str,
}

impl Visitor {
    /// Who acts.
    pub fn actor(&self) -> &Actor {
        &self.session.actor
    }
}

/// The chosen colours, from the cookie.
pub fn theme(headers: &HeaderMap) -> &'static str {
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match cookies.split(';').filter_map(|pair| pair.trim().strip_prefix("fettle_theme=")).next() {
        Some("dark") => "dark",
        Some("light") => "light",
        _ => "",
    }
}

impl FromRequestParts<AppState> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        match session::current(state, &parts.headers).await {
            Ok(Some(session)) => Ok(Self { session, theme: theme(&parts.headers) }),
            Ok(None) => Err(Redirect::to(&sign_in(&parts.uri)).into_response()),
            Err(error) => Err(PageError(error).into_response()),
        }
    }
}

fn sign_in(uri: &Uri) -> String {
    let here = uri.path_and_query().map_or("/", |path| path.as_str());
    if here == "/" { "/sign-in".to_owned() } else { format!("/sign-in?next={}", super::part::escape(here)) }
}

/// An operation's refusal as a page.
pub struct PageError(pub OpsError);

impl From<OpsError> for PageError {
    fn from(error: OpsError) -> Self {
        Self(error)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let problem = *Refusal::from(self.0).0;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content = html! {
            h1 { (problem.title) }
            p { (problem.detail) @if !problem.field.is_empty() { " (" (problem.field) ")" } }
            @if !problem.field.is_empty() { p.soft { "Go back with your browser: what you wrote is still there." } }
            @if !problem.advice.is_empty() { p.soft { (problem.advice) } }
            p { a.btn href="/" { "To the overview" } }
        };
        (status, layout::alone("", &problem.title, content)).into_response()
    }
}

/// What a page answers.
pub type Answer = Result<maud::Markup, PageError>;
