//! Questions in datagrams.

use std::{sync::Arc, time::Duration};

use outlast_dns_core::{QUESTION_BYTES_MAX, Transport};
use tokio::{net::UdpSocket, time::sleep};

use crate::name_server::Mind;

/// After an error that is not about one datagram.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Answers for ever.
pub(crate) async fn serve(socket: UdpSocket, mind: Arc<Mind>) {
    // One byte more than a question may have, so that a longer one is seen to be longer.
    let mut buffer = [0; QUESTION_BYTES_MAX + 1];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            // ICMP's answers to earlier datagrams come this way, too.
            sleep(ERROR_PAUSE).await;
            continue;
        };
        if from.port() == 0 {
            continue;
        }
        if let Some(answer) = mind.answer(&buffer[..length], from.ip(), Transport::Udp) {
            // A lost answer is asked for again.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}
