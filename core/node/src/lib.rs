//! The media server role: rooms, sessions, shards.
