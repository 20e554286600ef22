//! The socket for gateways' outlooks.

use std::sync::Arc;

use outlast_model::GatewayId;
use outlast_wire::{DATAGRAM_BYTES_MAX, Message, Opener, Process, Secret};
use tokio::net::UdpSocket;

use crate::{metrics::Metrics, name_server::Mind};

/// Listens to gateways.
pub(crate) struct Outlooks {
    socket: UdpSocket,
    opener: Opener,
}

impl Outlooks {
    pub(crate) fn new(
        socket: UdpSocket,
        secret: &Secret,
        id: &str,
        gateways: &[GatewayId],
    ) -> Outlooks {
        let peers = gateways.iter().map(|gateway| Process::gateway(gateway.as_str()));
        Outlooks { socket, opener: Opener::new(secret, Process::name_server(id), peers) }
    }

    pub(crate) async fn run(mut self, mind: Arc<Mind>, metrics: Metrics) {
        // One byte more than a datagram may have, so that a longer one is seen to be longer.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            let Ok((length, _)) = self.socket.recv_from(&mut buffer).await else { continue };
            match self.opener.open(&buffer[..length]) {
                Ok(opened) => match opened.message {
                    Message::Outlook(outlook) => {
                        metrics.datagram("outlook");
                        mind.hear(&opened.from.id, &outlook);
                    }
                    _ => metrics.datagram("misplaced"),
                },
                Err(error) => metrics.datagram(error.name()),
            }
        }
    }
}
