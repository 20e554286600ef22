//! Scenarios that are kept, and what must hold of the simulator itself.

use crate::{draw, run::run, schedule::Schedule, world::Knobs};

#[test]
fn one_seed_is_one_run_and_another_is_another() {
    for seed in [1, 2, 3] {
        let [first, second] = [(); 2].map(|()| run(draw::schedule(seed), Knobs::default()));
        assert_eq!(first, second);
        assert_ne!(first.hash, run(draw::schedule(seed + 100), Knobs::default()).hash);
    }
}

#[test]
fn without_failover_a_sweep_fails() {
    let knobs = Knobs { no_failover: true };
    let failures = (0..40).filter(|seed| run(draw::schedule(*seed), knobs).violation.is_some());
    assert!(failures.count() >= 10);
}

/// Every file in `scenarios/`, by its name.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            let text = include_str!(concat!("../scenarios/", stringify!($name), ".toml"));
            let schedule = Schedule::read(text).expect("a scenario");
            let outcome = run(schedule, Knobs::default());
            assert_eq!(outcome.violation, None);
        }
    )*};
}

scenarios! {
    node_dies,
    zombie_returns,
    region_goes_dark,
    region_alone_then_merges,
    one_way,
    gateway_dies,
    directory_away_and_wiped,
    drain_and_upgrade,
    flapping_region,
    wall_clocks_jump,
    certificate_and_names,
    gray_node,
    late_request,
}

/// The world as it was before operators came, so that it is still the one that failed.
fn without_rulings(seed: u64) -> Schedule {
    let mut schedule = draw::schedule(seed);
    schedule.world.rulings = false;
    schedule
}

/// Seeds that once failed, by what they found, in the world as it was drawn then.
macro_rules! found {
    ($drawn:path: $($name:ident: $seed:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            assert_eq!(run($drawn($seed), Knobs::default()).violation, None);
        }
    )*};
}

found! {
    without_rulings:
    a_loser_s_end_deleted_the_winner_s_record: 25,
    a_claim_that_came_to_nothing_stayed_in_the_directory: 29,
    a_gateway_without_a_directory_placed_in_its_own_region: 145,
    a_second_node_was_asked_under_the_same_generation: 619,
    two_gateways_moved_a_room_twice: 168,
    two_lost_echoes_were_a_dead_node: 794,
    a_restarted_gateway_did_not_get_past_a_tombstone: 923,
    losers_were_not_steered_when_the_winner_was_back: 565,
    an_old_claim_was_resolved_over_a_living_home: 116,
    a_claimant_died_before_it_looked_again: 13,
    a_late_join_ousted_its_own_newer_self: 4318,
    a_home_opened_without_settings_made_the_others_forget_them: 561,
    a_fall_that_nobody_acted_on_was_not_taken_back: 594,
    what_a_live_stream_had_said_was_forgotten_with_the_node_s_fall: 2031,
    a_room_that_began_anew_while_it_was_ended_lost_its_name: 3322,
    a_gateway_that_stood_still_steered_to_a_home_of_long_ago: 4946,
    two_gateways_took_a_room_from_each_other_for_ever: 5754,
    a_lossy_path_was_a_feud: 240,
    regions_were_found_flapping_by_who_was_cut_off: 34,
    a_replica_lacked_the_last_writes: 7688,
    a_join_whose_gateway_lost_power_was_a_ghost: 7252,
}

found! {
    draw::schedule:
    a_deaf_node_that_began_anew_was_alive: 3,
    a_home_that_began_anew_was_not_told_its_settings: 1856,
    who_waited_was_not_looked_at_when_a_suspect_was_fine: 4834,
    a_look_that_was_never_due_was_taken_for_a_pause: 11991,
    gateways_that_ejected_each_other_s_choice_fought: 2043,
    what_waited_while_a_gateway_stood_still_was_a_return_of_a_region: 68683,
    what_others_made_of_a_dead_node_s_rooms_was_left_when_it_was_back: 31919,
    what_a_dead_process_had_ousted_a_living_home: 67533,
    what_a_dead_process_said_last_was_of_its_successor: 96497,
    a_stream_that_broke_during_a_long_pause_was_believed: 99702,
    two_homes_that_a_third_left_behind_stayed_two: 103526,
    a_second_home_of_the_same_number_ended_a_stay_at_the_first: 176266,
    a_new_process_of_the_same_number_ended_all_stays: 156699,
    a_new_process_was_taken_to_know_the_settings: 158430,
    a_room_was_opened_at_a_new_process_before_it_was_heard: 188856,
    a_stream_to_a_hung_process_was_taken_for_its_successor_s: 137067,
    two_homes_that_a_dead_third_left_behind_stayed_two: 263556,
    a_ruling_of_a_room_that_began_anew_was_taken_for_an_old_one: 22281,
    a_stay_at_one_home_was_over_for_the_other: 28929,
    a_home_whose_people_came_back_did_not_wait_for_them: 92972,
    a_home_made_way_for_one_that_had_just_died: 118036,
    a_stay_that_one_of_two_homes_had_ended_went_on_at_the_other: 131620,
    a_home_that_is_dead_had_ended_a_stay_that_another_has: 38770,
    a_stay_ended_while_who_it_was_of_was_on_the_way: 43968,
    a_room_of_a_snapshot_had_moved_and_lost_its_settings: 105150,
    a_number_of_an_earlier_start_was_used_again: 156906,
    what_one_home_did_not_name_was_over_at_another_of_the_same_number: 92,
    an_older_home_ended_the_stay_at_a_newer_one: 3671,
    an_older_home_ended_the_stay_at_a_newer_one_again: 5209,
    who_came_after_the_last_beat_of_a_dead_process_was_not_told: 524195,
    a_claim_was_won_for_a_life_that_was_over: 157424,
    a_snapshot_ended_what_a_home_had_said_since: 224240,
    a_room_made_way_for_one_that_a_broken_stream_had_told_of: 626535,
    people_were_sent_where_nobody_had_come: 722347,
    who_came_a_moment_after_the_room_was_over_was_taken_for_moved: 541370,
    a_claim_was_tried_again_for_a_node_that_had_left: 833554,
}

#[test]
fn operators_are_heard_and_their_rulings_obeyed() {
    let outcomes = (0..20).map(|seed| run(draw::schedule(seed), Knobs::default()).rights);
    let [looked, excused] = outcomes.fold([0, 0], |[a, b], [c, d]| [a + c, b + d]);
    assert!(looked > 1_000 && excused * 100 < looked, "{looked} {excused}");
}
