//! JSON as LiveKit's server writes it: field names as in the proto files. The generated code writes lowerCamel.

use serde_json::Value;

/// Fields whose keys are the application's own words.
const MAPS: [&str; 3] = ["attributes", "participantAttributes", "extraLabels"];

/// `value` with every field's name in snake_case.
pub(crate) fn with_proto_names(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(with_proto_names).collect(),
        Value::Object(fields) => {
            let renamed = fields.into_iter().map(|(name, value)| {
                let own = MAPS.contains(&name.as_str());
                (snake(&name), if own { value } else { with_proto_names(value) })
            });
            Value::Object(renamed.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_change_and_the_application_s_own_keys_stay() {
        let value = json!({ "numParticipants": 2, "rooms": [{ "creationTimeMs": "5" }],
            "attributes": { "myKey": "aB" } });
        let expected = json!({ "num_participants": 2, "rooms": [{ "creation_time_ms": "5" }],
            "attributes": { "myKey": "aB" } });
        assert_eq!(with_proto_names(value), expected);
    }
}
