//! Questions as resolvers ask them, and what a stranger may send instead.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{net::IpAddr, str::FromStr, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, RecordType,
        rdata::opt::{ClientSubnet, EdnsCode, EdnsOption},
    },
};
use outlast_dns_core::{
    Counts, GatewayFacts, NameServer, Order, QUESTION_BYTES_MAX, Server, ServerConfig, Transport,
    UDP_ANSWER_BYTES_MAX,
};
use outlast_locate::Locations;
use outlast_model::{RegionName, Time};
use proptest::prelude::*;

const RESOLVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

fn config() -> ServerConfig {
    let regions = ["ap", "eu", "us"].map(RegionName::from).to_vec();
    let gateway = |id: &str, addresses: &[&str]| GatewayFacts {
        id: id.into(),
        region: id[..2].into(),
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
    };
    let server = |id: &str, address: &str| NameServer {
        id: id.into(),
        addresses: vec![address.parse().unwrap(), "2001:db8::53".parse().unwrap()],
    };
    ServerConfig {
        zone: "api.example.net".into(),
        region: "eu".into(),
        gateways: vec![
            gateway("eu-g1", &["192.0.2.1", "2001:db8::1"]),
            gateway("us-g1", &["192.0.2.2"]),
            gateway("ap-g1", &["192.0.2.3"]),
        ],
        servers: vec![server("eu-dns", "192.0.2.53"), server("us-dns", "192.0.2.54")],
        ttl: Duration::from_secs(5),
        order: Order::Nearest,
        answers_per_second: 0,
        locations: Locations::parse("198.51.100.0/24 ap\n203.0.113.128/25 us", &regions).unwrap(),
        regions,
    }
}

fn server() -> Server {
    Server::new(config()).unwrap()
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4_711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message
}

fn ask_from(server: &mut Server, question: &Message, from: IpAddr) -> Message {
    let bytes = question.to_vec().unwrap();
    let answer = server.answer(Time::from_millis(1), &bytes, from, Transport::Udp).unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.metadata.id, answer.metadata.message_type), (4_711, MessageType::Response));
    assert!(!answer.metadata.recursion_available);
    answer
}

fn ask(server: &mut Server, name: &str, kind: RecordType) -> Message {
    ask_from(server, &question(name, kind), RESOLVER)
}

/// Addresses in the answer.
fn addresses(answer: &Message) -> Vec<String> {
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(address.to_string()),
        RData::AAAA(address) => Some(address.to_string()),
        _ => None,
    });
    addresses.collect()
}

#[test]
fn the_service_is_at_gateways_of_the_nearest_regions() {
    let mut server = server();
    let answer = ask(&mut server, "api.example.net.", RecordType::A);
    assert_eq!(addresses(&answer), ["192.0.2.1", "192.0.2.2"]);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
    assert!(answer.answers.iter().all(|record| record.ttl == 5));
    let answer = ask(&mut server, "api.example.net.", RecordType::AAAA);
    assert_eq!(addresses(&answer), ["2001:db8::1"]);
    let answer = ask(&mut server, "us.api.example.net.", RecordType::A);
    assert_eq!(addresses(&answer), ["192.0.2.2"]);
    let near = ask_from(
        &mut server,
        &question("api.example.net.", RecordType::A),
        [203, 0, 113, 200].into(),
    );
    assert_eq!(addresses(&near), ["192.0.2.2", "192.0.2.3"], "by the resolver's own network");
}

#[test]
fn names_are_written_as_they_were_asked() {
    let mut server = server();
    let asked = "aPi.eXample.NET.";
    let answer = ask(&mut server, asked, RecordType::A);
    let name = Name::from_str(asked).unwrap();
    assert!(answer.queries[0].name().eq_case(&name) && answer.answers[0].name.eq_case(&name));
}

#[test]
fn what_is_not_there_is_told_with_how_long_that_holds() {
    let mut server = server();
    for (name, kind, code) in [
        ("api.example.net.", RecordType::HTTPS, ResponseCode::NoError),
        ("api.example.net.", RecordType::MX, ResponseCode::NoError),
        ("us.api.example.net.", RecordType::AAAA, ResponseCode::NoError),
        ("us.api.example.net.", RecordType::NS, ResponseCode::NoError),
        ("ns.api.example.net.", RecordType::A, ResponseCode::NoError),
        ("_8000._https.api.example.net.", RecordType::HTTPS, ResponseCode::NXDomain),
        ("mars.api.example.net.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = ask(&mut server, name, kind);
        assert_eq!(
            (answer.metadata.response_code, answer.answers.len()),
            (code, 0),
            "{name} {kind}"
        );
        assert!(answer.metadata.authoritative);
        let RData::SOA(soa) = &answer.authorities[0].data else { unreachable!() };
        assert_eq!((soa.minimum, answer.authorities[0].ttl), (5, 5));
    }
}

#[test]
fn the_zone_tells_who_serves_it() {
    let mut server = server();
    let answer = ask(&mut server, "api.example.net.", RecordType::NS);
    let names: Vec<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    assert_eq!(names, ["eu-dns.ns.api.example.net.", "us-dns.ns.api.example.net."]);
    assert_eq!(answer.additionals.len(), 4);
    let answer = ask(&mut server, "us-dns.ns.api.example.net.", RecordType::AAAA);
    assert_eq!(addresses(&answer), ["2001:db8::53"]);
    let answer = ask(&mut server, "api.example.net.", RecordType::SOA);
    assert!(matches!(answer.answers[0].data, RData::SOA(_)));
    let answer = ask(&mut server, "api.example.net.", RecordType::ANY);
    assert_eq!(answer.answers.len(), 1);
    assert_eq!(answer.answers[0].record_type(), RecordType::HINFO);
}

#[test]
fn other_zones_transfers_and_operations_are_refused() {
    let mut server = server();
    for (name, kind) in [
        ("example.net.", RecordType::A),
        (".", RecordType::NS),
        ("api.example.net.", RecordType::AXFR),
        ("api.example.net.", RecordType::IXFR),
    ] {
        let answer = ask(&mut server, name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name} {kind}");
        assert!(!answer.metadata.authoritative && answer.answers.is_empty());
    }
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let answer = ask_from(&mut server, &chaos, RESOLVER);
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    let mut notify = question("api.example.net.", RecordType::SOA);
    notify.metadata.op_code = OpCode::Notify;
    let answer = ask_from(&mut server, &notify, RESOLVER);
    assert_eq!(answer.metadata.response_code, ResponseCode::NotImp);
    let mut two = question("api.example.net.", RecordType::A);
    two.add_query(two.queries[0].clone());
    let answer = ask_from(&mut server, &two, RESOLVER);
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
}

fn with_edns(kind: RecordType, edit: impl FnOnce(&mut Edns)) -> Message {
    let mut asked = question("api.example.net.", kind);
    let mut edns = Edns::new();
    edns.set_max_payload(4_096);
    edit(&mut edns);
    asked.set_edns(edns);
    asked
}

#[test]
fn extensions_are_answered_when_they_are_used_and_only_then() {
    let mut server = server();
    assert!(ask(&mut server, "api.example.net.", RecordType::A).edns.is_none());
    let answer = ask_from(&mut server, &with_edns(RecordType::A, |_| {}), RESOLVER);
    let edns = answer.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version()), (UDP_ANSWER_BYTES_MAX, 0));
    let asked = with_edns(RecordType::A, |edns| {
        edns.set_version(1);
    });
    let answer = ask_from(&mut server, &asked, RESOLVER);
    // 16, which is BADVERS in an answer with EDNS.
    assert_eq!(u16::from(answer.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert!(answer.answers.is_empty() && answer.edns.is_some_and(|edns| edns.version() == 0));
}

#[test]
fn a_resolver_that_tells_its_client_s_network_has_an_answer_for_that_network() {
    let mut server = server();
    for (network, length, expected) in [
        ([198, 51, 100, 0], 24, "192.0.2.3"),
        ([10, 0, 0, 0], 16, "192.0.2.1"),
        ([0; 4], 0, "192.0.2.1"),
    ] {
        let subnet = ClientSubnet::new(network.into(), length, 0);
        let asked = with_edns(RecordType::A, |edns| {
            edns.options_mut().insert(EdnsOption::Subnet(subnet));
        });
        let answer = ask_from(&mut server, &asked, RESOLVER);
        assert_eq!(addresses(&answer)[0], expected);
        let edns = answer.edns.unwrap();
        let said = ClientSubnet::new(network.into(), length, length);
        assert_eq!(edns.option(EdnsCode::Subnet), Some(&EdnsOption::Subnet(said)));
    }
}

#[test]
fn an_answer_that_is_the_same_for_all_networks_says_so() {
    let subnet = ClientSubnet::new([198, 51, 100, 0].into(), 24, 0);
    let scope = |server: &mut Server, name: &str, kind: RecordType| {
        let mut asked = question(name, kind);
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).options_mut().insert(EdnsOption::Subnet(subnet));
        asked.set_edns(edns);
        let edns = ask_from(server, &asked, RESOLVER).edns.unwrap();
        assert!(edns.flags().dnssec_ok);
        match edns.option(EdnsCode::Subnet) {
            Some(EdnsOption::Subnet(subnet)) => subnet.scope_prefix(),
            _ => unreachable!(),
        }
    };
    let mut locates = server();
    assert_eq!(scope(&mut locates, "api.example.net.", RecordType::A), 24);
    for (name, kind) in [
        ("api.example.net.", RecordType::NS),
        ("eu.api.example.net.", RecordType::A),
        ("nobody.api.example.net.", RecordType::A),
        ("example.org.", RecordType::A),
    ] {
        assert_eq!(scope(&mut locates, name, kind), 0, "{name} {kind}");
    }
    let mut knows_nothing =
        Server::new(ServerConfig { locations: Locations::default(), ..config() }).unwrap();
    assert_eq!(scope(&mut knows_nothing, "api.example.net.", RecordType::A), 0);
}

#[test]
fn an_answer_that_does_not_fit_leaves_out_what_is_extra_or_says_come_by_tcp() {
    let mut config = config();
    let server = |n: u8| NameServer {
        id: format!("a-name-server-with-a-rather-long-name-so-that-it-takes-place-{n}"),
        addresses: (0..4).map(|m| IpAddr::from([10, 0, n, m])).collect(),
    };
    config.servers = (0..13).map(server).collect();
    config.zone = format!("{}.example.net", "b".repeat(60));
    let name = format!("{}.", config.zone);
    let mut server = Server::new(config).unwrap();
    let mut asked = question(&name, RecordType::NS);
    let plain = ask_from(&mut server, &asked, RESOLVER);
    assert!(plain.metadata.truncation && plain.answers.is_empty());
    let mut edns = Edns::new();
    edns.set_max_payload(4_096);
    asked.set_edns(edns);
    let wide = ask_from(&mut server, &asked, RESOLVER);
    assert!(!wide.metadata.truncation && wide.answers.len() == 13 && wide.additionals.is_empty());
    let bytes = asked.to_vec().unwrap();
    let tcp = server.answer(Time::ZERO, &bytes, RESOLVER, Transport::Tcp).unwrap();
    assert_eq!(Message::from_vec(&tcp).unwrap().additionals.len(), 13 * 4);
}

#[test]
fn who_asks_too_often_is_told_to_come_by_tcp_or_nothing() {
    let mut config = config();
    config.answers_per_second = 10;
    let mut server = Server::new(config).unwrap();
    let bytes = question("api.example.net.", RecordType::A).to_vec().unwrap();
    let now = Time::from_millis(9_000);
    for _ in 0..30 {
        if let Some(answer) = server.answer(now, &bytes, RESOLVER, Transport::Udp) {
            let answer = Message::from_vec(&answer).unwrap();
            assert!(answer.answers.is_empty() == answer.metadata.truncation);
        }
        assert!(server.answer(now, &bytes, RESOLVER, Transport::Tcp).is_some());
    }
    let Counts { answers, truncated, dropped, ignored } = server.counts();
    assert_eq!((answers.iter().sum::<u64>(), truncated, dropped, ignored), (10 + 30, 10, 10, 0));
    assert_eq!(Counts::KINDS[answers.iter().position(|count| *count == 40).unwrap()], "records");
}

#[test]
fn answers_are_not_answered() {
    let mut server = server();
    let mut message = question("api.example.net.", RecordType::A);
    message.metadata.message_type = MessageType::Response;
    let bytes = message.to_vec().unwrap();
    assert_eq!(server.answer(Time::ZERO, &bytes, RESOLVER, Transport::Udp), None);
    assert_eq!(server.answer(Time::ZERO, b"short", RESOLVER, Transport::Tcp), None);
    assert_eq!(server.counts().ignored, 2);
}

/// Whatever comes in: no panic, and what goes out can be read, fits, and is no more than a little longer than what came in
/// when it brings nothing.
fn survives(server: &mut Server, bytes: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    let Some(answer) = server.answer(Time::from_millis(1), bytes, RESOLVER, transport) else {
        return Ok(());
    };
    let read = Message::from_vec(&answer);
    prop_assert!(read.is_ok(), "{bytes:?} {answer:?}");
    prop_assert_eq!(&answer[..2], &bytes[..2]);
    if transport == Transport::Udp {
        prop_assert!(answer.len() <= usize::from(UDP_ANSWER_BYTES_MAX));
    }
    let read = read.unwrap();
    if read.answers.is_empty() && read.authorities.is_empty() {
        prop_assert!(answer.len() <= bytes.len() + 11, "no more than an OPT record");
    }
    Ok(())
}

proptest! {
    #[test]
    fn bytes_of_strangers_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..QUESTION_BYTES_MAX + 100),
        tcp in any::<bool>(),
    ) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        survives(&mut server(), &bytes, transport)?;
    }

    #[test]
    fn questions_with_some_bytes_changed_do_no_harm(
        name in "([a-z0-9]{1,20}\\.){0,5}(api\\.example\\.net\\.)?",
        kind in prop::sample::select(vec![1_u16, 2, 6, 28, 41, 65, 251, 252, 255, 999]),
        subnet in prop::option::of((any::<[u8; 4]>(), 0..=32_u8)),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let name = if name.is_empty() { ".".to_owned() } else { name };
        let mut asked = question(&name, RecordType::from(kind));
        if let Some((network, length)) = subnet {
            let mut edns = Edns::new();
            edns.set_max_payload(1_232);
            let subnet = ClientSubnet::new(network.into(), length, 0);
            edns.options_mut().insert(EdnsOption::Subnet(subnet));
            asked.set_edns(edns);
        }
        let mut bytes = asked.to_vec().unwrap();
        survives(&mut server(), &bytes, Transport::Udp)?;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&mut server(), &bytes, Transport::Udp)?;
    }
}
