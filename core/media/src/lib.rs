//! The packet plane of one shard: RTP in, RTP out. [`Plane`] opens what publishers send, repairs it, keeps it in one
//! ring per layer, and rewrites and seals it for each subscriber; [`Batch`] holds the datagrams to send. Time is an
//! argument, sockets are elsewhere, and nothing here locks. ICE, DTLS and data channels are in `transport`, which
//! hands the SRTP keys over.

mod batch;
mod codec;
mod config;
mod counters;
mod feedback;
mod incoming;
mod layer;
mod missing;
mod plane;
mod ring;
mod rtcp;
mod rtp;
mod segment;
mod speakers;
mod srtp;
mod stun;
mod subscription;
mod timers;
mod transport;
mod twcc;

pub use batch::{Batch, RUN_BYTES_MAX, RUN_SEGMENTS_MAX, Run};
pub use config::{
    CNAME, CodecSpec, ExtensionIds, Kind, LAYERS_MAX, LayerConfig, MediaCodec, Path, PeerKey,
    PlaneEvent, PublicationConfig, PublicationKey, SubscriptionConfig, SubscriptionKey, Wanted,
};
pub use counters::{Counters, Drops, PublicationStats, SubscriptionStats};
pub use plane::Plane;
pub use srtp::{KeyError, MasterKey, Sealer, SrtpKeys, SrtpProfile};
pub use stun::stun_ufrag;
pub use transport::{
    CHANNEL_BUFFER_BYTES_MAX, CHANNEL_MESSAGE_BYTES_MAX, CONSENT_SPAN, Channel, Credentials,
    Transport, TransportContext, TransportError, TransportEvent,
};
