//! One page of a server over HTTP, for operators: etcd tells its settings nowhere else.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::HostPort;

/// Longest page, in bytes: etcd's metrics are some 200 kB.
const PAGE_BYTES_MAX: u64 = 8 << 20;
/// Longest time for a page, connection included.
const PAGE_MAX: Duration = Duration::from_secs(5);

/// The page at `path`. HTTP/1.0, so that it comes in one piece and ends with the connection.
///
/// # Errors
/// In words: nobody is there, it takes longer than [`PAGE_MAX`], or the answer is not 200.
pub(crate) async fn get(at: &HostPort, path: &str) -> Result<String, String> {
    let asked = async {
        let mut stream = TcpStream::connect((at.host.as_str(), at.port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        read(stream).await
    };
    let answer = timeout(PAGE_MAX, asked).await.map_err(|_| format!("no page in {PAGE_MAX:?}"))?;
    body(&answer.map_err(|error| error.to_string())?)
}

async fn read(stream: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn body(answer: &[u8]) -> Result<String, String> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("it answers {status:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_comes_after_the_head_of_a_good_answer() {
        let good = body(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nx 1\n\r\n\r\ny 2\n");
        assert_eq!(good.as_deref(), Ok("x 1\n\r\n\r\ny 2\n"));
        assert!(body(b"HTTP/1.0 404 Not Found\r\n\r\nx").is_err());
        assert!(body(b"\x15\x03\x01\x00\x02\x02").is_err());
        assert!(body(b"").is_err());
    }
}
