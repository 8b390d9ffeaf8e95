//! The REST API: one table of endpoints, each with the permission it needs. From the table come the
//! router, the check before each handler, and the OpenAPI document; so none of them can forget one.
//!
//! An endpoint parses, calls one operation, renders. Nothing else stands here.

mod account;
mod audit;
mod change;
mod endpoint;

mod feed;
mod finding;
mod frame;
mod host;
mod host_import;
mod openapi;
mod stream;
mod token;
mod user;

pub use crate::extract::{Body, Params, PathParam};
pub use endpoint::{Endpoint, Needs, QueryField};
pub(crate) use frame::{method_not_allowed, not_found, router};
pub use openapi::openapi_document;

use crate::problem::Refusal;
use axum::Json;

/// Where all of them begin.
pub const PREFIX: &str = "/api/v1";

/// What handlers answer.
pub type Answer<T> = Result<Json<T>, Refusal>;

/// Every endpoint, in the order of the documentation.
pub fn endpoints() -> Vec<Endpoint> {
    let mut all = Vec::new();
    all.extend(account::endpoints());
    all.extend(token::endpoints());
    all.extend(user::endpoints());
    all.extend(audit::endpoints());
    all.extend(feed::endpoints());
    all.extend(finding::endpoints());
    all.extend(host::endpoints());
    all.extend(host_import::endpoints());
    all.extend(change::endpoints());
    all
}
