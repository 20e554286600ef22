//! Datagrams ready to send: runs of equal-size segments, one `sendmsg` with `UDP_SEGMENT` each.

use crate::config::Path;

/// Most segments of one run; the kernel takes 64 (`UDP_MAX_SEGMENTS`), and 44 full packets fill 64 kB.
pub const RUN_SEGMENTS_MAX: usize = 44;
/// Most bytes of one run; an IPv6 datagram before segmentation holds 65,527.
pub const RUN_BYTES_MAX: usize = 64_000;

/// An arena of datagrams. Reused: it allocates nothing once it has grown to its busiest flush.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    runs: Vec<Head>,
}

struct Head {
    path: Path,
    start: usize,
    segment: usize,
    segments: usize,
    /// The last segment is shorter: nothing may follow it.
    closed: bool,
}

/// Segments to one path: each [`Run::segment`] long, only the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// Where they go.
    pub path: Path,
    /// All segments, one after the other.
    pub bytes: &'a [u8],
    /// Length of each but the last.
    pub segment: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Appends one datagram. An empty one is ignored.
    pub fn push(&mut self, path: Path, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.commit(path, start);
    }

    /// The runs, in the order of their first datagram.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let ends = self.runs.iter().skip(1).map(|next| next.start).chain([self.bytes.len()]);
        self.runs.iter().zip(ends).map(|(head, end)| Run {
            path: head.path,
            bytes: &self.bytes[head.start..end],
            segment: head.segment,
        })
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets all datagrams and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
    }

    /// Where the next datagram is written in place; [`Batch::commit`] makes what was appended a datagram.
    pub(crate) fn arena(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Makes the arena's bytes from `start`, its length before they were appended, one datagram to `path`.
    pub(crate) fn commit(&mut self, path: Path, start: usize) {
        let length = self.bytes.len() - start;
        if length == 0 {
            return;
        }
        if let Some(last) = self.runs.last_mut() {
            let joins = !last.closed
                && last.path == path
                && length <= last.segment
                && last.segments < RUN_SEGMENTS_MAX
                && self.bytes.len() - last.start <= RUN_BYTES_MAX;
            if joins {
                last.segments += 1;
                last.closed = length < last.segment;
                return;
            }
        }
        self.runs.push(Head { path, start, segment: length, segments: 1, closed: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(port: u16) -> Path {
        Path { socket: 0, address: ([127, 0, 0, 1], port).into() }
    }

    fn check(datagrams: &[(u16, usize)], expect: &[(u16, usize, usize)]) {
        let mut batch = Batch::new();
        for (port, length) in datagrams {
            batch.push(path(*port), &vec![7; *length]);
        }
        let runs: Vec<_> = batch
            .runs()
            .map(|run| (run.path.address.port(), run.segment, run.bytes.len()))
            .collect();
        assert_eq!(runs, expect);
    }

    #[test]
    fn equal_neighbours_of_one_path_form_a_run() {
        check(&[(1, 100), (1, 100), (1, 60)], &[(1, 100, 260)]);
        check(&[(1, 100), (2, 100), (1, 100)], &[(1, 100, 100), (2, 100, 100), (1, 100, 100)]);
        check(&[(1, 100), (1, 60), (1, 60)], &[(1, 100, 160), (1, 60, 60)]);
        check(&[(1, 60), (1, 100)], &[(1, 60, 60), (1, 100, 100)]);
        check(&[(1, 0)], &[]);
    }

    proptest! {
        #[test]
        fn runs_hold_every_datagram_in_order_and_within_limits(
            datagrams in prop::collection::vec((0u16..2, 1usize..4), 0..300),
        ) {
            let mut batch = Batch::new();
            for (at, (port, length)) in datagrams.iter().enumerate() {
                batch.push(path(*port), &vec![at as u8; length * 600]);
            }
            let mut found = Vec::new();
            for run in batch.runs() {
                prop_assert!(run.bytes.len() <= RUN_BYTES_MAX);
                let segments: Vec<_> = run.bytes.chunks(run.segment).collect();
                prop_assert!(segments.len() <= RUN_SEGMENTS_MAX);
                found.extend(segments.iter().map(|s| (run.path.address.port(), s.len() / 600)));
            }
            prop_assert_eq!(found, datagrams);
            batch.clear();
            prop_assert!(batch.is_empty());
        }
    }
}
