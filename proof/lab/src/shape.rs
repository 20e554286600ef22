//! What one direction of a link does to packets, as plain values with their limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest delay, jitter or queue of a link: more is no network but a cut.
pub const DELAY_MAX: Duration = Duration::from_secs(10);
/// Slowest link, bit/s: slower ones would hold a single packet for longer than [`DELAY_MAX`].
pub const RATE_MIN: u64 = 8_000;
/// Backlog that a link with a rate takes unless it is told otherwise.
const QUEUE: Duration = Duration::from_millis(100);
/// How far a reordered packet is held back unless it is told otherwise: later than its neighbours in any media stream.
const REORDER_BY: Duration = Duration::from_millis(10);

/// One direction of a link. The default is a wire: no delay, nothing lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// From the sender to the receiver, one way.
    #[serde(rename = "delay_ms", with = "millis")]
    pub delay: Duration,
    /// Added to the delay of each packet: uniform from nothing up to this.
    #[serde(rename = "jitter_ms", with = "millis")]
    pub jitter: Duration,
    /// Whether jitter lets packets overtake each other. Without, a late one holds up those behind it, as a queue does.
    pub overtaking: bool,
    /// Probability that a packet is lost, each by itself.
    pub loss: f64,
    /// Loss in bursts, on top of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// Probability that a packet is held back, and so overtaken.
    pub reorder: f64,
    /// How long a packet that is held back is later than it would have been.
    #[serde(rename = "reorder_by_ms", with = "millis")]
    pub reorder_by: Duration,
    /// Bits a second, counted in IP packets; none is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    /// The longest that a packet waits for the rate. One that would wait longer is dropped.
    #[serde(rename = "queue_ms", with = "millis")]
    pub queue: Duration,
}

/// Gilbert and Elliott's channel (Elliott 1963): it turns bad, loses much for a while, and turns good again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Probability at each packet that a good channel turns bad.
    pub start: f64,
    /// Probability at each packet that a bad channel turns good: bursts last `1 / end` packets in the mean.
    pub end: f64,
    /// Probability that a packet is lost while the channel is bad.
    #[serde(default = "certain")]
    pub loss: f64,
}

/// A shape that no link can have.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ShapeError {
    /// Not a number from 0 to 1.
    #[error("{name} is {value}: a probability is from 0 to 1")]
    Probability {
        /// Which of them.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// Longer than [`DELAY_MAX`].
    #[error("{name} is {value:?}: at most {DELAY_MAX:?}")]
    TooLong {
        /// Which of them.
        name: &'static str,
        /// What was given.
        value: Duration,
    },
    /// Slower than [`RATE_MIN`].
    #[error("rate is {0} bit/s: at least {RATE_MIN}")]
    TooSlow(u64),
    /// A channel that would have to turn both ways at one packet.
    #[error("burst.start and burst.end are together {0}: at most 1")]
    Restless(f64),
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            overtaking: false,
            loss: 0.0,
            burst: None,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: REORDER_BY,
            rate: None,
            queue: QUEUE,
        }
    }
}

impl Shape {
    /// A link that only delays, by so many milliseconds one way: half of the round trip. Nonsense is no delay.
    #[must_use]
    pub fn one_way_ms(delay: f64) -> Self {
        let delay = Duration::try_from_secs_f64(delay / 1000.0).unwrap_or_default();
        Shape { delay, ..Shape::default() }
    }

    /// Whether a link can be so.
    ///
    /// # Errors
    /// The first quantity that is out of its range.
    pub fn check(&self) -> Result<(), ShapeError> {
        let burst = self.burst.unwrap_or(Burst { start: 0.0, end: 1.0, loss: 0.0 });
        for (name, value) in [
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("burst.start", burst.start),
            ("burst.end", burst.end),
            ("burst.loss", burst.loss),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(ShapeError::Probability { name, value });
            }
        }
        if burst.start + burst.end > 1.0 {
            return Err(ShapeError::Restless(burst.start + burst.end));
        }
        for (name, value) in [
            ("delay_ms", self.delay),
            ("jitter_ms", self.jitter),
            ("reorder_by_ms", self.reorder_by),
            ("queue_ms", self.queue),
        ] {
            if value > DELAY_MAX {
                return Err(ShapeError::TooLong { name, value });
            }
        }
        match self.rate {
            Some(rate) if rate < RATE_MIN => Err(ShapeError::TooSlow(rate)),
            _ => Ok(()),
        }
    }
}

fn certain() -> f64 {
    1.0
}

/// Durations as milliseconds, the way people write them.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64() * 1000.0)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Duration, D::Error> {
        let value = f64::deserialize(from)?;
        Duration::try_from_secs_f64(value / 1000.0)
            .map_err(|_| D::Error::custom(format!("{value} is no number of milliseconds")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Shape, String> {
        let shape: Shape = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        shape.check().map_err(|error| error.to_string())?;
        Ok(shape)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let shape = Shape {
            jitter: Duration::from_millis(3),
            overtaking: true,
            loss: 0.25,
            burst: Some(Burst { start: 0.01, end: 0.2, loss: 0.9 }),
            rate: Some(5_000_000),
            ..Shape::one_way_ms(40.5)
        };
        assert_eq!(read(&toml::to_string(&shape).unwrap()), Ok(shape));
        assert_eq!(read(""), Ok(Shape::default()));
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (text, said) in [
            ("loss = 1.5", "loss is 1.5: a probability is from 0 to 1"),
            ("reorder = nan", "reorder is NaN: a probability is from 0 to 1"),
            (
                "burst = { start = 0.6, end = 0.6 }",
                "burst.start and burst.end are together 1.2: at most 1",
            ),
            ("delay_ms = 10001", "delay_ms is 10.001s: at most 10s"),
            ("delay_ms = -1", "-1 is no number of milliseconds"),
            ("rate = 100", "rate is 100 bit/s: at least 8000"),
        ] {
            assert_eq!(read(text), Err(said.to_owned()), "{text}");
        }
        assert!(read("delay = 5").unwrap_err().starts_with("unknown field `delay`"));
    }
}
