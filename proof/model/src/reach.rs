//! Who reaches whom. A gateway is no more than a side of the partition: what it knows is not kept (see
//! [`crate::trouble`]).

use crate::{
    bounds::REGIONS,
    state::{Cut, Life, Room, World},
};

impl World {
    /// All nodes; the regions have the same numbers.
    pub fn nodes() -> impl Iterator<Item = u8> {
        0..REGIONS as u8
    }

    /// Whether `node`'s process runs.
    pub fn runs(&self, node: u8) -> bool {
        self.lives[usize::from(node)] == Life::Up
    }

    /// Whether `region` is the one that is cut off.
    pub fn is_cut_off(&self, region: u8) -> bool {
        matches!(self.cut, Cut::Region(r) | Cut::Deaf(r) if r == region)
    }

    /// Whether datagrams pass between two regions.
    pub fn joins(&self, a: u8, b: u8) -> bool {
        self.is_cut_off(a) == self.is_cut_off(b)
    }

    /// Whether a client of `region` has a gateway.
    pub fn has_gateway(&self, region: u8) -> bool {
        self.cut != Cut::Deaf(region)
    }

    /// Whether a gateway that serves clients of `region` reaches `node`'s process, be it awake or not.
    pub fn links(&self, region: u8, node: u8) -> bool {
        self.has_gateway(region)
            && self.joins(region, node)
            && self.cut != Cut::Node(node)
            && self.lives[usize::from(node)] != Life::Dead
    }

    /// Whether `node` lets in, as far as its own right to serve goes, whom a gateway of clients of `region` sends.
    pub fn answers(&self, region: u8, node: u8) -> bool {
        self.links(region, node) && self.runs(node) && !self.over[usize::from(node)]
    }

    /// Whether any gateway hears `node`.
    pub fn is_heard(&self, node: u8) -> bool {
        self.links(node, node) && self.runs(node)
    }

    /// Whether a gateway that serves clients of `region` reaches the directory.
    pub fn asks_directory(&self, region: u8) -> bool {
        self.directory && !self.is_cut_off(region)
    }

    /// Whether a gateway that serves clients of `region` may take the placement of `generation` at `node` for lost: the
    /// node is silent to it, or has said that this life of the room is over, or refuses it as over.
    pub fn seems_lost(&self, region: u8, room: &Room, node: u8, generation: u8) -> bool {
        let held = room.held[usize::from(node)];
        let over = held.heard >= generation || room.ended.contains(node, generation);
        !self.answers(region, node) || held.serving < generation && over
    }
}
