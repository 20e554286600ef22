//! What happened, as one number and, when somebody wants to read it, as a timeline.

use std::mem;

use outlast_model::Time;

use crate::event::Event;

/// The hash of all that has happened, and the lines that were told.
pub(crate) struct Trace {
    hash: u64,
    lines: Option<Vec<(Time, String)>>,
}

impl Trace {
    pub(crate) fn new(telling: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: telling.then(Vec::new) }
    }

    /// Mixes a number in.
    pub(crate) fn mix(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    pub(crate) fn event(&mut self, time: Time, event: &Event) {
        self.mix(time.as_nanos());
        self.mix(number(event));
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn is_telling(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn tell(&mut self, time: Time, line: String) {
        if let Some(lines) = &mut self.lines {
            lines.push((time, line));
        }
    }

    pub(crate) fn take(&mut self) -> Vec<(Time, String)> {
        self.lines.as_mut().map(mem::take).unwrap_or_default()
    }
}

/// An event's kind and numbers in one.
fn number(event: &Event) -> u64 {
    let pair = |kind: u64, a: u64, b: u64| kind << 56 ^ a << 24 ^ b;
    match event {
        Event::Wake { process, life } => pair(1, (*process).into(), (*life).into()),
        Event::Tick { process, life } => pair(2, (*process).into(), (*life).into()),
        Event::Datagram { slot } => pair(3, (*slot).into(), 0),
        Event::Dial { conn } => pair(4, (*conn).into(), 0),
        Event::Dialled { conn, accepted } => pair(5, (*conn).into(), (*accepted).into()),
        Event::Arrive { conn, side } => pair(6, (*conn).into(), (*side).into()),
        Event::Resend { conn, side } => pair(7, (*conn).into(), (*side).into()),
        Event::Reset { conn, side } => pair(8, (*conn).into(), (*side).into()),
        Event::DialLate { conn } => pair(9, (*conn).into(), 0),
        Event::Stream { gateway, node, .. } => pair(10, (*gateway).into(), (*node).into()),
        Event::Worked { conn, .. } => pair(11, (*conn).into(), 0),
        Event::Client { client, timer, token } => {
            pair(12, u64::from(*client) << 8 | *timer as u64, (*token).into())
        }
        Event::EngineCall { slot } => pair(13, (*slot).into(), 0),
        Event::EngineReply { slot } => pair(14, (*slot).into(), 0),
        Event::Begin { fault } => pair(15, (*fault).into(), 0),
        Event::End { fault } => pair(16, (*fault).into(), 0),
        Event::Flip { fault } => pair(17, (*fault).into(), 0),
        Event::Restart { process, life } => pair(18, (*process).into(), (*life).into()),
        Event::Names => 19 << 56,
        Event::Stock => 20 << 56,
        Event::Replicate => 21 << 56,
        Event::Rule { client } => 22 << 56 ^ u64::from(*client),
        Event::RuleCall { slot } => 23 << 56 ^ u64::from(*slot),
        Event::RuleAnswer { slot } => 24 << 56 ^ u64::from(*slot),
    }
}
