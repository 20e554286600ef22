//! Which region an address is near: by prefixes that the operator has written down, or by a MaxMind database and the
//! coordinates of the regions. Where neither knows, nobody does: the caller takes its own region.

mod coordinates;
mod file;
mod locations;
mod prefixes;

pub use coordinates::Coordinates;
pub use file::{FileError, LINES_MAX};
pub use locations::{DatabaseError, Locations};
