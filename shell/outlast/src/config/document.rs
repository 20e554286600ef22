//! A configuration's text as a flat list of keys, each with its line; and what flags and environment put over it.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    mistake::{At, Mistake},
    schema::{self, KEYS, PEER_KEYS},
};

/// A value as it was written, before its key says what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    Text(String),
    Integer(i64),
    Texts(Vec<String>),
    Flag(bool),
    /// Anything that no key wants, by the name of its type.
    Other(&'static str),
}

/// A written value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: At,
    pub(crate) raw: Raw,
}

/// One table of keys.
pub(crate) type Entries = BTreeMap<String, Entry>;

/// One `[[peers]]` table.
#[derive(Debug)]
pub(crate) struct PeerTable {
    pub(crate) line: usize,
    pub(crate) entries: Entries,
}

/// A configuration's text, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) entries: Entries,
    /// `[keys]`: API key to secret.
    pub(crate) keys: Entries,
    pub(crate) peers: Vec<PeerTable>,
}

struct Text<'a> {
    text: &'a str,
    mistakes: &'a mut Vec<Mistake>,
}

/// Takes `text` apart; what cannot be understood becomes a mistake, the rest is still read.
pub(crate) fn parse(text: &str, mistakes: &mut Vec<Mistake>) -> Document {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut text = Text { text, mistakes };
    for error in errors {
        let line = text.line(error.span().map_or(0, |span| span.start));
        let what = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        text.mistakes.push(Mistake::new(
            At::Line(line),
            "file",
            what,
            "Write key = value, texts in double quotes, each key once",
        ));
    }
    let mut document = Document::default();
    for (name, value) in table.get_ref().iter() {
        let (name, line) = (name.get_ref().as_ref(), text.line(name.span().start));
        match (name, value.get_ref()) {
            ("keys", DeValue::Table(table)) => document.keys = text.entries("", table),
            ("peers", DeValue::Array(tables)) => {
                document.peers = tables.iter().filter_map(|peer| text.peer(peer)).collect();
            }
            ("keys" | "peers", other) => {
                let what = format!("this is {}, not a table", article(other.type_str()));
                let remedy = format!("See [{name}] in docs/configuration.md");
                text.mistakes.push(Mistake::new(At::Line(line), name, what, remedy));
            }
            (section, DeValue::Table(table)) if is_section(section) => {
                let entries = text.entries(&format!("{section}."), table);
                document.entries.extend(entries);
            }
            (name, value) => {
                let entry = Entry { at: At::Line(line), raw: raw(value) };
                document.entries.insert(name.to_owned(), entry);
            }
        }
    }
    text.refuse_unknown(&mut document);
    document
}

/// Puts the values of flags and environment over those of the file. Lists are separated by commas.
pub(crate) fn put_over(document: &mut Document, overrides: &[(&'static str, At, String)]) {
    for (path, at, text) in overrides {
        let raw = match schema::find(path).map(|key| key.kind) {
            Some(schema::Kind::Integer(..)) => {
                text.trim().parse().map_or(Raw::Text(text.clone()), Raw::Integer)
            }
            _ => Raw::Text(text.clone()),
        };
        document.entries.insert((*path).to_owned(), Entry { at: *at, raw });
    }
}

fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.path.split_once('.').is_some_and(|(section, _)| section == name))
}

fn article(kind: &str) -> String {
    if kind.starts_with(['a', 'i']) { format!("an {kind}") } else { format!("a {kind}") }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Raw::Other("too large an integer"), Raw::Integer),
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map_or(Raw::Other("a list that holds more than texts"), Raw::Texts),
        DeValue::Float(_) => Raw::Other("a fraction"),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

impl Text<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(self.text);
        1 + before.bytes().filter(|byte| *byte == b'\n').count()
    }

    fn entries(&self, prefix: &str, table: &DeTable<'_>) -> Entries {
        table
            .iter()
            .map(|(name, value)| {
                let at = At::Line(self.line(name.span().start));
                (format!("{prefix}{}", name.get_ref()), Entry { at, raw: raw(value.get_ref()) })
            })
            .collect()
    }

    fn peer(&mut self, peer: &Spanned<DeValue<'_>>) -> Option<PeerTable> {
        let line = self.line(peer.span().start);
        let Some(table) = peer.get_ref().as_table() else {
            let remedy = "Write each peer as a [[peers]] table";
            self.mistakes.push(Mistake::new(At::Line(line), "peers", "this is no table", remedy));
            return None;
        };
        let entries = self.entries("", table);
        let first = entries.values().map(|entry| entry.at).min();
        let line = if let Some(At::Line(first)) = first { line.min(first) } else { line };
        Some(PeerTable { line, entries })
    }

    fn refuse_unknown(&mut self, document: &mut Document) {
        let paths = || KEYS.iter().map(|key| key.path).chain(["keys", "peers"]);
        let known = |path: &str| schema::find(path).is_some();
        let unknown: Vec<_> = document.entries.extract_if(.., |path, _| !known(path)).collect();
        for (path, entry) in unknown {
            self.unknown(path.clone(), entry.at, schema::nearest(&path, paths()));
        }
        for (index, peer) in document.peers.iter_mut().enumerate() {
            let names = || PEER_KEYS.iter().map(|key| key.path);
            let known = |name: &str| names().any(|known| known == name);
            let unknown: Vec<_> = peer.entries.extract_if(.., |name, _| !known(name)).collect();
            for (name, entry) in unknown {
                let nearest = schema::nearest(&name, names());
                self.unknown(format!("peers[{index}].{name}"), entry.at, nearest);
            }
        }
    }

    fn unknown(&mut self, key: String, at: At, nearest: Option<&str>) {
        let remedy = match nearest {
            Some(nearest) => format!("Write {nearest}, if that is what was meant"),
            None => "Remove it; docs/configuration.md lists every key".to_owned(),
        };
        self.mistakes.push(Mistake::new(at, key, "there is no such key", remedy));
    }
}
