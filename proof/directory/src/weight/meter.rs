//! What a process costs, as the kernel counts it.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

/// Of one process, or of some threads of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Ticks on a core so far, in its own code and in the kernel's.
    pub(super) ticks: u64,
    /// Resident memory, in bytes; 0 for threads.
    pub(super) resident: u64,
}

/// How busy the machine is besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Machine {
    /// The load average of the last minute.
    pub(super) load: f64,
    /// Ticks of all cores so far in which they did something.
    #[serde(skip)]
    pub(super) busy: u64,
}

/// The process `id`.
pub(super) fn process(id: u32) -> anyhow::Result<Cost> {
    let stat = read(&format!("/proc/{id}/stat"))?;
    let status = read(&format!("/proc/{id}/status"))?;
    let ticks = ticks(&stat).context("a process's stat is not as it always was")?;
    Ok(Cost { ticks, resident: resident(&status).unwrap_or(0) })
}

/// The threads of this process that are called `name`.
pub(super) fn threads(name: &str) -> anyhow::Result<Cost> {
    let mut cost = Cost::default();
    for thread in fs::read_dir("/proc/self/task").context("listing threads")? {
        // One that has ended meanwhile is not there.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
        if called(&stat) == Some(name) {
            cost.ticks += ticks(&stat).unwrap_or(0);
        }
    }
    Ok(cost)
}

pub(super) fn machine() -> anyhow::Result<Machine> {
    let load = read("/proc/loadavg")?;
    let load = load.split(' ').next().and_then(|load| load.parse().ok());
    let busy = busy(&read("/proc/stat")?).context("the machine's stat is not as it always was")?;
    Ok(Machine { load: load.context("no load average")?, busy })
}

/// Ticks a second.
pub(super) fn hertz() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn read(path: &str) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

/// The name in a `stat`, which may have any characters.
fn called(stat: &str) -> Option<&str> {
    let (_, rest) = stat.split_once('(')?;
    rest.rsplit_once(')').map(|(name, _)| name)
}

/// Fields 14 and 15 of a `stat` (proc(5)).
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

/// All of the first line but what is idle or waits for a disk.
fn busy(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.split_whitespace().skip(1);
    let fields: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    // The time of guests is in that of users.
    let all: u64 = fields.iter().take(8).sum();
    Some(all - fields.get(3)? - fields.get(4)?)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[test]
    fn a_name_may_be_anything() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194560 100 0 0 0 250 17 3 4 20 0 9 0 5 6 7";
        assert_eq!((called(stat), ticks(stat)), (Some("a) b (c"), Some(267)));
        assert_eq!((called("12"), ticks("12 (a) S 1")), (None, None));
    }

    #[test]
    fn memory_and_the_machine() {
        assert_eq!(resident("Name:\ta\nVmRSS:\t   2048 kB\n"), Some(2 << 20));
        assert_eq!(busy("cpu  10 2 3 900 50 4 5 6 7 0\ncpu0 1"), Some(30));
    }

    #[test]
    fn a_thread_that_works_has_ticks() {
        let work = std::thread::Builder::new().name("works".to_owned());
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let work = work.spawn(move || while !stop.load(Ordering::Relaxed) {}).unwrap();
        while threads("works").unwrap().ticks == 0 {}
        done.store(true, Ordering::Relaxed);
        work.join().unwrap();
        assert_eq!(threads("nobody").unwrap(), Cost::default());
        assert!(process(std::process::id()).unwrap().resident > 0);
    }
}
