//! What the directory knows of one room.

use outlast_control::Home;
use outlast_model::Generation;

/// What the directory knows of a room, as far as this gateway was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Held(Home),
    /// It has ended under this generation: a claim must have a higher one.
    Ended(Generation),
}

impl Known {
    /// Whether it says what is true.
    pub(super) fn is_right(&self, home: &Home) -> bool {
        matches!(self, Known::Held(held)
            if held.node == home.node && held.generation >= home.generation)
    }

    /// The generation that makes `home` count.
    pub(super) fn above(&self, home: &Home) -> Generation {
        match self {
            Known::Held(held) if held.node == home.node => Generation(0),
            Known::Held(Home { generation, .. }) | Known::Ended(generation) => generation.next(),
        }
    }
}
