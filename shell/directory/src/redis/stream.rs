//! A connection's bytes, and when the last of them came: what is received is the only sign of life.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::sockopt::set_tcp_user_timeout;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::TlsConnector;

use crate::HostPort;

/// How long what was sent may stay unacknowledged by the other side's kernel, in milliseconds. Linux gives up after a
/// quarter of an hour otherwise.
const USER_TIMEOUT_MS: u32 = 2_000;

/// When bytes came last.
#[derive(Debug)]
pub(super) struct Heard {
    since: Instant,
    /// Milliseconds from `since` on.
    last: AtomicU64,
}

impl Heard {
    pub(super) fn now() -> Arc<Heard> {
        Arc::new(Heard { since: Instant::now(), last: AtomicU64::new(0) })
    }

    /// For how long nothing has come.
    pub(super) fn silence(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }

    fn mark(&self) {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed, Relaxed);
    }
}

/// A connection, encrypted or not.
pub(super) struct Stream {
    bytes: Box<dyn Bytes>,
    heard: Arc<Heard>,
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

impl Stream {
    /// Connects. Waits for as long as the kernel and the other side let it.
    ///
    /// # Errors
    /// When there is nobody at `at`, or somebody else.
    pub(super) async fn connect(
        at: &HostPort,
        tls: Option<&Arc<ClientConfig>>,
        heard: Arc<Heard>,
    ) -> io::Result<Stream> {
        let tcp = TcpStream::connect((at.host.as_str(), at.port)).await?;
        // Small requests must not wait for the acknowledgement of those before.
        tcp.set_nodelay(true)?;
        set_tcp_user_timeout(&tcp, USER_TIMEOUT_MS)?;
        let Some(config) = tls else { return Ok(Stream { bytes: Box::new(tcp), heard }) };
        let name = ServerName::try_from(at.host.clone()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(config.clone()).connect(name, tcp).await?;
        Ok(Stream { bytes: Box::new(tls), heard })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.bytes).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.mark();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}
