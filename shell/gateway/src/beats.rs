//! The socket for beats and echoes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use outlast_gateway_core::Input;
use outlast_model::NodeId;
use outlast_wire::{
    DATAGRAM_BYTES_MAX, Echo, Message, OpenError, Opened, Opener, Process, ProcessRole, Sealer,
};
use tokio::{net::UdpSocket, sync::mpsc};

use crate::{metrics::Metrics, role_loop::RoleLoop};

/// Everything that the task owns.
pub(crate) struct Beats {
    pub(crate) socket: UdpSocket,
    pub(crate) opener: Opener,
    pub(crate) sealer: Sealer,
    pub(crate) nodes: BTreeMap<NodeId, SocketAddr>,
    pub(crate) echoes: mpsc::Receiver<(NodeId, Echo)>,
    pub(crate) role: Arc<RoleLoop>,
    pub(crate) metrics: Metrics,
}

impl Beats {
    /// Receives beats and sends echoes, for ever.
    pub(crate) async fn run(mut self) {
        // One byte more than a datagram may have, so that a longer one is seen to be longer.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    // Errors are ICMP's answers to earlier echoes; the beats tell who lives.
                    let Ok((length, _)) = received else { continue };
                    self.receive(&buffer[..length]);
                }
                Some((node, echo)) = self.echoes.recv() => self.send(&node, echo).await,
            }
        }
    }

    fn receive(&mut self, datagram: &[u8]) {
        match self.opener.open(datagram) {
            Ok(Opened { from, epoch, sequence, message: Message::Beat(beat) })
                if from.role == ProcessRole::Node =>
            {
                self.metrics.datagram("beat");
                let node = NodeId::from(&*from.id);
                self.role.input(Input::Beat { node, epoch, sequence, beat });
            }
            Ok(_) => self.metrics.datagram("misplaced"),
            Err(error) => self.metrics.datagram(match error {
                OpenError::Malformed(_) => "malformed",
                OpenError::Stranger => "stranger",
                OpenError::OlderEpoch => "older_epoch",
                OpenError::Replayed => "replayed",
                OpenError::NotAuthentic => "not_authentic",
            }),
        }
    }

    async fn send(&mut self, node: &NodeId, echo: Echo) {
        let Some(address) = self.nodes.get(node) else { return };
        let to = Process::node(node.as_str());
        let datagram = self.sealer.seal(&to, &Message::Echo(echo));
        // A lost echo is as good as an unsent one.
        let _ = self.socket.send_to(&datagram.bytes, address).await;
    }
}
