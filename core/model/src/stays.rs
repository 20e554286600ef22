//! The rulings of a room at its home. One holds for the stay of its identity, whatever token that joins with: until it leaves,
//! is removed, or does not come back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{Generation, Identity, RULINGS_MAX, Ruling, RulingVersion, Time};

/// How long a ruling waits for somebody who is away without having left: longer than any SDK tries to come back.
pub const AWAY_KEPT: Duration = Duration::from_secs(60);

/// What the home of a room holds of rulings.
#[derive(Clone, Debug, Default)]
pub struct Stays {
    rulings: BTreeMap<Identity, Ruling>,
    /// Of all that the room has heard of, of whomever, in tokens too: the next one is above it, and so above the tokens of
    /// stays that are over.
    highest: RulingVersion,
    /// Since when nobody is here whom the ruling is about.
    away: BTreeMap<Identity, Time>,
}

impl Stays {
    /// All rulings of the room, by identity.
    pub fn rulings(&self) -> impl Iterator<Item = (&Identity, &Ruling)> {
        self.rulings.iter()
    }

    /// Whether there is space for a ruling of `identity`: not beyond [`RULINGS_MAX`].
    pub fn takes(&self, identity: &Identity) -> bool {
        self.rulings.len() < RULINGS_MAX || self.rulings.contains_key(identity)
    }

    /// Makes a ruling of somebody who is here, in a room of `generation`. The caller has asked [`Stays::takes`].
    pub fn rule(
        &mut self,
        generation: Generation,
        identity: &Identity,
        permission: Arc<[u8]>,
    ) -> Ruling {
        self.highest = self.highest.next(generation);
        let ruling = Ruling { version: self.highest, permission };
        self.rulings.insert(identity.clone(), ruling.clone());
        ruling
    }

    /// What counts for somebody who joins: the newest of what its token carries, what the gateway has sent along, and what is
    /// held here; and whether that is news to be kept. `None` when nobody has ever ruled.
    pub fn inherit(
        &mut self,
        identity: &Identity,
        in_token: Option<Ruling>,
        sent: Option<Ruling>,
    ) -> Option<(Ruling, bool)> {
        let held = self.rulings.get(identity).cloned();
        let newest = [in_token, sent, held].into_iter().flatten().max_by_key(|r| r.version)?;
        self.highest = self.highest.max(newest.version);
        let news = self.rulings.get(identity) != Some(&newest) && self.takes(identity);
        if news {
            self.rulings.insert(identity.clone(), newest.clone());
        }
        Some((newest, news))
    }

    /// A stay is over. Returns whether there was a ruling for it.
    pub fn end(&mut self, identity: &Identity) -> bool {
        self.away.remove(identity);
        self.rulings.remove(identity).is_some()
    }

    /// The room counts here again, after it has been elsewhere: whoever is away from here may come from there, and has a
    /// whole [`AWAY_KEPT`] for that.
    pub fn wait_anew(&mut self) {
        self.away.clear();
    }

    /// Whose stay is over because it has been away for [`AWAY_KEPT`]; to be asked now and then.
    pub fn overdue(&mut self, now: Time, is_here: impl Fn(&Identity) -> bool) -> Vec<Identity> {
        let away: Vec<_> =
            self.rulings.keys().filter(|identity| !is_here(identity)).cloned().collect();
        self.away.retain(|identity, _| !is_here(identity));
        let mut overdue = Vec::new();
        for identity in away {
            let since = *self.away.entry(identity.clone()).or_insert(now);
            if now.since(since) >= AWAY_KEPT {
                overdue.push(identity);
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ruled_next_is_above_the_tokens_of_stays_that_are_over() {
        let (mut stays, ann) = (Stays::default(), Identity::from("ann"));
        let generation = Generation(2);
        let first = stays.rule(generation, &ann, [1].into());
        assert!(stays.end(&ann) && !stays.end(&ann));
        assert_eq!(stays.inherit(&ann, None, None), None);
        let second = stays.rule(generation, &"bob".into(), [2].into());
        assert!(second.version > first.version);
        let back = stays.inherit(&ann, Some(first.clone()), None);
        assert_eq!(back, Some((first, true)));
    }

    #[test]
    fn who_is_away_for_a_minute_has_left() {
        let (mut stays, ann) = (Stays::default(), Identity::from("ann"));
        let second = |second: u64| Time::from_millis(second * 1_000);
        stays.rule(Generation(1), &ann, [1].into());
        let overdue = |stays: &mut Stays, at, here| stays.overdue(second(at), |_| here).len();
        assert_eq!(overdue(&mut stays, 0, true), 0);
        assert_eq!(overdue(&mut stays, 10, false), 0);
        assert_eq!(overdue(&mut stays, 69, false), 0);
        assert_eq!(overdue(&mut stays, 70, true), 0, "just back");
        assert_eq!(overdue(&mut stays, 80, false), 0);
        stays.wait_anew();
        assert_eq!(overdue(&mut stays, 140, false), 0);
        assert_eq!(overdue(&mut stays, 200, false), 1);
        assert!(stays.end(&ann));
        assert_eq!(overdue(&mut stays, 300, false), 0);
    }
}
