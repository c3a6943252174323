//! What others keep about a person in their document: a small JSON object that decides nothing here.

use crate::refusal::Invalid;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The most octets the object may have, as it is stored.
pub const ATTRIBUTES_LIMIT: usize = 4096;
/// How deep arrays and objects may be nested; a document nested too deeply could not be read again.
pub const ATTRIBUTES_DEPTH: usize = 8;

/// Members that mean something to a caller and nothing to any rule.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attributes(Map<String, Value>);

impl Attributes {
    /// Takes an object of at most [`ATTRIBUTES_LIMIT`] octets.
    pub fn parse(field: &str, members: Map<String, Value>) -> Result<Self, Invalid> {
        if members.values().any(|value| depth(value) >= ATTRIBUTES_DEPTH) {
            return Err(Invalid::new(field, format!("nested at most {ATTRIBUTES_DEPTH} deep")));
        }
        let size = serde_json::to_vec(&members).map_or(usize::MAX, |json| json.len());
        if size > ATTRIBUTES_LIMIT {
            return Err(Invalid::new(field, format!("at most {ATTRIBUTES_LIMIT} octets")));
        }
        Ok(Self(members))
    }

    /// Returns the members.
    pub const fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns a member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Tells whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names only: what others keep about a person is nobody else's business.
impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<Attributes, Invalid> {
        let Value::Object(members) = value else { panic!("{value}") };
        Attributes::parse("attributes", members)
    }

    #[test]
    fn attributes_are_bounded_in_size() {
        // {"a":"…"} takes eight octets beside the text.
        assert!(parse(json!({ "a": "x".repeat(ATTRIBUTES_LIMIT - 8) })).is_ok());

        let refused = parse(json!({ "a": "x".repeat(ATTRIBUTES_LIMIT - 7) }));

        assert_eq!(refused, Err(Invalid::new("attributes", "at most 4096 octets")));
    }

    #[test]
    fn attributes_are_bounded_in_depth() {
        let nested = |depth| json!({ "a": (1..depth).fold(json!(1), |inner, _| json!([inner])) });

        assert!(parse(nested(ATTRIBUTES_DEPTH)).is_ok());

        assert_eq!(
            parse(nested(ATTRIBUTES_DEPTH + 1)),
            Err(Invalid::new("attributes", "nested at most 8 deep"))
        );
    }

    #[test]
    fn attributes_print_their_names_only() {
        let attributes = parse(json!({ "cost-centre": "4711" })).expect("attributes");

        assert_eq!(format!("{attributes:?}"), r#"{"cost-centre"}"#);
    }
}
