//! What is kept from a JS client that has just come back. livekit-client (seen in 2.23.0) says `Reconnected` as soon as
//! its peer connection is up and its own tracks are published again, while its engine counts as reconnecting until two
//! seconds after the join: events in between are put aside and never raised, so that an application would not hear of
//! people and tracks that it is told of in this span. Those in the first answer are raised; those after the span too.

use std::time::Duration;

use outlast_livekit as proto;
use outlast_model::Time;
use proto::{client_info::Sdk, signal_response::Message};

use crate::{door::Out, participant::ParticipantKey, shard::Shard};

/// From the join until nothing is lost any more: the two seconds of the SDK, counted from when it has our answer, and
/// what a busy page takes longer. What comes after travels as long as the answer did.
const HUSH_SPAN: Duration = Duration::from_millis(2_100);

/// Whether a participant is told of others now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hush {
    /// It is.
    #[default]
    None,
    /// It is, until its peer connection may be up.
    Comes {
        /// When the span ends.
        ends: Time,
    },
    /// It is not.
    Lasts {
        /// When the span ends.
        ends: Time,
    },
}

impl Hush {
    /// For a client that joins now; `returned` is whether its token is one that we gave it in an earlier session.
    pub(crate) fn of(now: Time, client: &proto::ClientInfo, returned: bool) -> Hush {
        // All three run livekit-client.
        let js = matches!(client.sdk(), Sdk::Js | Sdk::ReactNative | Sdk::UnityWeb);
        if js && returned { Hush::Comes { ends: now + HUSH_SPAN } } else { Hush::None }
    }
}

impl Shard {
    /// Whether the participant is not told of others now.
    pub(crate) fn is_hushed(&self, key: ParticipantKey) -> bool {
        let hush = self.participants.get(key).map(|participant| participant.hush);
        matches!(hush, Some(Hush::Lasts { .. }))
    }

    /// ICE has seen the client: its peer connection may be up from now on.
    pub(crate) fn begin_hush(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        if let Hush::Comes { ends } = participant.hush {
            participant.hush = Hush::Lasts { ends };
            self.housekeeping_at = self.housekeeping_at.min(ends);
        }
    }

    /// Tells a participant whose span is over what it has missed.
    pub(crate) fn end_hush(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        match participant.hush {
            Hush::Comes { ends } | Hush::Lasts { ends } if ends <= now => {}
            Hush::None | Hush::Comes { .. } | Hush::Lasts { .. } => return,
        }
        participant.hush = Hush::None;
        for participants in [self.departures(key), self.others(key)] {
            if !participants.is_empty() {
                let update = proto::ParticipantUpdate { participants };
                self.tell(key, Message::Update(update), out);
            }
        }
        self.unsettled.push(key);
    }
}
