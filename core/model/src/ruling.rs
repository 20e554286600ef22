//! What the server API has last said of somebody's permission in a room. It goes where the room goes.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use crate::{Generation, Identity};

/// Largest permission of a ruling, in bytes; the message that it is has some thirty.
pub const RULING_BYTES_MAX: usize = 256;
/// Most people of one room whom rulings are kept of.
pub const RULINGS_MAX: usize = 1_000;

/// Which of two rulings is the newer one. Zero is that of a token that no ruling has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulingVersion {
    /// Of the room when it was made; first, so that a home's first one is above all of the homes before it.
    pub generation: Generation,
    /// From 1 in each generation.
    pub count: u32,
}

impl RulingVersion {
    /// The one that supersedes this in a room of `generation`.
    #[must_use]
    pub fn next(self, generation: Generation) -> RulingVersion {
        if generation > self.generation {
            return RulingVersion { generation, count: 1 };
        }
        RulingVersion { count: self.count.saturating_add(1), ..self }
    }
}

impl fmt::Display for RulingVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation.0, self.count)
    }
}

/// Text is not a [`RulingVersion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a ruling's version is two numbers with a dot between them")]
pub struct NotAVersion;

impl FromStr for RulingVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<RulingVersion, NotAVersion> {
        let (generation, count) = text.split_once('.').ok_or(NotAVersion)?;
        let generation = Generation(generation.parse().map_err(|_| NotAVersion)?);
        Ok(RulingVersion { generation, count: count.parse().map_err(|_| NotAVersion)? })
    }
}

/// One ruling. The newest one counts, whether it widens or narrows what was allowed before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ruling {
    /// Which one.
    pub version: RulingVersion,
    /// All permissions, as an encoded `livekit.ParticipantPermission` of at most [`RULING_BYTES_MAX`] bytes. Nodes alone
    /// read it.
    pub permission: Arc<[u8]>,
}

/// What has been said of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    /// The highest generation of a home that has said so.
    under: Generation,
    /// `None`: the stay that it was for is over. Kept, since an older home may not have heard of that.
    ruling: Option<Ruling>,
}

/// The rulings of one room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rulings {
    said: BTreeMap<Identity, Said>,
    bytes: usize,
}

impl Rulings {
    /// The ruling that counts for `identity`.
    pub fn get(&self, identity: &Identity) -> Option<&Ruling> {
        self.said.get(identity)?.ruling.as_ref()
    }

    /// All that count, by identity.
    pub fn iter(&self) -> impl Iterator<Item = (&Identity, &Ruling)> {
        self.said.iter().filter_map(|(identity, said)| Some((identity, said.ruling.as_ref()?)))
    }

    /// Identities and permissions, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing has been said of anybody.
    pub fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// Whether a ruling of `identity` would be kept: not beyond [`RULINGS_MAX`].
    pub fn takes(&self, identity: &Identity) -> bool {
        self.said.len() < RULINGS_MAX
            || self.said.contains_key(identity)
            || self.said.values().any(|said| said.ruling.is_none())
    }

    /// A home of the room says `under` its generation which ruling counts for `identity`, or that none does any more, since
    /// the stay that it was for is over. Returns whether it has changed what counts: an older ruling never replaces a newer
    /// one, a home that was superseded ends no stay, and nothing that it still holds brings back what has ended elsewhere.
    pub fn hear(&mut self, under: Generation, identity: &Identity, ruling: Option<Ruling>) -> bool {
        let Some(said) = self.said.get_mut(identity) else {
            let news = ruling.is_some();
            return self.insert(under, identity, ruling) && news;
        };
        let counts = match (&said.ruling, &ruling) {
            (Some(before), Some(ruling)) => ruling > before,
            (None, Some(_)) | (Some(_), None) => under >= said.under,
            (None, None) => false,
        };
        if counts || ruling == said.ruling {
            said.under = said.under.max(under);
        }
        if counts {
            self.bytes -= said.ruling.as_ref().map_or(0, |before| before.permission.len());
            self.bytes += ruling.as_ref().map_or(0, |ruling| ruling.permission.len());
            said.ruling = ruling;
        }
        counts
    }

    /// The home of this generation has named every ruling that it holds, and those of `named`: what it alone has said before
    /// and holds no more is over.
    pub fn retain(&mut self, under: Generation, named: impl Fn(&Identity) -> bool) {
        let over = |said: &Said| said.under == under && said.ruling.is_some();
        let over = self.said.iter().filter(|(identity, said)| over(said) && !named(identity));
        for identity in over.map(|(identity, _)| identity.clone()).collect::<Vec<_>>() {
            self.hear(under, &identity, None);
        }
    }

    fn insert(&mut self, under: Generation, identity: &Identity, ruling: Option<Ruling>) -> bool {
        if self.said.len() >= RULINGS_MAX {
            let mut ended = self.said.iter().filter(|(_, said)| said.ruling.is_none());
            let Some(ended) = ended.next().map(|(ended, _)| ended.clone()) else { return false };
            self.said.remove(&ended);
            self.bytes -= ended.as_str().len();
        }
        self.bytes += identity.as_str().len();
        self.bytes += ruling.as_ref().map_or(0, |ruling| ruling.permission.len());
        self.said.insert(identity.clone(), Said { under, ruling });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruling(generation: u64, count: u32) -> Ruling {
        let version = RulingVersion { generation: Generation(generation), count };
        Ruling { version, permission: [0x10, 1].into() }
    }

    fn heard(rulings: &Rulings) -> Option<(u64, u32)> {
        let version = rulings.get(&"ann".into())?.version;
        Some((version.generation.0, version.count))
    }

    #[test]
    fn a_version_is_above_all_before_it() {
        let first = RulingVersion::default().next(Generation(3));
        assert_eq!(first.to_string(), "3.1");
        let second = first.next(Generation(3));
        assert!(second > first && first.next(Generation(5)) > second);
        // A room whose number has begun again.
        assert_eq!(second.next(Generation(1)).to_string(), "3.3");
        assert_eq!("3.2".parse(), Ok(second));
        for text in ["", "3", "3.", ".1", "3.1.1", "-3.1", "3.4294967296"] {
            assert_eq!(text.parse::<RulingVersion>(), Err(NotAVersion), "{text}");
        }
    }

    #[test]
    fn the_newest_counts_whoever_says_so_and_in_whatever_order() {
        let (ann, all) = (Identity::from("ann"), [ruling(1, 1), ruling(1, 2), ruling(2, 1)]);
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut rulings = Rulings::default();
            for (under, at) in (1..).zip(order) {
                rulings.hear(Generation(under % 3), &ann, Some(all[at].clone()));
            }
            assert_eq!(heard(&rulings), Some((2, 1)), "{order:?}");
        }
    }

    #[test]
    fn a_stay_is_ended_by_the_home_that_counts_and_an_older_one_does_not_bring_it_back() {
        let (mut rulings, ann) = (Rulings::default(), Identity::from("ann"));
        assert!(rulings.hear(Generation(1), &ann, Some(ruling(1, 1))));
        assert!(!rulings.hear(Generation(2), &ann, Some(ruling(1, 1))), "the new home has it too");
        assert!(!rulings.hear(Generation(1), &ann, None));
        assert_eq!(heard(&rulings), Some((1, 1)));
        assert!(rulings.hear(Generation(2), &ann, None));
        assert!(!rulings.hear(Generation(1), &ann, Some(ruling(1, 9))));
        assert_eq!((heard(&rulings), rulings.iter().count()), (None, 0));
        assert!(rulings.hear(Generation(2), &ann, Some(ruling(2, 1))), "another stay");
        assert_eq!(heard(&rulings), Some((2, 1)));
        // Somebody of whom nothing was heard before.
        let bob = Identity::from("bob");
        assert!(!rulings.hear(Generation(2), &bob, None));
        assert!(!rulings.hear(Generation(1), &bob, Some(ruling(1, 1))));
    }

    #[test]
    fn what_a_home_does_not_name_again_is_over_and_what_others_said_is_not() {
        let mut rulings = Rulings::default();
        let names = ["gone", "here", "elsewhere"];
        for (under, name) in [2, 2, 1].into_iter().zip(names) {
            rulings.hear(Generation(under), &name.into(), Some(ruling(1, 1)));
        }
        rulings.retain(Generation(2), |identity| identity.as_str() == "here");
        let left: Vec<_> = rulings.iter().map(|(identity, _)| identity.as_str()).collect();
        assert_eq!(left, ["elsewhere", "here"]);
    }

    #[test]
    fn rulings_are_bounded_and_those_that_are_over_go_first() {
        let mut rulings = Rulings::default();
        let name = |n: usize| Identity::from(format!("{n:04}"));
        for n in 0..RULINGS_MAX {
            assert!(rulings.takes(&name(n)));
            assert!(rulings.hear(Generation(1), &name(n), Some(ruling(1, 1))));
        }
        assert_eq!(rulings.bytes(), RULINGS_MAX * (4 + 2));
        assert!(!rulings.takes(&name(RULINGS_MAX)) && rulings.takes(&name(0)));
        assert!(!rulings.hear(Generation(1), &name(RULINGS_MAX), Some(ruling(1, 1))));
        assert!(rulings.hear(Generation(1), &name(0), Some(ruling(1, 2))));
        assert!(rulings.hear(Generation(1), &name(7), None));
        assert!(rulings.takes(&name(RULINGS_MAX)));
        assert!(rulings.hear(Generation(1), &name(RULINGS_MAX), Some(ruling(1, 1))));
        assert_eq!(rulings.bytes(), RULINGS_MAX * (4 + 2));
        assert!(!rulings.said.contains_key(&name(7)));
    }
}
