//! The OpenAPI document: whole, without loose ends, and the one that is checked in.

use fettle_server::api::{PREFIX, endpoints, openapi_document};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn golden_openapi() {
    let text = format!("{}\n", serde_json::to_string_pretty(&openapi_document()).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    if std::env::var_os("FETTLE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "docs/openapi.json is stale; run `cargo xtask golden` and read the difference");
}

#[test]
fn the_document_has_no_loose_ends() {
    let document = openapi_document();
    let mut ids = BTreeSet::new();
    for endpoint in endpoints() {
        let operation = &document["paths"][format!("{PREFIX}{}", endpoint.path)][endpoint.method.to_lowercase()];
        let name = format!("{} {}", endpoint.method, endpoint.path);
        assert!(ids.insert(operation["operationId"].as_str().expect(&name).to_owned()), "{name}: operationId twice");
        assert_eq!(operation["requestBody"].is_object(), endpoint.request.is_some(), "{name}");
        assert!(endpoint.response.is_some() || endpoint.method != "GET", "{name} answers with something");
        assert!(!endpoint.summary.is_empty() && !endpoint.summary.ends_with('.'), "{name}: {}", endpoint.summary);
        let declared =
            operation["parameters"].as_array().unwrap().iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(declared, endpoint.path.matches('{').count(), "{name}");
    }
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}
