//! How often and when the SDKs try again, as measured (`livekit-client` 2.23.0; Python 1.2.1, whose core is the Rust SDK's).

use std::time::Duration;

use crate::chance::Stream;

/// Which SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sdk {
    /// `livekit-client` in Chromium.
    Js,
    /// The Rust core: Python, Node, Unity, C++.
    Rust,
}

/// Tries of one reconnect before the session is given up.
pub(crate) const TRIES_MAX: u8 = 10;
/// Between two pings, as we set it.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Silence after which the signalling is lost, as we set it.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence of media after which the peer connection has failed.
pub(crate) const MEDIA_TIMEOUT: Duration = Duration::from_secs(15);
/// After which Chromium races the second address.
pub(crate) const RACE_AFTER: Duration = Duration::from_millis(300);

impl Sdk {
    /// How long one try may take, and how long it takes to find out that it was in vain.
    pub(crate) fn try_timeout(self) -> Duration {
        match self {
            Sdk::Js => Duration::from_secs(15),
            // Five for the socket, three for `/validate`.
            Sdk::Rust => Duration::from_secs(8),
        }
    }

    /// Tries of a first connect; after them the application asks again.
    pub(crate) fn first_tries(self) -> u8 {
        match self {
            Sdk::Js => 1,
            Sdk::Rust => 4,
        }
    }

    /// From a lost socket, or a try that failed, to try number `tries` (from 0).
    pub(crate) fn pause(self, tries: u8, chance: &mut Stream) -> Duration {
        match (self, tries) {
            (Sdk::Js, 0) => chance.millis(0, 500),
            (Sdk::Js, 1) => Duration::from_millis(300),
            (Sdk::Js, 2) => Duration::from_millis(1_200) + chance.millis(0, 1_000),
            (Sdk::Js, 3) => Duration::from_millis(2_700) + chance.millis(0, 1_000),
            (Sdk::Js, 4) => Duration::from_millis(4_800) + chance.millis(0, 1_000),
            (Sdk::Js, _) => Duration::from_millis(7_000) + chance.millis(0, 1_000),
            (Sdk::Rust, 0) => Duration::from_millis(20),
            (Sdk::Rust, _) => chance.millis(0, (300 << (tries - 1).min(5)).min(7_000)),
        }
    }

    /// From `leave{RECONNECT}` to the new request.
    pub(crate) fn pause_when_told(self) -> Duration {
        match self {
            Sdk::Js => Duration::from_millis(500),
            Sdk::Rust => Duration::from_millis(50),
        }
    }

    /// From `leave{RECONNECT}` in answer to a resume to the request for a join.
    pub(crate) fn pause_when_gone(self) -> Duration {
        match self {
            Sdk::Js => Duration::from_millis(200),
            Sdk::Rust => Duration::from_millis(200),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_for_good_they_give_up_when_they_were_seen_to() {
        let mut chance = Stream::named(3, "sdk");
        for (sdk, low, high) in [(Sdk::Js, 40.0, 52.0), (Sdk::Rust, 12.0, 32.0)] {
            let spans: Vec<f64> = (0..200)
                .map(|_| {
                    (0..TRIES_MAX).map(|tries| sdk.pause(tries, &mut chance).as_secs_f64()).sum()
                })
                .collect();
            let mean = spans.iter().sum::<f64>() / spans.len() as f64;
            assert!((low..high).contains(&mean), "{sdk:?} {mean}");
        }
    }
}
