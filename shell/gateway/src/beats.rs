//! The socket for beats, echoes and probes, and for the outlooks of other gateways.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use outlast_gateway_core::Input;
use outlast_model::{GatewayId, NodeId};
use outlast_wire::{DATAGRAM_BYTES_MAX, Message, Opened, Opener, Process, ProcessRole, Sealer};
use tokio::{net::UdpSocket, sync::mpsc};

use crate::{metrics::Metrics, role_loop::RoleLoop};

/// Everything that the task owns.
pub(crate) struct Beats {
    pub(crate) socket: UdpSocket,
    pub(crate) opener: Opener,
    pub(crate) sealer: Sealer,
    /// Every node, every other gateway and every name server.
    pub(crate) peers: BTreeMap<Process, SocketAddr>,
    pub(crate) datagrams: mpsc::Receiver<(Process, Message)>,
    pub(crate) role: Arc<RoleLoop>,
    pub(crate) metrics: Metrics,
}

impl Beats {
    /// Receives beats, outlooks and answers to probes, sends echoes, outlooks and probes, for ever.
    pub(crate) async fn run(mut self) {
        // One byte more than a datagram may have, so that a longer one is seen to be longer.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    // Errors are ICMP's answers to earlier datagrams; what comes in tells who lives.
                    let Ok((length, _)) = received else { continue };
                    self.receive(&buffer[..length]);
                }
                Some((to, message)) = self.datagrams.recv() => self.send(&to, &message).await,
            }
        }
    }

    fn receive(&mut self, datagram: &[u8]) {
        let Opened { from, epoch, sequence, message } = match self.opener.open(datagram) {
            Ok(opened) => opened,
            Err(error) => return self.metrics.datagram(error.name()),
        };
        match (from.role, message) {
            (ProcessRole::Node, Message::Beat(beat)) => {
                self.metrics.datagram("beat");
                let node = NodeId::from(&*from.id);
                self.role.input(Input::Beat { node, epoch, sequence, beat });
            }
            (ProcessRole::Node, Message::Probed(probed)) => {
                self.metrics.datagram("probed");
                self.role.input(Input::Probed { node: NodeId::from(&*from.id), probed });
            }
            (ProcessRole::Gateway, Message::Outlook(outlook)) => {
                self.metrics.datagram("outlook");
                let gateway = GatewayId::from(&*from.id);
                self.role.input(Input::Outlook { gateway, epoch, outlook });
            }
            _ => self.metrics.datagram("misplaced"),
        }
    }

    async fn send(&mut self, to: &Process, message: &Message) {
        let Some(address) = self.peers.get(to) else { return };
        let datagram = self.sealer.seal(to, message);
        // A lost datagram is as good as an unsent one.
        let _ = self.socket.send_to(&datagram.bytes, address).await;
    }
}
