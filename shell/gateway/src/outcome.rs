//! What comes of a join, read from the node's own frames on their way to the client: whether the node has answered the
//! client's offer, and whether it says that media is up. Looked for in the first seconds alone, and in no other frame than
//! those three.

use std::time::Duration;

use outlast_livekit::participant_info::State;
use tokio::time::Instant;

use crate::fields::{Fields, Value};

/// How long after its join a client may offer: SDKs do it in the join itself, or right after it. Who offers later only adds
/// to media that is up already, and who never does is not waited for.
const OFFER_MAX: Duration = Duration::from_secs(5);
/// How long after the answer media may come up. The role waits less; this only ends the looking.
const MEDIA_MAX: Duration = Duration::from_secs(5);
/// Most frames that are looked at: a large room says much at once, and a frame costs a look at its first byte or more.
const FRAMES_MAX: u32 = 1_000;

// Fields of the messages, as in LiveKit's proto files.
const RESPONSE_JOIN: u64 = 1;
const RESPONSE_ANSWER: u64 = 2;
const RESPONSE_UPDATE: u64 = 5;
const JOIN_PARTICIPANT: u64 = 2;
const UPDATE_PARTICIPANTS: u64 = 1;
const PARTICIPANT_SID: u64 = 1;
const PARTICIPANT_STATE: u64 = 3;

/// What a frame may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The node's SDP answer.
    Answered,
    /// The client's media is up. Nothing follows.
    Reached,
    /// There is nothing to be learnt any more.
    Over,
}

/// One join whose outcome is not known.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The client's own participant; empty before the node has named it.
    sid: Vec<u8>,
    answered: bool,
    until: Instant,
    frames: u32,
}

impl Outcome {
    /// For a session that begins `now`.
    pub(crate) fn new(now: Instant) -> Outcome {
        Outcome { sid: Vec::new(), answered: false, until: now + OFFER_MAX, frames: 0 }
    }

    /// Looks at one binary frame of the node.
    pub(crate) fn look(&mut self, now: Instant, frame: &[u8]) -> Option<News> {
        self.frames += 1;
        if now >= self.until || self.frames > FRAMES_MAX {
            return Some(News::Over);
        }
        // One message in each frame: the others are passed over by their first byte.
        let Some(Ok((field, Value::Bytes(message)))) = Fields::of(frame).next() else {
            return None;
        };
        match field {
            RESPONSE_JOIN => self.join(message),
            RESPONSE_ANSWER if !self.answered => {
                self.answered = true;
                self.until = now + MEDIA_MAX;
                Some(News::Answered)
            }
            RESPONSE_UPDATE if self.is_active(message) => {
                // Media that came up without an offer of the client's is nothing to be judged by.
                Some(if self.answered { News::Reached } else { News::Over })
            }
            _ => None,
        }
    }

    fn join(&mut self, message: &[u8]) -> Option<News> {
        let sid = Fields::of(message)
            .bytes(JOIN_PARTICIPANT)
            .and_then(|participant| Fields::of(participant).bytes(PARTICIPANT_SID));
        match sid {
            Some(sid) if !sid.is_empty() => {
                self.sid = sid.to_vec();
                None
            }
            _ => Some(News::Over),
        }
    }

    fn is_active(&self, update: &[u8]) -> bool {
        let active = u64::from(State::Active as u8);
        !self.sid.is_empty()
            && Fields::of(update).any(|field| {
                let Ok((UPDATE_PARTICIPANTS, Value::Bytes(participant))) = field else {
                    return false;
                };
                let fields = Fields::of(participant);
                fields.clone().bytes(PARTICIPANT_SID) == Some(&self.sid)
                    && fields.number(PARTICIPANT_STATE) == Some(active)
            })
    }
}

#[cfg(test)]
mod tests {
    use outlast_livekit::{
        JoinResponse, Message as _, ParticipantInfo, ParticipantUpdate, Pong, SessionDescription,
        SignalResponse, signal_response::Message,
    };
    use proptest::prelude::*;

    use super::*;

    fn frame(message: Message) -> Vec<u8> {
        SignalResponse { message: Some(message) }.encode_to_vec()
    }

    fn participant(sid: &str, state: State) -> ParticipantInfo {
        let metadata = "m".repeat(300);
        ParticipantInfo { sid: sid.into(), state: state.into(), metadata, ..Default::default() }
    }

    fn join() -> Vec<u8> {
        let others = (0..50).map(|n| participant(&format!("PA_{n}"), State::Active)).collect();
        frame(Message::Join(JoinResponse {
            participant: Some(participant("PA_me", State::Joined)),
            other_participants: others,
            ..Default::default()
        }))
    }

    fn answer() -> Vec<u8> {
        frame(Message::Answer(SessionDescription { sdp: "v=0".into(), ..Default::default() }))
    }

    fn update(participants: &[(&str, State)]) -> Vec<u8> {
        let participants = participants.iter().map(|(sid, state)| participant(sid, *state));
        frame(Message::Update(ParticipantUpdate { participants: participants.collect() }))
    }

    fn pong() -> Vec<u8> {
        frame(Message::PongResp(Pong::default()))
    }

    /// What each frame tells, all at once.
    fn told(frames: &[Vec<u8>]) -> Vec<Option<News>> {
        let now = Instant::now();
        let mut outcome = Outcome::new(now);
        frames.iter().map(|frame| outcome.look(now, frame)).collect()
    }

    #[test]
    fn an_answer_and_then_the_client_s_own_media() {
        use State::{Active, Disconnected, Joined};
        let frames = [
            join(),
            pong(),
            update(&[("PA_other", Active), ("PA_me", Joined)]),
            answer(),
            update(&[("PA_me", Joined), ("PA_other", Active)]),
            answer(),
            update(&[("PA_me", Disconnected)]),
            update(&[("PA_other", Active), ("PA_me", Active)]),
        ];
        let (answered, reached) = (Some(News::Answered), Some(News::Reached));
        assert_eq!(told(&frames), [None, None, None, answered, None, None, None, reached]);
    }

    #[test]
    fn who_never_offers_is_not_judged() {
        let over = Some(News::Over);
        assert_eq!(told(&[join(), update(&[("PA_me", State::Active)])]), [None, over]);
        assert_eq!(told(&[frame(Message::Join(JoinResponse::default()))]), [over]);
        // Without a name there is nobody to look for.
        assert_eq!(told(&[update(&[("", State::Active)])]), [None]);
    }

    #[test]
    fn the_looking_ends() {
        let now = Instant::now();
        let mut outcome = Outcome::new(now);
        assert_eq!(outcome.look(now, &join()), None);
        assert_eq!(outcome.look(now + OFFER_MAX, &answer()), Some(News::Over));
        let mut outcome = Outcome::new(now);
        outcome.look(now, &join());
        let answered = now + OFFER_MAX - Duration::from_millis(1);
        assert_eq!(outcome.look(answered, &answer()), Some(News::Answered));
        let late = answered + MEDIA_MAX;
        assert_eq!(outcome.look(late, &update(&[("PA_me", State::Active)])), Some(News::Over));
        let mut outcome = Outcome::new(now);
        let looked = (0..).take_while(|_| outcome.look(now, &pong()).is_none()).count();
        assert_eq!(looked, 1_000);
    }

    proptest! {
        #[test]
        fn garbage_is_no_news(mut bytes in prop::collection::vec(any::<u8>(), 0..300), tag: bool) {
            let now = Instant::now();
            let mut outcome = Outcome::new(now);
            outcome.look(now, &join());
            if tag && bytes.len() > 2 {
                (bytes[0], bytes[1]) = (0x2a, u8::try_from((bytes.len() - 2).min(127)).unwrap());
            }
            let news = outcome.look(now, &bytes);
            prop_assert!(news != Some(News::Reached));
        }
    }
}
