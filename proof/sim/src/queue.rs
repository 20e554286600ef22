//! The future: what was planned, in the order of time; ties are settled by the order of planning. A wheel of short slots for
//! the next two seconds, in which nearly all events are planned, and a heap for the rest.

use std::{cmp::Ordering, collections::BinaryHeap};

use outlast_model::Time;

use crate::event::Event;

/// A slot is 2^21 ns, 2.1 ms, long: seldom more than one event.
const SLOT_BITS: u32 = 21;
/// Slots of the wheel: 2.1 s, more than any interval at which something is looked at.
const SLOTS: usize = 1_024;
const WORDS: usize = SLOTS / 64;
const NOTHING: u32 = u32::MAX;

/// An event in its place.
#[derive(Clone, Copy)]
struct Planned {
    time: Time,
    /// Of planning.
    order: u32,
    event: Event,
}

impl Planned {
    fn place(&self) -> (Time, u32) {
        (self.time, self.order)
    }

    fn slot(&self) -> u64 {
        self.time.as_nanos() >> SLOT_BITS
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap gives its greatest out, which is to be the first.
impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        other.place().cmp(&self.place())
    }
}

/// An event on the wheel, and the next one of its slot.
#[derive(Clone, Copy)]
struct Cell {
    planned: Planned,
    next: u32,
}

/// The future.
pub(crate) struct Queue {
    /// The first cell of each slot, in any order.
    slots: [u32; SLOTS],
    /// A bit for each slot that has one.
    used: [u64; WORDS],
    cells: Vec<Cell>,
    /// The first cell that is free.
    free: u32,
    /// The slot of the event that was given out last, counted from time zero. All on the wheel are less than a turn later.
    turn: u64,
    far: BinaryHeap<Planned>,
    planned: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            slots: [NOTHING; SLOTS],
            used: [0; WORDS],
            cells: Vec::new(),
            free: NOTHING,
            turn: 0,
            far: BinaryHeap::new(),
            planned: 0,
        }
    }
}

impl Queue {
    pub(crate) fn at(&mut self, time: Time, event: Event) {
        self.planned += 1;
        let planned = Planned { time, order: self.planned, event };
        // What is late already is of the slot that is next.
        let slot = planned.slot().max(self.turn);
        if slot - self.turn >= SLOTS as u64 {
            return self.far.push(planned);
        }
        let at = slot as usize % SLOTS;
        let cell = Cell { planned, next: self.slots[at] };
        self.used[at / 64] |= 1 << (at % 64);
        self.slots[at] = self.free;
        if let Some(free) = self.cells.get_mut(self.free as usize) {
            self.free = free.next;
            *free = cell;
        } else {
            self.slots[at] = self.cells.len() as u32;
            self.cells.push(cell);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, Event)> {
        let near = self.first_slot().map(|slot| (slot, self.first_cell(slot)));
        let planned = match (near, self.far.peek()) {
            (Some((slot, (before, first))), far)
                if far.is_none_or(|far| self.cells[first].planned.place() < far.place()) =>
            {
                self.take(slot, before, first)
            }
            _ => self.far.pop()?,
        };
        self.turn = self.turn.max(planned.slot());
        Some((planned.time, planned.event))
    }

    /// The first slot of the wheel that is not empty.
    fn first_slot(&self) -> Option<usize> {
        let from = self.turn as usize % SLOTS;
        let mut word = from / 64;
        let mut bits = self.used[word] & u64::MAX << (from % 64);
        // Once around: what was left out of the first word comes last.
        for _ in 0..=WORDS {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word = (word + 1) % WORDS;
            bits = self.used[word];
        }
        None
    }

    /// The cell before the first event of `slot`, and that event's.
    fn first_cell(&self, slot: usize) -> (u32, usize) {
        let mut at = self.slots[slot];
        let mut first = (NOTHING, at as usize);
        let mut least = self.cells[first.1].planned.place();
        loop {
            let (before, next) = (at, self.cells[at as usize].next);
            let Some(cell) = self.cells.get(next as usize) else { return first };
            if cell.planned.place() < least {
                (first, least) = ((before, next as usize), cell.planned.place());
            }
            at = next;
        }
    }

    fn take(&mut self, slot: usize, before: u32, at: usize) -> Planned {
        let Cell { planned, next } = self.cells[at];
        if before != NOTHING {
            self.cells[before as usize].next = next;
        } else {
            self.slots[slot] = next;
            if next == NOTHING {
                self.used[slot / 64] &= !(1 << (slot % 64));
            }
        }
        self.cells[at].next = self.free;
        self.free = at as u32;
        planned
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Stream;

    #[test]
    fn time_goes_forward_and_ties_keep_their_order() {
        let mut queue = Queue::default();
        for (ms, fault) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.at(Time::from_millis(ms), Event::Begin { fault });
        }
        let mut order = Vec::new();
        while let Some((time, event)) = queue.pop() {
            let Event::Begin { fault } = event else { unreachable!("no other was planned") };
            order.push((time.as_millis(), fault));
        }
        assert_eq!(order, [(3, 1), (3, 3), (5, 0), (5, 2)]);
    }

    #[test]
    fn the_wheel_and_the_heap_are_one_order() {
        let (mut queue, mut chance) = (Queue::default(), Stream::named(1, "queue"));
        let mut plain: Vec<(u64, u32)> = Vec::new();
        let (mut now, mut planned, mut popped) = (0, 0, 0);
        while popped < 50_000 {
            // Mostly up to a second ahead, some at once, some far ahead, and a few late.
            let ahead = chance.weighted(&[(6, 1_000), (2, 0), (2, 5_000), (1, 60_000)]);
            let ms = (now + chance.below(ahead + 1)).saturating_sub(chance.below(3));
            if chance.hits(if plain.len() < 200 { 520 } else { 400 }) {
                planned += 1;
                queue.at(Time::from_millis(ms), Event::DialLate { conn: planned });
                plain.push((ms, planned));
                continue;
            }
            let first = plain.iter().copied().enumerate().min_by_key(|(_, place)| *place);
            let expected = first.map(|(at, _)| plain.swap_remove(at));
            let found = queue.pop().map(|(time, event)| match event {
                Event::DialLate { conn } => (time.as_millis(), conn),
                _ => unreachable!("no other was planned"),
            });
            assert_eq!(found, expected);
            now = found.map_or(now, |(ms, _)| ms);
            popped += 1;
        }
    }
}
