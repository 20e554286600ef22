//! The gateways as the node knows them: who has heard which beat, and what each must get back.

use std::time::Duration;

use outlast_model::{Epoch, GatewayId, Time};
use outlast_wire::{Echo, Echoed};

/// A gateway counts as heard for so long after its last echo: as long as it takes itself to give a node up.
pub const HEARD_SPAN: Duration = Duration::from_secs(2);
/// Most probes answered between two rounds of beats: each answer needs a number of its own before the next round's. Who gets
/// none takes that for a no.
pub(crate) const ANSWERS_MAX: u64 = 256;

/// All configured gateways, and the numbers of what is sent to them: those of a round's beats, by the gateways' order, then
/// those of the answers until the next round.
#[derive(Clone, Debug)]
pub(crate) struct Gateways {
    /// By id.
    known: Vec<Gateway>,
    round: u64,
    /// Since the last round.
    answers: u64,
}

#[derive(Clone, Debug)]
struct Gateway {
    id: GatewayId,
    heard: Option<Heard>,
}

/// A gateway's newest echo.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Time,
    epoch: Epoch,
    stamp: u64,
    sequence: u64,
}

impl Gateways {
    pub(crate) fn new(mut ids: Vec<GatewayId>) -> Gateways {
        ids.sort();
        ids.dedup();
        let known = ids.into_iter().map(|id| Gateway { id, heard: None }).collect();
        Gateways { known, round: 0, answers: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Numbers of one round.
    fn stride(&self) -> u64 {
        self.known.len() as u64 + ANSWERS_MAX
    }

    /// For each gateway, the sequence number of `round`'s beat to it and the echo to give back.
    pub(crate) fn round(
        &mut self,
        now: Time,
        round: u64,
    ) -> impl Iterator<Item = (&GatewayId, u64, Option<Echoed>)> {
        (self.round, self.answers) = (round, 0);
        let first = round * self.stride();
        (first..).zip(&self.known).map(move |(sequence, gateway)| {
            let echoed = gateway.heard.map(|heard| Echoed {
                epoch: heard.epoch,
                stamp: heard.stamp,
                held: now.since(heard.at),
            });
            (&gateway.id, sequence, echoed)
        })
    }

    /// The number of an answer that goes out before the next round; `None` when there were too many since the last one.
    pub(crate) fn answer(&mut self) -> Option<u64> {
        let first = self.round * self.stride() + self.known.len() as u64;
        let number = (self.answers < ANSWERS_MAX).then_some(first + self.answers)?;
        self.answers += 1;
        Some(number)
    }

    /// Takes an echo to a beat of this start. Returns the round of the beat that it answers; `None` when no such beat went
    /// to this gateway.
    pub(crate) fn hear(
        &mut self,
        now: Time,
        id: &GatewayId,
        epoch: Epoch,
        echo: &Echo,
    ) -> Option<u64> {
        let index = self.known.binary_search_by(|gateway| gateway.id.cmp(id)).ok()?;
        let stride = self.stride();
        let (round, to) = (echo.heard_sequence / stride, echo.heard_sequence % stride);
        if round == 0 || to != index as u64 {
            return None;
        }
        let sequence = echo.heard_sequence;
        let heard = &mut self.known[index].heard;
        // Overtaken on the way: what came first is newer.
        if heard.is_none_or(|newest| (newest.epoch, newest.sequence) < (epoch, sequence)) {
            *heard = Some(Heard { at: now, epoch, stamp: echo.stamp, sequence });
        }
        Some(round)
    }

    /// Gateways heard within [`HEARD_SPAN`].
    pub(crate) fn heard(&self, now: Time) -> usize {
        let heard = self.known.iter().filter_map(|gateway| gateway.heard);
        heard.filter(|heard| now.since(heard.at) <= HEARD_SPAN).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1_000);

    fn echo(heard_sequence: u64, stamp: u64) -> Echo {
        Echo { heard_epoch: Epoch(1), heard_sequence, stamp }
    }

    #[test]
    fn every_beat_has_its_own_number_and_its_echo_says_which_it_was() {
        let mut gateways = Gateways::new(vec!["b".into(), "a".into(), "b".into()]);
        let mut numbers =
            |round| gateways.round(NOW, round).map(|(_, number, _)| number).collect::<Vec<_>>();
        let stride = 2 + ANSWERS_MAX;
        let (first, second) = (numbers(1), numbers(2));
        assert_eq!(
            (&first, &second),
            (&vec![stride, stride + 1], &vec![2 * stride, 2 * stride + 1])
        );
        let mut hear = |id: &str, sequence| {
            gateways.hear(NOW, &id.into(), Epoch(9), &echo(sequence, sequence * 10))
        };
        let heard = (hear("a", second[0]), hear("b", second[1]), hear("b", first[1]));
        assert_eq!(heard, (Some(2), Some(2), Some(1)));
        assert_eq!((hear("a", second[1]), hear("c", second[0]), hear("a", 0)), (None, None, None));
        assert_eq!(hear("a", second[1] + 1), None, "the number of an answer");
    }

    #[test]
    fn answers_have_numbers_between_two_rounds() {
        let mut gateways = Gateways::new(vec!["a".into(), "b".into()]);
        let last = gateways.round(NOW, 7).last().unwrap().1;
        let answers: Vec<u64> = std::iter::from_fn(|| gateways.answer()).collect();
        assert!(answers.is_sorted() && answers[0] > last);
        assert_eq!(answers.len() as u64, ANSWERS_MAX);
        let next = gateways.round(NOW, 8).next().unwrap().1;
        assert!(answers.last().is_some_and(|answer| *answer < next));
        assert!(gateways.answer().is_some_and(|answer| answer > next));
    }

    #[test]
    fn the_newest_echo_is_given_back() {
        let mut gateways = Gateways::new(vec!["a".into()]);
        let id = GatewayId::from("a");
        let later = NOW + Duration::from_millis(30);
        let back = |gateways: &mut Gateways| gateways.round(later, 9).next().unwrap().2;
        assert_eq!(back(&mut gateways), None);
        let stride = gateways.stride();
        gateways.hear(NOW, &id, Epoch(9), &echo(5 * stride, 50));
        gateways.hear(later, &id, Epoch(9), &echo(4 * stride, 40));
        let held = Duration::from_millis(30);
        assert_eq!(back(&mut gateways), Some(Echoed { epoch: Epoch(9), stamp: 50, held }));
        gateways.hear(later, &id, Epoch(10), &echo(stride, 7));
        let held = Duration::ZERO;
        assert_eq!(back(&mut gateways), Some(Echoed { epoch: Epoch(10), stamp: 7, held }));
        assert_eq!(gateways.heard(later + HEARD_SPAN), 1);
        assert_eq!(gateways.heard(later + HEARD_SPAN + Duration::from_nanos(1)), 0);
    }
}
