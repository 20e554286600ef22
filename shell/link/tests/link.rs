//! Two processes of one cluster, and strangers: over real sockets on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, StatusCode};
use outlast_link::{
    Authority, Body, Credentials, DialError, DialLimits, Dialer, MESSAGE_WRITTEN_BYTES_MAX,
    ServerLimits, ServerTls, Upgrade, serve, text, tungstenite::Message,
};
use tokio::{net::TcpListener, sync::watch};

fn credentials(authority: &Authority, name: &str) -> Credentials {
    let issued = authority.issue(name).unwrap();
    Credentials::from_pem(authority.certificate(), &issued.certificate, &issued.key).unwrap()
}

/// A peer that echoes WebSocket messages of up to 1,000 bytes at `/echo`, answers each with the largest of all at
/// `/large`, and refuses everything else.
async fn peer(credentials: &Credentials) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = ServerTls::Cluster(credentials.server_config().unwrap());
    let (stop, stopped) = watch::channel(false);
    let handler = |_, mut request| async move {
        let Ok(upgrade) = Upgrade::take(&mut request) else {
            return text(StatusCode::IM_A_TEAPOT, request.uri().to_string());
        };
        let large = match request.uri().path() {
            "/echo" => false,
            "/large" => true,
            _ => return text(StatusCode::SERVICE_UNAVAILABLE, "no room"),
        };
        let (response, socket) = upgrade.accept(1_000);
        tokio::spawn(async move {
            let mut socket = socket.await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if large && message.is_binary() {
                    let large = vec![7; MESSAGE_WRITTEN_BYTES_MAX];
                    socket.send(Message::Binary(large.into())).await.unwrap();
                } else if !message.is_close() {
                    socket.send(message).await.unwrap();
                }
            }
        });
        response
    };
    tokio::spawn(serve(listener, tls, ServerLimits::default(), handler, stopped));
    (address, stop)
}

#[tokio::test]
async fn processes_of_one_cluster_talk() {
    let authority = Authority::make().unwrap();
    let (address, _stop) = peer(&credentials(&authority, "node-1")).await;
    // The authority as an operator keeps it: in two files.
    let authority = Authority::from_pem(authority.certificate(), &authority.key()).unwrap();
    let dialer = Dialer::new(&credentials(&authority, "gateway-1")).unwrap();
    let (address, limits) = (address.to_string(), DialLimits::default());

    let request = Request::get("/x?y=1").body(Body::default()).unwrap();
    let response = dialer.request(&address, request, &limits).await.unwrap();
    assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
    assert_eq!(response.body(), "/x?y=1");

    let mut socket = dialer.websocket(&address, "/echo", HeaderMap::new(), &limits).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(b"hello"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary("hello".into()));
    socket.send(Message::Binary(vec![0; 1_001].into())).await.unwrap();
    assert!(!matches!(socket.next().await, Some(Ok(Message::Binary(_)))), "over the limit");

    let refused = dialer.websocket(&address, "/other", HeaderMap::new(), &limits).await;
    let Err(DialError::Refused(refusal)) = refused else { panic!("not refused") };
    assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refusal.body(), "no room");
}

#[tokio::test]
async fn a_socket_that_reads_little_writes_the_join_of_a_large_room() {
    let authority = Authority::make().unwrap();
    let (address, _stop) = peer(&credentials(&authority, "node-1")).await;
    let dialer = Dialer::new(&credentials(&authority, "gateway-1")).unwrap();
    let limits = DialLimits { message_bytes: MESSAGE_WRITTEN_BYTES_MAX, ..DialLimits::default() };
    let address = address.to_string();
    let mut socket = dialer.websocket(&address, "/large", HeaderMap::new(), &limits).await.unwrap();
    // Pings wait together with the large message, so that it does not have the buffer to itself.
    for _ in 0..3 {
        socket.feed(Message::Ping(Bytes::from_static(b"ping"))).await.unwrap();
    }
    socket.send(Message::Binary(Bytes::from_static(b"join"))).await.unwrap();
    let large = loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => break bytes,
            other => assert!(other.is_ping() || other.is_pong(), "{other:?}"),
        }
    };
    assert_eq!(large.len(), MESSAGE_WRITTEN_BYTES_MAX);
    // It goes on, and still reads no more than it did.
    socket.send(Message::Binary(vec![0; 1_001].into())).await.unwrap();
    assert!(!matches!(socket.next().await, Some(Ok(Message::Binary(_)))), "over the limit");
}

#[tokio::test]
async fn strangers_are_not_heard() {
    let (ours, theirs) = (Authority::make().unwrap(), Authority::make().unwrap());
    let (address, _stop) = peer(&credentials(&ours, "node-1")).await;
    let request = || Request::get("/").body(Body::default()).unwrap();
    let limits = DialLimits::default();

    // A stranger's server is not trusted, and neither is a stranger's client, even one that trusts us.
    let dialer = Dialer::new(&credentials(&theirs, "gateway-1")).unwrap();
    let answer = dialer.request(&address.to_string(), request(), &limits).await;
    assert!(matches!(answer, Err(DialError::Connect { .. })));
    let issued = theirs.issue("gateway-1").unwrap();
    let mixed = Credentials::from_pem(ours.certificate(), &issued.certificate, &issued.key);
    let dialer = Dialer::new(&mixed.unwrap()).unwrap();
    assert!(dialer.request(&address.to_string(), request(), &limits).await.is_err());
}
