//! The members of the cluster, for operators: who leads, who lags behind, and another leader.

use std::time::Duration;

use super::{Etcd, fault};
use crate::HostPort;

/// A member as this process sees it. Nothing is asked for it: the numbers are at most a second old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is, as it stands in the address.
    pub at: HostPort,
    /// How it is; `None` while it is not reached.
    pub health: Option<MemberHealth>,
}

/// What a member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberHealth {
    /// Its id in the cluster.
    pub id: u64,
    /// It decides claims.
    pub leads: bool,
    /// Lookups are answered by it first: the nearest that does well.
    pub nearest: bool,
    /// Changes of rooms are heard from it.
    pub followed: bool,
    /// How far it is behind the farthest member's log, in entries.
    pub lag_entries: u64,
    /// What its database takes on disk, in bytes.
    pub db_bytes: u64,
    /// Round trip to it, smoothed.
    pub rtt: Duration,
}

/// Why the leader was not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// The member to lead is not in the address or not reached.
    #[error("{0} is not reached")]
    NotReached(HostPort),
    /// Nobody that is reached leads.
    #[error("no member that is reached leads")]
    NoLeader,
    /// The leader refused, or did not answer.
    #[error("the leader {at} refused: {words}")]
    Refused {
        /// The leader.
        at: HostPort,
        /// What it said.
        words: String,
    },
}

/// How long the leader may take to hand over: it waits for the other's log and an election, both some round trips.
const MOVE_MAX: Duration = Duration::from_secs(5);

impl Etcd {
    /// All members in the order of the address.
    pub fn members(&self) -> Vec<Member> {
        let rotation = &self.shared.rotation;
        let leader = rotation.leader();
        let health: Vec<_> =
            rotation.endpoints.iter().map(|endpoint| (endpoint, endpoint.health())).collect();
        let farthest = health.iter().filter_map(|(_, health)| Some((*health)?.raft_index)).max();
        let nearest = rotation.order(super::endpoint::Path::Local).into_iter().next();
        let followed = self.shared.feed.from();
        let members = health.into_iter().map(|(endpoint, health)| Member {
            at: endpoint.at.clone(),
            health: health.filter(|health| health.id != 0).map(|health| MemberHealth {
                id: health.id,
                leads: Some(health.id) == leader,
                nearest: nearest.as_ref().is_some_and(|(first, _)| first.at == endpoint.at),
                followed: followed.as_ref() == Some(&endpoint.at),
                lag_entries: farthest.unwrap_or(0).saturating_sub(health.raft_index),
                db_bytes: health.db_bytes,
                rtt: health.rtt,
            }),
        });
        members.collect()
    }

    /// Makes the member at `to` the leader. No acknowledged write is lost by it, and claims wait for some round trips.
    ///
    /// # Errors
    /// See [`MoveError`]. After one it may have become the leader all the same.
    pub async fn move_leader(&self, to: &HostPort) -> Result<(), MoveError> {
        let members = self.members();
        let health = |member: &Member| member.health.filter(|_| member.at == *to);
        let target = members.iter().find_map(health);
        let target = target.ok_or_else(|| MoveError::NotReached(to.clone()))?;
        if target.leads {
            return Ok(());
        }
        let leads = |member: &&Member| member.health.is_some_and(|health| health.leads);
        let leader = members.iter().find(leads).ok_or(MoveError::NoLeader)?;
        let mut endpoints = self.shared.rotation.endpoints.iter();
        let line = endpoints.find(|endpoint| endpoint.at == leader.at).and_then(|at| at.line());
        let mut client = line.ok_or(MoveError::NoLeader)?.maintenance.clone();
        let refused = |words| MoveError::Refused { at: leader.at.clone(), words };
        match tokio::time::timeout(MOVE_MAX, client.move_leader(target.id)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refused(fault::words(&error))),
            Err(_) => Err(refused(format!("no answer within {MOVE_MAX:?}"))),
        }
    }
}
