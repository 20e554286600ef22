//! The small protocol that must be right, in every schedule within bounds: who claims a room, how long a node may serve it,
//! and how two homes become one. A model, not the code; `tests/real_code.rs` holds its decisions against the code's.
//! `docs/model.md` says what it covers and what came out.

mod bounds;
mod checks;
mod model;
mod protocol;
mod reach;
mod settling;
mod state;
mod trouble;

pub use bounds::{Bounds, Budget, CLIENTS, REGIONS, ROOMS_MAX, Rules, Tie, Trouble};
pub use checks::{BROKEN, Broken, CHECKS, Check};
pub use model::{
    HIGHEST_HEARD, LIVES_AGAIN, MOVED_ONCE, NEWER_STAYS, ONE_OWNER, Ownership, RIGHT_TO_SERVE,
    SETTLES, TIE, TWO_HOMES,
};
pub use protocol::counts_before;
pub use settling::{Outcome, Unsettled};
pub use state::{Cut, Held, Life, OUT, Placements, Record, Room, State, World};
pub use trouble::{Action, Step};
