//! Sockets at the hosts of a lab, and numbered datagrams between them.

use std::{
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
    time::{Duration, Instant},
};

use outlast_lab::{Lab, Plan, Shape};

/// How long a test waits for what must happen. Long, since the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must arrive to count as nothing: several times the longest delay of these tests.
const SILENCE: Duration = Duration::from_millis(600);
const BYTES: usize = 100;

/// Two sites with one host each, and nothing but that shape between them, both ways.
pub(crate) fn two_sites(shape: Shape) -> Lab {
    let plan = Plan::new(11)
        .site("eu", 1, &[("a", 1), ("b", 2)])
        .site("us", 2, &[("a", 1)])
        .link("eu", "us", shape);
    Lab::up(&plan).unwrap()
}

/// A socket at the first address of a host of that lab.
pub(crate) fn socket(lab: &Lab, host: &str) -> UdpSocket {
    at(lab, host, lab.address(host).unwrap())
}

pub(crate) fn at(lab: &Lab, host: &str, address: IpAddr) -> UdpSocket {
    let socket = lab.within(host, || UdpSocket::bind((address, 0))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends datagram `number`, of a hundred bytes and the headers.
pub(crate) fn send(from: &UdpSocket, to: &UdpSocket, number: u32) {
    let mut datagram = [0; BYTES];
    datagram[..4].copy_from_slice(&number.to_be_bytes());
    from.send_to(&datagram, to.local_addr().unwrap()).unwrap();
}

/// The number of the next datagram, within `PATIENCE`.
pub(crate) fn receive(at: &UdpSocket) -> u32 {
    let mut datagram = [0; BYTES];
    at.recv_from(&mut datagram).unwrap();
    u32::from_be_bytes(datagram[..4].try_into().unwrap())
}

/// All that come until there has been silence for a while.
pub(crate) fn receive_all(at: &UdpSocket) -> Vec<u32> {
    at.set_read_timeout(Some(SILENCE)).unwrap();
    let mut got = Vec::new();
    let mut datagram = [0; BYTES];
    loop {
        match at.recv_from(&mut datagram) {
            Ok(_) => got.push(u32::from_be_bytes(datagram[..4].try_into().unwrap())),
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                    "{error}"
                );
                at.set_read_timeout(Some(PATIENCE)).unwrap();
                return got;
            }
        }
    }
}

/// Waits for something that must happen.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
