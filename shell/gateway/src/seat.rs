//! A session's place in the role.

use std::sync::Arc;

use outlast_gateway_core::{Input, Why};
use outlast_model::SessionId;
use tokio::sync::oneshot;

use crate::role_loop::RoleLoop;

/// What the role hears of a session; leaving it is `Closed`.
pub(crate) struct Seat {
    id: SessionId,
    role: Arc<RoleLoop>,
}

/// What the role says to a session, once.
pub(crate) struct Told(oneshot::Receiver<Why>);

impl Seat {
    pub(crate) fn new(
        id: SessionId,
        told: oneshot::Receiver<Why>,
        role: Arc<RoleLoop>,
    ) -> (Seat, Told) {
        (Seat { id, role }, Told(told))
    }

    /// The node is gone from the other end.
    pub(crate) fn link_lost(&self) {
        self.role.input(Input::LinkLost { session: self.id });
    }

    /// The node's SDP answer has passed to the client.
    pub(crate) fn answered(&self) {
        self.role.media("answered");
        self.role.input(Input::Answered { session: self.id });
    }

    /// The node has said that the client's media is up.
    pub(crate) fn reached(&self) {
        self.role.media("reached");
        self.role.input(Input::Reached { session: self.id });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.role.close(self.id);
    }
}

impl Told {
    /// Ends when the client is to be told to reconnect.
    pub(crate) async fn why(&mut self) -> Why {
        // The role keeps the other end for as long as the seat exists, and uses it once.
        (&mut self.0).await.unwrap_or(Why::LinkLost)
    }
}
