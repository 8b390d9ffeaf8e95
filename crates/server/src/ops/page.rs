//! Which page of which order: what a caller says, and the text that names the next page.

use super::OpsError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fettle_store::Value;
use fettle_store::page::{KeyKind, Order, Page, Place, SortColumn};
use serde_json::Value as Json;

/// Items of a list's page when the caller names no number.
pub const PAGE: u32 = 100;
/// Items of a list's page at most.
pub const LONGEST_PAGE: u32 = 1000;
/// Bytes of a place's text at most: far more than the longest key makes.
const LONGEST_PLACE: usize = 16 << 10;

/// The wanted number of items, brought into bounds.
pub fn page_length(limit: Option<u32>) -> u32 {
    limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE)
}

/// Which part of a list, as a caller says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// `COLUMN`, or `-COLUMN` for the greatest first; empty: the list's own order.
    pub sort: Option<String>,
    /// The former page's `next`, which holds for its order only.
    pub after: Option<String>,
    /// Items a page.
    pub limit: Option<u32>,
}

/// Words of the columns that a list can be sorted by.
pub fn columns<C: SortColumn>() -> Vec<&'static str> {
    C::ALL.iter().map(|column| column.as_str()).collect()
}

/// What is asked for; `usual` is the list's own order.
pub(super) fn page_of<C: SortColumn>(part: &Part, usual: Order<C>) -> Result<Page<C>, OpsError> {
    narrowed_page_of(part, usual, C::ALL)
}

/// The same of a list that is narrowed so that only these columns can be served.
pub(super) fn narrowed_page_of<C: SortColumn>(part: &Part, usual: Order<C>, served: &[C]) -> Result<Page<C>, OpsError> {
    let order = match part.sort.as_deref() {
        None | Some("") => usual,
        Some(text) => Order::parse(text).filter(|order| served.contains(&order.by)).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            let narrowed = if Order::<C>::parse(&shown).is_some() { ", narrowed like this," } else { "" };
            let names: Vec<&str> = served.iter().map(|column| column.as_str()).collect();
            OpsError::invalid(
                "sort",
                format!("this list{narrowed} cannot be sorted by `{shown}`"),
                format!("one of {}; with `-` before it the greatest comes first", names.join(", ")),
            )
        })?,
    };
    let after = part.after.as_deref().filter(|text| !text.is_empty()).map(|text| place_of(order, text)).transpose()?;
    Ok(Page { order, after, limit: page_length(part.limit) })
}

fn place_of<C: SortColumn>(order: Order<C>, text: &str) -> Result<Place, OpsError> {
    read_place(order, text).ok_or_else(|| {
        OpsError::invalid(
            "after",
            "not a place in this list in this order",
            "the `next` of the page before, with the same `sort`",
        )
    })
}

fn read_place<C: SortColumn>(order: Order<C>, text: &str) -> Option<Place> {
    if text.len() > LONGEST_PLACE {
        return None;
    }
    let parts: Vec<Json> = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let (said, parts) = parts.split_first()?;
    if said.as_str()? != order.to_string() {
        return None;
    }
    let keys = order.by.keys();
    let value = |(kind, part): (KeyKind, &Json)| match kind {
        KeyKind::Number => part.as_i64().map(Value::Int),
        KeyKind::Text => part.as_str().map(Value::from),
        KeyKind::Id => URL_SAFE_NO_PAD.decode(part.as_str()?).ok().map(Value::Blob),
    };
    let values = keys.iter().map(|key| key.kind).zip(parts).map(value).collect::<Option<Vec<_>>>()?;
    (parts.len() == keys.len()).then_some(())?;
    Place::new(order, values)
}

/// The text that names a place: nobody but [`page_of`] reads it.
pub(super) fn place_text<C: SortColumn>(order: Order<C>, place: &Place) -> String {
    let value = |value: &Value| match value {
        Value::Int(number) => Json::from(*number),
        Value::Text(text) => Json::from(text.as_str()),
        Value::Blob(bytes) => Json::from(URL_SAFE_NO_PAD.encode(bytes)),
        Value::Null | Value::Real(_) => Json::Null,
    };
    let parts: Vec<Json> =
        std::iter::once(Json::from(order.to_string())).chain(place.values().iter().map(value)).collect();
    URL_SAFE_NO_PAD.encode(Json::from(parts).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fettle_store::systems::host::HostSort;

    fn part(sort: &str, after: &str) -> Part {
        Part { sort: Some(sort.into()), after: Some(after.into()), limit: None }
    }

    #[test]
    fn a_place_is_read_back_in_its_own_order_only() {
        let order = Order::descending(HostSort::OperatingSystem);
        let values = vec!["Debian 12 \u{1f427}".into(), "web-1\"".into(), Value::Blob(vec![7; 16])];
        let place = Place::new(order, values).unwrap();
        let text = place_text(order, &place);
        let usual = Order::ascending(HostSort::Name);
        assert_eq!(page_of(&part("-os", &text), usual).unwrap().after, Some(place));
        for sort in ["os", "name", "-name", ""] {
            let refused = page_of(&part(sort, &text), usual).unwrap_err();
            assert!(matches!(&refused, OpsError::Invalid { field, .. } if field == "after"), "{sort}: {refused:?}");
        }
    }

    #[test]
    fn what_is_no_place_never_reaches_the_database() {
        let usual = Order::ascending(HostSort::Name);
        let raw = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let good = format!(r#"["name","web-1","{}"]"#, URL_SAFE_NO_PAD.encode([7; 16]));
        assert!(page_of(&part("", &raw(&good)), usual).is_ok());
        for text in [
            "x".to_owned(),
            "web-1".to_owned(),
            raw("[]"),
            raw("{}"),
            raw(r#"["name"]"#),
            raw(r#"["name",1,2]"#),
            raw(r#"["name","web-1","Bw"]"#),
            raw(r#"["name","web-1","=="]"#),
            raw(&good.replace("web-1\"", "web-1\",1")),
            raw(&format!(r#"["name","{}","{}"]"#, "x".repeat(20_000), URL_SAFE_NO_PAD.encode([7; 16]))),
            "[".repeat(5000),
        ] {
            assert!(page_of(&part("", &text), usual).is_err(), "{text:.80}");
        }
    }

    #[test]
    fn a_column_that_is_none_is_answered_with_those_there_are() {
        let refused = page_of(&part("password", ""), Order::ascending(HostSort::Name)).unwrap_err();
        let OpsError::Invalid { field, why, instead } = refused else { panic!("{refused:?}") };
        assert_eq!((field.as_str(), why.as_str()), ("sort", "this list cannot be sorted by `password`"));
        assert!(instead.starts_with("one of name, state, os, last_seen;"), "{instead}");
        assert!(page_of(&part("--name", ""), Order::ascending(HostSort::Name)).is_err());
    }
}
