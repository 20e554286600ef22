//! Datagrams out: runs of equal-size datagrams to one address, 64 runs with one `sendmmsg`, each run one message that
//! the kernel cuts (UDP_SEGMENT). A full socket buffer drops: media that waits is worthless.

use std::{io, net::SocketAddr, os::fd::RawFd, ptr};

use crate::{
    address::{self, Name},
    udp::UdpSocketSet,
};

/// Messages per system call; groups of 4 to 200 measured alike.
const MESSAGES_MAX: usize = 64;
/// Segments that the oldest kernels with UDP_SEGMENT take in one message.
const SEGMENTS_MAX: usize = 64;
/// Bytes in one message: an IPv4 packet's 65,535 less room for headers.
const MESSAGE_BYTES_MAX: usize = 65_000;

/// Datagrams to one address: `bytes` cut into pieces of `segment` bytes, the last of which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Index of the socket to send from.
    pub socket: u8,
    /// Where to; of the socket's own family.
    pub address: SocketAddr,
    /// The datagrams, one after the other.
    pub bytes: &'a [u8],
    /// Length of each datagram but perhaps the last; at least 1.
    pub segment: usize,
}

/// What became of the datagrams, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Their payload, in bytes.
    pub bytes: u64,
    /// Datagrams dropped because the socket's buffer was full, or because the sender was told to stop.
    pub dropped: u64,
    /// Datagrams that the kernel refused: no route, too long, wrong family.
    pub refused: u64,
    /// System calls made.
    pub calls: u64,
}

/// A control message that holds UDP_SEGMENT: 24 bytes on 64-bit systems, where it must be 8-aligned.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 32]);

/// Messages of one socket that wait for the next system call.
struct Stage {
    fd: RawFd,
    len: usize,
    names: Box<[Name]>,
    name_lens: Box<[libc::socklen_t]>,
    parts: Box<[libc::iovec]>,
    segments: Box<[u16]>,
    controls: Box<[Control]>,
    headers: Box<[libc::mmsghdr]>,
}

/// Sends runs from the sockets of one set; its buffers are allocated once.
pub struct UdpSender {
    stages: Vec<Stage>,
    gso: bool,
    counters: SendCounters,
}

// SAFETY: the raw pointers in the stages are written and read within one call of `send`, never across two.
unsafe impl Send for UdpSender {}

impl UdpSender {
    /// A sender for `sockets`. Asks the kernel whether it cuts messages (UDP_SEGMENT, Linux 4.18); without it every
    /// datagram is a message of its own.
    pub fn new(sockets: &UdpSocketSet) -> UdpSender {
        let gso = sockets.fds().all(cuts_messages);
        UdpSender {
            stages: sockets.fds().map(Stage::new).collect(),
            gso,
            counters: SendCounters::default(),
        }
    }

    /// The same, but never with UDP_SEGMENT.
    pub fn without_gso(sockets: &UdpSocketSet) -> UdpSender {
        UdpSender { gso: false, ..UdpSender::new(sockets) }
    }

    /// Whether runs go out as one message each.
    pub fn gso(&self) -> bool {
        self.gso
    }

    /// What became of everything sent so far.
    pub fn counters(&self) -> SendCounters {
        self.counters
    }

    /// Sends all runs, in order per socket. Never blocks and never fails: what the kernel does not take is dropped and
    /// counted. A run for a socket that the set does not have is refused.
    pub fn send<'a>(&mut self, runs: impl IntoIterator<Item = Run<'a>>) {
        self.send_while(runs, || true);
    }

    /// The same, but asks `go_on` before every system call; after its first `false` it is not asked again, nothing more
    /// is sent, and the rest counts as dropped. Returns whether it was never `false`.
    pub fn send_while<'a>(
        &mut self,
        runs: impl IntoIterator<Item = Run<'a>>,
        mut go_on: impl FnMut() -> bool,
    ) -> bool {
        let UdpSender { stages, gso, counters } = self;
        let mut gate = Gate { go_on: &mut go_on, open: true };
        for run in runs {
            let segment = run.segment.max(1);
            let Some(stage) = stages.get_mut(usize::from(run.socket)) else {
                counters.refused += datagrams(run.bytes.len(), segment);
                continue;
            };
            let Ok(cut) = u16::try_from(segment) else {
                counters.refused += datagrams(run.bytes.len(), segment);
                continue;
            };
            let pieces =
                if *gso { (MESSAGE_BYTES_MAX / segment).clamp(1, SEGMENTS_MAX) } else { 1 };
            for message in run.bytes.chunks(segment * pieces) {
                if stage.len == MESSAGES_MAX {
                    stage.flush(gso, counters, &mut gate);
                }
                stage.push(run.address, message, cut);
            }
        }
        for stage in stages {
            stage.flush(gso, counters, &mut gate);
        }
        gate.open
    }
}

/// Whether the sender may still send: shut for good by the first `false`.
struct Gate<'a> {
    go_on: &'a mut dyn FnMut() -> bool,
    open: bool,
}

impl Gate<'_> {
    fn is_open(&mut self) -> bool {
        self.open = self.open && (self.go_on)();
        self.open
    }
}

impl Stage {
    fn new(fd: RawFd) -> Stage {
        // SAFETY: a message header is integers and pointers, for which all zeroes is a value.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Stage {
            fd,
            len: 0,
            names: vec![address::empty(); MESSAGES_MAX].into(),
            name_lens: vec![0; MESSAGES_MAX].into(),
            parts: vec![part; MESSAGES_MAX].into(),
            segments: vec![0; MESSAGES_MAX].into(),
            controls: vec![Control([0; 32]); MESSAGES_MAX].into(),
            headers: vec![header; MESSAGES_MAX].into(),
        }
    }

    /// Notes one message; the stage must have room, and `bytes` must live until it is flushed.
    fn push(&mut self, address: SocketAddr, bytes: &[u8], segment: u16) {
        let at = self.len;
        self.name_lens[at] = address::write(address, &mut self.names[at]);
        self.parts[at] =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.segments[at] = segment;
        self.len += 1;
    }

    /// Sends what is noted while the gate is open; the stage is empty after it.
    fn flush(&mut self, gso: &mut bool, counters: &mut SendCounters, gate: &mut Gate<'_>) {
        let len = std::mem::take(&mut self.len);
        for at in 0..len {
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = (&raw mut self.names[at]).cast();
            header.msg_namelen = self.name_lens[at];
            header.msg_iov = &raw mut self.parts[at];
            header.msg_iovlen = 1;
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
            if self.parts[at].iov_len > usize::from(self.segments[at]) {
                write_segment(header, &mut self.controls[at], self.segments[at]);
            }
        }
        let mut done = 0;
        while done < len {
            if !gate.is_open() {
                counters.dropped += (done..len).map(|at| self.datagrams_in(at)).sum::<u64>();
                return;
            }
            let rest = &mut self.headers[done..len];
            let count = u32::try_from(rest.len()).expect("a stage is 64 messages");
            counters.calls += 1;
            // SAFETY: `count` headers whose pointers were set above from this stage's own arrays; the payloads are
            // borrowed by the caller for the whole of `send`, which flushes before it returns.
            let taken =
                unsafe { libc::sendmmsg(self.fd, rest.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
            match usize::try_from(taken) {
                Ok(taken) if taken > 0 => {
                    for at in done..done + taken {
                        counters.sent += self.datagrams_in(at);
                        counters.bytes += self.parts[at].iov_len as u64;
                    }
                    done += taken;
                }
                _ => done = self.refused(done, len, gso, counters, gate),
            }
        }
    }

    /// The kernel refused message `at`: returns where to go on.
    fn refused(
        &mut self,
        at: usize,
        len: usize,
        gso: &mut bool,
        counters: &mut SendCounters,
        gate: &mut Gate<'_>,
    ) -> usize {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or_default();
        let cut = self.headers[at].msg_hdr.msg_controllen > 0;
        match errno {
            libc::EINTR => at,
            libc::EAGAIN | libc::ENOBUFS => {
                counters.dropped += (at..len).map(|at| self.datagrams_in(at)).sum::<u64>();
                len
            }
            // EIO: the device cannot checksum, so the kernel will not cut for it at all. EINVAL, EMSGSIZE: a segment is
            // longer than this path's MTU; datagram by datagram the kernel fragments instead.
            libc::EIO | libc::EINVAL | libc::EMSGSIZE if cut => {
                *gso &= errno != libc::EIO;
                self.send_one_by_one(at, counters, gate);
                at + 1
            }
            _ => {
                counters.refused += self.datagrams_in(at);
                at + 1
            }
        }
    }

    /// Sends the datagrams of message `at` as messages of their own.
    fn send_one_by_one(&mut self, at: usize, counters: &mut SendCounters, gate: &mut Gate<'_>) {
        let (base, len) = (self.parts[at].iov_base, self.parts[at].iov_len);
        let segment = usize::from(self.segments[at]);
        for start in (0..len).step_by(segment) {
            if !gate.is_open() {
                counters.dropped += datagrams(len - start, segment);
                return;
            }
            let part = segment.min(len - start);
            counters.calls += 1;
            // SAFETY: `start + part` is within the payload that the caller borrows for the whole of `send`; the name
            // is this stage's own.
            let taken = unsafe {
                libc::sendto(
                    self.fd,
                    base.cast::<u8>().add(start).cast(),
                    part,
                    libc::MSG_DONTWAIT,
                    (&raw const self.names[at]).cast(),
                    self.name_lens[at],
                )
            };
            if taken >= 0 {
                counters.sent += 1;
                counters.bytes += part as u64;
            } else if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                counters.dropped += 1;
            } else {
                counters.refused += 1;
            }
        }
    }

    fn datagrams_in(&self, at: usize) -> u64 {
        datagrams(self.parts[at].iov_len, usize::from(self.segments[at]))
    }
}

fn datagrams(bytes: usize, segment: usize) -> u64 {
    bytes.div_ceil(segment) as u64
}

fn write_segment(header: &mut libc::msghdr, control: &mut Control, segment: u16) {
    let value_len = u16::BITS / 8;
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute; 24 bytes for a two-byte value, and `Control` has 32.
    let (space, len) = unsafe { (libc::CMSG_SPACE(value_len), libc::CMSG_LEN(value_len)) };
    header.msg_control = (&raw mut *control).cast();
    header.msg_controllen = space as _;
    // SAFETY: the first header of a control buffer that is aligned and long enough for one, so not null, and its data
    // has room for the value.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = libc::SOL_UDP;
        (*first).cmsg_type = libc::UDP_SEGMENT;
        (*first).cmsg_len = len as _;
        libc::CMSG_DATA(first).cast::<u16>().write_unaligned(segment);
    }
}

/// Whether the kernel knows UDP_SEGMENT on this socket.
fn cuts_messages(fd: RawFd) -> bool {
    let mut value: libc::c_int = 0;
    let mut len = u32::try_from(size_of::<libc::c_int>()).expect("an integer is a few bytes");
    // SAFETY: pointer and length describe `value`.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    result == 0
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// A socket whose missing datagram fails the test instead of stopping it.
    fn peer(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        socket
    }

    fn deliver(address: &str, gso: bool) {
        let sockets = UdpSocketSet::bind(&[address.parse().unwrap()]).unwrap();
        let mut sender =
            if gso { UdpSender::new(&sockets) } else { UdpSender::without_gso(&sockets) };
        assert_eq!(sender.gso(), gso, "every kernel since 4.18 cuts messages");
        let peers: Vec<_> = (0..100).map(|_| peer(address)).collect();
        let payloads: Vec<Vec<u8>> = (0..100u8).map(|peer| vec![peer; 1100 * 6 + 7]).collect();
        sender.send(peers.iter().zip(&payloads).map(|(peer, bytes)| Run {
            socket: 0,
            address: peer.local_addr().unwrap(),
            bytes,
            segment: 1100,
        }));
        let mut buffer = [0; 2048];
        for (peer, expected) in peers.iter().zip(0u8..) {
            for index in 0..7 {
                let (len, source) = peer.recv_from(&mut buffer).unwrap();
                assert_eq!(source, sockets.addresses()[0]);
                assert_eq!(len, if index < 6 { 1100 } else { 7 });
                assert!(buffer[..len].iter().all(|byte| *byte == expected));
            }
        }
        let counters = sender.counters();
        assert_eq!((counters.sent, counters.bytes), (700, 100 * 6607));
        assert_eq!((counters.dropped, counters.refused), (0, 0));
        assert_eq!(counters.calls, if gso { 2 } else { 11 });
    }

    #[test]
    fn runs_arrive_over_ipv4_cut_by_the_kernel() {
        deliver("127.0.0.1:0", true);
    }

    #[test]
    fn runs_arrive_over_ipv4_one_by_one() {
        deliver("127.0.0.1:0", false);
    }

    #[test]
    fn runs_arrive_over_ipv6_cut_by_the_kernel() {
        deliver("[::1]:0", true);
    }

    #[test]
    fn runs_arrive_over_ipv6_one_by_one() {
        deliver("[::1]:0", false);
    }

    #[test]
    fn runs_of_two_sockets_interleave() {
        let sockets =
            UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()])
                .unwrap();
        let peers = [peer("127.0.0.1:0"), peer("[::1]:0")];
        let mut sender = UdpSender::new(&sockets);
        sender.send((0..10usize).map(|index| Run {
            socket: u8::try_from(index % 2).unwrap(),
            address: peers[index % 2].local_addr().unwrap(),
            bytes: &[7; 10],
            segment: 10,
        }));
        let mut buffer = [0; 64];
        for peer in &peers {
            for _ in 0..5 {
                assert_eq!(peer.recv(&mut buffer).unwrap(), 10);
            }
        }
        assert_eq!(sender.counters().calls, 2);
    }

    #[test]
    fn one_bad_run_does_not_keep_the_others() {
        let sockets = UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let peer = peer("127.0.0.1:0");
        let good =
            Run { socket: 0, address: peer.local_addr().unwrap(), bytes: &[1; 30], segment: 10 };
        let wrong_family = Run { address: "[::1]:9".parse().unwrap(), ..good };
        let no_socket = Run { socket: 4, ..good };
        let mut sender = UdpSender::new(&sockets);
        sender.send([wrong_family, good, no_socket, good]);
        let mut buffer = [0; 64];
        for _ in 0..6 {
            assert_eq!(peer.recv(&mut buffer).unwrap(), 10);
        }
        let counters = sender.counters();
        assert_eq!((counters.sent, counters.refused), (6, 6));
    }

    #[test]
    fn nothing_is_sent_after_the_gate_has_shut() {
        let sockets = UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let peer = peer("127.0.0.1:0");
        let address = peer.local_addr().unwrap();
        let mut sender = UdpSender::without_gso(&sockets);
        let mut asked = 0;
        let runs = (0..300).map(|_| Run { socket: 0, address, bytes: &[1; 10], segment: 10 });
        let whole = sender.send_while(runs, || {
            asked += 1;
            asked <= 2
        });
        assert!(!whole);
        assert_eq!(asked, 3, "asked between groups, and never again after a no");
        let counters = sender.counters();
        let groups = 2 * MESSAGES_MAX as u64;
        assert_eq!((counters.calls, counters.sent, counters.dropped), (2, groups, 300 - groups));
        let mut buffer = [0; 64];
        for _ in 0..groups {
            assert_eq!(peer.recv(&mut buffer).unwrap(), 10);
        }
        peer.set_nonblocking(true).unwrap();
        assert!(peer.recv(&mut buffer).is_err());
        assert!(sender.send_while([], || false), "with nothing to send nobody is asked");
    }

    #[test]
    fn more_segments_than_one_message_takes_are_split() {
        let sockets = UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let peer = peer("127.0.0.1:0");
        let mut sender = UdpSender::new(&sockets);
        let address = peer.local_addr().unwrap();
        let mut buffer = [0; 2048];
        sender.send([Run { socket: 0, address, bytes: &[1; 100], segment: 1 }]);
        for _ in 0..100 {
            assert_eq!(peer.recv(&mut buffer).unwrap(), 1);
        }
        sender.send([Run { socket: 0, address, bytes: &[2; 70_000], segment: 1400 }]);
        for _ in 0..50 {
            assert_eq!(peer.recv(&mut buffer).unwrap(), 1400);
        }
        assert_eq!(sender.counters().sent, 150);
    }
}
