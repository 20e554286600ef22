//! Questions over connections (RFC 7766): few, short, and soon closed.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use outlast_dns_core::{QUESTION_BYTES_MAX, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{metrics::Metrics, name_server::Mind};

/// Most connections at a time, of all and of one address.
const CONNECTIONS_MAX: usize = 512;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 32;
/// Longest wait for the next question, and for an answer to be taken.
const IDLE_MAX: Duration = Duration::from_secs(8);
/// Most questions of one connection.
const QUESTIONS_MAX: usize = 1_000;
/// After an error of the listener: there are no descriptors left, say.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Who is connected, over all listeners.
pub(crate) struct Doors {
    open: Mutex<BTreeMap<IpAddr, usize>>,
    metrics: Metrics,
}

impl Doors {
    pub(crate) fn new(metrics: Metrics) -> Doors {
        Doors { open: Mutex::default(), metrics }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Doors>, from: IpAddr) -> Option<Door> {
        let mut open = self.open();
        let all: usize = open.values().sum();
        let of_one = open.get(&from).copied().unwrap_or_default();
        if all >= CONNECTIONS_MAX || of_one >= CONNECTIONS_PER_ADDRESS_MAX {
            self.metrics.connection_refused();
            return None;
        }
        *open.entry(from).or_default() += 1;
        self.metrics.connections(all + 1);
        Some(Door { doors: Arc::clone(self), from })
    }
}

/// A place among those who are connected; given back when it is dropped.
struct Door {
    doors: Arc<Doors>,
    from: IpAddr,
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut open = self.doors.open();
        if let Some(count) = open.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.from);
            }
        }
        self.doors.metrics.connections(open.values().sum());
    }
}

/// Accepts for ever.
pub(crate) async fn serve(listener: TcpListener, mind: Arc<Mind>, doors: Arc<Doors>) {
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            sleep(ERROR_PAUSE).await;
            continue;
        };
        let Some(door) = doors.enter(from.ip().to_canonical()) else { continue };
        tokio::spawn(converse(stream, Arc::clone(&mind), door));
    }
}

async fn converse(mut stream: TcpStream, mind: Arc<Mind>, door: Door) {
    let _ = stream.set_nodelay(true);
    for _ in 0..QUESTIONS_MAX {
        let Some(question) = timeout(IDLE_MAX, question(&mut stream)).await.ok().flatten() else {
            return;
        };
        let Some(answer) = mind.answer(&question, door.from, Transport::Tcp) else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let bytes = [&length.to_be_bytes()[..], &answer[..]].concat();
        let Ok(Ok(())) = timeout(IDLE_MAX, stream.write_all(&bytes)).await else { return };
    }
}

/// The next question; `None` at the end, or when it is too long.
async fn question(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length > QUESTION_BYTES_MAX {
        return None;
    }
    let mut question = vec![0; length];
    stream.read_exact(&mut question).await.ok()?;
    Some(question)
}
