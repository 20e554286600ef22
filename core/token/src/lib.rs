//! LiveKit access tokens: claims, verification, minting.
