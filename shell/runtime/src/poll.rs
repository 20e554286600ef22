//! Waiting: one thread sleeps on its sockets and on a bell that other threads ring.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use crate::udp::UdpSocketSet;

/// The bell's mark among the sockets' indices.
const WAKE: u64 = u64::MAX;
/// Events taken per wait: a shard has a socket per address family, rarely more.
const EVENTS_MAX: usize = 16;

/// A bell (eventfd) that wakes a [`Poller`]; copies ring the same one.
#[derive(Clone, Debug)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// Makes a bell.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> io::Result<Wake> {
        // SAFETY: no pointers; the descriptor, if any, is new and nobody else's.
        let fd = unsafe { owned(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)) }?;
        Ok(Wake(Arc::new(fd)))
    }

    /// Rings it. Ringing often before the poller looks is ringing once.
    pub fn ring(&self) {
        let one = 1u64;
        // A full counter is a bell that rings already, so the result says nothing.
        // SAFETY: eight bytes of an integer of ours.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Quiets it. What rings after this wakes again.
    pub fn quiet(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes of an integer of ours; a bell that does not ring answers EAGAIN, which is as good.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Sockets with datagrams, a bit each; those past 63 share the last bit.
    sockets: u64,
    /// The bell rings.
    pub woken: bool,
}

impl Ready {
    /// Whether datagrams may wait on this socket.
    pub fn socket(&self, index: u8) -> bool {
        self.sockets & bit(u64::from(index)) != 0
    }
}

/// Waits for the sockets of a set and for a bell (epoll, level-triggered).
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    /// Kept open while it is watched.
    _wake: Wake,
}

impl Poller {
    /// Watches `sockets`, which must outlive the poller to be of use, and `wake`.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(sockets: &UdpSocketSet, wake: &Wake) -> io::Result<Poller> {
        // SAFETY: no pointers; the descriptor, if any, is new and nobody else's.
        let epoll = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }?;
        let poller = Poller { epoll, _wake: wake.clone() };
        for (index, fd) in (0..).zip(sockets.fds()) {
            poller.watch(fd, index)?;
        }
        poller.watch(wake.0.as_raw_fd(), WAKE)?;
        Ok(poller)
    }

    fn watch(&self, fd: RawFd, mark: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.unsigned_abs(), u64: mark };
        // SAFETY: the pointer is to an event of ours, which the kernel copies.
        let result = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until a socket has datagrams, the bell rings or `timeout` is over, whichever is first; `None` waits for
    /// ever. A signal ends the wait with nothing ready.
    ///
    /// # Errors
    /// Only if the poller is used wrongly; the caller may take it for a bug.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let count = i32::try_from(EVENTS_MAX).expect("a few events");
        // Rounded up to whole milliseconds: epoll_pwait2 is finer but is missing in some sandboxes, and rounding down
        // would spin.
        let millis = timeout.map_or(-1, |timeout| {
            i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        // SAFETY: `count` events of ours to write.
        let got =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), count, millis) };
        let Ok(got) = usize::try_from(got) else {
            let error = io::Error::last_os_error();
            let interrupted = error.kind() == io::ErrorKind::Interrupted;
            return if interrupted { Ok(Ready::default()) } else { Err(error) };
        };
        let mut ready = Ready::default();
        for event in &events[..got] {
            match event.u64 {
                WAKE => ready.woken = true,
                index => ready.sockets |= bit(index),
            }
        }
        Ok(ready)
    }
}

fn bit(index: u64) -> u64 {
    1 << index.min(63)
}

/// Takes over a descriptor that a system call returned.
///
/// # Safety
/// `fd` must be negative or open and owned by nobody.
unsafe fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: by this function's own contract.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, thread, time::Instant};

    use super::*;

    fn poller() -> (UdpSocketSet, Wake, Poller) {
        let sockets =
            UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()])
                .unwrap();
        let wake = Wake::new().unwrap();
        let poller = Poller::new(&sockets, &wake).unwrap();
        (sockets, wake, poller)
    }

    #[test]
    fn the_bell_wakes_until_it_is_quieted() {
        let (_sockets, wake, poller) = poller();
        let bell = wake.clone();
        let ringer = thread::spawn(move || bell.ring());
        assert!(poller.wait(None).unwrap().woken);
        ringer.join().unwrap();
        wake.ring();
        assert!(poller.wait(None).unwrap().woken);
        wake.quiet();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), Ready::default());
        wake.quiet();
    }

    #[test]
    fn a_datagram_names_its_socket() {
        let (sockets, _wake, poller) = poller();
        let peer = UdpSocket::bind("[::1]:0").unwrap();
        peer.send_to(&[1], sockets.addresses()[1]).unwrap();
        let ready = poller.wait(None).unwrap();
        assert!(ready.socket(1) && !ready.socket(0) && !ready.woken);
    }

    #[test]
    fn a_timeout_is_not_cut_short() {
        let (_sockets, _wake, poller) = poller();
        let start = Instant::now();
        let timeout = Duration::from_micros(5_300);
        assert_eq!(poller.wait(Some(timeout)).unwrap(), Ready::default());
        assert!(start.elapsed() >= timeout);
    }
}
