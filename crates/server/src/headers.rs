//! Headers that every answer carries, and the path in every problem document.

use crate::problem::Refusal;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Nothing may be loaded from elsewhere, framed, or run inline.
const PAGES: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; font-src 'self'; \
                     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Documents that no browser should show as a page.
const DOCUMENTS: &str = "default-src 'none'; frame-ancestors 'none'";

/// Adds what a handler did not set itself.
pub(crate) async fn add(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let long = has_long_body(&request);
    let mut response = next.run(request).await;
    if let Some(refusal) = response.extensions().get::<Refusal>().filter(|refusal| refusal.0.instance.is_empty()) {
        response = refusal.clone().at(&path).into_response();
    }
    if long && response.status().is_client_error() {
        // Its rest may not have been read: the connection is of no further use, and both sides know.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let is_page =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, if is_page { PAGES } else { DOCUMENTS }),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// More than what is read in one go; chunked bodies may be of any length.
fn has_long_body(request: &Request) -> bool {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.map_or_else(|| request.headers().contains_key(header::TRANSFER_ENCODING), |length| length > 16 << 10)
}

/// Where the caller reached this server: what its `Host` header says, and nothing that could break a command line.
pub(crate) fn own_address(headers: &axum::http::HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if !host.is_empty() && host.len() <= 260 && host.chars().all(plain) {
        format!("https://{host}")
    } else {
        "https://localhost".to_owned()
    }
}
