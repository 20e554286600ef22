//! What chance does to a packet: a function of the seed, the link, the packet's number on it and the link's shape. Nothing
//! is remembered from packet to packet, bursts included, so that the fate of one can be told without the others.

use std::{hash::Hasher as _, time::Duration};

use siphasher::sip::SipHasher13;

use crate::shape::{Burst, Shape};

/// How far back a burst's beginning is looked for. A channel that has neither turned bad nor good within so many packets
/// counts as good.
const LOOK_BACK_MAX: u64 = 4096;

/// One direction between two sites or two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(
    /// Whatever tells the lab's links apart; it is only hashed.
    pub u64,
);

/// What chance has for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Why it never arrives, if so.
    pub lost: Option<Loss>,
    /// To be added to the link's delay.
    pub jitter: Duration,
    /// It arrives twice.
    pub duplicated: bool,
    /// It is held back, and so overtaken by what was sent after it.
    pub held: bool,
}

/// Which of the two losses took a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Its own bad luck.
    Alone,
    /// The channel was bad.
    InBurst,
}

/// What is drawn for a packet. Each has draws of its own: more loss must not change who is duplicated.
#[derive(Clone, Copy)]
enum Draw {
    Loss = 0,
    Channel = 1,
    LossInBurst = 2,
    Jitter = 3,
    Duplicate = 4,
    Reorder = 5,
}

/// The fate of packet `number` (from 0) of `link`.
#[must_use]
pub fn fate(seed: u64, link: LinkId, number: u64, shape: &Shape) -> Fate {
    let happens = |what: Draw, probability: f64| {
        probability > 0.0 && unit(seed, link, number, what) < probability
    };
    let lost = if happens(Draw::Loss, shape.loss) {
        Some(Loss::Alone)
    } else {
        let in_burst = shape.burst.is_some_and(|burst| {
            is_bad(seed, link, number, burst) && happens(Draw::LossInBurst, burst.loss)
        });
        in_burst.then_some(Loss::InBurst)
    };
    let jitter = match shape.jitter {
        Duration::ZERO => Duration::ZERO,
        most => most.mul_f64(unit(seed, link, number, Draw::Jitter)),
    };
    Fate {
        lost,
        jitter,
        duplicated: happens(Draw::Duplicate, shape.duplicate),
        held: happens(Draw::Reorder, shape.reorder),
    }
}

/// Whether the channel is bad at packet `number`.
///
/// A draw below `start` leaves it bad and one from `1 - end` on leaves it good, whatever it was before; any other changes
/// nothing. So the last draw of either kind tells, and the chain needs no memory.
fn is_bad(seed: u64, link: LinkId, number: u64, burst: Burst) -> bool {
    let earliest = number.saturating_sub(LOOK_BACK_MAX);
    for at in (earliest..=number).rev() {
        let draw = unit(seed, link, at, Draw::Channel);
        if draw < burst.start {
            return true;
        }
        if draw >= 1.0 - burst.end {
            return false;
        }
    }
    false
}

/// Uniform from 0 up to but not 1.
fn unit(seed: u64, link: LinkId, number: u64, what: Draw) -> f64 {
    let mut hasher = SipHasher13::new_with_keys(seed, link.0);
    hasher.write_u64(number);
    hasher.write_u64(what as u64);
    // The 53 bits that a float holds exactly.
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINK: LinkId = LinkId(0x0100_0200);
    const PACKETS: u64 = 100_000;

    fn share(shape: &Shape, happened: impl Fn(Fate) -> bool) -> f64 {
        let count = (0..PACKETS).filter(|&number| happened(fate(7, LINK, number, shape))).count();
        count as f64 / PACKETS as f64
    }

    #[test]
    fn chance_has_the_asked_for_share() {
        let shape = Shape { loss: 0.05, duplicate: 0.02, reorder: 0.3, ..Shape::default() };
        for (got, asked) in [
            (share(&shape, |fate| fate.lost == Some(Loss::Alone)), 0.05),
            (share(&shape, |fate| fate.duplicated), 0.02),
            (share(&shape, |fate| fate.held), 0.3),
        ] {
            // Five standard deviations of the binomial at this many packets.
            let spread = 5.0 * (asked * (1.0 - asked) / PACKETS as f64).sqrt();
            assert!((got - asked).abs() < spread, "{got} instead of {asked}");
        }
    }

    #[test]
    fn one_misfortune_says_nothing_of_another() {
        let shape = Shape { loss: 0.5, duplicate: 0.5, reorder: 0.5, ..Shape::default() };
        for both in [
            share(&shape, |fate| fate.lost.is_some() && fate.duplicated),
            share(&shape, |fate| fate.lost.is_some() && fate.held),
            share(&shape, |fate| fate.duplicated && fate.held),
        ] {
            assert!((both - 0.25).abs() < 0.01, "{both}");
        }
    }

    #[test]
    fn bursts_have_the_share_and_the_length_of_gilbert_and_elliott() {
        let burst = Burst { start: 0.01, end: 0.19, loss: 1.0 };
        let shape = Shape { burst: Some(burst), ..Shape::default() };
        let lost: Vec<bool> =
            (0..PACKETS).map(|number| fate(7, LINK, number, &shape).lost.is_some()).collect();
        let count = lost.iter().filter(|lost| **lost).count() as f64;
        let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
        assert!((count / PACKETS as f64 - 0.05).abs() < 0.01, "{count}");
        assert!((count / bursts - 1.0 / 0.19).abs() < 0.5, "{} packets", count / bursts);
    }

    #[test]
    fn jitter_fills_its_range() {
        let shape = Shape { jitter: Duration::from_millis(10), ..Shape::default() };
        let drawn: Vec<Duration> = (0..1000).map(|n| fate(7, LINK, n, &shape).jitter).collect();
        assert!(drawn.iter().all(|jitter| *jitter < shape.jitter));
        assert!(drawn.iter().max() > Some(&Duration::from_micros(9_900)));
        assert!(drawn.iter().min() < Some(&Duration::from_micros(100)));
    }

    #[test]
    fn directions_and_seeds_have_fates_of_their_own() {
        let shape = Shape { loss: 0.5, ..Shape::default() };
        let row = |seed, link| -> Vec<Fate> {
            (0..64).map(|number| fate(seed, link, number, &shape)).collect()
        };
        assert_ne!(row(1, LINK), row(2, LINK));
        assert_ne!(row(1, LINK), row(1, LinkId(LINK.0 + 1)));
        assert_eq!(row(1, LINK), row(1, LINK));
    }

    fn any_shape() -> impl Strategy<Value = Shape> {
        let burst = proptest::option::of((0.0..0.5, 0.0..0.5, 0.0..=1.0));
        (0.0..=1.0, burst, 0.0..=1.0, 0.0..=1.0, 0u64..1000).prop_map(
            |(loss, burst, duplicate, reorder, jitter)| Shape {
                loss,
                burst: burst.map(|(start, end, loss)| Burst { start, end, loss }),
                duplicate,
                reorder,
                jitter: Duration::from_millis(jitter),
                ..Shape::default()
            },
        )
    }

    proptest! {
        #[test]
        fn the_same_packet_has_the_same_fate_in_any_order(
            shape in any_shape(), seed: u64, link: u64, from in 0u64..1 << 40,
        ) {
            let one = |number| fate(seed, LinkId(link), number, &shape);
            let forth: Vec<Fate> = (from..from + 32).map(one).collect();
            let mut back: Vec<Fate> = (from..from + 32).rev().map(one).collect();
            back.reverse();
            prop_assert_eq!(forth, back);
        }

        /// The chain by its definition, step by step, is what the look back tells.
        #[test]
        fn looking_back_tells_what_the_chain_would(seed: u64, start in 0.0..0.5, end in 0.05..0.5) {
            let burst = Burst { start, end, loss: 1.0 };
            let mut bad = false;
            for number in 0..500 {
                let draw = unit(seed, LINK, number, Draw::Channel);
                bad = if bad { draw < 1.0 - end } else { draw < start };
                prop_assert_eq!(is_bad(seed, LINK, number, burst), bad, "packet {}", number);
            }
        }

        #[test]
        fn more_loss_takes_no_packet_back(seed: u64, number: u64, loss in 0.0..1.0, more in 0.0..1.0) {
            let (few, many) = if loss < more { (loss, more) } else { (more, loss) };
            let lost = |loss| {
                fate(seed, LINK, number, &Shape { loss, ..Shape::default() }).lost.is_some()
            };
            prop_assert!(!lost(few) || lost(many));
        }

        #[test]
        fn nothing_happens_on_a_wire(seed: u64, link: u64, number: u64) {
            let fate = fate(seed, LinkId(link), number, &Shape::default());
            let nothing = Fate { lost: None, jitter: Duration::ZERO, duplicated: false, held: false };
            prop_assert_eq!(fate, nothing);
        }
    }
}
