//! JSON bodies of columns.

use crate::{Result, StoreError, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value as the text of a column.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<Value> {
    serde_json::to_string(value)
        .map(Value::Text)
        .map_err(|error| StoreError::Refused { cause: format!("cannot write as JSON: {error}") })
}

/// The value of a column's text.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, column: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt { what: format!("{column}: {error}") })
}

/// The same where an empty text means that there is none yet.
pub(crate) fn parse_or_none<T: DeserializeOwned>(text: &str, column: &str) -> Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { parse(text, column).map(Some) }
}

/// A state's text.
pub(crate) fn state<M: fettle_domain::machine::Machine>(text: &str) -> Result<M> {
    M::parse(text).ok_or_else(|| StoreError::Corrupt { what: format!("`{text}` is no state of a {}", M::NAME) })
}

/// A count or number of the database as a positive one.
pub(crate) fn positive(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A positive number for the database.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
