//! What the server API has last said of somebody's permission in a room. It goes where the room goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use crate::{Generation, Identity, NodeId};

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
    /// The highest generation under which somebody has said so, and all the homes of that number that have.
    under: Generation,
    by: BTreeSet<NodeId>,
    /// `None`: the stay that it was for is over. Kept, since an older home may not have heard of that.
    ruling: Option<Ruling>,
}

/// The rulings of one room, by what its homes say.
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

    /// All that count, by identity, each with the generation under which `home` has said so: 0 when only others have.
    pub fn said_by(&self, home: &NodeId) -> impl Iterator<Item = (&Identity, &Ruling, Generation)> {
        self.said.iter().filter_map(|(identity, said)| {
            let under = if said.by.contains(home) { said.under } else { Generation(0) };
            Some((identity, said.ruling.as_ref()?, under))
        })
    }

    /// Identities and permissions, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The home at `by` says `under` its generation which ruling counts for `identity`, or that none does any more, since the
    /// stay that it was for is over. Returns whether it has changed what counts: an older ruling never replaces a newer one,
    /// and beyond [`RULINGS_MAX`] none is kept; a stay is ended by the homes that had it last, all of them, or by a later one;
    /// and nothing that an earlier home still holds brings back what has ended.
    pub fn hear(
        &mut self,
        (under, by): (Generation, &NodeId),
        identity: &Identity,
        ruling: Option<Ruling>,
    ) -> bool {
        let Some(said) = self.said.get_mut(identity) else {
            let news = ruling.is_some();
            return self.insert((under, by), identity, ruling) && news;
        };
        let counts = match (&said.ruling, &ruling) {
            (Some(before), Some(ruling)) => ruling > before,
            (None, Some(_)) => under >= said.under,
            (Some(_), None) if under == said.under => said.by.remove(by) && said.by.is_empty(),
            (Some(_), None) => under > said.under,
            (None, None) => false,
        };
        if counts && ruling != said.ruling || under > said.under && ruling == said.ruling {
            (said.under, said.by) = (under.max(said.under), BTreeSet::from([by.clone()]));
        } else if under == said.under && ruling == said.ruling {
            said.by.insert(by.clone());
        }
        if counts {
            self.bytes -= said.ruling.as_ref().map_or(0, |before| before.permission.len());
            self.bytes += ruling.as_ref().map_or(0, |ruling| ruling.permission.len());
            said.ruling = ruling;
        }
        counts
    }

    /// `node` has lost the room: what it said still counts, and is no longer its to end, nor that of another process of its.
    pub fn orphan(&mut self, node: &NodeId) {
        for said in self.said.values_mut() {
            said.by.remove(node);
        }
    }

    /// The room goes on, or begins anew, under a lower number than what was said before: whoever gave it that knew of none
    /// of it. What counts goes on counting, and is not for its homes to end that have not said it; what ended is forgotten.
    pub fn lower(&mut self, under: Generation) {
        self.said.retain(|identity, said| {
            let ended = said.under > under && said.ruling.is_none();
            if ended {
                self.bytes -= identity.as_str().len();
            } else if said.under > under {
                said.under = under;
                said.by.clear();
            }
            !ended
        });
    }

    /// That the stay of `identity` is over is not known any more: whoever says that it is not is believed.
    pub fn forget_end(&mut self, identity: &Identity) {
        if self.said.get(identity).is_some_and(|said| said.ruling.is_none()) {
            self.said.remove(identity);
            self.bytes -= identity.as_str().len();
        }
    }

    /// The home at `by` has named every ruling that it holds, `named`: the stays of others that it had last are over.
    pub fn retain(
        &mut self,
        (under, by): (Generation, &NodeId),
        named: impl Fn(&Identity) -> bool,
    ) {
        // What only other homes have said is not theirs to end: they may not have seen who it is about.
        let over = |said: &Said| said.under == under && said.ruling.is_some();
        let over = self.said.iter().filter(|(identity, said)| over(said) && !named(identity));
        for identity in over.map(|(identity, _)| identity.clone()).collect::<Vec<_>>() {
            self.hear((under, by), &identity, None);
        }
    }

    fn insert(
        &mut self,
        (under, by): (Generation, &NodeId),
        identity: &Identity,
        ruling: Option<Ruling>,
    ) -> bool {
        if self.said.len() >= RULINGS_MAX {
            let mut ended = self.said.iter().filter(|(_, said)| said.ruling.is_none());
            let Some(ended) = ended.next().map(|(ended, _)| ended.clone()) else { return false };
            self.said.remove(&ended);
            self.bytes -= ended.as_str().len();
        }
        self.bytes += identity.as_str().len();
        self.bytes += ruling.as_ref().map_or(0, |ruling| ruling.permission.len());
        let by = BTreeSet::from([by.clone()]);
        self.said.insert(identity.clone(), Said { under, by, ruling });
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

    fn all(rulings: &Rulings) -> Vec<&str> {
        rulings.said_by(&"".into()).map(|(identity, ..)| identity.as_str()).collect()
    }

    /// Each generation has a node of its own.
    fn hear(
        rulings: &mut Rulings,
        under: u64,
        identity: &Identity,
        ruling: Option<Ruling>,
    ) -> bool {
        let by = format!("node {under}").into();
        rulings.hear((Generation(under), &by), identity, ruling)
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
                hear(&mut rulings, under % 3, &ann, Some(all[at].clone()));
            }
            assert_eq!(heard(&rulings), Some((2, 1)), "{order:?}");
        }
    }

    #[test]
    fn a_stay_is_ended_by_the_home_that_counts_and_an_older_one_does_not_bring_it_back() {
        let (mut rulings, ann) = (Rulings::default(), Identity::from("ann"));
        assert!(hear(&mut rulings, 1, &ann, Some(ruling(1, 1))));
        assert!(!hear(&mut rulings, 2, &ann, Some(ruling(1, 1))), "the new home has it too");
        assert!(!hear(&mut rulings, 1, &ann, None));
        assert_eq!(heard(&rulings), Some((1, 1)));
        assert!(hear(&mut rulings, 2, &ann, None));
        assert!(!hear(&mut rulings, 1, &ann, Some(ruling(1, 9))));
        assert_eq!((heard(&rulings), all(&rulings).len()), (None, 0));
        assert!(hear(&mut rulings, 2, &ann, Some(ruling(2, 1))), "another stay");
        assert_eq!(heard(&rulings), Some((2, 1)));
        // Two homes of one number: who went on to the second has not left with the first.
        let names = ["here", "there"].map(NodeId::from);
        let [here, there] = [0, 1].map(|at| (Generation(3), &names[at]));
        assert!(!rulings.hear(here, &ann, Some(ruling(2, 1))));
        assert!(!rulings.hear(there, &ann, Some(ruling(2, 1))));
        assert!(!rulings.hear(here, &ann, None) && rulings.hear(there, &ann, None));
        // Nor who is still at the first when the second finds that they are not there.
        assert!(rulings.hear(here, &ann, Some(ruling(3, 1))));
        assert!(!rulings.hear(there, &ann, Some(ruling(3, 1))));
        assert!(!rulings.hear(there, &ann, None) && !rulings.hear(there, &ann, None));
        assert_eq!(heard(&rulings), Some((3, 1)));
        assert!(rulings.hear(here, &ann, None));
        // Somebody of whom nothing was heard before.
        let bob = Identity::from("bob");
        assert!(!hear(&mut rulings, 2, &bob, None));
        assert!(!hear(&mut rulings, 1, &bob, Some(ruling(1, 1))));
    }

    #[test]
    fn what_a_home_does_not_name_again_is_over_and_what_others_said_is_not() {
        let mut rulings = Rulings::default();
        let names = ["gone", "here", "elsewhere"];
        for (under, name) in [2, 2, 1].into_iter().zip(names) {
            hear(&mut rulings, under, &name.into(), Some(ruling(1, 1)));
        }
        rulings.retain((Generation(2), &"another".into()), |_| false);
        assert_eq!(all(&rulings).len(), 3, "a home of the same number");
        rulings.retain((Generation(2), &"node 2".into()), |who| who.as_str() == "here");
        let left = all(&rulings);
        assert_eq!(left, ["elsewhere", "here"]);
        // Another process of the same name, under the same number, was told of nobody.
        rulings.orphan(&"node 2".into());
        rulings.retain((Generation(2), &"node 2".into()), |_| false);
        assert_eq!(all(&rulings).len(), 2);
        hear(&mut rulings, 2, &"here".into(), Some(ruling(1, 1)));
        rulings.retain((Generation(2), &"node 2".into()), |_| false);
        assert_eq!(all(&rulings).len(), 1);
    }

    #[test]
    fn a_room_that_begins_anew_under_a_lower_number_is_heard() {
        let (mut rulings, ann, bob) = (Rulings::default(), "ann".into(), "bob".into());
        for identity in [&ann, &bob] {
            hear(&mut rulings, 4, identity, Some(ruling(4, 2)));
        }
        assert!(hear(&mut rulings, 4, &ann, None));
        assert!(!hear(&mut rulings, 1, &ann, Some(ruling(1, 1))));
        rulings.lower(Generation(1));
        assert!(hear(&mut rulings, 1, &ann, Some(ruling(1, 1))));
        assert_eq!((heard(&rulings), rulings.bytes()), (Some((1, 1)), 10));
        // What holds is not ended by who has not said it.
        assert!(!hear(&mut rulings, 1, &bob, None) && rulings.get(&bob).is_some());
        assert!(!hear(&mut rulings, 1, &bob, Some(ruling(4, 2))));
        assert!(hear(&mut rulings, 1, &bob, None));
        rulings.forget_end(&ann);
        assert_eq!(heard(&rulings), Some((1, 1)));
        rulings.forget_end(&bob);
        assert_eq!(rulings.bytes(), 5);
        assert!(
            !hear(&mut rulings, 0, &bob, None) && hear(&mut rulings, 0, &bob, Some(ruling(1, 1)))
        );
    }

    #[test]
    fn rulings_are_bounded_and_those_that_are_over_go_first() {
        let mut rulings = Rulings::default();
        let name = |n: usize| Identity::from(format!("{n:04}"));
        for n in 0..RULINGS_MAX {
            assert!(hear(&mut rulings, 1, &name(n), Some(ruling(1, 1))));
        }
        assert_eq!(rulings.bytes(), RULINGS_MAX * (4 + 2));
        assert!(!hear(&mut rulings, 1, &name(RULINGS_MAX), Some(ruling(1, 1))));
        assert!(hear(&mut rulings, 1, &name(0), Some(ruling(1, 2))));
        assert!(hear(&mut rulings, 1, &name(7), None));
        assert!(hear(&mut rulings, 1, &name(RULINGS_MAX), Some(ruling(1, 1))));
        assert_eq!(rulings.bytes(), RULINGS_MAX * (4 + 2));
        assert!(!rulings.said.contains_key(&name(7)));
    }
}
