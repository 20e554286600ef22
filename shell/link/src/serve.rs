//! The accept loop of every HTTP/1.1 listener: connections are counted, per address too, and a client that is slow with
//! TLS or headers is dropped. Keep-alive connections that stay idle fall under the same header limit.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{
    ServerConfig,
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::ParsedCertificate,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::CLUSTER_NAME;

/// The body of every response here: short and whole.
pub type Body = Full<Bytes>;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The TCP peer; a proxy's address when there is one in front.
    pub address: SocketAddr,
}

/// How long a process of the cluster may keep a connection open without a request: it has shown its certificate, and opens some
/// before it needs them ([`Spares`](crate::Spares)).
pub const PEER_HEADERS_MAX: Duration = Duration::from_secs(60);

/// Limits of one listener.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Most connections at once, upgraded ones not included; above it new ones are closed at once.
    pub connections: usize,
    /// The same from one IP address.
    pub connections_per_ip: usize,
    /// TLS handshake.
    pub tls: Duration,
    /// From the first wait for a request to the last byte of its headers.
    pub headers: Duration,
    /// Most bytes of request line and headers; the request target alone is held to 64 KiB by the `http` crate.
    pub header_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_ip: 1_024,
            tls: Duration::from_secs(5),
            headers: Duration::from_secs(5),
            header_bytes: 192 * 1024,
        }
    }
}

/// How a listener's connections are secured.
#[derive(Clone)]
pub enum ServerTls {
    /// Not at all: loopback, or behind a proxy that ends TLS.
    Plain,
    /// TLS without client certificates.
    Public(Arc<ServerConfig>),
    /// Mutual TLS: the client must show a certificate of the cluster ([`CLUSTER_NAME`]).
    Cluster(Arc<ServerConfig>),
}

/// A response with a short plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(body.into()));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// Accepts connections and gives every request to `handler`, until `shutdown` turns true. Connections that are open
/// then go on: their handlers know what they still owe.
pub async fn serve<H, F>(
    listener: TcpListener,
    tls: ServerTls,
    limits: ServerLimits,
    handler: H,
    mut shutdown: watch::Receiver<bool>,
) where
    H: Fn(Peer, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Places::new(limits);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = places.take(address.ip().to_canonical()) else { continue };
                let (tls, handler) = (tls.clone(), handler.clone());
                tokio::spawn(async move {
                    connection(stream, address, &tls, &limits, handler).await;
                    drop(place);
                });
            }
            // Out of descriptors, mostly: without a pause this loop would take a core.
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection<H, F>(
    stream: TcpStream,
    address: SocketAddr,
    tls: &ServerTls,
    limits: &ServerLimits,
    handler: H,
) where
    H: Fn(Peer, Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // A peer that is gone already shows itself at the first read.
    let _ = stream.set_nodelay(true);
    let result = match tls {
        ServerTls::Plain => http(stream, address, limits, handler).await,
        ServerTls::Public(config) | ServerTls::Cluster(config) => {
            let handshake = TlsAcceptor::from(Arc::clone(config)).accept(stream);
            let Ok(Ok(stream)) = timeout(limits.tls, handshake).await else { return };
            let chain = stream.get_ref().1.peer_certificates();
            if matches!(tls, ServerTls::Cluster(_)) && !of_the_cluster(chain) {
                return;
            }
            http(stream, address, limits, handler).await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

async fn http<S, H, F>(
    stream: S,
    address: SocketAddr,
    limits: &ServerLimits,
    handler: H,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Peer, Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let service = service_fn(|request| {
        let response = handler(Peer { address }, request);
        async move { Ok::<_, io::Error>(response.await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(limits.header_bytes.max(8 * 1024))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
}

/// Whether the verified client's certificate carries the cluster's name.
fn of_the_cluster(chain: Option<&[CertificateDer<'static>]>) -> bool {
    let Some(certificate) = chain.and_then(<[_]>::first) else { return false };
    let Ok(certificate) = ParsedCertificate::try_from(certificate) else { return false };
    let name = ServerName::try_from(CLUSTER_NAME).expect("the cluster's name is a DNS name");
    verify_server_name(&certificate, &name).is_ok()
}

/// Open connections, in all and by address.
#[derive(Clone)]
struct Places {
    limits: ServerLimits,
    taken: Arc<Mutex<(usize, HashMap<IpAddr, usize>)>>,
}

struct Place {
    of: Places,
    address: IpAddr,
}

impl Places {
    fn new(limits: ServerLimits) -> Places {
        Places { limits, taken: Arc::default() }
    }

    fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().expect("no panic while counting");
        let (all, by_address) = &mut *taken;
        let here = by_address.get(&address).copied().unwrap_or(0);
        if *all >= self.limits.connections || here >= self.limits.connections_per_ip {
            return None;
        }
        *all += 1;
        by_address.insert(address, here + 1);
        Some(Place { of: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().expect("no panic while counting");
        let (all, by_address) = &mut *taken;
        *all -= 1;
        if let Some(here) = by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_address() {
        let limits =
            ServerLimits { connections: 3, connections_per_ip: 2, ..ServerLimits::default() };
        let places = Places::new(limits);
        let (one, two) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = places.take(one).expect("a place");
        let _second = places.take(one).expect("a place");
        assert!(places.take(one).is_none());
        let _third = places.take(two).expect("a place");
        assert!(places.take(two).is_none());
        drop(first);
        assert!(places.take(one).is_some());
    }
}
