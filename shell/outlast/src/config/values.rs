//! Values of the types that their keys want: written ones, or else the defaults of the schema.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    document::{Entries, Raw},
    mistake::{At, Mistake},
    schema::{Key, Kind},
};

/// Longest name of a region, node or gateway, in bytes: a beat carries it.
pub(crate) const NAME_BYTES_MAX: usize = 48;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Texts(Vec<String>),
    Integer(i64),
    Socket(SocketAddr),
    Sockets(Vec<SocketAddr>),
    Addresses(Vec<IpAddr>),
    Flag(bool),
}

/// What is wrong, and what to do.
type Complaint = (String, &'static str);

/// The values of one table. A key that was written wrongly is as if it were absent, with its mistake noted.
#[derive(Debug)]
pub(crate) struct Values {
    prefix: String,
    values: BTreeMap<&'static str, (At, Value)>,
    refused: BTreeMap<&'static str, At>,
}

impl Values {
    /// Reads `entries` by `keys`; `prefix` stands before the keys' names in mistakes.
    pub(crate) fn read(
        keys: &'static [Key],
        prefix: &str,
        entries: &Entries,
        mistakes: &mut Vec<Mistake>,
    ) -> Values {
        let (mut values, mut refused) = (BTreeMap::new(), BTreeMap::new());
        for key in keys {
            if let Some(entry) = entries.get(key.path) {
                match parse(key.kind, &entry.raw) {
                    Ok(value) => {
                        values.insert(key.path, (entry.at, value));
                        continue;
                    }
                    Err((what, remedy)) => {
                        let path = format!("{prefix}{}", key.path);
                        mistakes.push(Mistake::new(entry.at, path, what, remedy));
                        refused.insert(key.path, entry.at);
                    }
                }
            }
            if !key.default.is_empty() {
                let default = parse(key.kind, &default(key)).expect("a default fits its key");
                values.insert(key.path, (At::Missing, default));
            }
        }
        Values { prefix: prefix.to_owned(), values, refused }
    }

    /// The key's name as mistakes show it.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Where the key was written.
    pub(crate) fn at(&self, key: &str) -> At {
        self.values.get(key).map_or(At::Missing, |(at, _)| *at)
    }

    /// Whether the key was written at all, and rightly.
    pub(crate) fn written(&self, key: &str) -> bool {
        self.at(key) != At::Missing
    }

    /// Whether the key was not written at all, not even wrongly.
    pub(crate) fn absent(&self, key: &str) -> bool {
        !self.written(key) && !self.refused.contains_key(key)
    }

    /// A text; empty when absent.
    pub(crate) fn text(&self, key: &str) -> &str {
        match self.get(key) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// Texts; empty when absent.
    pub(crate) fn texts(&self, key: &str) -> &[String] {
        match self.get(key) {
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// A number within the bounds of its key.
    pub(crate) fn integer<T: TryFrom<i64>>(&self, key: &str) -> T {
        match self.get(key) {
            Some(Value::Integer(number)) => {
                T::try_from(*number).ok().expect("the schema's bounds fit the type")
            }
            _ => unreachable!("every number has a default"),
        }
    }

    /// A socket's address.
    pub(crate) fn socket(&self, key: &str) -> SocketAddr {
        match self.get(key) {
            Some(Value::Socket(address)) => *address,
            _ => unreachable!("every listener has a default"),
        }
    }

    /// Several sockets' addresses.
    pub(crate) fn sockets(&self, key: &str) -> &[SocketAddr] {
        match self.get(key) {
            Some(Value::Sockets(addresses)) => addresses,
            _ => unreachable!("every listener has a default"),
        }
    }

    /// Addresses; empty when absent.
    pub(crate) fn addresses(&self, key: &str) -> &[IpAddr] {
        match self.get(key) {
            Some(Value::Addresses(addresses)) => addresses,
            _ => &[],
        }
    }

    /// A flag; false when absent.
    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Value::Flag(true)))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|(_, value)| value)
    }
}

fn default(key: &Key) -> Raw {
    match key.kind {
        Kind::Integer(..) => Raw::Integer(key.default.parse().expect("a default number")),
        _ => Raw::Text(key.default.to_owned()),
    }
}

fn parse(kind: Kind, raw: &Raw) -> Result<Value, Complaint> {
    match kind {
        Kind::Integer(least, most) => integer(raw, least, most),
        Kind::Name => name(text(raw)?).map(Value::Text),
        Kind::Word(words) => word(text(raw)?, words).map(Value::Text),
        Kind::Text | Kind::Secret | Kind::File | Kind::Folder => match text(raw)? {
            "" => Err(("this is empty".into(), "Give it a value, or remove the key")),
            text => Ok(Value::Text(text.to_owned())),
        },
        Kind::Url => url(text(raw)?).map(Value::Text),
        Kind::HostPort => host_port(text(raw)?).map(Value::Text),
        Kind::Listen => socket(text(raw)?).map(Value::Socket),
        Kind::Listens => list(raw, socket).map(Value::Sockets),
        Kind::Names => list(raw, name).map(Value::Texts),
        Kind::Words(words) => list(raw, |text| word(text, words)).map(Value::Texts),
        Kind::Addresses => list(raw, address).map(Value::Addresses),
        Kind::Flag => flag(raw).map(Value::Flag),
    }
}

fn show(raw: &Raw) -> String {
    match raw {
        Raw::Text(text) => format!("{text:?}"),
        Raw::Integer(number) => number.to_string(),
        Raw::Texts(_) => "a list".to_owned(),
        Raw::Flag(flag) => flag.to_string(),
        Raw::Other(what) => (*what).to_owned(),
    }
}

fn text(raw: &Raw) -> Result<&str, Complaint> {
    match raw {
        Raw::Text(text) => Ok(text),
        Raw::Integer(_) | Raw::Texts(_) | Raw::Flag(_) | Raw::Other(_) => {
            let what = format!("{} stands where a text belongs", show(raw));
            Err((what, "Write one text in double quotes"))
        }
    }
}

fn integer(raw: &Raw, least: i64, most: i64) -> Result<Value, Complaint> {
    match raw {
        Raw::Integer(number) if (least..=most).contains(number) => Ok(Value::Integer(*number)),
        Raw::Integer(number) => Err((
            format!("{number} is not between {least} and {most}"),
            "Write a number within the bounds",
        )),
        Raw::Text(_) | Raw::Texts(_) | Raw::Flag(_) | Raw::Other(_) => Err((
            format!("{} stands where a whole number belongs", show(raw)),
            "Write digits without quotes",
        )),
    }
}

fn list<T>(raw: &Raw, item: impl Fn(&str) -> Result<T, Complaint>) -> Result<Vec<T>, Complaint> {
    let items: Vec<T> = match raw {
        Raw::Texts(texts) => texts.iter().map(|text| item(text)).collect::<Result<_, _>>()?,
        Raw::Text(text) => {
            text.split(',').map(|part| item(part.trim())).collect::<Result<_, _>>()?
        }
        Raw::Integer(_) | Raw::Flag(_) | Raw::Other(_) => {
            let what = format!("{} stands where a list belongs", show(raw));
            return Err((what, "Write [\"one\", \"two\"]"));
        }
    };
    if items.is_empty() {
        return Err(("the list is empty".into(), "Put something in, or remove the key"));
    }
    Ok(items)
}

fn name(text: &str) -> Result<String, Complaint> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(fits) {
        let remedy = "Use 1 to 48 letters, digits, '-', '_' or '.'";
        return Err((format!("{text:?} is no name"), remedy));
    }
    Ok(text.to_owned())
}

fn word(text: &str, words: &'static [&'static str]) -> Result<String, Complaint> {
    if words.contains(&text) {
        return Ok(text.to_owned());
    }
    let what = format!("{text:?} is not one of: {}", words.join(", "));
    Err((what, "Write one of the words above"))
}

fn host_port(text: &str) -> Result<String, Complaint> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_fits = match bare {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
                !host.is_empty() && host.bytes().all(fits)
            }
        };
        host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good {
        return Ok(text.to_owned());
    }
    Err((format!("{text:?} is no host and port"), "Write \"node-1.example.net:7881\" or the like"))
}

fn url(text: &str) -> Result<String, Complaint> {
    let parsed = text.parse::<http::Uri>().ok();
    let good = parsed
        .is_some_and(|url| matches!(url.scheme_str(), Some("ws" | "wss")) && url.query().is_none());
    if good {
        return Ok(text.to_owned());
    }
    Err((
        format!("{text:?} is no URL that clients dial"),
        "Write \"wss://eu.api.example.net\" or the like",
    ))
}

fn address(text: &str) -> Result<IpAddr, Complaint> {
    text.parse().map_err(|_| {
        (format!("{text:?} is no IP address"), "Write addresses without port, e.g. \"192.0.2.7\"")
    })
}

fn socket(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        (format!("{text:?} is no address and port"), "Write \"0.0.0.0:7880\" or the like")
    })
}

fn flag(raw: &Raw) -> Result<bool, Complaint> {
    match raw {
        Raw::Flag(flag) => Ok(*flag),
        Raw::Text(text) if text == "true" => Ok(true),
        Raw::Text(text) if text == "false" => Ok(false),
        Raw::Text(_) | Raw::Integer(_) | Raw::Texts(_) | Raw::Other(_) => {
            Err((format!("{} stands where a flag belongs", show(raw)), "Write true or false"))
        }
    }
}
