//! What links do to packets, on real sockets.

use std::time::{Duration, Instant};

use outlast_lab::{Burst, LinkId, Plan, Shape, fate, inside};

use crate::sockets::{at, receive, receive_all, send, socket, two_sites};

const PACKETS: u32 = 200; // what a socket holds by default until it is read

#[test]
fn a_packet_takes_the_delay_of_either_family() {
    if !inside("shapes::a_packet_takes_the_delay_of_either_family") {
        return;
    }
    let lab = two_sites(Shape::one_way_ms(40.0));
    for six in [false, true] {
        let address = |host| if six { lab.address6(host) } else { lab.address(host) }.unwrap();
        let (eu, us) = (at(&lab, "eu.a", address("eu.a")), at(&lab, "us.a", address("us.a")));
        let began = Instant::now();
        send(&eu, &us, 7);
        assert_eq!(receive(&us), 7);
        // Never early; how late depends on the machine, and `outlast-lab measure` tells.
        assert!(began.elapsed() >= Duration::from_millis(40), "{:?}", began.elapsed());
        send(&us, &eu, 8);
        assert_eq!(receive(&eu), 8);
        assert!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
    }
    // Two hosts of a site have their own way, which counts for itself.
    let (a, b) = (socket(&lab, "eu.a"), socket(&lab, "eu.b"));
    send(&a, &b, 9);
    assert_eq!(receive(&b), 9);
    assert_eq!(lab.counters("eu", "eu").unwrap().delivered, 1);
    assert_eq!(lab.counters("eu", "us").unwrap().delivered, 2);
}

#[test]
fn packets_have_the_fate_that_the_seed_says() {
    if !inside("shapes::packets_have_the_fate_that_the_seed_says") {
        return;
    }
    let shape = Shape {
        loss: 0.1,
        burst: Some(Burst { start: 0.02, end: 0.25, loss: 0.9 }),
        duplicate: 0.05,
        ..Shape::one_way_ms(5.0)
    };
    let link = LinkId(0x0100 << 32 | 0x0200); // from site 1 to site 2
    let foretold: Vec<u32> = (0..PACKETS)
        .flat_map(|number| {
            let fate = fate(11, link, number.into(), &shape);
            let copies = if fate.lost.is_some() { 0 } else { 1 + usize::from(fate.duplicated) };
            std::iter::repeat_n(number, copies)
        })
        .collect();
    // Twice: another lab of the same plan does the same.
    for _ in 0..2 {
        let lab = two_sites(shape);
        let (eu, us) = (socket(&lab, "eu.a"), socket(&lab, "us.a"));
        (0..PACKETS).for_each(|number| send(&eu, &us, number));
        assert_eq!(receive_all(&us), foretold);
        let counters = lab.counters("eu", "us").unwrap();
        assert_eq!(counters.sent, u64::from(PACKETS));
        assert_eq!(counters.delivered, foretold.len() as u64);
        assert!(counters.lost > 10 && counters.lost_in_burst > 5, "{counters:?}");
        assert!(counters.duplicated > 3, "{counters:?}");
    }
}

#[test]
fn packets_that_are_held_back_are_overtaken() {
    if !inside("shapes::packets_that_are_held_back_are_overtaken") {
        return;
    }
    let shape = Shape { reorder: 0.1, ..Shape::one_way_ms(5.0) };
    let lab = two_sites(shape);
    let (eu, us) = (socket(&lab, "eu.a"), socket(&lab, "us.a"));
    (0..PACKETS).for_each(|number| send(&eu, &us, number));
    let mut got = receive_all(&us);
    assert!(!got.is_sorted(), "nothing was overtaken");
    got.sort_unstable();
    assert_eq!(got, (0..PACKETS).collect::<Vec<_>>(), "nothing is lost by it");
    assert!(lab.counters("eu", "us").unwrap().held > 10);
    // Jitter reorders only where it may.
    for (overtaking, sorted) in [(false, true), (true, false)] {
        let jitter = Duration::from_millis(50);
        lab.shape("eu", "us", Shape { jitter, overtaking, ..Shape::one_way_ms(5.0) }).unwrap();
        (0..PACKETS).for_each(|number| send(&eu, &us, number));
        assert_eq!(receive_all(&us).is_sorted(), sorted, "overtaking: {overtaking}");
    }
}

#[test]
fn a_rate_lets_so_much_through_and_its_queue_ends() {
    if !inside("shapes::a_rate_lets_so_much_through_and_its_queue_ends") {
        return;
    }
    // 128 bytes with headers: 1024 bits, so 1 Mbit/s takes 1.024 ms for each.
    let shape = Shape {
        rate: Some(1_000_000),
        queue: Duration::from_millis(100),
        ..Shape::one_way_ms(5.0)
    };
    let lab = two_sites(shape);
    let (eu, us) = (socket(&lab, "eu.a"), socket(&lab, "us.a"));
    let began = Instant::now();
    (0..PACKETS).for_each(|number| send(&eu, &us, number));
    let sent_in = began.elapsed();
    let got = receive_all(&us);
    // What fits is a queue of 98, the one in transmission, and what left while the rest was sent.
    let most = 100 + sent_in.as_micros() / 1024;
    assert!((98..=most as usize).contains(&got.len()), "{} came", got.len());
    let counters = lab.counters("eu", "us").unwrap();
    assert_eq!(counters.queue_full + counters.delivered, u64::from(PACKETS));
    // Whoever came last had to wait for all before.
    let again = Instant::now();
    (0..50).for_each(|number| send(&eu, &us, number));
    (0..50).for_each(|number| assert_eq!(receive(&us), number));
    assert!(again.elapsed() >= Duration::from_micros(50 * 1024 + 5000), "{:?}", again.elapsed());
}

#[test]
fn a_full_call_passes_a_region() {
    if !inside("shapes::a_full_call_passes_a_region") {
        return;
    }
    let lab = outlast_lab::Lab::up(&Plan::three_regions()).unwrap();
    let (client, node) = (socket(&lab, "near-eu"), socket(&lab, "us.node"));
    for number in 0..PACKETS {
        send(&client, &node, number);
        send(&node, &client, number);
    }
    for at in [&client, &node] {
        assert_eq!(receive_all(at), (0..PACKETS).collect::<Vec<_>>());
    }
    assert_eq!(lab.counters("near-eu", "us").unwrap().dropped(), 0);
}
