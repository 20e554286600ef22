//! The gateway role: who goes where, and who is told.
