//! What may happen while there is trouble. What a gateway knows is not kept: it may act on any view that it could ever have
//! had, the empty one of a gateway that has just started included. Nor are messages: once one could have been sent it may
//! arrive at any later time, any number of times, or never. All schedules of real gateways and networks are among these.

use crate::{
    bounds::{Bounds, Rules, Trouble},
    protocol::counts_before,
    state::{Cut, Held, Life, OUT, Room, State, World},
};

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A node's process ends, with its memory.
    Crash(u8),
    /// It starts again, empty.
    Restart(u8),
    /// A node stands still for longer than `SHARD_PAUSE_MAX`.
    Freeze(u8),
    /// It goes on.
    Wake(u8),
    /// A partition.
    Part(Cut),
    /// Its end.
    Heal,
    /// The last gateway of the region that is cut off ends.
    LoseGateways,
    /// One starts there again.
    RegainGateways,
    /// By its own clock no gateway has echoed the node for a lease.
    Lapse(u8),
    /// A gateway echoes it again.
    Renew(u8),
    /// The directory cannot be reached.
    LoseDirectory,
    /// It can be reached.
    RegainDirectory,
    /// It has forgotten everything.
    Wipe,
    /// A step of the room at this place in [`State::rooms`].
    Of(u8, Step),
}

/// One step of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A claim reaches the directory: create if absent.
    Place {
        /// For whom.
        node: u8,
        /// Under which generation.
        generation: u8,
    },
    /// A claim reaches the directory: compare and set.
    Replace {
        /// The generation that it takes to be held.
        expected: u8,
        /// For whom.
        node: u8,
        /// Under which generation.
        generation: u8,
    },
    /// A gateway that does not reach the directory places without it.
    PlaceAlone {
        /// For whom.
        node: u8,
        /// Under which generation.
        generation: u8,
    },
    /// A gateway moves the room from a home that is well, with the directory if that can be reached.
    Move {
        /// Where to.
        node: u8,
        /// Under which generation.
        generation: u8,
    },
    /// A gateway that knows of two homes of one generation gives the next one to that which counts.
    Lift {
        /// Which.
        node: u8,
        /// What it gets.
        generation: u8,
    },
    /// A home hears from a gateway that it has a higher generation.
    Adopt {
        /// Which.
        node: u8,
        /// What it has.
        generation: u8,
    },
    /// A gateway tells the directory of a placement.
    Announce {
        /// Whose.
        node: u8,
        /// Of which generation.
        generation: u8,
    },
    /// A gateway tells the directory that a life of the room, and every older one, is over.
    End {
        /// Which.
        generation: u8,
    },
    /// A client's join reaches a node.
    Join {
        /// Whose.
        client: u8,
        /// Where.
        node: u8,
        /// Under which generation.
        generation: u8,
    },
    /// A join whose client has given up reaches a node's shard.
    Stray {
        /// Where.
        node: u8,
        /// Under which generation.
        generation: u8,
    },
    /// A node hears from a gateway that the room is elsewhere.
    Steer {
        /// Who hears it.
        node: u8,
        /// Under which generation.
        generation: u8,
    },
    /// A client is told by its gateway to come again, or has noticed by itself that it must.
    Tell {
        /// Who.
        client: u8,
    },
    /// A client hangs up; it will want in again.
    Leave {
        /// Who.
        client: u8,
    },
    /// A node closes the room, which has no participants.
    Close {
        /// Where.
        node: u8,
    },
}

/// Adds to `out` all that may come next; some of it may turn out to change nothing.
pub(crate) fn actions(bounds: &Bounds, rules: Rules, state: &State, out: &mut Vec<Action>) {
    for node in World::nodes() {
        node_actions(&state.world, node, out);
    }
    network_actions(&state.world, out);
    for (room, at) in state.rooms.iter().take(bounds.rooms).zip(0..) {
        let mut push = |step| out.push(Action::Of(at, step));
        claims(bounds, &state.world, room, &mut push);
        placements_alone(bounds, &state.world, room, &mut push);
        moves(bounds, &state.world, room, &mut push);
        arrivals(&state.world, room, &mut push);
        departures(rules, &state.world, room, &mut push);
        if rules.lift {
            lifts(&state.world, room, &mut push);
        }
    }
}

fn node_actions(world: &World, node: u8, out: &mut Vec<Action>) {
    let (over, heard) = (world.over[usize::from(node)], world.is_heard(node));
    match world.lives[usize::from(node)] {
        Life::Dead => out.push(Action::Restart(node)),
        Life::Frozen => out.push(Action::Wake(node)),
        Life::Up if over && heard => out.push(Action::Renew(node)),
        Life::Up if !over && !heard => out.push(Action::Lapse(node)),
        Life::Up => {}
    }
    if world.runs(node) && world.left.allows(Trouble::Freeze) {
        out.push(Action::Freeze(node));
    }
    if world.lives[usize::from(node)] != Life::Dead && world.left.allows(Trouble::Crash) {
        out.push(Action::Crash(node));
    }
}

fn network_actions(world: &World, out: &mut Vec<Action>) {
    match world.cut {
        Cut::None if world.left.allows(Trouble::Cut) => {
            let cuts = World::nodes().flat_map(|at| [Cut::Region(at), Cut::Node(at)]);
            out.extend(cuts.map(Action::Part));
        }
        Cut::None => {}
        Cut::Region(_) if world.left.allows(Trouble::Crash) => {
            out.extend([Action::Heal, Action::LoseGateways]);
        }
        Cut::Deaf(_) => out.extend([Action::Heal, Action::RegainGateways]),
        Cut::Region(_) | Cut::Node(_) => out.push(Action::Heal),
    }
    if !world.directory {
        out.push(Action::RegainDirectory);
    } else if world.left.allows(Trouble::Outage) {
        out.push(Action::LoseDirectory);
    }
    if world.left.allows(Trouble::Wipe) {
        out.push(Action::Wipe);
    }
}

/// Regions from which a client wants into `room`, and has a gateway to ask.
fn wanting<'a>(world: &'a World, room: &'a Room) -> impl Iterator<Item = u8> + 'a {
    let out = room.at.iter().zip(0..).filter(|(at, _)| **at == OUT);
    out.map(|(_, region)| region).filter(|region| world.has_gateway(*region))
}

/// What reaches the directory.
fn claims(bounds: &Bounds, world: &World, room: &Room, push: &mut impl FnMut(Step)) {
    if !world.directory {
        return;
    }
    let (held, known) = (room.record.holder(), room.record.generation);
    let highest = (room.issued.highest() + 1).min(bounds.placements);
    for node in World::nodes() {
        let claims = |lost: &dyn Fn(u8) -> bool| {
            wanting(world, room).any(|region| {
                world.asks_directory(region) && world.answers(region, node) && lost(region)
            })
        };
        let Some(holder) = held else {
            if claims(&|_| true) {
                (known + 1..=highest).for_each(|generation| push(Step::Place { node, generation }));
            }
            continue;
        };
        // One that was decided upon an earlier placement may arrive now; upon the present one, only if that seems lost.
        for expected in 1..=known {
            let past = expected < known;
            if claims(&|region| past || world.seems_lost(region, room, holder, known)) {
                let higher = expected + 1..=highest;
                higher.for_each(|generation| push(Step::Replace { expected, node, generation }));
            }
        }
    }
    for (node, generation) in room.issued.iter().filter(|(_, generation)| *generation > known) {
        push(Step::Announce { node, generation });
    }
    if held.is_none() && known < bounds.placements {
        let fenced = room.serving().filter(|(_, serving)| *serving <= known);
        fenced.for_each(|(node, _)| push(Step::Announce { node, generation: known + 1 }));
    }
    room.ended.iter().for_each(|(_, generation)| push(Step::End { generation }));
}

/// Placements without the directory: by a gateway that knows of none, or of one that seems lost to it.
fn placements_alone(bounds: &Bounds, world: &World, room: &Room, push: &mut impl FnMut(Step)) {
    for region in wanting(world, room).filter(|region| !world.asks_directory(*region)) {
        for known in 0..(room.issued.highest() + 1).min(bounds.placements) {
            let is_lost = |node: u8| {
                room.issued.contains(node, known) && world.seems_lost(region, room, node, known)
            };
            if known > 0 && !World::nodes().any(is_lost) {
                continue;
            }
            for node in World::nodes().filter(|node| world.answers(region, *node)) {
                push(Step::PlaceAlone { node, generation: known + 1 });
            }
        }
    }
}

fn moves(bounds: &Bounds, world: &World, room: &Room, push: &mut impl FnMut(Step)) {
    let highest = (room.issued.highest() + 1).min(bounds.placements);
    let homeless = world.directory && room.record.holder().is_none();
    if !world.left.allows(Trouble::Move) || homeless {
        return;
    }
    let known = if world.directory { room.record.generation } else { 1 };
    let outside = |region: &u8| !world.is_cut_off(*region);
    for node in World::nodes() {
        if World::nodes().filter(outside).any(|region| world.answers(region, node)) {
            let higher = known + 1..=highest;
            higher.for_each(|generation| push(Step::Move { node, generation }));
        }
    }
}

fn arrivals(world: &World, room: &Room, push: &mut impl FnMut(Step)) {
    for (node, generation) in room.issued.iter() {
        for client in wanting(world, room).filter(|client| world.answers(*client, node)) {
            push(Step::Join { client, node, generation });
        }
        if world.left.allows(Trouble::Stray) && world.answers(node, node) {
            push(Step::Stray { node, generation });
        }
    }
}

fn departures(rules: Rules, world: &World, room: &Room, push: &mut impl FnMut(Step)) {
    for (at, client) in room.at.iter().zip(0..).filter(|(at, _)| **at != OUT) {
        if !world.links(client, *at)
            || !world.runs(*at)
            || rivals(rules, room, *at).next().is_some()
        {
            push(Step::Tell { client });
        }
        if world.left.allows(Trouble::Leave) {
            push(Step::Leave { client });
        }
    }
    for (node, _) in room.serving().filter(|(node, _)| world.runs(*node)) {
        let mut clients = room.at.iter().zip(0..);
        if !clients.any(|(at, client)| *at == node && world.joins(client, node)) {
            push(Step::Close { node });
        }
        if world.is_heard(node) {
            let rivals = rivals(rules, room, node);
            rivals.for_each(|generation| push(Step::Steer { node, generation }));
        }
    }
}

/// What follows from two homes of one generation, apart from the loser's steer.
fn lifts(world: &World, room: &Room, push: &mut impl FnMut(Step)) {
    let issued = room.issued;
    for (node, generation) in issued.iter() {
        let mut others = issued.iter().filter(|other| other.1 == generation);
        if others.any(|other| other.0 > node) {
            push(Step::Lift { node, generation: generation + 1 });
        }
        let serving = room.held[usize::from(node)].serving;
        if serving > 0 && generation > serving && world.is_heard(node) {
            push(Step::Adopt { node, generation });
        }
    }
}

/// Generations of placements at other nodes that some gateway may hold to count before what `node` serves.
fn rivals(rules: Rules, room: &Room, node: u8) -> impl Iterator<Item = u8> {
    let Room { issued, confirmed, .. } = *room;
    let serving = room.held[usize::from(node)].serving;
    let others = issued.iter().filter(move |(other, generation)| {
        let holder = confirmed.contains(*other, *generation).then_some(*other);
        *other != node && counts_before(rules, (*other, *generation), (node, serving), holder)
    });
    others.map(|(_, generation)| generation)
}

/// `state` after `action`; `None` when nothing changes.
pub(crate) fn next(bounds: &Bounds, rules: Rules, state: &State, action: Action) -> Option<State> {
    let mut after = *state;
    match action {
        Action::Of(at, step) => {
            let room = &mut after.rooms[usize::from(at)];
            take(rules, &mut after.world, room, step);
            if room.issued.len() > bounds.placements {
                return None;
            }
        }
        _ => happen(rules, &mut after, action)?,
    }
    if bounds.rooms == after.rooms.len() {
        after.rooms.sort_unstable();
    }
    (after != *state).then_some(after)
}

fn happen(rules: Rules, state: &mut State, action: Action) -> Option<()> {
    let State { world, rooms } = state;
    match action {
        Action::Crash(node) => {
            world.left.spend(Trouble::Crash);
            world.lives[usize::from(node)] = Life::Dead;
            world.over[usize::from(node)] = false;
            for room in rooms {
                room.close(node, false);
                room.held[usize::from(node)] = Held::default();
            }
        }
        Action::Restart(node) => world.lives[usize::from(node)] = Life::Up,
        Action::Freeze(node) => {
            world.left.spend(Trouble::Freeze);
            world.lives[usize::from(node)] = Life::Frozen;
        }
        Action::Wake(node) => {
            world.lives[usize::from(node)] = Life::Up;
            run_out(rules.pause, node, world, rooms);
        }
        Action::Lapse(node) => run_out(rules.lease, node, world, rooms),
        Action::Renew(node) => world.over[usize::from(node)] = false,
        Action::Part(cut) => {
            world.left.spend(Trouble::Cut);
            world.cut = cut;
        }
        Action::Heal => world.cut = Cut::None,
        Action::LoseGateways | Action::RegainGateways => {
            world.cut = match world.cut {
                Cut::Region(region) => Cut::Deaf(region),
                Cut::Deaf(region) => Cut::Region(region),
                Cut::None | Cut::Node(_) => return None,
            };
            if action == Action::LoseGateways {
                world.left.spend(Trouble::Crash);
            }
        }
        Action::LoseDirectory => {
            world.left.spend(Trouble::Outage);
            world.directory = false;
        }
        Action::RegainDirectory => world.directory = true,
        Action::Wipe => {
            world.left.spend(Trouble::Wipe);
            for room in rooms {
                (room.record, room.confirmed) = Default::default();
            }
        }
        Action::Of(..) => return None,
    }
    Some(())
}

/// `node`'s right to serve is over; with the safeguard, it fences everything.
fn run_out(safeguard: bool, node: u8, world: &mut World, rooms: &mut [Room]) {
    world.over[usize::from(node)] = true;
    if safeguard {
        rooms.iter_mut().for_each(|room| room.close(node, true));
    }
}

fn take(rules: Rules, world: &mut World, room: &mut Room, step: Step) {
    let known = room.record.generation;
    match step {
        Step::Place { node, generation } | Step::Announce { node, generation } => {
            // An announcement names what is held, if anything is: nobody else's claim comes between.
            if room.record.replace(rules, known, node, generation) {
                confirm(room, node, generation);
            }
        }
        Step::Replace { expected, node, generation } => {
            if room.record.replace(rules, expected, node, generation) {
                confirm(room, node, generation);
                room.removed_newer |= known > expected;
            }
        }
        Step::Move { node, generation } => {
            world.left.spend(Trouble::Move);
            if !world.directory {
                room.issued.insert(node, generation);
            } else if room.record.replace(rules, known, node, generation) {
                confirm(room, node, generation);
            }
        }
        Step::End { generation } => {
            let held = room.record.holder().is_some();
            room.record.end(rules, generation);
            room.removed_newer |= held && room.record.holder().is_none() && known > generation;
        }
        Step::PlaceAlone { node, generation } | Step::Lift { node, generation } => {
            room.issued.insert(node, generation);
        }
        Step::Adopt { node, generation } => room.held[usize::from(node)].open(generation),
        Step::Join { client, node, generation } => {
            let held = &mut room.held[usize::from(node)];
            if held.admits(rules, generation) {
                held.open(generation);
                room.at[usize::from(client)] = node;
            }
        }
        Step::Stray { node, generation } => {
            let held = &mut room.held[usize::from(node)];
            if held.serving == 0 && held.lets_arrive(rules, generation) {
                held.open(generation);
                world.left.spend(Trouble::Stray);
            }
        }
        Step::Steer { node, generation } => {
            room.steer(rules, node, generation);
        }
        Step::Tell { client } => room.at[usize::from(client)] = OUT,
        Step::Leave { client } => {
            room.at[usize::from(client)] = OUT;
            world.left.spend(Trouble::Leave);
        }
        Step::Close { node } => room.close(node, false),
    }
}

fn confirm(room: &mut Room, node: u8, generation: u8) {
    room.issued.insert(node, generation);
    room.confirmed.insert(node, generation);
}
