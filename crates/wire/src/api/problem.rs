//! Errors of the API: RFC 9457 problem details.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A problem, served as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Stable kind for programs: `urn:fettle:problem:…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words, the same for each occurrence.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened here, to what.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What was asked: the path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
    /// The field of the request that is wrong, as a path (`hosts[2].name`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The line of the request's JSON, from 1; 0 when it is not about a line.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub line: usize,
    /// Seconds to wait before another try; 0 when waiting does not help.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub retry_after: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_u64(value: &u64) -> bool {
    *value == 0
}

/// Stable `type` values of the API. Those of agents stand in [`crate::agent::problem`].
pub mod kind {
    /// Nobody is signed in, or the token or session is not (or no longer) valid.
    pub const UNAUTHENTICATED: &str = "urn:fettle:problem:unauthenticated";
    /// Signed in, but without the permission.
    pub const DENIED: &str = "urn:fettle:problem:denied";
    /// The one-time password must be changed first (`POST /api/v1/password`).
    pub const PASSWORD_CHANGE_REQUIRED: &str = "urn:fettle:problem:password-change-required";
    /// Unsafe request from a browser without the proof that the page is ours.
    pub const CROSS_SITE: &str = "urn:fettle:problem:cross-site";
    /// It is not there.
    pub const NOT_FOUND: &str = "urn:fettle:problem:not-found";
    /// The path exists, not with this method.
    pub const METHOD: &str = "urn:fettle:problem:method-not-allowed";
    /// A value of the request is wrong.
    pub const INVALID: &str = "urn:fettle:problem:invalid";
    /// The body is too long.
    pub const TOO_LARGE: &str = "urn:fettle:problem:too-large";
    /// The body is not JSON.
    pub const MEDIA_TYPE: &str = "urn:fettle:problem:media-type";
    /// The present state does not allow it, or somebody else was faster.
    pub const CONFLICT: &str = "urn:fettle:problem:conflict";
    /// Too many tries: wait.
    pub const TOO_MANY: &str = "urn:fettle:problem:too-many";
    /// Not now: database away, server closing.
    pub const UNAVAILABLE: &str = "urn:fettle:problem:unavailable";
    /// The disk is full.
    pub const FULL: &str = "urn:fettle:problem:disk-full";
    /// Something that should not happen; the log knows more.
    pub const INTERNAL: &str = "urn:fettle:problem:internal";
}
