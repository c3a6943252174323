//! The API's description: OpenAPI 3.1, made from the handlers, and a page to read it.

use super::{Web, problem};
use axum::{Router, response::IntoResponse, routing::get};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

/// The frame of the description; the routes fill it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Countersign",
        description = "Second factors: enrol, verify, lock, unlock, reset, audit.\n\nAuthenticate with `Authorization: Bearer` and \
            an access token of `/oauth/token`, or as a service client with HTTP Basic. The names beside a route are the \
            scopes a client needs; people need a role that has the permission of that name; `self` is any signed-in \
            person, `owner` an owner. Owners may add `?organisation=` to any route.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(problem::Content)),
    modifiers(&Schemes),
)]
pub struct Description;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        components.add_security_scheme("client", SecurityScheme::Http(basic));
    }
}

/// Adds to each operation what all have in common: the problem it may answer.
pub fn complete(description: utoipa::openapi::OpenApi) -> Value {
    let mut description = serde_json::to_value(description).unwrap_or_default();
    let answer = json!({
        "description": "a problem (RFC 9457)",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    let paths = description.get_mut("paths").and_then(Value::as_object_mut);
    for operation in paths.into_iter().flat_map(|paths| paths.values_mut()).filter_map(Value::as_object_mut) {
        for method in operation.values_mut().filter(|value| value.get("responses").is_some()) {
            method["responses"]["default"] = answer.clone();
        }
    }
    description
}

/// Returns the description without a server: what `countersign openapi` prints.
pub fn description() -> Value {
    let (_, description) = super::api::router(false).split_for_parts();
    complete(description)
}

/// Serves the description and the page.
pub fn router(description: Value) -> Router<Web> {
    let page = page(&description);
    let text = description.to_string();
    Router::new()
        .route(
            "/openapi.json",
            get(async move || {
                ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
            }),
        )
        .route(
            "/docs",
            get(async move || {
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
                    (
                        header::CONTENT_SECURITY_POLICY,
                        HeaderValue::from_static(
                            "default-src 'none'; style-src 'self' 'unsafe-inline'; base-uri 'none'",
                        ),
                    ),
                ];
                (headers, page).into_response()
            }),
        )
}

/// Writes the reference page: plain HTML, no script, nothing from elsewhere.
fn page(description: &Value) -> String {
    let mut page = String::from(include_str!("docs_head.html"));
    let no_paths = serde_json::Map::new();
    let paths = description["paths"].as_object().unwrap_or(&no_paths);
    let mut by_tag: Vec<(String, Vec<String>)> = Vec::new();
    for (path, methods) in paths {
        for (method, operation) in
            methods.as_object().into_iter().flatten().filter(|(_, value)| value.is_object())
        {
            let tag = operation["tags"][0].as_str().unwrap_or("other").to_owned();
            let entry = entry(method, path, operation, description);
            match by_tag.iter_mut().find(|(name, _)| *name == tag) {
                Some((_, entries)) => entries.push(entry),
                None => by_tag.push((tag, vec![entry])),
            }
        }
    }
    page.push_str("<nav>");
    for (tag, _) in &by_tag {
        page.push_str(&format!("<a href=\"#{0}\">{0}</a> ", escape(&tag.replace(' ', "-"))));
    }
    page.push_str("</nav>");
    for (tag, entries) in by_tag {
        page.push_str(&format!("<h2 id=\"{}\">{}</h2>", escape(&tag.replace(' ', "-")), escape(&tag)));
        entries.iter().for_each(|entry| page.push_str(entry));
    }
    page.push_str("</main></body></html>\n");
    page
}

fn entry(method: &str, path: &str, operation: &Value, description: &Value) -> String {
    let mut text = format!(
        "<details><summary><b class=\"{0}\">{1}</b> <code>{2}</code> <span>{3}</span></summary>",
        escape(method),
        escape(&method.to_uppercase()),
        escape(path),
        escape(operation["summary"].as_str().unwrap_or_default()),
    );
    if let Some(more) = operation["description"].as_str() {
        text.push_str(&format!("<p>{}</p>", escape(more)));
    }
    let needs: Vec<String> = operation["security"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|scheme| scheme["token"].as_array())
        .flatten()
        .filter_map(|scope| scope.as_str().map(|scope| format!("<code>{}</code>", escape(scope))))
        .collect();
    if !needs.is_empty() {
        text.push_str(&format!("<p>Needs {}.</p>", needs.join(", ")));
    }
    let parameters: Vec<String> =
        operation["parameters"].as_array().into_iter().flatten().map(parameter).collect();
    if !parameters.is_empty() {
        text.push_str(&format!("<h4>Parameters</h4><table>{}</table>", parameters.concat()));
    }
    for content in
        operation["requestBody"]["content"].as_object().into_iter().flat_map(|content| content.values())
    {
        text.push_str(&schema_table("Request", &content["schema"], description));
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        for content in response["content"].as_object().into_iter().flat_map(|content| content.values()) {
            text.push_str(&schema_table(
                &format!("Answer {}", escape(status)),
                &content["schema"],
                description,
            ));
        }
    }
    text.push_str("</details>");
    text
}

fn parameter(parameter: &Value) -> String {
    format!(
        "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
        escape(parameter["name"].as_str().unwrap_or_default()),
        escape(parameter["in"].as_str().unwrap_or_default()),
        escape(parameter["description"].as_str().unwrap_or_default()),
    )
}

/// Writes the members of a schema as a table, with what a reference points to.
fn schema_table(title: &str, schema: &Value, description: &Value) -> String {
    let mut members = Vec::new();
    collect_members(schema, description, &mut members);
    if members.is_empty() {
        return String::new();
    }
    format!("<h4>{title}</h4><table>{}</table>", members.concat())
}

fn collect_members(schema: &Value, description: &Value, rows: &mut Vec<String>) {
    let schema = resolved(schema, description);
    for part in ["allOf", "oneOf"] {
        schema[part]
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|part| collect_members(part, description, rows));
    }
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let mark = if required.contains(&name.as_str()) { "" } else { " <i>optional</i>" };
        rows.push(format!(
            "<tr><td><code>{}</code>{mark}</td><td>{}</td><td>{}</td></tr>",
            escape(name),
            escape(&kind(member, description)),
            escape(member["description"].as_str().unwrap_or_default()),
        ));
    }
}

fn kind(member: &Value, description: &Value) -> String {
    if member["items"].is_object() {
        return format!("list of {}", kind(&member["items"], description));
    }
    if let Some(name) = member["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let target = resolved(member, description);
        return target["type"].as_str().filter(|kind| *kind != "object").unwrap_or(name).to_owned();
    }
    match &member["type"] {
        Value::String(name) => name.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        _ => "object".into(),
    }
}

fn resolved<'a>(schema: &'a Value, description: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => description.pointer(path.trim_start_matches('#')).unwrap_or(schema),
        None => schema,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
