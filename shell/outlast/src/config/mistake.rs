//! What is wrong with a configuration, said so that the reader can put it right.

use std::fmt;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// Nowhere: it is missing.
    Missing,
    /// This line of the file, from 1.
    Line(usize),
    /// The environment variable of the key.
    Environment,
    /// The flag of the key.
    Flag,
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mistake {
    /// Where it stands.
    pub(crate) at: At,
    /// Which key, as a dotted path, e.g. `node.advertise` or `peers[2].id`.
    pub(crate) key: String,
    /// What is wrong. Never repeats a secret.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) remedy: String,
}

impl Mistake {
    /// A mistake of `key` at `at`.
    pub(crate) fn new(
        at: At,
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Mistake {
        Mistake { at, key: key.into(), what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            At::Missing => {}
            At::Line(line) => write!(f, "line {line}: ")?,
            At::Environment => f.write_str("environment: ")?,
            At::Flag => f.write_str("flag: ")?,
        }
        write!(f, "{}: {}. {}.", self.key, self.what, self.remedy)
    }
}
