//! Cuts and black holes: which are there, and which packets they take.

use std::collections::BTreeSet;

use crate::atlas::{Atlas, Place};

/// What stands in a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wall {
    Cut,
    BlackHole,
}

/// All faults of a lab.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// From, to.
    cuts: BTreeSet<(Place, Place)>,
    holes: BTreeSet<Place>,
}

impl Faults {
    pub(crate) fn cut(&mut self, from: Place, to: Place) {
        self.cuts.insert((from, to));
    }

    pub(crate) fn black_hole(&mut self, place: Place) {
        self.holes.insert(place);
    }

    /// Lifts the cuts between `a` and `b`, and between anything in them, in either direction. Returns how many those were.
    pub(crate) fn heal(&mut self, atlas: &Atlas, a: Place, b: Place) -> usize {
        let before = self.cuts.len();
        let covers = |whole, part| atlas.covers(whole, part);
        self.cuts.retain(|&(from, to)| {
            !(covers(a, from) && covers(b, to) || covers(b, from) && covers(a, to))
        });
        before - self.cuts.len()
    }

    /// Lifts the black holes at `place` and in it. Returns how many those were.
    pub(crate) fn heal_black_hole(&mut self, atlas: &Atlas, place: Place) -> usize {
        let before = self.holes.len();
        self.holes.retain(|hole| !atlas.covers(place, *hole));
        before - self.holes.len()
    }

    pub(crate) fn heal_all(&mut self) -> usize {
        let healed = self.cuts.len() + self.holes.len();
        *self = Faults::default();
        healed
    }

    /// What stands between two hosts, in that direction. A site that is a black hole is one for the others only: within,
    /// everybody still hears everybody, as in a region whose lines are gone.
    pub(crate) fn wall(&self, atlas: &Atlas, from: usize, to: usize) -> Option<Wall> {
        let swallows = |hole: &Place| match hole {
            Place::Site(_) => atlas.holds(*hole, from) != atlas.holds(*hole, to),
            Place::Host(host) => *host == from || *host == to,
        };
        if self.holes.iter().any(swallows) {
            return Some(Wall::BlackHole);
        }
        let is_cut = self.cuts.iter().any(|(a, b)| atlas.holds(*a, from) && atlas.holds(*b, to));
        is_cut.then_some(Wall::Cut)
    }

    /// In the words in which they were ordered.
    pub(crate) fn describe(&self, atlas: &Atlas) -> Vec<String> {
        let cut = |(a, b): &(Place, Place)| format!("cut {} -> {}", atlas.name(*a), atlas.name(*b));
        let hole = |place: &Place| format!("black hole {}", atlas.name(*place));
        self.cuts.iter().map(cut).chain(self.holes.iter().map(hole)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    /// The pairs, out of these hosts, that cannot talk, as `from>to`.
    fn silent(faults: &Faults, atlas: &Atlas, names: &[&str]) -> String {
        let hosts: Vec<usize> = names.iter().map(|name| atlas.host(name).unwrap()).collect();
        let mut pairs = Vec::new();
        for (from, a) in names.iter().zip(&hosts) {
            for (to, b) in names.iter().zip(&hosts).filter(|(_, b)| *b != a) {
                pairs.extend(faults.wall(atlas, *a, *b).map(|_| format!("{from}>{to}")));
            }
        }
        pairs.join(" ")
    }

    #[test]
    fn faults_take_what_their_names_say() {
        let atlas = Atlas::of(&Plan::three_regions());
        let place = |name: &str| atlas.place(name).unwrap();
        let names = ["eu.db", "eu.node", "us.db", "near-eu"];
        let check = |faults: &Faults, expect: &str| {
            assert_eq!(silent(faults, &atlas, &names), expect);
        };
        let mut faults = Faults::default();
        check(&faults, "");
        faults.cut(place("eu"), place("us"));
        check(&faults, "eu.db>us.db eu.node>us.db");
        faults.cut(place("us.db"), place("eu.db"));
        check(&faults, "eu.db>us.db eu.node>us.db us.db>eu.db");
        assert_eq!(faults.describe(&atlas), ["cut eu -> us", "cut us.db -> eu.db"]);
        assert_eq!(faults.heal(&atlas, place("eu.db"), place("us.db")), 1);
        check(&faults, "eu.db>us.db eu.node>us.db");
        assert_eq!(faults.heal(&atlas, place("us"), place("eu")), 1);
        check(&faults, "");
        faults.black_hole(place("eu.node"));
        check(
            &faults,
            "eu.db>eu.node eu.node>eu.db eu.node>us.db eu.node>near-eu us.db>eu.node near-eu>eu.node",
        );
        assert_eq!(faults.heal_black_hole(&atlas, place("eu")), 1);
        faults.black_hole(place("us"));
        check(
            &faults,
            "eu.db>us.db eu.node>us.db us.db>eu.db us.db>eu.node us.db>near-eu near-eu>us.db",
        );
        assert_eq!(faults.heal_all(), 1);
        check(&faults, "");
    }

    #[test]
    fn a_region_without_lines_still_hears_itself() {
        let atlas = Atlas::of(&Plan::three_regions());
        let mut faults = Faults::default();
        faults.black_hole(atlas.place("eu").unwrap());
        assert_eq!(silent(&faults, &atlas, &["eu.db", "eu.node", "eu.client"]), "");
    }
}
