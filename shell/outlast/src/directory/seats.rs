//! Where etcd's leader sits best: by what a claim costs from everywhere when this or that member leads. Numbers only.

use std::{collections::BTreeMap, time::Duration};

use outlast_engines::{Behind, Inspection, Role, Survey};

/// The leader is moved only to a member that is so many times as fast. Where all regions are equally far apart, one member
/// may be twice as fast as another for whoever asks beside it.
const TIMES_FASTER: u32 = 3;
/// Nobody notices less than this.
const GAIN_MIN: Duration = Duration::from_millis(50);
/// A member that is farther behind, in entries, would have to catch up first, and claims wait for it.
const BEHIND_MAX: u64 = 1_000;

/// A member that might lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) at: String,
    pub(super) leads: bool,
    /// What a claim costs from the middle one of all places; `None` when too little is known of the ways to it.
    pub(super) cost: Option<Duration>,
    /// The way to it from here.
    pub(super) here: Option<Duration>,
    /// How long an answer through it takes that most must agree on.
    pub(super) agreed: Option<Duration>,
    may_lead: bool,
}

/// What to do about the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Nothing, and why.
    Stay(String),
    /// Another member is that much better.
    Move { to: String, now: Duration, then: Duration },
}

/// Every member with what it would cost if it led.
pub(super) fn seats(survey: &Survey) -> Vec<Seat> {
    let ways = Ways::of(survey);
    let voters = survey.voters.unwrap_or(survey.servers.len());
    let seat = |server: &Inspection| Seat {
        at: server.at.clone(),
        leads: server.role == Role::Decides,
        cost: server.id.and_then(|id| ways.cost(id, voters)),
        here: server.round_trip(),
        agreed: server.agreement(),
        may_lead: matches!(server.role, Role::Decides | Role::Follows)
            && matches!(server.behind, Some(Behind::Entries(0..=BEHIND_MAX))),
    };
    survey.servers.iter().map(seat).collect()
}

/// How far everybody is from everybody, by members' ids.
struct Ways {
    leader: Option<(u64, Duration)>,
    here: BTreeMap<u64, Duration>,
    between: BTreeMap<(u64, u64), Duration>,
}

impl Ways {
    /// An answer that most must agree on takes, through a member, the way to it, its way to the leader and the leader's to a
    /// majority; through the leader itself it lacks the one in the middle. So these are known as they are now. The way between two others
    /// is what they have measured in the long run, but no shorter than what their ways from here and to the leader differ by.
    fn of(survey: &Survey) -> Ways {
        let members = || survey.servers.iter().filter_map(|server| Some((server.id?, server)));
        let here: BTreeMap<_, _> =
            members().filter_map(|(id, server)| Some((id, server.round_trip()?))).collect();
        let beyond: BTreeMap<_, _> = members()
            .filter_map(|(id, server)| {
                Some((id, server.agreement()?.saturating_sub(*here.get(&id)?)))
            })
            .collect();
        let leads = members().find(|(_, server)| server.role == Role::Decides).map(|(id, _)| id);
        let leader = leads.and_then(|id| Some((id, *beyond.get(&id)?)));
        let mut between = BTreeMap::new();
        let Some((leads, majority)) = leader else { return Ways { leader, here, between } };
        for (id, beyond) in beyond.iter().filter(|(id, _)| **id != leads) {
            let way = beyond.saturating_sub(majority);
            between.extend([((*id, leads), way), ((leads, *id), way)]);
        }
        for (one, server) in members().filter(|(id, _)| *id != leads) {
            for (other, mean) in server.peers.iter().filter(|(id, _)| **id != leads) {
                let apart = |one: Option<&Duration>, other: Option<&Duration>| {
                    one.zip(other).map(|(one, other)| one.abs_diff(*other)).unwrap_or_default()
                };
                let from_here = apart(here.get(&one), here.get(other));
                let to_leader = apart(between.get(&(one, leads)), between.get(&(*other, leads)));
                let way = *mean.max(&from_here).max(&to_leader);
                for pair in [(one, *other), (*other, one)] {
                    let known = between.entry(pair).or_insert(way);
                    *known = way.max(*known);
                }
            }
        }
        Ways { leader, here, between }
    }

    /// The middle of what claims cost that are made beside each member, or here, when `id` leads: the way to it, and its round
    /// trip to the member that completes a majority.
    fn cost(&self, id: u64, voters: usize) -> Option<Duration> {
        let mut others: Vec<Duration> =
            self.between.iter().filter(|((from, _), _)| *from == id).map(|(_, way)| *way).collect();
        others.sort();
        let majority = match (self.leader, voters / 2) {
            (Some((leads, majority)), _) if leads == id => majority,
            (_, 0) => Duration::ZERO,
            (_, needed) => *others.get(needed - 1)?,
        };
        let mut ways = others;
        ways.extend([Duration::ZERO, *self.here.get(&id)?]);
        ways.sort();
        // The lower of two in the middle: this machine may stand in the slow region itself.
        Some(*ways.get((ways.len() - 1) / 2)? + majority)
    }
}

/// Whether the leader should be moved for the sake of speed: to a member that is much better in each of these looks. Of
/// several the one whose worst look is best: which of two equals is the better one changes from look to look.
pub(super) fn advise(looks: &[Vec<Seat>]) -> Advice {
    let mut found: Vec<(&Seat, Duration)> = Vec::new();
    let (mut leads, mut slow) = (None, Duration::MAX);
    for (number, seats) in looks.iter().enumerate() {
        let Better { leader, now, others } = match much_better(seats) {
            Ok(look) => look,
            Err(why) => return Advice::Stay(why),
        };
        if *leads.get_or_insert(leader) != leader {
            return Advice::Stay("the leader has just changed".to_owned());
        }
        slow = slow.min(now);
        if number == 0 {
            found = others;
            continue;
        }
        found.retain_mut(|(seat, worst)| {
            let again = others.iter().find(|(other, _)| other.at == seat.at);
            *worst = again.map_or(*worst, |(_, cost)| *cost.max(worst));
            again.is_some()
        });
    }
    match found.iter().min_by_key(|(seat, worst)| (*worst, seat.here)) {
        Some((best, then)) => Advice::Move { to: best.at.clone(), now: slow, then: *then },
        None => Advice::Stay("no member is much better each time".to_owned()),
    }
}

/// Members with which claims would cost much less than with the leader.
struct Better<'a> {
    leader: &'a str,
    /// What they cost with the leader.
    now: Duration,
    /// What they would cost with each of these.
    others: Vec<(&'a Seat, Duration)>,
}

/// Those of one look.
///
/// # Errors
/// Why there are none.
fn much_better(seats: &[Seat]) -> Result<Better<'_>, String> {
    let Some(leader) = seats.iter().find(|seat| seat.leads) else {
        return Err("no member that is reached leads".to_owned());
    };
    let Some(now) = leader.cost else {
        let at = &leader.at;
        return Err(format!("{at} does not answer for a majority: etcd replaces it itself"));
    };
    let Some((best, _)) = best_other(seats).and_then(|best| Some((best, best.cost?))) else {
        return Err("too little is known of the ways to other members".to_owned());
    };
    let much_less = |then: Duration| now >= then * TIMES_FASTER && now >= then + GAIN_MIN;
    let others = seats.iter().filter(|seat| !seat.leads && seat.may_lead);
    let better: Vec<_> = others.filter_map(|seat| Some((seat, seat.cost?))).collect();
    let better: Vec<_> = better.into_iter().filter(|(_, cost)| much_less(*cost)).collect();
    if better.is_empty() {
        let at = &best.at;
        return Err(format!("{at} would not be {TIMES_FASTER} times as fast, and by {GAIN_MIN:?}"));
    }
    Ok(Better { leader: &leader.at, now, others: better })
}

/// The member that would lead best instead of the leader; the nearest where costs are not known.
pub(super) fn best_other(seats: &[Seat]) -> Option<&Seat> {
    let others = seats.iter().filter(|seat| !seat.leads && seat.may_lead);
    others.min_by_key(|seat| (seat.cost.is_none(), seat.cost, seat.here))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Members 0 to n-1 with these round trips between them, and from here; member 0 leads. What members have measured in
    /// the long run is `before`.
    fn survey(between: &[&[u32]], here: &[u32], before: &[&[u32]]) -> Survey {
        let count = here.len();
        let mut majority: Vec<u32> = between[0][1..].to_vec();
        majority.sort();
        let majority = majority[count / 2 - 1];
        let server = |n: usize| {
            let mut server = Inspection::of(format!("m{n}:1"));
            server.id = Some(n as u64);
            server.role = if n == 0 { Role::Decides } else { Role::Follows };
            server.round_trips = vec![MS * here[n]];
            // One has waited for somebody else's, and one was answered together with it.
            let agreed = MS * (here[n] + between[n][0] + majority);
            server.agreements = vec![agreed + MS * 999, agreed, agreed / 2];
            server.behind = Some(Behind::Entries(0));
            let others = (0..count).filter(|other| *other != n);
            server.peers = others.map(|other| (other as u64, MS * before[n][other])).collect();
            server
        };
        Survey { servers: (0..count).map(server).collect(), voters: Some(count) }
    }

    fn advice(survey: &Survey) -> Advice {
        advise(&[seats(survey)])
    }

    fn to(survey: &Survey) -> Option<String> {
        match advice(survey) {
            Advice::Move { to, .. } => Some(to),
            Advice::Stay(_) => None,
        }
    }

    const EVEN: [&[u32]; 3] = [&[0, 100, 100], &[100, 0, 100], &[100, 100, 0]];
    const SLOW: [&[u32]; 3] = [&[0, 800, 800], &[800, 0, 100], &[800, 100, 0]];

    #[test]
    fn a_leader_in_a_slow_region_is_moved_wherever_this_is_asked() {
        for before in [EVEN, SLOW] {
            for here in [[800, 1, 100], [1, 800, 800], [800, 100, 1]] {
                let Advice::Move { to, now, then } = advice(&survey(&SLOW, &here, &before)) else {
                    panic!("{here:?}: it stays");
                };
                assert_ne!(to, "m0:1");
                assert!(now >= then * 3, "{here:?}: {now:?} {then:?}");
            }
        }
    }

    #[test]
    fn of_two_equals_one_is_taken_although_each_look_prefers_another() {
        let look = |here: [u32; 3], between: [&[u32]; 3]| seats(&survey(&between, &here, &EVEN));
        let first = look([800, 1, 2], SLOW);
        let second = look([800, 2, 1], SLOW);
        let both = [first, second];
        let one = |look: &Vec<Seat>| best_other(look).unwrap().at.clone();
        assert_ne!(one(&both[0]), one(&both[1]));
        assert!(matches!(advise(&both), Advice::Move { .. }), "{both:?}");
        // It was slow only once, or leads no more.
        let good = look([100, 1, 100], EVEN);
        assert!(matches!(advise(&[both[0].clone(), good]), Advice::Stay(_)));
        let mut moved = both[1].clone();
        (moved[0].leads, moved[1].leads) = (false, true);
        assert!(matches!(advise(&[both[0].clone(), moved]), Advice::Stay(_)));
    }

    #[test]
    fn where_all_regions_are_alike_nobody_is_moved() {
        for here in [[1, 100, 100], [100, 1, 100], [100, 100, 1], [500, 500, 500]] {
            assert_eq!(to(&survey(&EVEN, &here, &EVEN)), None, "{here:?}");
            // It was slow once, and is no more.
            assert_eq!(to(&survey(&EVEN, &here, &SLOW)), None, "{here:?}");
        }
        // Three times as fast, and nobody would notice.
        let near: [&[u32]; 3] = [&[0, 9, 9], &[9, 0, 1], &[9, 1, 0]];
        assert_eq!(to(&survey(&near, &[9, 1, 1], &near)), None);
    }

    #[test]
    fn a_slow_follower_is_no_reason_and_a_small_gain_is_none() {
        let follower: [&[u32]; 3] = [&[0, 800, 100], &[800, 0, 800], &[100, 800, 0]];
        assert_eq!(to(&survey(&follower, &[1, 800, 100], &EVEN)), None);
        let twice: [&[u32]; 3] = [&[0, 200, 200], &[200, 0, 100], &[200, 100, 0]];
        assert_eq!(to(&survey(&twice, &[200, 100, 100], &twice)), None);
    }

    #[test]
    fn of_two_slow_regions_the_leader_comes_into_neither() {
        let both: [&[u32]; 5] = [
            &[0, 900, 900, 900, 900],
            &[900, 0, 900, 900, 900],
            &[900, 900, 0, 50, 50],
            &[900, 900, 50, 0, 50],
            &[900, 900, 50, 50, 0],
        ];
        // Members have not measured it yet.
        let before: [&[u32]; 5] = [
            &[0, 50, 50, 50, 50],
            &[50, 0, 50, 50, 50],
            &[50, 50, 0, 50, 50],
            &[50, 50, 50, 0, 50],
            &[50, 50, 50, 50, 0],
        ];
        let moved = to(&survey(&both, &[900, 900, 1, 50, 50], &before));
        assert_eq!(moved.as_deref(), Some("m2:1"));
    }

    #[test]
    fn who_lags_learns_or_is_not_reached_does_not_lead() {
        let mut all = survey(&SLOW, &[800, 1, 2], &SLOW);
        all.servers[1].behind = Some(Behind::Entries(BEHIND_MAX + 1));
        assert_eq!(to(&all).as_deref(), Some("m2:1"));
        all.servers[2].role = Role::Learns;
        assert_eq!(to(&all), None);
        all.servers[1] = Inspection::of("m1:1");
        assert_eq!(to(&all), None);
        assert_eq!(best_other(&seats(&all)), None);
        let mut nobody = survey(&SLOW, &[800, 1, 2], &SLOW);
        nobody.servers[0].role = Role::Follows;
        assert_eq!(to(&nobody), None);
    }

    #[test]
    fn nothing_is_moved_on_what_is_not_known_and_a_drill_takes_the_nearest_then() {
        let mut untold = survey(&SLOW, &[800, 100, 1], &SLOW);
        for server in &mut untold.servers {
            server.peers.clear();
            server.agreements.clear();
        }
        let seats = seats(&untold);
        assert!(
            matches!(advise(std::slice::from_ref(&seats)), Advice::Stay(why) if why.contains("does not answer"))
        );
        assert_eq!(best_other(&seats).map(|seat| seat.at.as_str()), Some("m2:1"));
    }

    #[test]
    fn five_members_need_the_second_nearest() {
        let between: [&[u32]; 5] = [
            &[0, 10, 300, 300, 300],
            &[10, 0, 300, 300, 300],
            &[300, 300, 0, 40, 40],
            &[300, 300, 40, 0, 40],
            &[300, 300, 40, 40, 0],
        ];
        let seats = seats(&survey(&between, &[1; 5], &between));
        let costs: Vec<_> = seats.iter().map(|seat| seat.cost.unwrap().as_millis()).collect();
        // To the first: 0, here 1, 10 | 300, 300, 300; the lower middle is 10, and a majority is 300 away.
        assert_eq!(costs, [310, 310, 80, 80, 80]);
    }
}
