//! Looks at the clients' gateway all the time: when the engine has decided claims, what memory it takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    fleet,
    ledger::Ledger,
    scrape::{self, Directory},
};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Looks at memory are this many times rarer.
const MEMORY_EVERY: u32 = 10;

/// All that was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// When there were more decided claims than at the look before.
    pub(crate) decided: Vec<Duration>,
    /// Decided claims.
    pub(crate) claims: f64,
    /// When a partition counted as away.
    pub(crate) away: Vec<Duration>,
    /// Claims without an answer, and rooms placed without the directory.
    pub(crate) undecided: f64,
    /// See `undecided`.
    pub(crate) provisional: f64,
    /// Of each gateway, in KiB, with the time.
    pub(crate) memory: Vec<Vec<(Duration, u64)>>,
}

/// Looks until it is ended.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    /// At the gateway of `region`; memory of `gateways`, by their processes. Must be called where gateways are reached from.
    pub(crate) fn start(region: usize, gateways: Vec<u32>, ledger: Arc<Ledger>) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        // It is in the network of the thread that starts it.
        let thread = thread::spawn(move || {
            let mut seen = Seen { memory: vec![Vec::new(); gateways.len()], ..Seen::default() };
            let (mut last, mut round) = (Directory::default(), 0_u32);
            while !ended.load(Ordering::Relaxed) {
                if let Ok(page) = scrape::page(fleet::admin(region), "/metrics") {
                    let now = Directory::read(&page);
                    seen.count(ledger.now(), last, now);
                    last = now;
                }
                if round.is_multiple_of(MEMORY_EVERY) {
                    seen.weigh(ledger.now(), &gateways);
                }
                round += 1;
                thread::sleep(LOOK_INTERVAL);
            }
            seen
        });
        Watch { stop, thread }
    }

    /// All that was seen.
    ///
    /// # Errors
    /// When looking broke.
    pub(crate) fn end(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("looking at gateways broke"))
    }
}

impl Seen {
    fn weigh(&mut self, at: Duration, gateways: &[u32]) {
        for (sizes, process) in self.memory.iter_mut().zip(gateways) {
            sizes.extend(scrape::resident_kib(*process).map(|size| (at, size)));
        }
    }

    fn count(&mut self, at: Duration, last: Directory, now: Directory) {
        // A gateway that was started again counts from 0.
        let rise = |last: f64, now: f64| if now < last { now } else { now - last };
        let decided = rise(last.decided, now.decided);
        if decided > 0.0 {
            self.decided.push(at);
        }
        self.claims += decided;
        if now.away > 0.0 {
            self.away.push(at);
        }
        self.undecided += rise(last.undecided, now.undecided);
        self.provisional += rise(last.provisional, now.provisional);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_gateway_counts_anew() {
        let mut seen = Seen::default();
        let mut last = Directory::default();
        for (ms, decided, provisional) in [(0, 5.0, 1.0), (100, 5.0, 4.0), (200, 2.0, 2.0)] {
            let now = Directory { decided, provisional, ..Directory::default() };
            seen.count(Duration::from_millis(ms), last, now);
            last = now;
        }
        assert_eq!(seen.decided, [0, 200].map(Duration::from_millis));
        assert!((seen.provisional - 6.0).abs() < 1e-9);
        assert!((seen.claims - 7.0).abs() < 1e-9);
    }
}
