//! How a subscription's sequence numbers follow from the publisher's: in segments of one offset each. A new segment
//! starts at a layer switch, after a pause and behind a packet that was not forwarded; late packets and
//! retransmissions find theirs.

use std::collections::VecDeque;

use crate::codec::vp8::Shift;

/// Segments remembered; older packets are too late.
const SEGMENTS_MAX: usize = 64;

/// Packets of one layer that are forwarded with one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) layer: u8,
    pub(crate) epoch: u32,
    /// First extended sequence number of the publisher's.
    from: u64,
    /// One behind the last; `u64::MAX` while it goes on.
    until: u64,
    /// What `from` is called at the subscriber.
    out: u64,
    /// Added to timestamps.
    pub(crate) timestamp: u32,
    /// Added to VP8's numbers.
    pub(crate) vp8: Shift,
}

/// The segments of one subscription, oldest first.
#[derive(Default)]
pub(crate) struct Segments {
    list: VecDeque<Segment>,
}

impl Segments {
    /// The newest segment.
    pub(crate) fn last(&self) -> Option<&Segment> {
        self.list.back()
    }

    /// Begins a segment in which the publisher's `from` is called `out`; `closed_at` ends the one before. What would
    /// be called `out` or more in older segments is nobody's any more: no number belongs to two packets.
    pub(crate) fn begin(
        &mut self,
        (layer, epoch): (u8, u32),
        from: u64,
        out: u64,
        (timestamp, vp8): (u32, Shift),
        closed_at: u64,
    ) {
        self.close(closed_at, out);
        if self.list.len() == SEGMENTS_MAX {
            self.list.pop_front();
        }
        self.list.push_back(Segment { layer, epoch, from, until: u64::MAX, out, timestamp, vp8 });
    }

    fn close(&mut self, at: u64, next_out: u64) {
        if let Some(last) = self.list.back_mut() {
            last.until = last.until.min(at.max(last.from));
        }
        // Numbers ascend: when one ends below, all before it do.
        for segment in self.list.iter_mut().rev() {
            if segment.out + (segment.until - segment.from) <= next_out {
                break;
            }
            segment.until = segment.from + next_out.saturating_sub(segment.out);
        }
        while self.list.pop_back_if(|last| last.until == last.from).is_some() {}
    }

    /// Leaves `index` of the newest segment out without a gap; everything behind it is still to come. Returns what
    /// the next packet is called: numbers below it may be kept for late packets.
    pub(crate) fn skip(&mut self, index: u64) -> Option<u64> {
        let last = self.list.back().copied()?;
        let out = last.out + (index - last.from);
        let numbers = (last.timestamp, last.vp8);
        self.begin((last.layer, last.epoch), index + 1, out, numbers, index);
        Some(out)
    }

    /// What the publisher's `index` is called at the subscriber.
    pub(crate) fn outward(&self, layer: u8, epoch: u32, index: u64) -> Option<(u64, &Segment)> {
        let holds = |segment: &&Segment| {
            (segment.layer, segment.epoch) == (layer, epoch)
                && (segment.from..segment.until).contains(&index)
        };
        let segment = self.list.iter().rev().find(holds)?;
        Some((segment.out + (index - segment.from), segment))
    }

    /// What the subscriber's `out` is called at the publisher.
    pub(crate) fn inward(&self, out: u64) -> Option<(u64, &Segment)> {
        let segment = self.list.iter().rev().find(|segment| segment.out <= out)?;
        let index = segment.from + (out - segment.out);
        (index < segment.until).then_some((index, segment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(segments: &mut Segments, layer: u8, from: u64, out: u64, closed_at: u64) {
        segments.begin((layer, 0), from, out, (0, Shift::default()), closed_at);
    }

    fn out(segments: &Segments, layer: u8, index: u64) -> Option<u64> {
        segments.outward(layer, 0, index).map(|(out, _)| out)
    }

    #[test]
    fn late_packets_and_retransmissions_find_their_segment() {
        let mut segments = Segments::default();
        begin(&mut segments, 0, 100, 5, 0);
        segments.skip(103);
        segments.skip(104);
        // 105 is called what 103 would have been.
        assert_eq!(out(&segments, 0, 102), Some(7));
        assert_eq!(out(&segments, 0, 103), None);
        assert_eq!(out(&segments, 0, 105), Some(8));
        // Layer 1 takes over after 110.
        begin(&mut segments, 1, 9_000, 14, 111);
        assert_eq!(out(&segments, 0, 110), Some(13));
        assert_eq!(out(&segments, 0, 111), None);
        assert_eq!(out(&segments, 1, 9_001), Some(15));
        assert_eq!(segments.outward(1, 1, 9_001), None);
        for (called, expect) in [(5, 100), (7, 102), (8, 105), (13, 110), (14, 9_000), (20, 9_006)]
        {
            assert_eq!(segments.inward(called).map(|(index, _)| index), Some(expect));
        }
        assert_eq!(segments.inward(4), None);
    }

    #[test]
    fn a_segment_ends_below_the_number_of_its_successor() {
        let mut segments = Segments::default();
        begin(&mut segments, 0, 100, 5, 0);
        // Closed behind 110, which would be called 15, but the next one begins at 12.
        begin(&mut segments, 1, 500, 12, 111);
        assert_eq!(out(&segments, 0, 106), Some(11));
        assert_eq!(out(&segments, 0, 107), None);
        assert_eq!(out(&segments, 1, 500), Some(12));
        assert_eq!(segments.skip(503), Some(15));
        assert_eq!(segments.skip(504), Some(15));
        // Nothing is in the newest; what reaches too far is the one before it.
        begin(&mut segments, 0, 200, 14, 505);
        assert_eq!(out(&segments, 1, 501), Some(13));
        assert_eq!(out(&segments, 1, 502), None);
        assert_eq!(out(&segments, 0, 200), Some(14));
    }

    #[test]
    fn old_segments_give_way() {
        let mut segments = Segments::default();
        begin(&mut segments, 0, 0, 0, 0);
        for index in 0..1_000 {
            segments.skip(2 * index + 1);
        }
        assert_eq!(out(&segments, 0, 0), None);
        assert_eq!(out(&segments, 0, 2_000), Some(1_000));
        assert_eq!(out(&segments, 0, 1_980), Some(990));
        assert_eq!(segments.list.len(), SEGMENTS_MAX);
    }
}
