//! LiveKit's protocol messages, re-exported once: the generated code is 84,000 lines, and a crate of its own keeps it
//! compiled only when the protocol's version changes.

pub use livekit_protocol::*;
pub use prost::Message;
