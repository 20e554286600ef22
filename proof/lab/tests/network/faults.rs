//! Cuts and black holes, on real sockets.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use outlast_lab::{Shape, inside};

use crate::sockets::{receive, receive_all, send, socket, two_sites};

#[test]
fn a_cut_one_way_leaves_the_other() {
    if !inside("faults::a_cut_one_way_leaves_the_other") {
        return;
    }
    let lab = two_sites(Shape::one_way_ms(5.0));
    let (eu, us) = (socket(&lab, "eu.a"), socket(&lab, "us.a"));
    lab.cut_one_way("eu", "us").unwrap();
    send(&eu, &us, 1);
    send(&us, &eu, 2);
    assert_eq!(receive(&eu), 2);
    assert_eq!(receive_all(&us), [0; 0]);
    let (forth, back) = (lab.counters("eu", "us").unwrap(), lab.counters("us", "eu").unwrap());
    assert_eq!((forth.cut, forth.delivered), (1, 0));
    assert_eq!((back.cut, back.delivered), (0, 1));
    let refused = lab.heal("eu.a", "us.a").unwrap_err().to_string();
    assert_eq!(refused, "nothing to heal at eu.a and us.a; the faults are: cut eu -> us");
    lab.heal("us", "eu").unwrap();
    send(&eu, &us, 3);
    assert_eq!(receive(&us), 3);
}

#[test]
fn a_host_may_be_cut_off_alone() {
    if !inside("faults::a_host_may_be_cut_off_alone") {
        return;
    }
    let lab = two_sites(Shape::one_way_ms(5.0));
    let (a, b, us) = (socket(&lab, "eu.a"), socket(&lab, "eu.b"), socket(&lab, "us.a"));
    lab.cut("eu.a", "us.a").unwrap();
    lab.cut("eu.a", "eu.b").unwrap();
    send(&a, &us, 1);
    send(&a, &b, 2);
    send(&b, &us, 3);
    assert_eq!(receive_all(&us), [3]);
    assert_eq!(receive_all(&b), [0; 0]);
    assert_eq!(lab.heal_all(), 4);
    send(&a, &us, 4);
    assert_eq!(receive(&us), 4);
}

/// Nobody is told: no datagram comes back, no connection is refused or reset, and one that was there only stalls.
#[test]
fn a_black_hole_is_silent() {
    if !inside("faults::a_black_hole_is_silent") {
        return;
    }
    let lab = two_sites(Shape::one_way_ms(5.0));
    let address = lab.address("us.a").unwrap();
    let listener = lab.within("us.a", || TcpListener::bind((address, 0))).unwrap().unwrap();
    let target = listener.local_addr().unwrap();
    let mut before = lab.within("eu.a", || TcpStream::connect(target)).unwrap().unwrap();
    let (mut served, _) = listener.accept().unwrap();
    before.write_all(b"a").unwrap();
    served.read_exact(&mut [0]).unwrap();
    // A closed port is refused aloud while the network is whole: the silence below is not the kernel's.
    let (eu, us) = (socket(&lab, "eu.a"), socket(&lab, "us.a"));
    let closed = (address, us.local_addr().unwrap().port());
    let refused = lab.within("eu.a", || TcpStream::connect(closed)).unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);

    lab.black_hole("us").unwrap();
    let wait = Duration::from_millis(1500); // more than one retransmission of a SYN
    let silent = lab.within("eu.a", || TcpStream::connect_timeout(&closed.into(), wait));
    assert_eq!(silent.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    // An ICMP error would come up at the socket's next call.
    eu.connect(us.local_addr().unwrap()).unwrap();
    for _ in 0..3 {
        eu.send(b"x").unwrap();
    }
    assert_eq!(receive_all(&eu), [0; 0]);
    before.write_all(b"b").unwrap();
    before.set_read_timeout(Some(wait)).unwrap();
    assert_eq!(before.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Within the site life goes on, and afterwards what stalled comes through.
    let (a, b) = (socket(&lab, "eu.a"), socket(&lab, "eu.b"));
    send(&a, &b, 1);
    assert_eq!(receive(&b), 1);
    assert!(lab.counters("eu", "us").unwrap().black_hole >= 5);
    lab.heal_black_hole("us").unwrap();
    served.read_exact(&mut [0]).unwrap();
}
