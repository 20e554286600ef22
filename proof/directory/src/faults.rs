//! Faults by schedule: what, to whom, when, for how long.

use std::{fmt, str::FromStr, thread, time::Duration};

use outlast_model::Time;
use outlast_runtime::Clock;

use crate::{chance::Chance, servers::Lab};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// None: what goes wrong then is the engine's own fault.
    None,
    /// A server's process ends and is started again.
    Kill,
    /// A server is frozen and goes on.
    Pause,
    /// A server's region is cut off from everybody.
    Cut,
    /// All servers lose all data.
    Wipe,
    /// The wall clock of a server's machine jumps, and jumps back.
    Clock,
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<FaultKind, String> {
        match text {
            "none" => Ok(FaultKind::None),
            "kill" => Ok(FaultKind::Kill),
            "pause" => Ok(FaultKind::Pause),
            "cut" => Ok(FaultKind::Cut),
            "wipe" => Ok(FaultKind::Wipe),
            "clock" => Ok(FaultKind::Clock),
            _ => Err("faults are none, kill, pause, cut, wipe and clock".to_owned()),
        }
    }
}

/// One fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Of which kind.
    pub kind: FaultKind,
    /// To which server; when `decides` is set, to whoever decides then, if anybody does.
    pub server: usize,
    /// See `server`.
    pub decides: bool,
    /// When, from the start of the load.
    pub at: Duration,
    /// For how long.
    pub span: Duration,
    /// How far a clock jumps, in seconds.
    pub jump: i64,
}

/// Load after a fault is over.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// Longest fault that is drawn, in milliseconds; the shortest is too short for anybody to notice.
const SPAN_MS: std::ops::Range<u64> = 100..5_000;
/// Longest jump of a clock that is drawn, in seconds: tombstones and summaries are kept for less.
const JUMP_MAX: u64 = 7_200;

impl Fault {
    /// The fault of `seed`, at one of `servers`, early in a load.
    pub fn draw(seed: u64, kind: FaultKind, servers: usize) -> Fault {
        let mut chance = Chance::named(seed, "fault");
        let mut jumps = Chance::named(seed, "jump");
        let jump = (1 + jumps.below(JUMP_MAX)).cast_signed();
        Fault {
            jump: if jumps.hits(50) { jump } else { -jump },
            kind,
            server: chance.index(servers.max(1)),
            decides: chance.hits(70),
            at: Duration::from_millis(1_000 + chance.below(1_000)),
            span: Duration::from_millis(SPAN_MS.start + chance.below(SPAN_MS.end - SPAN_MS.start)),
        }
    }

    /// How long a load must go on to show what comes of it.
    pub fn load_span(&self) -> Duration {
        match self.kind {
            FaultKind::None => Duration::ZERO,
            _ => self.at + self.span + AFTERWARDS,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { kind, server, decides, at, span, jump } = self;
        let whom = if *decides { "whoever decides".to_owned() } else { format!("server {server}") };
        match kind {
            FaultKind::None => f.write_str("no fault"),
            FaultKind::Wipe => write!(f, "wipe at {at:?}"),
            FaultKind::Clock => {
                write!(f, "the clock of {whom} {jump:+} s at {at:?} for {span:?}")
            }
            _ => write!(f, "{kind:?} of {whom} at {at:?} for {span:?}"),
        }
    }
}

/// When a fault was, by the load's clock.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    /// Before it was made.
    pub from: Time,
    /// When it was taken back.
    pub to: Time,
}

/// Makes `fault` happen and takes it back. Blocks for as long as it takes.
///
/// # Errors
/// When the lab cannot do it.
pub fn inflict(lab: &mut dyn Lab, fault: &Fault, clock: Clock) -> anyhow::Result<Happened> {
    thread::sleep(fault.at);
    let server = lab.decides().filter(|_| fault.decides).unwrap_or(fault.server);
    let from = clock.now();
    match fault.kind {
        FaultKind::None => {}
        FaultKind::Kill => {
            lab.kill(server)?;
            thread::sleep(fault.span);
            lab.start(server)?;
        }
        FaultKind::Pause => {
            lab.pause(server)?;
            thread::sleep(fault.span);
            lab.resume(server)?;
        }
        FaultKind::Cut => {
            lab.cut(server)?;
            thread::sleep(fault.span);
            lab.heal(server)?;
        }
        FaultKind::Wipe => lab.wipe()?,
        FaultKind::Clock => {
            lab.set_clock(server, fault.jump)?;
            thread::sleep(fault.span);
            lab.set_clock(server, 0)?;
        }
    }
    Ok(Happened { from, to: clock.now() })
}
