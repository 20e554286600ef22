//! The UDP sockets of one shard: one for each address that it listens on.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsRawFd, RawFd},
};

use socket2::{Domain, Protocol, Socket, Type};

/// A key frame of a large meeting arrives and leaves as a burst; the kernel may give less than this.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Tries to find one port that is free for every address when the system chooses it.
const PORT_TRIES_MAX: usize = 32;

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system refused this address, or the port is taken.
    #[error("cannot listen on udp {address}")]
    Refused {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// More sockets than an index of one byte can name, or none.
    #[error("a shard listens on 1 to 255 addresses, not {0}")]
    Count(usize),
}

/// Non-blocking UDP sockets, named by their index; IPv6 ones take no IPv4 (`IPV6_V6ONLY`).
#[derive(Debug)]
pub struct UdpSocketSet {
    sockets: Vec<UdpSocket>,
    addresses: Vec<SocketAddr>,
}

impl UdpSocketSet {
    /// Opens one socket for each address, in their order. Where a port is 0 the system chooses one port for all of
    /// these addresses.
    ///
    /// # Errors
    /// The first address that cannot be had, or a bad number of addresses.
    pub fn bind(addresses: &[SocketAddr]) -> Result<UdpSocketSet, BindError> {
        if addresses.is_empty() || addresses.len() > usize::from(u8::MAX) {
            return Err(BindError::Count(addresses.len()));
        }
        let mut tries = 1;
        loop {
            match Self::bind_once(addresses) {
                Err(BindError::Refused { address, source })
                    if source.kind() == io::ErrorKind::AddrInUse
                        && tries < PORT_TRIES_MAX
                        && addresses.iter().all(|wanted| *wanted != address) =>
                {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    fn bind_once(addresses: &[SocketAddr]) -> Result<UdpSocketSet, BindError> {
        let mut set = UdpSocketSet { sockets: Vec::new(), addresses: Vec::new() };
        let mut chosen_port = None;
        for wanted in addresses {
            let mut address = *wanted;
            if wanted.port() == 0 {
                address.set_port(chosen_port.unwrap_or(0));
            }
            let refused = |source| BindError::Refused { address, source };
            let socket = open(address).map_err(refused)?;
            let bound = socket.local_addr().map_err(refused)?;
            if wanted.port() == 0 {
                chosen_port = Some(bound.port());
            }
            set.sockets.push(socket);
            set.addresses.push(bound);
        }
        Ok(set)
    }

    /// The addresses that the sockets are bound to, by index.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Never: a set has a socket.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.sockets.iter().map(AsRawFd::as_raw_fd)
    }

    pub(crate) fn fd(&self, socket: u8) -> Option<RawFd> {
        self.sockets.get(usize::from(socket)).map(AsRawFd::as_raw_fd)
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // The kernel caps these silently (net.core.rmem_max); a smaller buffer costs packets in bursts, not the call.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_a_port_share_the_one_that_the_system_chose() {
        let set = UdpSocketSet::bind(&[
            "127.0.0.1:0".parse().unwrap(),
            "127.0.0.2:0".parse().unwrap(),
            "[::1]:0".parse().unwrap(),
        ])
        .unwrap();
        let port = set.addresses()[0].port();
        assert_ne!(port, 0);
        assert!(set.addresses().iter().all(|address| address.port() == port));
    }

    #[test]
    fn both_families_listen_on_one_port_of_every_address() {
        let addresses = ["0.0.0.0:0".parse().unwrap(), "[::]:0".parse().unwrap()];
        assert_eq!(UdpSocketSet::bind(&addresses).unwrap().len(), 2);
    }

    #[test]
    fn a_taken_port_and_an_empty_list_are_refused() {
        let first = UdpSocketSet::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        assert!(matches!(
            UdpSocketSet::bind(first.addresses()),
            Err(BindError::Refused { address, .. }) if address == first.addresses()[0]
        ));
        assert!(matches!(UdpSocketSet::bind(&[]), Err(BindError::Count(0))));
    }
}
