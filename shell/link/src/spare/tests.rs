//! Over real sockets on loopback.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

use super::*;
use crate::{
    Authority, Credentials, PEER_HEADERS_MAX, ServerLimits, ServerTls, Upgrade, serve, text,
    tungstenite::Message,
};

/// A peer that echoes, behind a forwarder that counts connections and can end them.
struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    forwarder: AbortHandle,
    ended: watch::Sender<()>,
    _stop: watch::Sender<bool>,
}

fn credentials(authority: &Authority, name: &str) -> Credentials {
    let issued = authority.issue(name).unwrap();
    Credentials::from_pem(authority.certificate(), &issued.certificate, &issued.key).unwrap()
}

impl Peer {
    async fn start(authority: &Authority) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = listener.local_addr().unwrap();
        let tls = ServerTls::Cluster(credentials(authority, "node-1").server_config().unwrap());
        let (stop, stopped) = watch::channel(false);
        let handler = |_, mut request| async move {
            let Ok(upgrade) = Upgrade::take(&mut request) else {
                return text(StatusCode::BAD_REQUEST, "no upgrade");
            };
            if request.uri().path() != "/echo" {
                return text(StatusCode::SERVICE_UNAVAILABLE, "no room");
            }
            let (response, socket) = upgrade.accept(1_000);
            tokio::spawn(async move { echo(socket.await.unwrap()).await });
            response
        };
        let limits = ServerLimits { headers: PEER_HEADERS_MAX, ..ServerLimits::default() };
        tokio::spawn(serve(listener, tls, limits, handler, stopped));
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (ended, end) = watch::channel(());
        let forwarder = tokio::spawn(forward(front, behind, Arc::clone(&connections), end));
        Peer { address, connections, forwarder: forwarder.abort_handle(), ended, _stop: stop }
    }

    /// Connections that have been made to it.
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Waits for `what`, for as long as the test may take.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.next().await {
        if !message.is_close() {
            socket.send(message).await.unwrap();
        }
    }
}

async fn forward(
    front: TcpListener,
    behind: SocketAddr,
    connections: Arc<AtomicUsize>,
    end: watch::Receiver<()>,
) {
    loop {
        let (mut client, _) = front.accept().await.unwrap();
        connections.fetch_add(1, Ordering::SeqCst);
        let mut end = end.clone();
        end.mark_unchanged();
        tokio::spawn(async move {
            let mut server = TcpStream::connect(behind).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = end.changed() => {}
            }
        });
    }
}

async fn echoes(spares: &Spares, peer: &Peer) -> Result<(), DialError> {
    let mut socket = open(spares, peer, "/echo").await?;
    socket.send(Message::Binary("hello".into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary("hello".into()));
    Ok(())
}

async fn open(spares: &Spares, peer: &Peer, target: &str) -> Result<WebSocket, DialError> {
    let limits = DialLimits::default();
    spares.websocket(&peer.address.to_string(), target, HeaderMap::new(), &limits).await
}

/// Spares of a peer that has been spoken to once, and waits with two more connections.
async fn setting() -> (Spares, Peer) {
    let authority = Authority::make().unwrap();
    let peer = Peer::start(&authority).await;
    let spares = Spares::new(Dialer::new(&credentials(&authority, "gateway-1")).unwrap());
    echoes(&spares, &peer).await.unwrap();
    filled(&spares, &peer).await;
    (spares, peer)
}

async fn filled(spares: &Spares, peer: &Peer) {
    let address = peer.address.to_string();
    until(|| spares.waiting(&address) == SPARES).await;
}

#[tokio::test]
async fn whoever_comes_after_the_first_finds_an_open_connection() {
    let (spares, peer) = setting().await;
    // Nobody gets in any more who is not in.
    peer.forwarder.abort();
    echoes(&spares, &peer).await.unwrap();
    echoes(&spares, &peer).await.unwrap();
    let late = echoes(&spares, &peer).await;
    assert!(matches!(late, Err(DialError::Connect { .. })), "{late:?}");
}

#[tokio::test]
async fn each_that_is_taken_is_replaced() {
    let (spares, peer) = setting().await;
    for taken in 1..5 {
        echoes(&spares, &peer).await.unwrap();
        filled(&spares, &peer).await;
        assert_eq!(peer.connections(), 1 + SPARES + taken);
    }
}

#[tokio::test]
async fn spares_that_the_other_end_has_closed_do_no_harm() {
    let (spares, peer) = setting().await;
    peer.ended.send_replace(());
    echoes(&spares, &peer).await.unwrap();
    // Nor are they tried again and again.
    assert!(peer.connections() <= 1 + SPARES + 1 + SPARES, "{}", peer.connections());
}

#[tokio::test]
async fn a_refusal_over_a_spare_is_the_answer() {
    let (spares, peer) = setting().await;
    peer.forwarder.abort();
    let refused = open(&spares, &peer, "/other").await;
    let Err(DialError::Refused(refusal)) = refused else { panic!("not refused") };
    assert_eq!(
        (refusal.status(), &refusal.body()[..]),
        (StatusCode::SERVICE_UNAVAILABLE, &b"no room"[..])
    );
}

#[tokio::test]
async fn old_ones_are_replaced_for_as_long_as_somebody_has_come_lately() {
    let authority = Authority::make().unwrap();
    let peer = Peer::start(&authority).await;
    let mut spares = Spares::new(Dialer::new(&credentials(&authority, "gateway-1")).unwrap());
    let max = Duration::from_millis(100);
    spares.ages = Ages { wanted: max * 10, max, min: Duration::ZERO };
    echoes(&spares, &peer).await.unwrap();
    until(|| peer.connections() > 1 + SPARES).await;
    let address = peer.address.to_string();
    until(|| spares.waiting(&address) == 0 && spares.shelves()[&address].opening == 0).await;
    let lastly = peer.connections();
    sleep(max * 3).await;
    assert_eq!(peer.connections(), lastly, "nobody has come for long");
}
