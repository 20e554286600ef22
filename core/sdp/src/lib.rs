//! SDP at the client's edge: an offer becomes values, values become its answer. The client always offers (LiveKit's
//! single peer connection), so there is no offer writer. Nothing here knows rooms or tracks.

mod answer;
pub mod choose;
pub mod extension;
mod lines;
mod offer;
mod parse;
mod profile;
mod section;
mod words;

pub use answer::{AnswerSection, Local, MESSAGE_BYTES_MAX, Sending, write_answer};
pub use offer::{
    Codec, Direction, Extension, Fingerprint, Msid, Offer, OfferError, Section, SectionKind, Setup,
};
pub use parse::parse_offer;
pub use profile::same_codec;
pub use words::Word;
