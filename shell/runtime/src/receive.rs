//! Datagrams in: up to 64 of them with one `recvmmsg`, into buffers that are allocated once.

use std::{io, net::SocketAddr, ptr};

use crate::{
    address::{self, Name},
    udp::UdpSocketSet,
};

/// Most datagrams that one system call brings.
pub const BATCH_DATAGRAMS: usize = 64;
/// Largest datagram that is taken, in bytes: above every path MTU that WebRTC uses. Longer ones are dropped.
pub const DATAGRAM_BYTES_MAX: usize = 2048;

/// One datagram received.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Index of the socket that it came in on.
    pub socket: u8,
    /// Who sent it; never an IPv4-mapped IPv6 address.
    pub source: SocketAddr,
    /// Its payload, ours to decrypt in place.
    pub bytes: &'a mut [u8],
}

/// Buffers for one batch of datagrams, reused for every batch.
pub struct UdpBatch {
    bytes: Box<[u8]>,
    names: Box<[Name]>,
    parts: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    received: usize,
    socket: u8,
    truncated: u64,
}

// SAFETY: the raw pointers in `parts` and `headers` are written anew by each `receive`, point into the batch's own
// heap buffers, and are read by nobody after it.
unsafe impl Send for UdpBatch {}

impl Default for UdpBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl UdpBatch {
    /// Allocates the buffers, 128 kB.
    pub fn new() -> UdpBatch {
        // SAFETY: a message header is integers and pointers, for which all zeroes is a value.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        UdpBatch {
            bytes: vec![0; BATCH_DATAGRAMS * DATAGRAM_BYTES_MAX].into(),
            names: vec![address::empty(); BATCH_DATAGRAMS].into(),
            parts: vec![part; BATCH_DATAGRAMS].into(),
            headers: vec![header; BATCH_DATAGRAMS].into(),
            received: 0,
            socket: 0,
            truncated: 0,
        }
    }

    /// Takes what waits on a socket, at most [`BATCH_DATAGRAMS`], in place of the batch before; returns how many
    /// datagrams the system handed over. 0 when nothing waits.
    ///
    /// # Errors
    /// When the system refuses, or the set has no such socket.
    pub fn receive(&mut self, sockets: &UdpSocketSet, socket: u8) -> io::Result<usize> {
        self.received = 0;
        self.socket = socket;
        let fd = sockets.fd(socket).ok_or(io::ErrorKind::NotFound)?;
        let slots = self.bytes.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        let places = slots.zip(&mut self.names).zip(&mut self.parts).zip(&mut self.headers);
        for (((slot, name), part), header) in places {
            part.iov_base = slot.as_mut_ptr().cast();
            part.iov_len = slot.len();
            name.sin6_family = 0;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen =
                u32::try_from(size_of::<Name>()).expect("an address is a few bytes");
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_flags = 0;
        }
        let count = u32::try_from(self.headers.len()).expect("a batch is 64 messages");
        // SAFETY: `count` headers, each pointing at a name, a part and a slot of ours that outlive the call and that
        // nothing else touches during it.
        let got = unsafe {
            libc::recvmmsg(
                fd,
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        match usize::try_from(got) {
            Ok(got) => {
                self.received = got;
                Ok(got)
            }
            Err(_) => nothing_waits(io::Error::last_os_error()),
        }
    }

    /// The datagrams of the last [`receive`](Self::receive), in their order. Datagrams that did not fit are left out.
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        let UdpBatch { bytes, names, headers, received, socket, truncated, .. } = self;
        let slots = bytes.chunks_exact_mut(DATAGRAM_BYTES_MAX);
        slots.zip(names).zip(headers).take(*received).filter_map(|((slot, name), header)| {
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                *truncated += 1;
                return None;
            }
            let len = usize::try_from(header.msg_len).ok()?;
            Some(Datagram {
                socket: *socket,
                source: address::read(name)?,
                bytes: slot.get_mut(..len)?,
            })
        })
    }

    /// Datagrams left out because they were longer than [`DATAGRAM_BYTES_MAX`], since the start.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }
}

fn nothing_waits(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::{Poller, Wake};

    fn exchange(address: &str) {
        let sockets = UdpSocketSet::bind(&[address.parse().unwrap()]).unwrap();
        let poller = Poller::new(&sockets, &Wake::new().unwrap()).unwrap();
        let peer = UdpSocket::bind(address).unwrap();
        let mut batch = UdpBatch::new();
        assert_eq!(batch.receive(&sockets, 0).unwrap(), 0);
        for index in 0..100u8 {
            peer.send_to(&vec![index; 1 + usize::from(index)], sockets.addresses()[0]).unwrap();
        }
        let mut seen = 0u8;
        while seen < 100 {
            assert!(poller.wait(None).unwrap().socket(0));
            let got = batch.receive(&sockets, 0).unwrap();
            assert!(got <= BATCH_DATAGRAMS);
            for datagram in batch.datagrams() {
                assert_eq!(datagram.source, peer.local_addr().unwrap());
                assert_eq!(*datagram.bytes, vec![seen; 1 + usize::from(seen)]);
                seen += 1;
            }
        }
    }

    #[test]
    fn batches_arrive_over_ipv4() {
        exchange("127.0.0.1:0");
    }

    #[test]
    fn batches_arrive_over_ipv6() {
        exchange("[::1]:0");
    }

    #[test]
    fn a_datagram_that_does_not_fit_is_left_out_and_an_empty_one_is_not() {
        let sockets = UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let poller = Poller::new(&sockets, &Wake::new().unwrap()).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut batch = UdpBatch::new();
        peer.send_to(&[1; DATAGRAM_BYTES_MAX + 1], sockets.addresses()[0]).unwrap();
        peer.send_to(&[2; DATAGRAM_BYTES_MAX], sockets.addresses()[0]).unwrap();
        peer.send_to(&[], sockets.addresses()[0]).unwrap();
        let (mut handed, mut sizes) = (0, Vec::new());
        while handed < 3 {
            poller.wait(None).unwrap();
            handed += batch.receive(&sockets, 0).unwrap();
            sizes.extend(batch.datagrams().map(|datagram| datagram.bytes.len()));
        }
        assert_eq!((sizes, batch.truncated()), (vec![DATAGRAM_BYTES_MAX, 0], 1));
    }
}
