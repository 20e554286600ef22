//! Decisions about the fleet: health, view, placement.
