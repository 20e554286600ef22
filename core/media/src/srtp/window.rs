//! A sliding replay window, and the roll-over estimate that goes with it (RFC 3711 §3.3.1, §3.3.2).

/// Packets that the window looks back. Larger than RFC 3711's 64: video over a bad path is reordered by whole frames.
const WIDTH: u64 = 512;
const WORDS: usize = (WIDTH / 64) as usize;

/// Which of the last [`WIDTH`] indices were seen.
#[derive(Clone, Default)]
pub(crate) struct Window {
    /// Highest index seen plus one; 0 before the first.
    next: u64,
    /// Bit `index % WIDTH`.
    seen: [u64; WORDS],
}

impl Window {
    /// The highest index seen.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// The index that `sequence` most likely stands for.
    pub(crate) fn estimate(&self, sequence: u16) -> u64 {
        match self.highest() {
            None => sequence.into(),
            Some(highest) => extend(highest, sequence),
        }
    }

    /// Whether `index` is neither seen nor too old.
    pub(crate) fn fresh(&self, index: u64) -> bool {
        if index >= self.next {
            return true;
        }
        self.next - index <= WIDTH && self.seen[word(index)] & bit(index) == 0
    }

    /// Marks `index` as seen; false, and no change, when it was or is too old.
    pub(crate) fn accept(&mut self, index: u64) -> bool {
        if !self.fresh(index) {
            return false;
        }
        if index >= self.next {
            // What was skipped is not seen; one round of the window clears it all.
            for skipped in (self.next..index).take(WIDTH as usize) {
                self.seen[word(skipped)] &= !bit(skipped);
            }
            self.next = index + 1;
        }
        self.seen[word(index)] |= bit(index);
        true
    }
}

const fn word(index: u64) -> usize {
    ((index % WIDTH) / 64) as usize
}

const fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

/// The number nearest to `near` whose low 16 bits are `sequence`; never below zero.
pub(crate) fn extend(near: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub(near as u16) as i16;
    match near.checked_add_signed(ahead.into()) {
        Some(extended) => extended,
        None => near.wrapping_add_signed(ahead.into()).wrapping_add(1 << 16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sequence_number_is_extended_to_the_nearest() {
        assert_eq!(extend(0x1_0000, 0xffff), 0xffff);
        assert_eq!(extend(0xffff, 0), 0x1_0000);
        assert_eq!(extend(5, 0xfff0), 0xfff0);
        assert_eq!(extend(0x2_1234, 0x1230), 0x2_1230);
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_list(steps in prop::collection::vec(0u64..2_000, 1..400)) {
            let mut window = Window::default();
            let mut seen: Vec<u64> = Vec::new();
            for index in steps {
                let highest = seen.iter().max().copied();
                let fresh = !seen.contains(&index) && highest.is_none_or(|h| index + WIDTH > h);
                prop_assert_eq!(window.accept(index), fresh);
                prop_assert!(!window.fresh(index));
                if fresh {
                    seen.push(index);
                }
            }
        }
    }
}
