//! One client: a real ICE, DTLS and SCTP engine in virtual time, with an offer like that of LiveKit's SDKs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpPendingOffer},
    media::{Direction, MediaKind},
    net::{Protocol, Receive},
};

/// Sections of each kind that SDKs offer at once.
const SECTIONS: usize = 3;

/// A client and its engine.
pub(crate) struct Client {
    engine: Rtc,
    address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    next: Instant,
    connected: bool,
}

impl Client {
    /// The client of this number, and its offer.
    pub(crate) fn new(number: usize, now: Instant) -> (Client, String) {
        let address = address(number);
        let mut engine = Rtc::builder().set_rtp_mode(true).build(now);
        engine.add_local_candidate(Candidate::host(address, "udp").expect("a host candidate"));
        let mut change = engine.sdp_api();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            for _ in 0..SECTIONS {
                change.add_media(kind, Direction::RecvOnly, None, None, None);
            }
        }
        change.add_channel("_reliable".to_owned());
        let (offer, pending) = change.apply().expect("there are changes");
        let pending = Some(pending);
        let client = Client { engine, address, pending, next: now, connected: false };
        (client, offer.to_sdp_string())
    }

    /// Takes the answer to the offer.
    pub(crate) fn answer(&mut self, sdp: &str) {
        let answer = SdpAnswer::from_sdp_string(sdp).expect("a well-formed answer");
        let pending = self.pending.take().expect("an offer is answered once");
        self.engine.sdp_api().accept_answer(pending, answer).expect("an acceptable answer");
    }

    /// ICE and DTLS are up.
    pub(crate) fn connected(&self) -> bool {
        self.connected
    }

    /// Where its datagrams come from.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// When its engine has something to do.
    pub(crate) fn wake_at(&self) -> Instant {
        self.next
    }

    /// Runs timers; `send` gets what comes out.
    pub(crate) fn wake(&mut self, now: Instant, send: impl FnMut(Vec<u8>)) {
        self.engine.handle_input(Input::Timeout(now)).expect("the client's engine works");
        self.drain(send);
    }

    /// Takes a datagram of the server; `send` gets what comes out.
    pub(crate) fn datagram(
        &mut self,
        now: Instant,
        server: SocketAddr,
        bytes: &[u8],
        send: impl FnMut(Vec<u8>),
    ) {
        let Ok(contents) = bytes.try_into() else { return };
        let (proto, destination) = (Protocol::Udp, self.address);
        let input = Input::Receive(now, Receive { proto, source: server, destination, contents });
        self.engine.handle_input(input).expect("the client's engine works");
        self.drain(send);
    }

    fn drain(&mut self, mut send: impl FnMut(Vec<u8>)) {
        loop {
            match self.engine.poll_output().expect("the client's engine works") {
                Output::Timeout(at) => {
                    self.next = at;
                    return;
                }
                Output::Transmit(transmit) => send(transmit.contents.to_vec()),
                Output::Event(event) => self.connected |= matches!(event, Event::Connected),
            }
        }
    }
}

fn address(number: usize) -> SocketAddr {
    let [_, b, c, d] = u32::try_from(number).expect("a benchmark's size").to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(10, b, c, d).into(), 5_000)
}

/// The client that an address belongs to.
pub(crate) fn number(address: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(address) = address else { return None };
    let [_, b, c, d] = address.ip().octets();
    usize::try_from(u32::from_be_bytes([0, b, c, d])).ok()
}
