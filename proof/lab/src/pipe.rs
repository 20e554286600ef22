//! One direction of a link: numbers its packets, lets chance have them, makes them wait for the rate, and tells when each
//! arrives.

use std::time::Duration;

use crate::{
    counters::Counters,
    fate::{Fate, LinkId, Loss, fate},
    shape::Shape,
};

/// Bytes that one direction has under way at most: a gigabit for half a second.
pub(crate) const UNDER_WAY_MAX: usize = 64 << 20;

/// When a packet arrives. Times are since the lab came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) at: Duration,
    /// It arrives twice.
    pub(crate) twice: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Pipe {
    id: LinkId,
    pub(crate) shape: Shape,
    pub(crate) counters: Counters,
    /// The number of the next packet.
    next: u64,
    /// When the rate has let everything pass that came so far.
    free_at: Duration,
    /// When the last packet arrives that kept its place.
    last: Duration,
    under_way: usize,
}

impl Pipe {
    pub(crate) fn new(id: LinkId, shape: Shape) -> Self {
        Pipe {
            id,
            shape,
            counters: Counters::default(),
            next: 0,
            free_at: Duration::ZERO,
            last: Duration::ZERO,
            under_way: 0,
        }
    }

    /// Takes a packet of so many bytes; nothing when it is dropped.
    pub(crate) fn take(&mut self, seed: u64, now: Duration, bytes: usize) -> Option<Passage> {
        let Fate { lost, jitter, duplicated, held } = fate(seed, self.id, self.next, &self.shape);
        self.next += 1;
        match lost {
            Some(Loss::Alone) => self.counters.lost += 1,
            Some(Loss::InBurst) => self.counters.lost_in_burst += 1,
            None => {}
        }
        let weight = if duplicated { 2 * bytes } else { bytes };
        if lost.is_some() || !self.has_room(now, weight) {
            return None;
        }
        self.counters.duplicated += u64::from(duplicated);
        self.counters.held += u64::from(held);
        let sent = self.transmit(now, bytes);
        let mut at = sent + self.shape.delay + jitter;
        if held {
            at += self.shape.reorder_by;
        } else if !self.shape.overtaking {
            at = at.max(self.last);
            self.last = at;
        }
        Some(Passage { at, twice: duplicated })
    }

    /// One copy left the link, delivered or not.
    pub(crate) fn leave(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes);
    }

    /// Whether the packet need not be dropped; then its bytes are under way.
    fn has_room(&mut self, now: Duration, weight: usize) -> bool {
        let waits = self.free_at.saturating_sub(now);
        if self.shape.rate.is_some() && waits > self.shape.queue {
            self.counters.queue_full += 1;
            return false;
        }
        if self.under_way + weight > UNDER_WAY_MAX {
            self.counters.overflow += 1;
            return false;
        }
        self.under_way += weight;
        true
    }

    /// When the packet's last bit is on the line. The duplicate costs no line: it is made behind it.
    fn transmit(&mut self, now: Duration, bytes: usize) -> Duration {
        let Some(rate) = self.shape.rate else {
            self.free_at = now;
            return now;
        };
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        self.free_at = self.free_at.max(now) + takes;
        self.free_at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shape::RATE_MIN;

    const SEED: u64 = 3;
    const PACKET: usize = 1250; // 10,000 bits

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn pipe(shape: Shape) -> Pipe {
        Pipe::new(LinkId(1), shape)
    }

    /// Arrivals of packets that are sent one each millisecond.
    fn arrivals(pipe: &mut Pipe, packets: u64) -> Vec<Duration> {
        let took = (0..packets).filter_map(|at| pipe.take(SEED, ms(at), PACKET));
        took.map(|passage| passage.at).collect()
    }

    #[test]
    fn a_packet_arrives_after_the_delay() {
        assert_eq!(arrivals(&mut pipe(Shape::one_way_ms(40.0)), 3), [ms(40), ms(41), ms(42)]);
    }

    #[test]
    fn the_rate_spaces_packets_and_the_queue_ends() {
        // 10,000 bits each millisecond through 1 Mbit/s: each takes 10 ms.
        let shape = Shape { rate: Some(1_000_000), queue: ms(25), ..Shape::one_way_ms(5.0) };
        let mut pipe = pipe(shape);
        assert_eq!(arrivals(&mut pipe, 10), [ms(15), ms(25), ms(35), ms(45)]);
        // The fifth, at 5 ms, would wait for 35 ms, and the last, at 9 ms, for 31.
        assert_eq!(pipe.counters.queue_full, 6);
        // At 16 ms, 24 ms of backlog are left.
        assert_eq!(pipe.take(SEED, ms(16), PACKET), Some(Passage { at: ms(55), twice: false }));
    }

    #[test]
    fn jitter_reorders_only_where_it_may() {
        let shape = Shape { jitter: ms(20), ..Shape::one_way_ms(40.0) };
        let kept = arrivals(&mut pipe(shape), 100);
        assert!(kept.is_sorted());
        let free = arrivals(&mut pipe(Shape { overtaking: true, ..shape }), 100);
        assert!(!free.is_sorted());
        assert!(free.iter().zip(&kept).all(|(free, kept)| free <= kept));
    }

    #[test]
    fn a_packet_that_is_held_back_holds_nobody_else_up() {
        let shape = Shape { reorder: 0.1, reorder_by: ms(7), ..Shape::one_way_ms(40.0) };
        let mut pipe = pipe(shape);
        let late = arrivals(&mut pipe, 200);
        let late = late.iter().zip(0..).filter(|(at, sent)| **at == ms(40 + 7 + sent)).count();
        assert!(late > 5, "{late}");
        assert_eq!(pipe.counters.held, late as u64);
    }

    #[test]
    fn what_is_under_way_is_bounded() {
        let mut pipe = pipe(Shape::one_way_ms(1000.0));
        let packets = UNDER_WAY_MAX / PACKET;
        for _ in 0..packets {
            assert!(pipe.take(SEED, ms(0), PACKET).is_some());
        }
        assert_eq!(pipe.take(SEED, ms(0), PACKET), None);
        assert_eq!(pipe.counters.overflow, 1);
        pipe.leave(PACKET);
        assert!(pipe.take(SEED, ms(0), PACKET).is_some());
    }

    proptest! {
        /// Whatever the shape: nothing arrives before its delay, and nothing overtakes unless it may.
        #[test]
        fn no_packet_is_early(
            delay in 0u64..1000, jitter in 0u64..100, rate in proptest::option::of(RATE_MIN..10_000_000),
            gaps in proptest::collection::vec(0u64..20, 1..100), overtaking: bool, loss in 0.0..1.0,
        ) {
            let shape = Shape {
                delay: ms(delay), jitter: ms(jitter), rate, overtaking, loss, ..Shape::default()
            };
            let mut pipe = pipe(shape);
            let (mut now, mut last) = (Duration::ZERO, Duration::ZERO);
            for gap in &gaps {
                now += ms(*gap);
                let Some(Passage { at, .. }) = pipe.take(SEED, now, PACKET) else { continue };
                prop_assert!(at >= now + ms(delay));
                let takes = rate.map_or(0.0, |rate| PACKET as f64 * 8.0 / rate as f64);
                let latest = now + shape.queue + Duration::from_secs_f64(takes) + ms(delay + jitter);
                prop_assert!(at <= latest.max(last), "{:?} after {:?}", at, latest);
                prop_assert!(overtaking || at >= last);
                last = at.max(last);
            }
            prop_assert_eq!(pipe.counters.lost + pipe.counters.queue_full, gaps.len() as u64 - pipe.under_way as u64 / PACKET as u64);
        }
    }
}
