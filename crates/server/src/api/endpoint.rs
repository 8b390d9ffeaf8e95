//! One row of the table.

use crate::AppState;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, patch, post};
use fettle_domain::access::Permission;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody; the operation itself authenticates (sign-in) or tells nothing that is ours.
    Nothing,
    /// Who is signed in and carries this.
    Permission(Permission),
}

impl From<Permission> for Needs {
    fn from(permission: Permission) -> Self {
        Self::Permission(permission)
    }
}

/// One `?name=value` that an endpoint understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryField {
    /// Name.
    pub name: &'static str,
    /// What it does, with its form.
    pub summary: &'static str,
}

/// Where a page begins; with the other fields as they were.
pub const AFTER: QueryField =
    QueryField { name: "after", summary: "`next` of the page before, with the same `sort` and filters" };
/// How long a page is.
pub const LIMIT: QueryField = QueryField { name: "limit", summary: "items at most, 1 to 1000; 100 when absent" };

/// The order of a list; the summary names every column.
pub const fn sort(summary: &'static str) -> QueryField {
    QueryField { name: "sort", summary }
}

/// The three fields of every sorted list as they come.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Page {
    pub(super) sort: Option<String>,
    pub(super) after: Option<String>,
    pub(super) limit: Option<u32>,
}

impl From<Page> for crate::ops::Part {
    fn from(Page { sort, after, limit }: Page) -> Self {
        Self { sort, after, limit }
    }
}

/// Makes the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One endpoint.
pub struct Endpoint {
    /// `GET`, `POST`, `PATCH` or `DELETE`.
    pub method: &'static str,
    /// Path below `/api/v1`, with `{name}` for what varies.
    pub path: &'static str,
    /// Who may ask; checked before the handler runs.
    pub needs: Needs,
    /// One line for the documentation.
    pub summary: &'static str,
    /// Body of the request.
    pub request: Option<SchemaOf>,
    /// Body of the answer; `None` for an empty one.
    pub response: Option<SchemaOf>,
    /// Query fields it understands.
    pub query: &'static [QueryField],
    /// The answer is a stream of server-sent events (each `data:` line is one JSON of `response`).
    pub stream: bool,
    /// Longest body of a request in bytes.
    pub body_limit: usize,
    pub(crate) handler: MethodRouter<AppState>,
}

/// Longest body where an endpoint names no other.
const BODY_LIMIT: usize = 1 << 20;

impl Endpoint {
    fn new(
        method: &'static str,
        path: &'static str,
        needs: Needs,
        summary: &'static str,
        handler: MethodRouter<AppState>,
    ) -> Self {
        Self {
            method,
            path,
            needs,
            summary,
            request: None,
            response: None,
            query: &[],
            stream: false,
            body_limit: BODY_LIMIT,
            handler,
        }
    }

    /// A reading endpoint.
    pub fn get<H: Handler<T, AppState>, T: 'static>(
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new("GET", path, needs.into(), summary, get(handler))
    }

    /// An acting or making endpoint.
    pub fn post<H: Handler<T, AppState>, T: 'static>(
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new("POST", path, needs.into(), summary, post(handler))
    }

    /// A changing endpoint.
    pub fn patch<H: Handler<T, AppState>, T: 'static>(
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new("PATCH", path, needs.into(), summary, patch(handler))
    }

    /// A removing endpoint.
    pub fn delete<H: Handler<T, AppState>, T: 'static>(
        path: &'static str,
        needs: impl Into<Needs>,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self::new("DELETE", path, needs.into(), summary, delete(handler))
    }

    /// Takes a body of this type.
    #[must_use]
    pub fn request<T: JsonSchema>(mut self) -> Self {
        self.request = Some(|generator| generator.subschema_for::<T>());
        self
    }

    /// Answers with this type.
    #[must_use]
    pub fn response<T: JsonSchema>(mut self) -> Self {
        self.response = Some(|generator| generator.subschema_for::<T>());
        self
    }

    /// Understands these query fields.
    #[must_use]
    pub fn query(mut self, query: &'static [QueryField]) -> Self {
        self.query = query;
        self
    }

    /// Answers with a stream of events of this type.
    #[must_use]
    pub fn stream<T: JsonSchema>(mut self) -> Self {
        self.stream = true;
        self.response::<T>()
    }

    /// Takes bodies up to this many bytes.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }
}
