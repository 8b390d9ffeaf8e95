//! Operations' errors as RFC 9457 problem documents. What an outsider may read is decided here:
//! causes inside the database go into the log, not over the wire.

use crate::ops::OpsError;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use fettle_domain::HostId;
use fettle_store::StoreError;
use fettle_wire::agent::problem as agent_problem;
use fettle_wire::api::problem::{Problem, kind};

/// A problem document on its way out. Handlers return it as their error; `?` makes one of an
/// [`OpsError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub Box<Problem>);

impl Refusal {
    /// A problem of a kind.
    pub fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: kind.to_owned(),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            ..Problem::default()
        }))
    }

    /// The same with what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = advice.into();
        self
    }

    /// The same about one field.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Self {
        self.0.field = field.into();
        self
    }

    /// The same with the path that was asked for.
    #[must_use]
    pub fn at(mut self, instance: &str) -> Self {
        self.0.instance = instance.chars().take(200).collect();
        self
    }
}

impl From<OpsError> for Refusal {
    fn from(error: OpsError) -> Self {
        let detail = error.to_string();
        match error {
            OpsError::Unauthenticated { .. } => {
                Self::new(StatusCode::UNAUTHORIZED, kind::UNAUTHENTICATED, "Not signed in", detail)
                    .advise("Sign in: `fettle login`, or the page /sign-in.")
            }
            OpsError::PasswordChangeRequired { .. } => {
                Self::new(StatusCode::FORBIDDEN, kind::PASSWORD_CHANGE_REQUIRED, "The password must be changed first", detail)
                    .advise("Choose a password of your own: `fettle login` asks for it, the page does too, and POST /api/v1/password takes it.")
            }
            OpsError::Denied { .. } => Self::new(StatusCode::FORBIDDEN, kind::DENIED, "Not allowed", detail)
                .advise("Ask an administrator for a role that carries it (`fettle user change`), or use a token with that scope."),
            OpsError::CrossSite { .. } => Self::new(StatusCode::FORBIDDEN, kind::CROSS_SITE, "Not from our own page", detail)
                .advise("Reload the page and try again. Programs use an API token instead of a session."),
            OpsError::Forbidden { advice, .. } => {
                Self::new(StatusCode::FORBIDDEN, kind::DENIED, "Not allowed", detail).advise(advice)
            }
            OpsError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, "Not there", detail),
            OpsError::Invalid { field, instead, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind::INVALID, "A value is wrong", detail).about(field).advise(instead)
            }
            OpsError::Conflict { .. } => Self::new(StatusCode::CONFLICT, kind::CONFLICT, "The present state does not allow it", detail),
            OpsError::TooMany { retry_after, .. } => {
                let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, kind::TOO_MANY, "Too many tries", detail)
                    .advise(format!("Wait {retry_after} seconds."));
                refusal.0.retry_after = retry_after;
                refusal
            }
            OpsError::Unavailable { .. } => Self::unavailable(detail),
            OpsError::Store(error) => Self::from(error),
        }
    }
}

impl Refusal {
    /// What a revoked (or unknown) host is told, whatever it asks.
    pub(crate) fn host_revoked(host: HostId) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            agent_problem::HOST_REVOKED,
            "This host was revoked",
            format!("{host} was revoked or is not known here"),
        )
        .advise("If the machine is to be managed again, enrol it anew with a fresh token.")
    }

    fn unavailable(detail: String) -> Self {
        let mut refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind::UNAVAILABLE, "Not now", detail);
        refusal.0.retry_after = 5;
        refusal
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Conflict { .. } | StoreError::Illegal(_) => {
                Self::new(StatusCode::CONFLICT, kind::CONFLICT, "The present state does not allow it", detail)
            }
            StoreError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, "Not there", detail),
            StoreError::Duplicate { .. } => {
                tracing::info!(store.error = %detail, "refused: taken already");
                Self::new(StatusCode::CONFLICT, kind::CONFLICT, "Taken already", "it exists already")
            }
            StoreError::Full => {
                tracing::error!(store.error = %detail, "disk full");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, kind::FULL, "The disk is full", detail)
                    .advise("Free space on the server's data directory (or the PostgreSQL server), then try again.")
            }
            StoreError::Unavailable { .. } => {
                tracing::error!(store.error = %detail, "database away");
                Self::unavailable("the database does not answer".to_owned())
            }
            StoreError::NewerSchema { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Url { .. }
            | StoreError::Refused { .. } => {
                tracing::error!(store.error = %detail, "database error");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, kind::INTERNAL, "The server made a mistake", "")
                    .advise("The server's log says what happened; please report it.")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&*self.0).unwrap_or_else(|_| b"{}".to_vec());
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.0.retry_after > 0 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(self.0.retry_after));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fettle\""));
        }
        response.extensions_mut().insert(self);
        response
    }
}
