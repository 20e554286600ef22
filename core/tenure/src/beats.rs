//! The gateways as the node knows them: who has heard which beat, and what each must get back.

use std::time::Duration;

use outlast_model::{Epoch, GatewayId, Time};
use outlast_wire::{Echo, Echoed};

/// A gateway counts as heard for so long after its last echo: as long as it takes itself to give a node up.
pub const HEARD_SPAN: Duration = Duration::from_secs(2);

/// All configured gateways, by id.
#[derive(Clone, Debug)]
pub(crate) struct Gateways(Vec<Gateway>);

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
        Gateways(ids.into_iter().map(|id| Gateway { id, heard: None }).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For each gateway, the sequence number of `round`'s beat to it and the echo to give back.
    pub(crate) fn round(
        &self,
        now: Time,
        round: u64,
    ) -> impl Iterator<Item = (&GatewayId, u64, Option<Echoed>)> {
        let first = round * self.0.len() as u64;
        (first..).zip(&self.0).map(move |(sequence, gateway)| {
            let echoed = gateway.heard.map(|heard| Echoed {
                epoch: heard.epoch,
                stamp: heard.stamp,
                held: now.since(heard.at),
            });
            (&gateway.id, sequence, echoed)
        })
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
        let index = self.0.binary_search_by(|gateway| gateway.id.cmp(id)).ok()?;
        let count = self.0.len() as u64;
        let (round, to) = (echo.heard_sequence / count, echo.heard_sequence % count);
        if round == 0 || to != index as u64 {
            return None;
        }
        let sequence = echo.heard_sequence;
        let heard = &mut self.0[index].heard;
        // Overtaken on the way: what came first is newer.
        if heard.is_none_or(|newest| (newest.epoch, newest.sequence) < (epoch, sequence)) {
            *heard = Some(Heard { at: now, epoch, stamp: echo.stamp, sequence });
        }
        Some(round)
    }

    /// Gateways heard within [`HEARD_SPAN`].
    pub(crate) fn heard(&self, now: Time) -> usize {
        let heard = self.0.iter().filter_map(|gateway| gateway.heard);
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
        let numbers = |round| gateways.round(NOW, round).map(|(_, number, _)| number).collect();
        let (first, second): (Vec<_>, Vec<_>) = (numbers(1), numbers(2));
        assert_eq!((first, second), (vec![2, 3], vec![4, 5]));
        let mut hear = |id: &str, sequence| {
            gateways.hear(NOW, &id.into(), Epoch(9), &echo(sequence, sequence * 10))
        };
        assert_eq!((hear("a", 4), hear("b", 5), hear("b", 3)), (Some(2), Some(2), Some(1)));
        assert_eq!((hear("a", 5), hear("c", 4), hear("a", 0)), (None, None, None));
    }

    #[test]
    fn the_newest_echo_is_given_back() {
        let mut gateways = Gateways::new(vec!["a".into()]);
        let id = GatewayId::from("a");
        let later = NOW + Duration::from_millis(30);
        let back = |gateways: &Gateways| gateways.round(later, 9).next().unwrap().2;
        assert_eq!(back(&gateways), None);
        gateways.hear(NOW, &id, Epoch(9), &echo(5, 50));
        gateways.hear(later, &id, Epoch(9), &echo(4, 40));
        let held = Duration::from_millis(30);
        assert_eq!(back(&gateways), Some(Echoed { epoch: Epoch(9), stamp: 50, held }));
        gateways.hear(later, &id, Epoch(10), &echo(1, 7));
        let held = Duration::ZERO;
        assert_eq!(back(&gateways), Some(Echoed { epoch: Epoch(10), stamp: 7, held }));
        assert_eq!(gateways.heard(later + HEARD_SPAN), 1);
        assert_eq!(gateways.heard(later + HEARD_SPAN + Duration::from_nanos(1)), 0);
    }
}
