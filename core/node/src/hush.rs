//! A JS client that has just come back, and when it is told what.
//!
//! livekit-client (seen in 2.23.0) says `Reconnected` as soon as its own tracks are published again, if its peer connection is up
//! by then; else, and without tracks, two seconds after its join. What it learns before, it raises then. But until those two
//! seconds are over its engine counts as reconnecting, and what it learns after an early `Reconnected` is put aside and never
//! raised: an application would not hear of people and tracks that come in this span.
//!
//! Rooms come back all at once, each of their people some moments before or after the others. So the answers to its `add_track`
//! are held back until it knows of everybody who came when it did: it says `Reconnected` then, and not before. Its media waits for
//! nothing, since it negotiates beside the answers. Whatever comes later waits until the two seconds are over.
//!
//! To have answered an offer is not enough: a page on a busy machine raised the tracks of an answer after it had said `Reconnected`,
//! and stayed silent for good. So it is asked for one more offer, which it makes when it has applied the answer.

use std::time::Duration;

use outlast_livekit as proto;
use outlast_model::Time;
use proto::{client_info::Sdk, signal_response::Message};

use crate::{
    door::Out,
    participant::{Participant, ParticipantKey},
    shard::Shard,
};

/// Until nothing is lost any more: the two seconds of the SDK, and what a busy page takes longer. It counts them from when it has our
/// answer to its join; we from that answer, and from its first `add_track`, which it sends right after.
const HUSH_SPAN: Duration = Duration::from_millis(2_100);
/// Answers are held back for others for so long at most. Shorter: who is a moment later is heard two seconds later; longer: an application
/// shows for so long that it reconnects although everybody is there.
const HOLD_MAX: Duration = Duration::from_secs(1);
/// Nobody has joined for so long: there is nobody more on the way, as it seems.
const QUIET: Duration = Duration::from_millis(300);
/// What a client takes to see that its transport is up, after we have.
const UP: Duration = Duration::from_millis(100);
/// Between two looks whether answers are to be held longer.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Whether a participant is told of others now.
#[derive(Clone, Debug, Default)]
pub(crate) enum Hush {
    /// It is.
    #[default]
    None,
    /// It is, and has not said `Reconnected` yet.
    Comes {
        /// When the span ends.
        ends: Time,
        /// When its transport came up.
        up_at: Option<Time>,
        /// Answers that it waits for.
        held: Vec<proto::TrackPublishedResponse>,
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
        if !js || !returned {
            return Hush::None;
        }
        Hush::Comes { ends: now + HUSH_SPAN, up_at: None, held: Vec::new() }
    }

    /// Whether there are answers that it waits for.
    pub(crate) fn holds(&self) -> bool {
        matches!(self, Hush::Comes { held, .. } if !held.is_empty())
    }

    /// The participant's transport is up.
    pub(crate) fn up(&mut self, now: Time) {
        if let Hush::Comes { up_at, .. } = self {
            up_at.get_or_insert(now);
        }
    }
}

impl Shard {
    /// Whether the participant is not told of others now.
    pub(crate) fn is_hushed(&self, key: ParticipantKey) -> bool {
        let hush = self.participants.get(key).map(|participant| &participant.hush);
        matches!(hush, Some(Hush::Lasts { .. }))
    }

    /// Answers an `add_track`, now or when its client may say `Reconnected`.
    pub(crate) fn answer_track(
        &mut self,
        key: ParticipantKey,
        response: proto::TrackPublishedResponse,
        out: &mut Out,
    ) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        if let Hush::Comes { held, ends, .. } = &mut participant.hush {
            if held.is_empty() {
                *ends = self.clock + HUSH_SPAN;
                self.unsettled.push(key);
            }
            held.push(response);
            self.housekeeping_at = self.housekeeping_at.min(self.clock + LOOK_INTERVAL);
        } else {
            self.tell(key, Message::TrackPublished(response), out);
        }
    }

    /// Goes on with what is due of a participant's hush.
    pub(crate) fn look_at_hush(&mut self, now: Time, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get(key) else { return };
        match participant.hush {
            Hush::Comes { ends, .. } if ends <= now => self.end_hush(key, out),
            Hush::Comes { ref held, .. } if held.is_empty() => {}
            Hush::Comes { ends, .. } if self.may_say_reconnected(now, participant) => {
                self.answer_held(key, out);
                self.participants[key].hush = Hush::Lasts { ends };
                self.housekeeping_at = self.housekeeping_at.min(ends);
            }
            Hush::Comes { .. } => {
                self.housekeeping_at = self.housekeeping_at.min(now + LOOK_INTERVAL);
            }
            Hush::Lasts { ends } if ends <= now => {
                self.end_hush(key, out);
                for participants in [self.departures(key), self.others(key)] {
                    if !participants.is_empty() {
                        let update = proto::ParticipantUpdate { participants };
                        self.tell(key, Message::Update(update), out);
                    }
                }
                self.unsettled.push(key);
            }
            Hush::None | Hush::Lasts { .. } => {}
        }
    }

    /// Nothing is kept from the participant any more.
    pub(crate) fn end_hush(&mut self, key: ParticipantKey, out: &mut Out) {
        self.answer_held(key, out);
        if let Some(participant) = self.participants.get_mut(key) {
            participant.hush = Hush::None;
        }
    }

    fn answer_held(&mut self, key: ParticipantKey, out: &mut Out) {
        let Some(participant) = self.participants.get_mut(key) else { return };
        let Hush::Comes { held, .. } = &mut participant.hush else { return };
        for response in std::mem::take(held) {
            self.tell(key, Message::TrackPublished(response), out);
        }
    }

    /// Whether the participant has all that it was given, and knows of everybody who has come when it did or has waited long enough
    /// for them. As long as its own transport is not up it would say nothing for two seconds.
    fn may_say_reconnected(&self, now: Time, participant: &Participant) -> bool {
        let Hush::Comes { up_at: Some(up_at), .. } = participant.hush else { return false };
        let negotiation = &participant.negotiation;
        let mut subscriptions = participant.subscriptions.values();
        let settled = !negotiation.asked
            && !negotiation.unproven
            && subscriptions.all(|subscription| subscription.sending.is_some());
        if now.since(up_at) < UP || !settled {
            return false;
        }
        if now.since(participant.joined_at) >= HOLD_MAX {
            return true;
        }
        let Some(room) = self.rooms.get(participant.room) else { return false };
        let members = || room.members.values().filter_map(|key| self.participants.get(*key));
        // Whoever takes longer than a second has trouble of its own.
        let recent = |other: &&Participant| now.since(other.joined_at) < HOLD_MAX;
        members().filter(recent).all(|other| {
            now.since(other.joined_at) >= QUIET
                && other.is_connected()
                && other.tracks.iter().all(|track| track.live)
        })
    }
}
