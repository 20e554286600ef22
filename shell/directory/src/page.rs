//! One page of a server over HTTP, for operators: etcd tells its settings nowhere else.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::HostPort;

/// Longest page, in bytes: etcd's metrics are some 200 kB.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Longest time for a page, connection included.
const PAGE_MAX: Duration = Duration::from_secs(5);

/// The page at `path`, over TLS if there is a `tls`.
///
/// # Errors
/// In words: nobody is there, it takes longer than [`PAGE_MAX`], it is longer than 8 MiB, or the answer is not 200.
pub(crate) async fn get(
    at: &HostPort,
    tls: Option<&Arc<ClientConfig>>,
    path: &str,
) -> Result<String, String> {
    let asked = timeout(PAGE_MAX, async {
        let tcp = TcpStream::connect((at.host.as_str(), at.port)).await?;
        let Some(config) = tls else { return Ok(ask(tcp, at, path).await) };
        let name = ServerName::try_from(at.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config.clone()).connect(name, tcp).await?;
        Ok(ask(stream, at, path).await)
    });
    let asked = asked.await.map_err(|_| format!("no page in {PAGE_MAX:?}"))?;
    asked.map_err(|error: io::Error| error.to_string())?
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    at: &HostPort,
    path: &str,
) -> Result<String, String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let request = Request::get(path).header(HOST, at.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let page = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status != hyper::StatusCode::OK {
            return Err(format!("it answers {status}"));
        }
        let body = Limited::new(answer.into_body(), PAGE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    tokio::pin!(page);
    tokio::select! {
        page = &mut page => page,
        // The other side may close the connection with the last byte of the page.
        ended = connection => match ended {
            Ok(()) => page.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// What comes of a server that answers with this and closes.
    async fn got(answer: &'static [u8]) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let at = HostPort { host: at.ip().to_string(), port: at.port() };
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let read = stream.read(&mut [0; 1_024]).await.unwrap();
            assert!(read > 0);
            stream.write_all(answer).await.unwrap();
        };
        tokio::join!(get(&at, None, "/metrics"), served).0
    }

    #[tokio::test]
    async fn a_page_is_what_a_good_answer_has_and_nothing_else_is_one() {
        let good = got(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nx 1\ny 2\n").await;
        assert_eq!(good.as_deref(), Ok("x 1\ny 2\n"));
        let open = got(b"HTTP/1.0 200 OK\r\n\r\nx 1\n").await;
        assert_eq!(open.as_deref(), Ok("x 1\n"));
        assert!(got(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx").await.is_err());
        assert!(got(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx").await.is_err());
        assert!(got(b"\x15\x03\x01\x00\x02\x02").await.is_err());
        assert!(got(b"").await.is_err());
    }
}
