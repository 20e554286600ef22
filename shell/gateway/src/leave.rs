//! The one message that a gateway writes itself: `leave{RECONNECT}`.

use bytes::Bytes;
use outlast_livekit::{
    DisconnectReason, LeaveRequest, Message as _, SignalResponse, leave_request::Action,
    signal_response::Message,
};

/// First byte of every binary frame that is a `leave`, in both directions: oneof field 8, length-delimited.
const LEAVE_TAG: u8 = 8 << 3 | 2;

/// One `SignalResponse` that makes every SDK join anew at the same URL.
pub(crate) fn reconnect() -> Bytes {
    let leave = LeaveRequest {
        can_reconnect: true,
        reason: DisconnectReason::StateMismatch.into(),
        action: Action::Reconnect.into(),
        regions: None,
    };
    SignalResponse { message: Some(Message::Leave(leave)) }.encode_to_vec().into()
}

/// Whether a binary signalling frame is a `leave`.
pub(crate) fn is_leave(frame: &[u8]) -> bool {
    frame.first() == Some(&LEAVE_TAG)
}

#[cfg(test)]
mod tests {
    use outlast_livekit::{SignalRequest, signal_request};

    use super::*;

    #[test]
    fn leaves_are_recognised_without_decoding() {
        assert!(is_leave(&reconnect()));
        let request = SignalRequest {
            message: Some(signal_request::Message::Leave(LeaveRequest::default())),
        };
        assert!(is_leave(&request.encode_to_vec()));
        let ping = SignalRequest { message: Some(signal_request::Message::Ping(1)) };
        assert!(!is_leave(&ping.encode_to_vec()));
        assert!(!is_leave(&[]));
    }
}
