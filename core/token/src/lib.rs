//! LiveKit access tokens: claims, verification, minting, refreshing.
//!
//! Time is an argument: nothing here reads a clock. Secrets never leave [`ApiKeys`], not even through `Debug`.

mod claims;
mod json;
mod keys;

pub use claims::{Claims, VideoGrant};
pub use keys::{ApiKeys, KeysError, LEEWAY, REFRESHED_TTL_MIN, TOKEN_BYTES_MAX, TokenError};
