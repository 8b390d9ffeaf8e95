//! Bodies, query fields and path parts, with errors that name the field and the line.

use crate::problem::Refusal;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use fettle_wire::api::problem::kind;
use serde::de::DeserializeOwned;

/// A JSON body.
#[derive(Debug, Clone)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                kind::MEDIA_TYPE,
                "The body is not JSON",
                "the request's content-type is not application/json",
            )
            .advise("Send JSON with the header `content-type: application/json`."));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        parse(&bytes).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// A body that could not be taken: too long, or cut.
pub(crate) fn unreadable(rejection: BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            kind::TOO_LARGE,
            "The body is too long",
            "the request's body is longer than this endpoint takes",
        )
    } else {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            kind::INVALID,
            "The body was cut",
            "the request ended before its body was complete",
        )
    }
}

/// JSON with the field and the line in the error.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // Following the path costs as much again: only what is wrong is read with it.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let cause = error.into_inner();
        wrong_json(&cause, if field == "." { String::new() } else { field })
    })?;
    reader.end().map_err(|error| wrong_json(&error, String::new()))?;
    Ok(value)
}

fn wrong_json(error: &serde_json::Error, field: String) -> Refusal {
    let (title, advice) = if error.is_data() {
        ("A value of the body is wrong", "See /api/v1/openapi.json for the fields and their types.")
    } else {
        ("The body is not JSON", "Check the body with a JSON tool.")
    };
    let detail: String = error.to_string().chars().take(300).collect();
    let mut refusal = Refusal::new(StatusCode::BAD_REQUEST, kind::INVALID, title, detail).advise(advice).about(field);
    refusal.0.line = error.line();
    refusal
}

/// Query fields.
#[derive(Debug, Clone)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Query::<T>::try_from_uri(&parts.uri).map(|Query(value)| Self(value)).map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, kind::INVALID, "A query field is wrong", error.body_text())
                .advise("See /api/v1/openapi.json for the query fields of this endpoint.")
        })
    }
}

/// Parts of the path: a text, or a tuple of them. What they mean is parsed by the operation.
#[derive(Debug, Clone)]
pub struct PathParam<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParam<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Path::<T>::from_request_parts(parts, state)
            .await
            .map(|Path(value)| Self(value))
            .map_err(|error| Refusal::new(StatusCode::NOT_FOUND, kind::NOT_FOUND, "Not there", error.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_wire::api::account::UserCreate;

    #[test]
    fn errors_name_the_line_and_the_field() {
        let wrong = parse::<UserCreate>(b"{\n \"name\": \"ada\",\n \"role\": 7\n}").unwrap_err();
        assert_eq!((wrong.0.field.as_str(), wrong.0.line, wrong.0.status), ("role", 3, 400), "{wrong:?}");
        let unknown = parse::<UserCreate>(br#"{"name": "ada", "roel": "viewer"}"#).unwrap_err();
        assert!(unknown.0.detail.contains("unknown field `roel`"), "{unknown:?}");
        let cut = parse::<UserCreate>(br#"{"name": "ad"#).unwrap_err();
        assert_eq!(cut.0.title, "The body is not JSON");
        let more = parse::<UserCreate>(br#"{"name": "ada", "role": "viewer"} {}"#).unwrap_err();
        assert_eq!(more.0.status, 400);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse::<serde_json::Value>(deep.as_bytes()).unwrap_err().0.status, 400);
    }
}
