//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): what arrived,
//! told to the sender; and what a receiver tells us, read from hostile bytes.

use std::time::Duration;

use outlast_model::Time;

use crate::rtcp;
use crate::srtp::window::extend;

/// Most packets that one feedback speaks of: 2 bytes of delta each, and it must fit in one datagram.
const STATUSES_MAX: u64 = 480;
/// Most arrivals kept between two feedbacks; older ones give way.
const ARRIVALS_MAX: usize = 4_096;
/// Unit of a delta: 250 us.
const TICK_NANOS: u64 = 250_000;
/// Unit of the reference time: 64 ms.
const REFERENCE_TICKS: u64 = 256;

/// Arrival times of one peer's packets, until they are reported.
#[derive(Default)]
pub(crate) struct Recorder {
    /// Ascending by number.
    arrivals: Vec<(u64, Time)>,
    highest: Option<u64>,
    /// First number that no feedback has spoken of.
    next: Option<u64>,
    feedbacks: u8,
}

impl Recorder {
    /// Whether something waits to be reported.
    pub(crate) fn pending(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Notes that the packet with transport-wide number `number` arrived.
    pub(crate) fn record(&mut self, now: Time, number: u16) {
        let number = match self.highest {
            None => u64::from(number) + (1 << 16),
            Some(highest) => extend(highest, number),
        };
        self.highest = self.highest.max(Some(number));
        if self.arrivals.len() == ARRIVALS_MAX {
            self.arrivals.remove(0);
        }
        match self.arrivals.last() {
            Some((last, _)) if *last >= number => {
                if let Err(at) = self.arrivals.binary_search_by_key(&number, |(n, _)| *n) {
                    self.arrivals.insert(at, (number, now));
                }
            }
            _ => self.arrivals.push((number, now)),
        }
    }

    /// Appends one feedback packet and forgets what it says; call until [`Recorder::pending`] is false.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, sender: u32, media: u32) {
        let Some(&(first, first_at)) = self.arrivals.first() else { return };
        // Packets lost before the first arrival are reported too, once and not from too far back.
        let base = match self.next {
            Some(next) if next < first && first - next < STATUSES_MAX / 2 => next,
            _ => first,
        };
        let reference = first_at.as_nanos() / TICK_NANOS / REFERENCE_TICKS;
        let mut last = reference * REFERENCE_TICKS;
        let mut taken = 0;
        for &(number, at) in &self.arrivals {
            if number - base >= STATUSES_MAX || delta(last, at).is_none() {
                break;
            }
            last = at.as_nanos() / TICK_NANOS;
            taken += 1;
        }
        let end = self.arrivals[taken - 1].0 + 1;

        let start = rtcp::begin_twcc(out, sender, media);
        out.extend_from_slice(&(base as u16).to_be_bytes());
        out.extend_from_slice(&((end - base) as u16).to_be_bytes());
        out.extend_from_slice(&(reference as u32 & 0xff_ffff).to_be_bytes()[1..]);
        out.push(self.feedbacks);
        self.feedbacks = self.feedbacks.wrapping_add(1);

        write_chunks(out, &self.arrivals[..taken], base, end, reference * REFERENCE_TICKS);
        let mut last = reference * REFERENCE_TICKS;
        for &(_, at) in &self.arrivals[..taken] {
            let delta = delta(last, at).expect("checked above");
            match u8::try_from(delta) {
                Ok(small) => out.push(small),
                Err(_) => out.extend_from_slice(&delta.to_be_bytes()),
            }
            last = at.as_nanos() / TICK_NANOS;
        }
        out.resize(start + (out.len() - start).div_ceil(4) * 4, 0);
        rtcp::end(out, start);
        self.arrivals.drain(..taken);
        self.next = self.next.max(Some(end));
    }
}

/// Ticks from `last` to `at`; `None` when a feedback cannot express it.
fn delta(last: u64, at: Time) -> Option<i16> {
    let ticks = (at.as_nanos() / TICK_NANOS) as i64 - last as i64;
    i16::try_from(ticks).ok()
}

/// Two-bit vector chunks throughout, run lengths where they are shorter.
fn write_chunks(out: &mut Vec<u8>, arrivals: &[(u64, Time)], base: u64, end: u64, reference: u64) {
    let mut statuses = Statuses { arrivals, next: base, end, last: reference }.peekable();
    while let Some(&symbol) = statuses.peek() {
        let mut vector = 0_u16;
        let mut count = 0;
        let mut same = true;
        while count < 7 {
            let Some(next) = statuses.next() else { break };
            vector |= next << (12 - 2 * count);
            same &= next == symbol;
            count += 1;
        }
        if same {
            while count < 0x1fff && statuses.next_if_eq(&symbol).is_some() {
                count += 1;
            }
            out.extend_from_slice(&(symbol << 13 | count).to_be_bytes());
        } else {
            out.extend_from_slice(&(0xc000 | vector).to_be_bytes());
        }
    }
}

/// Iterates symbols: 0 lost, 1 small delta, 2 large or negative.
struct Statuses<'a> {
    arrivals: &'a [(u64, Time)],
    next: u64,
    end: u64,
    last: u64,
}

impl Iterator for Statuses<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.next == self.end {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let (&(arrived, at), rest) = self.arrivals.split_first()?;
        if arrived != number {
            return Some(0);
        }
        self.arrivals = rest;
        let delta = delta(self.last, at)?;
        self.last = at.as_nanos() / TICK_NANOS;
        Some(if u8::try_from(delta).is_ok() { 1 } else { 2 })
    }
}

/// A feedback packet as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feedback<'a> {
    base: u16,
    count: u16,
    /// 24 bits, in 64 ms, of the receiver's own clock.
    reference: u32,
    body: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Reads what follows the two SSRCs.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Feedback<'a>> {
        let (head, body) = body.split_first_chunk::<8>()?;
        Some(Feedback {
            base: u16::from_be_bytes([head[0], head[1]]),
            count: u16::from_be_bytes([head[2], head[3]]),
            reference: u32::from_be_bytes([0, head[4], head[5], head[6]]),
            body,
        })
    }

    /// Calls `each` with every number spoken of, and when it arrived on the receiver's clock; `None`: lost. Stops where
    /// the packet is cut short.
    pub(crate) fn for_each(self, mut each: impl FnMut(u16, Option<Duration>)) {
        let Some(deltas_at) = self.chunks_end() else { return };
        let (chunks, mut deltas) = self.body.split_at(deltas_at);
        let mut number = self.base;
        let mut ticks = i64::from(self.reference) * REFERENCE_TICKS as i64;
        let all = chunks.chunks_exact(2).flat_map(|chunk| {
            let chunk = u16::from_be_bytes([chunk[0], chunk[1]]);
            (0..symbols(chunk)).map(move |at| symbol(chunk, at))
        });
        for symbol in all.take(self.count.into()) {
            let Some(delta) = take_delta(symbol, &mut deltas) else { return };
            ticks += delta.unwrap_or(0);
            let here = Duration::from_nanos(ticks.max(0) as u64 * TICK_NANOS);
            each(number, delta.map(|_| here));
            number = number.wrapping_add(1);
        }
    }

    /// Where the chunks end and the deltas begin.
    fn chunks_end(&self) -> Option<usize> {
        let mut left = self.count;
        let mut at = 0;
        while left > 0 {
            let chunk = self.body.get(at..at + 2)?;
            let covers = symbols(u16::from_be_bytes([chunk[0], chunk[1]]));
            // An empty run would let a packet hold no progress.
            if covers == 0 {
                return None;
            }
            left -= covers.min(left);
            at += 2;
        }
        Some(at)
    }
}

/// The delta that goes with a symbol, `None` inside for a lost packet; `None` when there are no more bytes.
fn take_delta(symbol: u16, deltas: &mut &[u8]) -> Option<Option<i64>> {
    let bytes;
    let delta = match symbol {
        0 => return Some(None),
        1 => {
            (bytes, *deltas) = deltas.split_at_checked(1)?;
            i64::from(bytes[0])
        }
        _ => {
            (bytes, *deltas) = deltas.split_at_checked(2)?;
            i64::from(i16::from_be_bytes([bytes[0], bytes[1]]))
        }
    };
    Some(Some(delta))
}

fn symbols(chunk: u16) -> u16 {
    match chunk >> 14 {
        0 | 1 => chunk & 0x1fff,
        2 => 14,
        _ => 7,
    }
}

fn symbol(chunk: u16, at: u16) -> u16 {
    match chunk >> 14 {
        0 | 1 => chunk >> 13 & 3,
        2 => chunk >> (13 - at) & 1,
        _ => chunk >> (12 - 2 * at) & 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{Compound, Packet};
    use proptest::prelude::*;

    /// Everything the recorder says, as (number, ticks).
    fn tell(recorder: &mut Recorder) -> Vec<(u16, Option<u64>)> {
        let mut out = Vec::new();
        while recorder.pending() {
            let start = out.len();
            recorder.write(&mut out, 1, 2);
            assert!(out.len() - start < 1_200);
        }
        let mut told = Vec::new();
        for packet in Compound(&out) {
            let Packet::Twcc(feedback) = packet else { panic!("feedback only: {packet:?}") };
            feedback.for_each(|number, at| {
                told.push((number, at.map(|at| at.as_nanos() as u64 / TICK_NANOS)));
            });
        }
        told
    }

    #[test]
    fn gaps_are_losses_and_late_packets_are_told_again() {
        let mut recorder = Recorder::default();
        let ms = Time::from_millis;
        recorder.record(ms(1_000), 65_534);
        recorder.record(ms(1_001), 65_535);
        recorder.record(ms(1_200), 2);
        assert_eq!(
            tell(&mut recorder),
            [(65_534, Some(4_000)), (65_535, Some(4_004)), (0, None), (1, None), (2, Some(4_800))]
        );
        recorder.record(ms(1_201), 1);
        recorder.record(ms(1_202), 4);
        assert_eq!(tell(&mut recorder), [(1, Some(4_804)), (2, None), (3, None), (4, Some(4_808))]);
        recorder.record(ms(1_203), 6);
        assert_eq!(tell(&mut recorder), [(5, None), (6, Some(4_812))]);
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_told_once(
            steps in prop::collection::vec((1u16..40, 0u64..50_000_000), 1..300),
            start: u16,
        ) {
            let mut recorder = Recorder::default();
            let (mut number, mut nanos) = (start, 5_000_000_000);
            let mut arrived = Vec::new();
            for (ahead, later) in steps {
                number = number.wrapping_add(ahead);
                nanos += later;
                recorder.record(Time::from_nanos(nanos), number);
                arrived.push((number, nanos / TICK_NANOS));
            }
            let told: Vec<(u16, u64)> = tell(&mut recorder)
                .into_iter()
                .filter_map(|(number, at)| at.map(|at| (number, at)))
                .collect();
            prop_assert_eq!(told, arrived);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(feedback) = Feedback::parse(&bytes) {
                feedback.for_each(|_, _| ());
            }
        }
    }
}
