//! Parameters of a request's query.

/// The first parameter of that name, percent-decoded; `None` when absent or not UTF-8.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
    String::from_utf8(percent_decoded(value)).ok()
}

/// `+` stays: neither base64url nor a JWT has spaces, and an alphabet mixed up is told apart only this way.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_query_is_survived_and_nothing_grows(
            query in prop_oneof![any::<String>(), "[a&=%+0-9f]{0,64}"],
            name in prop_oneof![any::<String>(), "[a]{0,2}"],
        ) {
            if let Some(value) = parameter(&query, &name) {
                prop_assert!(value.len() <= query.len());
            }
        }

        #[test]
        fn whatever_is_escaped_comes_back(value: String, before in "[b-z0-9&=%]{0,16}") {
            let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let query = format!("{before}&a={escaped}&a=again");
            prop_assert_eq!(parameter(&query, "a"), Some(value));
        }
    }

    #[test]
    fn the_first_parameter_counts_and_escapes_are_undone() {
        let query = "a=1&join_request=abc%3D%3d&empty&a=2&bad=%zz%4";
        assert_eq!(parameter(query, "a").as_deref(), Some("1"));
        assert_eq!(parameter(query, "join_request").as_deref(), Some("abc=="));
        assert_eq!(parameter(query, "empty").as_deref(), Some(""));
        assert_eq!(parameter(query, "bad").as_deref(), Some("%zz%4"));
        assert_eq!(parameter(query, "none"), None);
        assert_eq!(parameter("x=%ff", "x"), None);
    }
}
