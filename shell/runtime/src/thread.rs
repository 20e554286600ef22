//! Threads and their clocks: pinning a shard to a core, the CPU time it used.

use std::{io, mem, time::Duration};

/// How many cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Pins the calling thread to the `nth` core that it may run on, counted from zero and wrapping around.
///
/// # Errors
/// When the system refuses, as some sandboxes do; the thread then runs where it did.
pub fn pin_to_core(nth: usize) -> io::Result<()> {
    // SAFETY: a CPU set is a plain bit mask, for which all zeroes is a value.
    let mut allowed: libc::cpu_set_t = unsafe { mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: pointer and size describe `allowed`; pid 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size, &mut allowed) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let limit = usize::try_from(libc::CPU_SETSIZE).unwrap_or_default();
    // SAFETY: `core` stays below CPU_SETSIZE, the number of bits in the set.
    let cores = || (0..limit).filter(|&core| unsafe { libc::CPU_ISSET(core, &allowed) });
    let count = cores().count();
    let Some(core) = nth.checked_rem(count).and_then(|nth| cores().nth(nth)) else {
        return Err(io::Error::other("the thread may run on no core"));
    };
    // SAFETY: as above, all zeroes is a value, `core` is below CPU_SETSIZE, pointer and size describe `only`.
    let refused = unsafe {
        let mut only: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut only);
        libc::sched_setaffinity(0, size, &only) != 0
    };
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// CPU time that the calling thread has used since it began.
pub fn thread_cpu_time() -> Duration {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that all threads of the process have used since it began.
pub fn process_cpu_time() -> Duration {
    read_clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Reads one of the kernel's clocks that every Linux since 2.6.39 has.
pub(crate) fn read_clock(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of ours.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "clock {clock} exists on every supported kernel");
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_runs_on_one_core() {
        std::thread::spawn(|| {
            pin_to_core(cores() + 1).unwrap();
            assert_eq!(cores(), 1);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let before = thread_cpu_time();
        let mut sum = 0u64;
        while thread_cpu_time() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(thread_cpu_time() > before);
        assert!(process_cpu_time() >= thread_cpu_time());
    }
}
