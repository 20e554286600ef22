//! How the demo's servers are seen from outside: whether they are ready, and which of the directory's decide.

use std::{io, time::Duration};

use outlast_engines::{Access, Address};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::directory::Site;

use super::{
    database::Kind,
    plan::{self, Planned, Role},
};

/// A server that does not answer by then is not ready.
const PROBE_WITHIN: Duration = Duration::from_millis(500);

/// Whether `one` says of itself that it is ready.
pub(super) async fn is_ready(one: &Planned) -> bool {
    let get = |path| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let (question, answer) = match one.role {
        Role::Gateway | Role::Node => (get("/healthz/ready"), "HTTP/1.1 200"),
        Role::Etcd => (get("/health"), "HTTP/1.1 200"),
        Role::Redis | Role::Replica | Role::Sentinel => ("PING\r\n".to_owned(), "+PONG"),
    };
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", one.admin)).await?;
        stream.write_all(question.as_bytes()).await?;
        let mut begins = vec![0; answer.len()];
        stream.read_exact(&mut begins).await?;
        Ok::<_, io::Error>(begins)
    };
    matches!(timeout(PROBE_WITHIN, ask).await, Ok(Ok(begins)) if begins == answer.as_bytes())
}

/// The directory as the demo sees it: nobody asks it for a room.
pub(super) struct Watched(Site);

impl Watched {
    /// `None` for the embedded one, which has no servers.
    pub(super) fn connect(kind: Kind, all: &[Planned]) -> anyhow::Result<Option<Watched>> {
        let address = kind.address(all, plan::REGIONS[0].name);
        match address.parse().expect("the demo's own address is well-formed") {
            Address::Shared(shared) => {
                Ok(Some(Watched(Site::connect(None, shared, &Access::default())?)))
            }
            Address::Embedded | Address::Sharded(_) => Ok(None),
        }
    }

    /// Where the servers listen that decide, one for each partition of which that is known.
    pub(super) fn ports(&self) -> Vec<u16> {
        let states = self.0.partitions().map(|at| self.0.engine().state(at));
        let ports = states.filter_map(|state| state.decides?.rsplit_once(':')?.1.parse().ok());
        ports.collect()
    }

    /// Deletes every room; gateways tell it all of them again.
    pub(super) async fn wipe(&self) -> anyhow::Result<u64> {
        self.0.wipe().await
    }
}
