//! The OpenAPI 3.1 document, made from the table.

use super::{Endpoint, Needs, PREFIX, endpoints};
use fettle_wire::api::problem::Problem;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The whole document.
pub fn openapi_document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints() {
        let operation = operation(&endpoint, &mut generator, problem.as_value());
        let path = paths.entry(format!("{PREFIX}{}", endpoint.path)).or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            methods.insert(endpoint.method.to_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Fettle",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Patch management from the announcement to the proof.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": Value::Object(generator.take_definitions(true)),
            "securitySchemes": {
                "token": {
                    "type": "http", "scheme": "bearer",
                    "description": "An API token, made by `fettle login` or POST /api/v1/tokens.",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": crate::access::session::COOKIE,
                    "description": "A browser's session. Unsafe methods also need the header `x-fettle-csrf`.",
                },
            },
        },
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut operation = json!({
        "operationId": operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.path.split('/').nth(1).unwrap_or_default()],
        "parameters": parameters(endpoint),
        "responses": {
            "200": success(endpoint, generator),
            "default": {
                "description": "A problem (RFC 9457)",
                "content": { "application/problem+json": { "schema": problem } },
            },
        },
    });
    let Value::Object(fields) = &mut operation else { return operation };
    match endpoint.needs {
        Needs::Nothing => {
            fields.insert("security".into(), json!([]));
        }
        Needs::Permission(permission) => {
            fields.insert("x-fettle-permission".into(), json!(permission.as_str()));
        }
    }
    if let Some(request) = endpoint.request {
        let schema = request(generator);
        fields.insert(
            "requestBody".into(),
            json!({ "required": true, "content": { "application/json": { "schema": schema } } }),
        );
    }
    operation
}

fn success(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let Some(response) = endpoint.response else { return json!({ "description": "Done" }) };
    let media = if endpoint.stream { "text/event-stream" } else { "application/json" };
    json!({ "description": endpoint.summary, "content": { media: { "schema": response(generator) } } })
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let in_path = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path =
        in_path.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = endpoint.query.iter().map(|field| {
        json!({ "name": field.name, "in": "query", "required": false, "description": field.summary, "schema": { "type": "string" } })
    });
    in_path.chain(in_query).collect()
}

/// `get_hosts_host` and the like: unique because method and path are.
fn operation_id(endpoint: &Endpoint) -> String {
    let words = endpoint
        .path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| part.trim_matches(['{', '}']).replace('-', "_"));
    std::iter::once(endpoint.method.to_lowercase()).chain(words).collect::<Vec<_>>().join("_")
}
