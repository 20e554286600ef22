//! Connections to one node that broke: whether there were so many at once that it is the node's doing.

use std::{collections::VecDeque, time::Duration};

use outlast_model::{Identity, Time};

/// How close together breaks must be to have one cause, and how long a client whose connection broke hears nothing: the
/// kernel resets all connections of a process that died within a few milliseconds.
pub(crate) const BREAK_WAIT: Duration = Duration::from_millis(100);
/// Clients whose connections broke together, from which on it counts against the node. One client can break its own as
/// often as it likes.
const CLIENTS_MIN: usize = 3;

/// The last breaks, each of another client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breaks(VecDeque<(Time, Identity)>);

impl Breaks {
    /// `client`'s connection broke. Returns whether those of several clients have.
    pub(crate) fn add(&mut self, now: Time, client: &Identity) -> bool {
        while self.0.pop_front_if(|(at, _)| now.since(*at) > BREAK_WAIT).is_some() {}
        self.0.retain(|(_, other)| other != client);
        self.0.push_back((now, client.clone()));
        // More would say no more.
        if self.0.len() > CLIENTS_MIN {
            self.0.pop_front();
        }
        self.0.len() >= CLIENTS_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_clients_within_the_span_are_several_and_one_is_never() {
        let mut breaks = Breaks::default();
        let mut add = |ms: u64, client: &str| breaks.add(Time::from_millis(ms), &client.into());
        for n in 0..50 {
            assert!(!add(n, "one"));
        }
        assert!(!add(50, "two"));
        assert!(!add(151, "three"), "too late for the second");
        assert!(!add(151, "one"));
        assert!(add(200, "two"));
        assert!(add(200, "four"));
        assert!(!add(400, "one"));
    }
}
