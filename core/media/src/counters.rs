//! What the plane counts. A dropped packet is counted by its reason and never logged.

use std::time::Duration;

/// Totals of one plane since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// RTP packets that came in and were authentic.
    pub packets_in: u64,
    /// Their bytes, protected.
    pub bytes_in: u64,
    /// RTP packets sent, retransmissions included.
    pub packets_out: u64,
    /// Their bytes, protected.
    pub bytes_out: u64,
    /// Authentic RTCP compounds that came in.
    pub rtcp_in: u64,
    /// RTCP compounds sent.
    pub rtcp_out: u64,
    /// Sequence numbers asked for again from publishers.
    pub nacks_sent: u64,
    /// Packets that a publisher repaired after they were lost.
    pub repaired: u64,
    /// Lost packets given up.
    pub given_up: u64,
    /// Sequence numbers that subscribers asked for again.
    pub nacks_received: u64,
    /// Retransmissions sent.
    pub retransmitted: u64,
    /// Key frame requests sent to publishers, after coalescing.
    pub plis_sent: u64,
    /// Key frame requests of subscribers.
    pub plis_received: u64,
    /// Transport-wide feedback packets sent.
    pub feedback_sent: u64,
    /// Transport-wide feedback packets received.
    pub feedback_received: u64,
    /// Packets dropped, by reason.
    pub dropped: Drops,
}

/// Packets dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// The peer has no keys yet.
    pub no_keys: u64,
    /// Not RTP or RTCP, or lengths that lie.
    pub malformed: u64,
    /// Authentication failed.
    pub forged: u64,
    /// Seen before, or too old to tell.
    pub replayed: u64,
    /// An SSRC of no publication.
    pub unknown_ssrc: u64,
    /// A payload type that was not negotiated.
    pub unknown_pt: u64,
    /// The peer has sent from too many SSRCs.
    pub too_many_ssrcs: u64,
    /// A retransmission of what is here already, or too old.
    pub duplicate: u64,
    /// Too late for the subscriber's stream.
    pub late: u64,
    /// More than the store holds was staged between two flushes.
    pub overrun: u64,
    /// Retransmissions above their share of a subscription's rate, or above what one peer may ask for at once.
    pub retransmission_limit: u64,
    /// A number that was used up already on its stream, or too old to tell: never sealed twice.
    pub number_used: u64,
}

/// One publication's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicationStats {
    /// Packets over all layers, repaired ones included.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets lost on the way here, before repair.
    pub lost: u64,
    /// How many layers sent something in the last second, as of the last wake.
    pub layers_active: usize,
}

/// One subscription's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionStats {
    /// Packets sent.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Retransmissions sent.
    pub retransmitted: u64,
    /// Packets lost, as the subscriber reported last.
    pub lost: i32,
    /// Of 256, as the subscriber reported last.
    pub fraction_lost: u8,
    /// Round trip to the subscriber, when its reports tell.
    pub round_trip: Option<Duration>,
    /// Index of the layer that is forwarded now.
    pub layer: Option<usize>,
}
