//! Connections that gateways keep open to nodes, when the network behind them is gone.

use std::{net::TcpListener, time::Duration};

use http::{HeaderMap, StatusCode};
use outlast_lab::{Shape, inside};
use outlast_link::{
    Authority, Credentials, DialError, DialLimits, Dialer, PEER_HEADERS_MAX, ServerLimits,
    ServerTls, Spares, Upgrade, serve, text,
};
use tokio::{runtime::Builder, sync::watch, time::sleep};

use super::sockets::two_sites;

fn credentials(authority: &Authority, name: &str) -> Credentials {
    let issued = authority.issue(name).unwrap();
    Credentials::from_pem(authority.certificate(), &issued.certificate, &issued.key).unwrap()
}

/// A node that lets everybody in, and says nothing then.
async fn node(listener: TcpListener, credentials: Credentials) {
    let tls = ServerTls::Cluster(credentials.server_config().unwrap());
    let (_stop, stopped) = watch::channel(false);
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let handler = |_, mut request| async move {
        let Ok(upgrade) = Upgrade::take(&mut request) else {
            return text(StatusCode::BAD_REQUEST, "no upgrade");
        };
        let (response, socket) = upgrade.accept(1_000);
        tokio::spawn(async move {
            let _socket = socket.await;
            std::future::pending::<()>().await;
        });
        response
    };
    let limits = ServerLimits { headers: PEER_HEADERS_MAX, ..ServerLimits::default() };
    serve(listener, tls, limits, handler, stopped).await;
}

#[test]
fn a_spare_to_a_machine_that_is_gone_is_as_short_lived_as_a_dial() {
    if !inside("spares::a_spare_to_a_machine_that_is_gone_is_as_short_lived_as_a_dial") {
        return;
    }
    let delay = Duration::from_millis(20);
    let lab = two_sites(Shape { delay, ..Shape::default() });
    let address = (lab.address("us.a").unwrap(), 7881);
    let listener = lab.within("us.a", || TcpListener::bind(address)).unwrap().unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let authority = Authority::make().unwrap();
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let its = credentials(&authority, "node-1");
    std::thread::spawn(move || runtime().block_on(node(listener, its)));
    let dialer = Dialer::new(&credentials(&authority, "gateway-1")).unwrap();
    // An answer is waited for longer than any test: only what the kernel knows can end it.
    let connect = Duration::from_millis(800);
    let response = Duration::from_secs(3_600);
    let limits = DialLimits { connect, response, ..DialLimits::default() };
    let gateway = async {
        let spares = Spares::new(dialer);
        let _first = spares.websocket(&address, "/", HeaderMap::new(), &limits).await.unwrap();
        while spares.waiting(&address) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        lab.cut("eu", "us").unwrap();
        spares.websocket(&address, "/", HeaderMap::new(), &limits).await.map(drop)
    };
    let error = lab.within("eu.a", || runtime().block_on(gateway)).unwrap().unwrap_err();
    let DialError::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
}
