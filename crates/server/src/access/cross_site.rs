//! Whether an unsafe request of a browser comes from our own pages: by what the browser says
//! (`Sec-Fetch-Site`, `Origin`) and by a token only our pages know.

use super::session::Session;
use crate::ops::OpsError;
use axum::http::{HeaderMap, Method, header};

/// Whether a method changes nothing (RFC 9110).
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Refuses what another site made the browser send. Enough alone only where there is no session
/// yet: the sign-in form.
pub fn same_origin(headers: &HeaderMap) -> Result<(), OpsError> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if let Some(site) = text(header::HeaderName::from_static("sec-fetch-site")) {
        if site != "same-origin" {
            return Err(refused(&format!("the browser says it comes from elsewhere ({site})")));
        }
    }
    if let Some(origin) = text(header::ORIGIN) {
        let host = text(header::HOST).unwrap_or_default();
        if !origin.strip_prefix("https://").is_some_and(|rest| rest.eq_ignore_ascii_case(host)) {
            return Err(refused("the browser names another page as its origin"));
        }
    }
    Ok(())
}

/// The whole check for a session: origin, and the token from a form field or the header.
pub fn check(headers: &HeaderMap, session: &Session, form_token: Option<&str>) -> Result<(), OpsError> {
    same_origin(headers)?;
    let in_header = headers.get("x-fettle-csrf").and_then(|value| value.to_str().ok());
    match form_token.or(in_header) {
        Some(token) if session.is_csrf_token(token) => Ok(()),
        Some(_) => Err(refused("the page it comes from belongs to an earlier sign-in")),
        None => Err(refused("it lacks the token of our pages (field `csrf` or header `x-fettle-csrf`)")),
    }
}

fn refused(why: &str) -> OpsError {
    OpsError::CrossSite { why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn other_sites_are_refused() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = pairs
                .iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            same_origin(&headers).is_ok()
        };
        assert!(check(&[("host", "patch:8443"), ("origin", "https://patch:8443"), ("sec-fetch-site", "same-origin")]));
        assert!(check(&[("host", "patch:8443")]));
        for bad in ["https://patch:8444", "http://patch:8443", "null", "https://evil", ""] {
            assert!(!check(&[("host", "patch:8443"), ("origin", bad)]), "{bad}");
        }
        for bad in ["cross-site", "same-site", "none"] {
            assert!(!check(&[("host", "patch:8443"), ("sec-fetch-site", bad)]), "{bad}");
        }
    }
}
