//! One question, one answer (RFC 1035; EDNS: RFC 6891; client subnet: RFC 7871; ANY: RFC 8482).

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, LowerName, RData, Record, RecordType,
        rdata::{
            self,
            opt::{ClientSubnet, EdnsCode, EdnsOption},
        },
    },
    serialize::binary::BinEncodable,
};
use outlast_locate::Locations;
use outlast_model::RegionName;

use crate::{
    Transport, UDP_ANSWER_BYTES_MAX,
    fleet::{Fleet, Wanted},
    server::QUESTION_BYTES_MAX,
    zone::{Found, Stands, Zone, address_record, servers_ttl},
};

/// What everybody can receive over UDP (RFC 1035, section 2.3.4).
const PLAIN_ANSWER_BYTES_MAX: u16 = 512;

/// What an answer says, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records.
    Records,
    /// The name exists, and has nothing of that type.
    NoData,
    /// There is no such name.
    NoName,
    /// Another zone, or nothing that this server does.
    Refused,
    /// An operation that this server does not know.
    NotImplemented,
    /// A question that cannot be understood.
    Malformed,
    /// A version of EDNS that nobody knows.
    BadVersion,
    /// An answer that could not be written.
    Failed,
}

impl Kind {
    pub(crate) const ALL: [Kind; 8] = [
        Kind::Records,
        Kind::NoData,
        Kind::NoName,
        Kind::Refused,
        Kind::NotImplemented,
        Kind::Malformed,
        Kind::BadVersion,
        Kind::Failed,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Records => "records",
            Kind::NoData => "no_data",
            Kind::NoName => "no_name",
            Kind::Refused => "refused",
            Kind::NotImplemented => "not_implemented",
            Kind::Malformed => "malformed",
            Kind::BadVersion => "bad_version",
            Kind::Failed => "failed",
        }
    }
}

pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    pub(crate) bytes: Option<Vec<u8>>,
}

/// What an answer may rest on.
pub(crate) struct World<'a> {
    pub(crate) zone: &'a Zone,
    pub(crate) fleet: &'a mut Fleet,
    pub(crate) locations: &'a Locations,
    /// This server's own.
    pub(crate) region: &'a RegionName,
}

/// The first twelve bytes of a question, looked at before anything is allocated for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    id: u16,
    op_code: u8,
    recursion_desired: bool,
    /// Questions, answers, authorities, additional records.
    counts: [u16; 4],
}

impl Head {
    /// `None`: too short, or itself an answer, which two servers could throw at each other for ever.
    pub(crate) fn read(question: &[u8]) -> Option<Head> {
        let word =
            |at: usize| Some(u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]));
        let flags = word(2)?;
        let counts = [word(4)?, word(6)?, word(8)?, word(10)?];
        let op_code = u8::try_from(flags >> 11 & 0xf).unwrap_or_default();
        let head = Head { id: word(0)?, op_code, recursion_desired: flags & 0x100 != 0, counts };
        (flags & 0x8000 == 0).then_some(head)
    }

    /// A question has one question in it, and nothing else than the records of EDNS and signatures.
    fn is_sound(&self) -> bool {
        matches!(self.counts, [1, 0, 0, 0..=3])
    }

    fn response(&self, code: ResponseCode) -> Message {
        let mut response = Message::error_msg(self.id, OpCode::from_u8(self.op_code), code);
        response.metadata.recursion_desired = self.recursion_desired;
        response
    }

    /// An answer of a header alone.
    fn bare(&self, code: ResponseCode) -> Option<Vec<u8>> {
        self.response(code).to_vec().ok()
    }
}

/// Tells to ask by TCP, in fewer bytes than the question has.
pub(crate) fn truncated(head: &Head, question: &[u8]) -> Option<Vec<u8>> {
    let mut response = head.response(ResponseCode::NoError);
    response.metadata.truncation = true;
    if head.is_sound() && question.len() <= QUESTION_BYTES_MAX {
        response.queries = Message::from_vec(question).ok()?.queries;
    }
    response.to_vec().ok().filter(|bytes| bytes.len() <= question.len())
}

pub(crate) fn answer(
    world: World<'_>,
    head: &Head,
    question: &[u8],
    from: IpAddr,
    transport: Transport,
) -> Outcome {
    let bare = |kind, code| Outcome { kind, bytes: head.bare(code) };
    if head.op_code != u8::from(OpCode::Query) {
        return bare(Kind::NotImplemented, ResponseCode::NotImp);
    }
    if !head.is_sound() || question.len() > QUESTION_BYTES_MAX {
        return bare(Kind::Malformed, ResponseCode::FormErr);
    }
    let Ok(asked) = Message::from_vec(question) else {
        return bare(Kind::Malformed, ResponseCode::FormErr);
    };
    let [query] = &asked.queries[..] else {
        return bare(Kind::Malformed, ResponseCode::FormErr);
    };
    let mut response = head.response(ResponseCode::NoError);
    debug_assert_eq!(response.metadata.message_type, MessageType::Response);
    response.queries = vec![query.clone()];
    let subnet = asked.edns.as_ref().and_then(subnet);
    let locates = !world.locations.is_empty();
    let (kind, near) = match &asked.edns {
        Some(edns) if edns.version() > 0 => {
            response.metadata.response_code = ResponseCode::BADVERS;
            (Kind::BadVersion, false)
        }
        _ => fill(world, query, client(from, subnet), &mut response),
    };
    if let Some(edns) = &asked.edns {
        response.set_edns(extension(edns, subnet, near && locates));
    }
    let limit = match (transport, &asked.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => PLAIN_ANSWER_BYTES_MAX,
        (Transport::Udp, Some(edns)) => {
            edns.max_payload().clamp(PLAIN_ANSWER_BYTES_MAX, UDP_ANSWER_BYTES_MAX)
        }
    };
    match fitting(response, usize::from(limit)) {
        Some(bytes) => Outcome { kind, bytes: Some(bytes) },
        None => bare(Kind::Failed, ResponseCode::ServFail),
    }
}

/// The address by which whoever asks is to be located: its resolver tells its network, or else is taken to be near.
fn client(from: IpAddr, subnet: Option<ClientSubnet>) -> IpAddr {
    subnet.filter(|subnet| subnet.source_prefix() > 0).map_or(from, |subnet| subnet.addr())
}

fn subnet(edns: &Edns) -> Option<ClientSubnet> {
    match edns.option(EdnsCode::Subnet)? {
        EdnsOption::Subnet(subnet) => Some(*subnet),
        _ => None,
    }
}

/// What is said of EDNS in return. An answer that depends on where the client is (`near`) is for the network that was asked for and
/// no larger one: a longer prefix within may be elsewhere. Any other is for everybody. DO is given back (RFC 3225, section 3).
fn extension(asked: &Edns, subnet: Option<ClientSubnet>, near: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_ANSWER_BYTES_MAX).set_version(0);
    edns.set_dnssec_ok(asked.flags().dnssec_ok);
    if let Some(mut subnet) = subnet {
        subnet.set_scope_prefix(if near { subnet.source_prefix() } else { 0 });
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
    }
    edns
}

/// Adds what is answered. Returns also whether it depends on where the client is.
fn fill(world: World<'_>, query: &Query, client: IpAddr, response: &mut Message) -> (Kind, bool) {
    let refuse = |response: &mut Message| {
        response.metadata.response_code = ResponseCode::Refused;
        (Kind::Refused, false)
    };
    let (name, kind) = (query.name(), query.query_type());
    if query.query_class() != DNSClass::IN || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        return refuse(response);
    }
    let zone = world.zone;
    let stands = match zone.find(&LowerName::from(name)) {
        Found::Outside => return refuse(response),
        Found::Nothing => {
            response.metadata.authoritative = true;
            response.metadata.response_code = ResponseCode::NXDomain;
            response.add_authority(zone.soa.clone());
            return (Kind::NoName, false);
        }
        Found::Here(stands) => stands,
    };
    response.metadata.authoritative = true;
    let answers: Vec<Record> = match (stands, kind) {
        (Stands::Between, _) => Vec::new(),
        (_, RecordType::ANY) => {
            let data = rdata::HINFO::new("RFC8482".into(), String::new());
            vec![Record::from_rdata(name.clone(), servers_ttl(), RData::HINFO(data))]
        }
        (Stands::Service, RecordType::SOA) => vec![zone.soa.clone()],
        (Stands::Service, RecordType::NS) => {
            response.add_additionals(zone.glue());
            zone.servers(name).collect()
        }
        (Stands::Server(server), RecordType::A | RecordType::AAAA) => {
            let of_family = |it: &&IpAddr| it.is_ipv6() == (kind == RecordType::AAAA);
            let addresses = zone.addresses(*server).iter().filter(of_family);
            addresses.map(|it| address_record(name, servers_ttl(), *it)).collect()
        }
        (Stands::Service | Stands::Region(_), RecordType::A | RecordType::AAAA) => {
            let (near, only) = match stands {
                Stands::Region(region) => (region, true),
                _ => (world.locations.region(client).unwrap_or(world.region), false),
            };
            let wanted = Wanted { v6: kind == RecordType::AAAA, near, only };
            let picked = world.fleet.pick(wanted);
            picked.into_iter().map(|it| address_record(name, zone.ttl, it)).collect()
        }
        _ => Vec::new(),
    };
    let near = matches!(stands, Stands::Service) && is_address(kind);
    if answers.is_empty() {
        response.add_authority(zone.soa.clone());
        return (Kind::NoData, near);
    }
    response.add_answers(answers);
    (Kind::Records, near)
}

fn is_address(kind: RecordType) -> bool {
    matches!(kind, RecordType::A | RecordType::AAAA)
}

/// The message in at most `limit` bytes: without additional records if need be, or else with nothing but the word to come by
/// TCP.
fn fitting(mut response: Message, limit: usize) -> Option<Vec<u8>> {
    let bytes = response.to_bytes().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    response.additionals.clear();
    let bytes = response.to_bytes().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    response.answers.clear();
    response.authorities.clear();
    response.metadata.truncation = true;
    response.to_bytes().ok()
}
