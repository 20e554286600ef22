//! A name server on loopback: questions over UDP and TCP, outlooks of a gateway, and guests who behave badly.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use outlast_control::Regions;
use outlast_dns::{DnsConfig, NameServer};
use outlast_dns_core::{GatewayFacts, NameServer as Named, Order, ServerConfig};
use outlast_model::{BEAT_INTERVAL, Epoch, RegionName};
use outlast_wire::{Message as Word, Outlook, Process, Sealer, Secret};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{sync::watch, task::JoinHandle};

const PATIENCE: Duration = Duration::from_secs(20);

fn secret() -> Secret {
    Secret::new(b"sixteen bytes or more").unwrap()
}

fn config() -> DnsConfig {
    let regions: Vec<RegionName> = vec!["eu".into(), "us".into()];
    let gateway = |id: &str, address: &str| GatewayFacts {
        id: id.into(),
        region: id[..2].into(),
        addresses: vec![address.parse().unwrap()],
    };
    let server = ServerConfig {
        zone: "api.example.net".into(),
        region: "eu".into(),
        gateways: vec![gateway("eu-g", "192.0.2.1"), gateway("us-g", "192.0.2.2")],
        servers: vec![Named { id: "eu-dns".into(), addresses: vec![[127, 0, 0, 1].into()] }],
        ttl: Duration::from_secs(5),
        order: Order::Nearest,
        answers_per_second: 0,
        locations: outlast_locate::Locations::default(),
        regions,
    };
    let any = "127.0.0.1:0".parse().unwrap();
    DnsConfig { id: "eu-dns".into(), server, listen: vec![any], beat: any, secret: secret() }
}

struct Running {
    at: SocketAddr,
    beat: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    registry: Registry,
}

/// To be called inside a runtime.
fn start() -> Running {
    let mut registry = Registry::default();
    let server = NameServer::bind(config(), &mut registry).unwrap();
    let (at, beat) = (server.addresses()[0], server.beat_address());
    let (stop, stopping) = watch::channel(false);
    Running { at, beat, stop, task: tokio::spawn(server.run(stopping)), registry }
}

/// Runs `work` beside the server, away from its thread.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn question() -> Vec<u8> {
    let mut message = Message::new(99, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii("api.example.net.").unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

fn addresses(answer: &[u8]) -> Vec<String> {
    let answer = Message::from_vec(answer).unwrap();
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(address.to_string()),
        _ => None,
    });
    addresses.collect()
}

fn by_udp(at: SocketAddr) -> Vec<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&question(), at).unwrap();
    let mut buffer = [0; 2_000];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, at);
    addresses(&buffer[..length])
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, question: &[u8]) -> Option<Vec<String>> {
    let length = u16::try_from(question.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).ok()?;
    Some(addresses(&answer))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_over_udp_and_tcp_and_stops_when_told() {
    let Running { at, stop, task, registry, .. } = start();
    assert_eq!(beside(move || by_udp(at)).await, ["192.0.2.1", "192.0.2.2"]);
    beside(move || {
        let mut stream = connect(at);
        for _ in 0..3 {
            assert_eq!(ask(&mut stream, &question()).unwrap().len(), 2);
        }
        // Too long a question ends the connection, and no other.
        assert_eq!(ask(&mut connect(at), &[0; 5_000]), None);
        assert_eq!(ask(&mut stream, &question()).unwrap().len(), 2);
    })
    .await;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut metrics = String::new();
        encode(&mut metrics, &registry).unwrap();
        if metrics.contains("outlast_dns_answers_total{says=\"records\"} 5\n") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(true).unwrap();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gateways_say_is_in_the_answers() {
    let Running { at, beat, stop, task, .. } = start();
    let talk = tokio::spawn(async move {
        let me = Process::gateway("us-g");
        let mut sealer = Sealer::new(&secret(), me, Epoch(1));
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let regions = Regions::from_outside(["eu", "us"].map(RegionName::from));
        let (regions_digest, hears) = (regions.digest(), 0b10);
        let outlook = Outlook { regions_digest, hears, alive: 1, known: 1, ..Outlook::default() };
        loop {
            let word = sealer.seal(&Process::name_server("eu-dns"), &Word::Outlook(outlook));
            socket.send_to(&word.bytes, beat).await.unwrap();
            socket.send_to(b"nonsense", beat).await.unwrap();
            tokio::time::sleep(BEAT_INTERVAL).await;
        }
    });
    // The nearest region is heard by neither of them.
    assert_eq!(beside(move || by_udp(at)).await, ["192.0.2.2"]);
    talk.abort();
    stop.send(true).unwrap();
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_all_connections() {
    let Running { at, stop, task, .. } = start();
    beside(move || {
        let mut held: Vec<TcpStream> = (0..40).map(|_| connect(at)).collect();
        let served = held.iter_mut().filter_map(|stream| ask(stream, &question())).count();
        assert_eq!(served, 32);
        drop(held);
        let deadline = std::time::Instant::now() + PATIENCE;
        while ask(&mut connect(at), &question()).is_none() {
            assert!(std::time::Instant::now() < deadline, "places are given back");
        }
    })
    .await;
    stop.send(true).unwrap();
    task.await.unwrap();
}
