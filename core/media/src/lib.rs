//! The packet plane: RTP in, RTP out.
