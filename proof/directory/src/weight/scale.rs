//! Reads what everything has cost so far, the servers' processes and the gateways' threads alike.

use outlast_model::Time;

use super::{
    gateway::Counted,
    meter::{self, Cost, Machine},
    sockets::{Counts, Ledger, Side},
};
use crate::{
    home::Home,
    servers::{Lab, Stored},
};

/// One look at everything that counts on and on.
pub(super) struct Reading {
    pub(super) at: Time,
    pub(super) machine: Machine,
    pub(super) gateways: Vec<Cost>,
    pub(super) servers: Vec<Cost>,
    pub(super) flows: Vec<[Counts; 2]>,
    pub(super) stored: Vec<Stored>,
}

/// What all looks need.
pub(super) struct Scale<'a> {
    pub(super) lab: &'a dyn Lab,
    pub(super) processes: Vec<(String, u32)>,
    pub(super) ledger: Ledger,
    pub(super) counted: Counted,
    pub(super) regions: usize,
}

impl<'a> Scale<'a> {
    pub(super) fn new(lab: &'a dyn Lab, counted: &Counted, regions: usize) -> Scale<'a> {
        let (processes, counted) = (lab.processes(), counted.clone());
        Scale { lab, processes, ledger: Ledger::default(), counted, regions }
    }

    /// Enters connections, so that none is missed for long.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        let ids: Vec<_> = self.processes.iter().map(|(_, id)| *id).collect();
        if ids.is_empty() { Ok(()) } else { self.ledger.look(&ids) }
    }

    /// Reads what is slow to read first, so that the rest is of one moment.
    pub(super) fn read(&mut self) -> anyhow::Result<Reading> {
        let stored = self.lab.stored()?;
        self.look()?;
        let side = |id: u32| [Side::Gateways, Side::Servers].map(|side| self.ledger.of(id, side));
        let flows = self.processes.iter().map(|(_, id)| side(*id)).collect();
        let servers = self.processes.iter().map(|(_, id)| meter::process(*id));
        let gateways = (0..self.regions).map(|region| meter::threads(&Home::threads(region)));
        Ok(Reading {
            servers: servers.collect::<Result<_, _>>()?,
            gateways: gateways.collect::<Result<_, _>>()?,
            machine: meter::machine()?,
            at: self.counted.clock.now(),
            flows,
            stored,
        })
    }
}
