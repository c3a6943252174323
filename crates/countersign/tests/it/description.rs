//! The description of the API, which others generate clients from.

use crate::test_app::TestApp;
use countersign::http::openapi;
use http::Method;
use serde_json::Value;

/// An operation of the description.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The permission it asks for; `None` if it is public.
    pub(crate) permission: Option<String>,
}

impl Operation {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// All operations of the description, by path.
pub(crate) fn operations() -> Vec<Operation> {
    described()
        .into_iter()
        .map(|(method, path, operation)| Operation {
            method,
            path,
            permission: operation["security"]
                .as_array()
                .expect("security")
                .iter()
                .find_map(|scheme| scheme["token"][0].as_str())
                .map(str::to_owned),
        })
        .collect()
}

fn described() -> Vec<(Method, String, Value)> {
    let description = openapi::description();
    let paths = description["paths"].as_object().expect("paths");
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().expect("methods").clone();
        let path = path.clone();
        methods.into_iter().filter_map(move |(method, operation)| {
            let method = method.to_uppercase().parse().expect("a method");
            operation.is_object().then(|| (method, path.clone(), operation))
        })
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn the_operations_and_what_they_ask_for_are_as_others_know_them() {
    let shown = |operation: &Operation| {
        let permission = operation.permission.as_deref().unwrap_or("-");
        format!("{permission:<14} {:<6} {}", operation.method, operation.path)
    };

    let lines: Vec<String> = operations().iter().map(shown).collect();

    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn every_operation_says_what_it_does_needs_and_answers() {
    let description = openapi::description();
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));

    for (method, path, operation) in described() {
        let name = format!("{method} {path}");
        let summary = operation["summary"].as_str().unwrap_or_default();
        assert!(!summary.is_empty(), "{name} has no summary");
        assert!(operation["security"].as_array().is_some_and(|all| !all.is_empty()), "{name}: security");
        assert!(operation["tags"][0].is_string(), "{name}: tag");
        assert!(operation["operationId"].is_string(), "{name}: operationId");
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}: no success described");
        let problem = &operation["responses"]["default"]["content"]["application/problem+json"]["schema"];
        assert_eq!(problem["$ref"], "#/components/schemas/Problem", "{name}");
        for place in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let parameters = operation["parameters"].as_array().expect("parameters");
            let is_described = |parameter: &Value| parameter["name"] == place && parameter["in"] == "path";
            assert!(parameters.iter().any(is_described), "{name}: {place} is not described");
        }
    }
}

#[test]
fn operation_ids_are_unique() {
    let mut ids: Vec<String> =
        described().iter().map(|(.., operation)| operation["operationId"].to_string()).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();

    assert_eq!(ids.len(), count, "generators name their functions by operationId: {ids:?}");
}

#[test]
fn every_reference_in_the_description_leads_somewhere() {
    fn walk(value: &Value, whole: &Value) {
        if let Some(reference) = value["$ref"].as_str() {
            assert!(whole.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
        }
        match value {
            Value::Object(members) => members.values().for_each(|member| walk(member, whole)),
            Value::Array(items) => items.iter().for_each(|item| walk(item, whole)),
            _ => {}
        }
    }
    let description = openapi::description();

    walk(&description, &description);
}

#[tokio::test]
async fn the_server_serves_what_the_command_line_prints() {
    let app = TestApp::start().await;

    let served = app.get("/openapi.json").await.expect_ok();

    assert_eq!(served.json, openapi::description());
    assert_eq!(served.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn the_reference_page_shows_every_operation_and_loads_nothing_from_elsewhere() {
    let app = TestApp::start().await;

    let page = app.get("/docs").await.expect_ok();
    let text = page.shown();

    for operation in operations() {
        assert!(text.contains(&operation.path), "{} is missing", operation.name());
    }
    for loading in ["src=", "<script", "<link", "@import", "url(", "<iframe"] {
        assert!(!text.contains(loading), "the page has {loading}");
    }
    for link in text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(link.starts_with('#') || link.starts_with('/') && !link.starts_with("//"), "{link}");
    }
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
}
