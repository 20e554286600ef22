//! Who speaks, from the audio-level extension (RFC 6464): per publication and window, the loudest level weighed by
//! how long it was active, smoothed and quantised.

use outlast_model::Time;

/// Span over which speech is weighed.
pub(crate) const WINDOW_MS: u64 = 400;
/// In -dBov: louder (lower) than this is speech.
const ACTIVE_LEVEL: u8 = 35;
/// Least share of the window that is speech, in percent: less catches coughs, more misses short words.
const ACTIVE_SHARE: u32 = 40;
/// Weight of the newest window: two windows settle a change.
const SMOOTHING: f32 = 2.0 / 3.0;
/// Steps that levels are reported in.
const STEPS: f32 = 8.0;
/// Span that one packet speaks for when its timestamps do not tell.
const PACKET_MS: u32 = 20;
/// Silence between packets (DTX) is not speech.
const PACKET_MS_MAX: u32 = 120;

/// One publication's speech.
#[derive(Default)]
pub(crate) struct Level {
    active_ms: u32,
    loudest: Option<u8>,
    last: Option<u32>,
    smoothed: f32,
}

impl Level {
    /// Notes a packet's level byte.
    pub(crate) fn observe(&mut self, byte: u8, timestamp: u32, clock_rate: u32) {
        let level = byte & 0x7f;
        let span = match self.last.map(|last| timestamp.wrapping_sub(last)) {
            Some(ticks) => u64::from(ticks) * 1_000 / u64::from(clock_rate.max(1)),
            None => PACKET_MS.into(),
        };
        self.last = Some(timestamp);
        let span = match u32::try_from(span) {
            Ok(span @ 1..=PACKET_MS_MAX) => span,
            _ => PACKET_MS,
        };
        if level < ACTIVE_LEVEL {
            self.active_ms += span;
            self.loudest = Some(self.loudest.map_or(level, |loudest| loudest.min(level)));
        }
    }

    /// Ends a window; returns the level, 0..=1 in steps of 1/8.
    pub(crate) fn close(&mut self) -> f32 {
        let window = WINDOW_MS as u32;
        let spoken = self.active_ms.min(window);
        let now = match self.loudest {
            Some(loudest) if spoken * 100 >= window * ACTIVE_SHARE => {
                let share = spoken as f32 / window as f32;
                (10_f32.powf(-f32::from(loudest) / 20.0) * share).min(1.0)
            }
            _ => 0.0,
        };
        self.active_ms = 0;
        self.loudest = None;
        self.smoothed += (now - self.smoothed) * SMOOTHING;
        let quantised = (self.smoothed * STEPS).ceil() / STEPS;
        // Half of nothing is nothing: silence ends speech within a second, not asymptotically.
        if now == 0.0 && self.smoothed < 1.0 / (2.0 * STEPS) {
            self.smoothed = 0.0;
            return 0.0;
        }
        quantised
    }
}

/// When the window that `now` lies in ends.
pub(crate) fn window_end(now: Time) -> Time {
    Time::from_millis((now.as_millis() / WINDOW_MS + 1) * WINDOW_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels after each window of 20 packets.
    fn check(windows: &[(u8, usize)]) -> Vec<f32> {
        let mut level = Level::default();
        let mut timestamp = 0_u32;
        let mut out = Vec::new();
        for (loud, active) in windows {
            let bytes = std::iter::repeat_n(*loud, *active).chain([100; 20]);
            for byte in bytes.take(20) {
                level.observe(byte | 0x80, timestamp, 48_000);
                timestamp = timestamp.wrapping_add(960);
            }
            out.push(level.close());
        }
        out
    }

    #[test]
    fn speech_is_loud_for_long_enough() {
        assert_eq!(check(&[(34, 20)])[0], 0.125);
        assert_eq!(check(&[(35, 20)])[0], 0.0);
        assert_eq!(check(&[(10, 7)])[0], 0.0);
        assert!(check(&[(10, 8)])[0] > 0.0);
        let loud = check(&[(0, 20), (0, 20), (0, 20), (0, 20)]);
        assert_eq!(loud[3], 1.0);
        assert!(loud.is_sorted());
    }

    #[test]
    fn silence_ends_speech_within_three_windows() {
        let levels = check(&[(0, 20), (0, 20), (127, 20), (127, 20), (127, 20)]);
        assert!(levels[1] > levels[2] && levels[2] > levels[3]);
        assert_eq!(levels[4], 0.0);
    }
}
