//! Connections that are open before anybody needs them: a WebSocket to a process at the other end of the world then takes one
//! round trip, and not three (TCP, TLS 1.3, the upgrade).

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderMap;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::{
    io::AsyncReadExt as _,
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{
    WebSocket,
    dial::{Connection, DialError, DialLimits, Dialer, Handshake},
};

/// Connections to one address that wait. Each that is taken is replaced at once: more are only needed for those who come
/// within the same two round trips. Lower: the second of a pair dials; higher: idle sockets at both ends.
const SPARES: usize = 2;

/// How long spares are kept.
#[derive(Clone, Copy, Debug)]
struct Ages {
    /// For so long after the last wish for an address its spares are replaced when they grow too old.
    wanted: Duration,
    /// Oldest spare; below [`PEER_HEADERS_MAX`](crate::PEER_HEADERS_MAX), after which the other end closes it.
    max: Duration,
    /// A spare that was over sooner is not replaced before it is wanted again: the other end does not want it.
    min: Duration,
}

const AGES: Ages = Ages {
    wanted: Duration::from_secs(60),
    max: Duration::from_secs(45),
    min: Duration::from_secs(1),
};

/// A [`Dialer`] with spares. Cloning is cheap, and clones share them.
#[derive(Clone, Debug)]
pub struct Spares {
    dialer: Dialer,
    ages: Ages,
    shelves: Arc<Mutex<HashMap<String, Shelf>>>,
}

/// What there is for one address.
#[derive(Debug)]
struct Shelf {
    /// Each is answered with the connection.
    waiting: Vec<oneshot::Sender<oneshot::Sender<Connection>>>,
    opening: usize,
    wanted_at: Instant,
}

impl Spares {
    /// None yet: an address gets its own with the first WebSocket to it.
    pub fn new(dialer: Dialer) -> Spares {
        Spares { dialer, ages: AGES, shelves: Arc::default() }
    }

    /// How many connections to `address` (`host:port`) wait.
    pub fn waiting(&self, address: &str) -> usize {
        let shelves = self.shelves();
        let waiting = shelves.get(address).map(|shelf| shelf.waiting.iter());
        waiting.into_iter().flatten().filter(|spare| !spare.is_closed()).count()
    }

    /// As [`Dialer::websocket`], over a connection that is open if there is one. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The same. A spare whose packets nobody acknowledges within `limits.connect` is an error of connecting.
    pub async fn websocket(
        &self,
        address: &str,
        target: &str,
        headers: HeaderMap,
        limits: &DialLimits,
    ) -> Result<WebSocket, DialError> {
        let handshake = Handshake::new(target, headers)?;
        let spare = self.take(address).await;
        self.want(address, limits.connect);
        if let Some(spare) = spare {
            let impatience = Impatience::with(&spare, limits.connect);
            let opened = handshake.clone().shake(address, spare, limits).await;
            drop(impatience);
            match opened {
                Err(DialError::Http(error)) if is_silence(&error) => {
                    let source = io::ErrorKind::TimedOut.into();
                    return Err(DialError::Connect { address: address.to_owned(), source });
                }
                // Its process has ended in between; another one may be there.
                Err(DialError::Http(_)) => {}
                other => return other,
            }
        }
        let fresh = self.dialer.connect(address, limits).await?;
        handshake.shake(address, fresh, limits).await
    }

    async fn take(&self, address: &str) -> Option<Connection> {
        loop {
            let spare = self.shelves().get_mut(address)?.waiting.pop()?;
            let (give, given) = oneshot::channel();
            if spare.send(give).is_ok()
                && let Ok(connection) = given.await
            {
                return Some(connection);
            }
        }
    }

    /// Fills up what waits for `address`.
    fn want(&self, address: &str, connect: Duration) {
        let mut shelves = self.shelves();
        let shelf = shelves.entry(address.to_owned()).or_insert_with(|| Shelf {
            waiting: Vec::new(),
            opening: 0,
            wanted_at: Instant::now(),
        });
        shelf.wanted_at = Instant::now();
        shelf.waiting.retain(|spare| !spare.is_closed());
        while shelf.waiting.len() + shelf.opening < SPARES {
            shelf.opening += 1;
            let limits = DialLimits { connect, ..DialLimits::default() };
            tokio::spawn(self.clone().keep(address.to_owned(), limits));
        }
    }

    /// One place on the shelf: has a connection wait there, and others after it, until one is taken or nobody wants it.
    async fn keep(self, address: String, limits: DialLimits) {
        loop {
            let opened = self.dialer.connect(&address, &limits).await;
            let (offer, wanted) = oneshot::channel();
            {
                let mut shelves = self.shelves();
                let Some(shelf) = shelves.get_mut(&address) else { return };
                shelf.opening -= 1;
                if opened.is_ok() {
                    shelf.waiting.push(offer);
                }
            }
            let (Ok(connection), began) = (opened, Instant::now()) else { return };
            if wait(connection, wanted, self.ages.max).await {
                return;
            }
            let mut shelves = self.shelves();
            let Some(shelf) = shelves.get_mut(&address) else { return };
            shelf.waiting.retain(|spare| !spare.is_closed());
            let is_wanted =
                shelf.wanted_at.elapsed() < self.ages.wanted && began.elapsed() >= self.ages.min;
            if !is_wanted || shelf.waiting.len() + shelf.opening >= SPARES {
                return;
            }
            shelf.opening += 1;
        }
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<String, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the connection is `wanted`, and gives it away. Returns whether it was: the other end may close it, or it may
/// grow too old.
async fn wait(
    mut connection: Connection,
    mut wanted: oneshot::Receiver<oneshot::Sender<Connection>>,
    age_max: Duration,
) -> bool {
    let mut byte = [0];
    tokio::select! {
        biased;
        asked = &mut wanted => {
            if let Ok(give) = asked {
                drop(give.send(connection));
            }
            true
        }
        // TLS reads session tickets by itself: this is the end, or a word that nobody asked for.
        _ = connection.read(&mut byte) => false,
        () = sleep(age_max) => false,
    }
}

/// A socket whose packets must be acknowledged in time, for as long as this is kept: a spare may lead to a machine that is gone,
/// and a dialled connection would have shown that.
struct Impatience(Option<OwnedFd>);

impl Impatience {
    fn with(connection: &Connection, limit: Duration) -> Impatience {
        let socket = connection.get_ref().0.as_fd().try_clone_to_owned().ok();
        let limit = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        Impatience(socket.filter(|socket| set_tcp_user_timeout(socket, limit).is_ok()))
    }
}

impl Drop for Impatience {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // 0: as the system has it. The socket may be closed by now.
            let _ = set_tcp_user_timeout(socket, 0);
        }
    }
}

/// Whether a connection broke since nobody acknowledged.
fn is_silence(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::TimedOut;
        }
        source = error.source();
    }
    false
}
