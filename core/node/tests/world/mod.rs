//! A shard and its clients in virtual time: each client is a real str0m peer that offers, checks, encrypts and decodes
//! SDP as a browser would; only sockets are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use outlast_livekit::{self as proto, Message as _};
use outlast_model::{Epoch, Generation, Identity, NodeId, RegionName, Ruling, SessionId, Time};
use outlast_node_core::{
    ApiError, ApiRequest, Command, Join, Out, Refusal, SERVER_VERSION, Shard, ShardConfig, Told,
};
use outlast_token::{ApiKeys, Claims, VideoGrant};
use proto::{signal_request, signal_response::Message};
use str0m::{
    Candidate, Event, Input, Output, Rtc,
    change::{SdpAnswer, SdpPendingOffer},
    channel::ChannelId,
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::RtpWrite,
};

pub(crate) const SECRET: &str = "a-secret-of-thirty-two-characters";
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7900);

/// One client: its engine, its inbox, what it has heard.
pub(crate) struct Client {
    pub(crate) session: SessionId,
    pub(crate) address: SocketAddr,
    pub(crate) rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    offer_id: u32,
    /// It applies no answer for now.
    pub(crate) slow: bool,
    /// The answer that it has yet to apply, and the sections that it is to offer then.
    late: Option<String>,
    more: Option<(u32, u32)>,
    next: Instant,
    pub(crate) inbox: Vec<Message>,
    pub(crate) refused: Option<Refusal>,
    pub(crate) closed: bool,
    pub(crate) channels: BTreeMap<String, ChannelId>,
    pub(crate) messages: Vec<Vec<u8>>,
    /// RTP packets received, by mid.
    pub(crate) received: BTreeMap<String, Vec<u16>>,
    /// Media is not delivered to or from this client.
    pub(crate) unplugged: bool,
    pub(crate) connected: bool,
}

impl Client {
    pub(crate) fn join(&self) -> Option<&proto::JoinResponse> {
        self.inbox.iter().find_map(|message| match message {
            Message::Join(join) => Some(join),
            _ => None,
        })
    }

    pub(crate) fn sid(&self) -> String {
        self.join().and_then(|join| join.participant.clone()).expect("has joined").sid
    }

    pub(crate) fn leave(&self) -> Option<&proto::LeaveRequest> {
        self.inbox.iter().find_map(|message| match message {
            Message::Leave(leave) => Some(leave),
            _ => None,
        })
    }

    /// The last of the server's maps of mids to tracks.
    pub(crate) fn tracks_by_mid(&self) -> BTreeMap<String, String> {
        let last = self.inbox.iter().rev().find_map(|message| match message {
            Message::Answer(answer) => Some(answer.mid_to_track_id.clone()),
            _ => None,
        });
        last.unwrap_or_default().into_iter().collect()
    }

    /// Identities and states in the order told.
    pub(crate) fn updates(&self) -> Vec<proto::ParticipantInfo> {
        let updates = self.inbox.iter().filter_map(|message| match message {
            Message::Update(update) => Some(update.participants.clone()),
            _ => None,
        });
        updates.flatten().collect()
    }

    pub(crate) fn packets(&self) -> usize {
        self.received.values().map(Vec::len).sum()
    }
}

/// A shard with clients around it.
pub(crate) struct World {
    pub(crate) shard: Shard,
    pub(crate) now: Time,
    zero: Instant,
    pub(crate) clients: Vec<Client>,
    out: Out,
    pub(crate) told: Vec<Told>,
    /// Datagrams that the shard sent, whoever they were for.
    pub(crate) sent: usize,
}

pub(crate) fn claims(room: &str, identity: &str) -> Claims {
    Claims {
        issuer: "devkey".into(),
        identity: Identity::from(identity),
        expires_at: 4_000_000_000,
        video: VideoGrant { room_join: true, room: room.into(), ..VideoGrant::default() },
        ..Claims::default()
    }
}

impl World {
    #[allow(
        clippy::disallowed_methods,
        reason = "any Instant will do: time is virtual from here on"
    )]
    pub(crate) fn new() -> World {
        let zero = Instant::now();
        let config = ShardConfig {
            shard: 0,
            media_port: SERVER.port(),
            sockets: vec![SERVER],
            advertise: vec![SERVER.ip()],
            node: NodeId::from("eu-1"),
            region: RegionName::from("eu"),
            epoch: Epoch(1),
            ping_interval: Duration::from_secs(1),
            ping_timeout: Duration::from_secs(3),
            api_keys: ApiKeys::new([("devkey".to_owned(), SECRET.to_owned())])
                .expect("a good key pair"),
            version: SERVER_VERSION,
            unix_start: Duration::from_secs(1_700_000_000),
            instant_zero: zero,
            participants_max: 100,
        };
        World {
            shard: Shard::new(config, [7; 32], Time::ZERO),
            now: Time::ZERO,
            zero,
            clients: Vec::new(),
            out: Out::default(),
            told: Vec::new(),
            sent: 0,
        }
    }

    /// Joins with three receiving sections of each kind and the data channels, as SDKs do.
    pub(crate) fn join(&mut self, room: &str, identity: &str) -> usize {
        self.join_with(claims(room, identity), proto::JoinRequest::default())
    }

    pub(crate) fn join_with(&mut self, claims: Claims, request: proto::JoinRequest) -> usize {
        self.join_under((Generation(1), None), claims, request)
    }

    /// Joins a room that is believed to be here under `generation`.
    pub(crate) fn join_at(&mut self, generation: Generation, claims: Claims) -> usize {
        self.join_ruled(generation, claims, None)
    }

    /// The same, with what the gateway knows to be ruled of the client.
    pub(crate) fn join_ruled(
        &mut self,
        generation: Generation,
        claims: Claims,
        ruling: Option<Ruling>,
    ) -> usize {
        self.join_under((generation, ruling), claims, proto::JoinRequest::default())
    }

    fn join_under(
        &mut self,
        (generation, ruling): (Generation, Option<Ruling>),
        claims: Claims,
        request: proto::JoinRequest,
    ) -> usize {
        let index = self.clients.len();
        let number = u8::try_from(index + 1).expect("few clients");
        let address = SocketAddr::new(Ipv4Addr::new(198, 51, 100, number).into(), 5000);
        let mut rtc = Rtc::builder().set_rtp_mode(true).build(self.instant());
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("a host candidate"));
        let mut change = rtc.sdp_api();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            for _ in 0..3 {
                change.add_media(kind, Direction::RecvOnly, None, None, None);
            }
        }
        change.add_channel("_reliable".to_owned());
        change.add_channel_with_config(str0m::channel::ChannelConfig {
            label: "_lossy".to_owned(),
            ordered: false,
            reliability: str0m::channel::Reliability::MaxRetransmits { retransmits: 0 },
            ..Default::default()
        });
        let (offer, pending) = change.apply().expect("there are changes");
        let session = SessionId(index as u64 + 1);
        self.clients.push(Client {
            session,
            address,
            rtc,
            pending: Some(pending),
            offer_id: 1,
            slow: false,
            late: None,
            more: None,
            next: self.instant(),
            inbox: Vec::new(),
            refused: None,
            closed: false,
            channels: BTreeMap::new(),
            messages: Vec::new(),
            received: BTreeMap::new(),
            unplugged: false,
            connected: false,
        });
        let settings = proto::ConnectionSettings { auto_subscribe: true, ..Default::default() };
        let request = proto::JoinRequest {
            connection_settings: request.connection_settings.or(Some(settings)),
            publisher_offer: Some(description(offer.to_sdp_string(), 1)),
            ..request
        };
        self.command(Command::Join(Box::new(Join {
            session,
            claims,
            request,
            generation,
            ruling,
            client_ip: None,
            user_agent: String::new(),
        })));
        index
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.shard.command(self.now, command, &mut self.out);
        self.shard.flush(self.now, &mut self.out);
        self.deliver();
    }

    pub(crate) fn signal(&mut self, client: usize, message: signal_request::Message) {
        let session = self.clients[client].session;
        let bytes = proto::SignalRequest { message: Some(message) }.encode_to_vec();
        self.command(Command::Signal { session, bytes });
    }

    /// Announces a track and offers its section; returns its mid.
    pub(crate) fn publish(&mut self, client: usize, kind: MediaKind, cid: &str) -> Mid {
        let r#type = match kind {
            MediaKind::Audio => proto::TrackType::Audio,
            MediaKind::Video => proto::TrackType::Video,
        };
        let request = proto::AddTrackRequest {
            cid: cid.to_owned(),
            r#type: r#type.into(),
            source: proto::TrackSource::Camera.into(),
            width: 640,
            height: 360,
            ..Default::default()
        };
        self.signal(client, signal_request::Message::AddTrack(request));
        let mut change = self.clients[client].rtc.sdp_api();
        let mid = change.add_media(
            kind,
            Direction::SendOnly,
            Some("stream".to_owned()),
            Some(cid.to_owned()),
            None,
        );
        let (offer, pending) = change.apply().expect("there is a change");
        self.send_offer(client, offer.to_sdp_string(), pending);
        mid
    }

    /// Stops sending a track: its section is offered inactive.
    pub(crate) fn stop(&mut self, client: usize, mid: Mid) {
        let mut change = self.clients[client].rtc.sdp_api();
        change.set_direction(mid, Direction::Inactive);
        let (offer, pending) = change.apply().expect("there is a change");
        self.send_offer(client, offer.to_sdp_string(), pending);
    }

    /// Takes up a participant on a new socket, which becomes a client of its own here.
    pub(crate) fn resume(&mut self, client: usize, sid: &str) -> usize {
        let identity = self.clients[client].join().and_then(|join| join.participant.clone());
        self.resume_as(claims("room", &identity.expect("has joined").identity), sid)
    }

    pub(crate) fn resume_as(&mut self, claims: Claims, sid: &str) -> usize {
        let request = proto::JoinRequest {
            reconnect: true,
            participant_sid: sid.to_owned(),
            ..Default::default()
        };
        self.join_with(claims, request)
    }

    /// A command whose answers belong to no client of this world.
    pub(crate) fn command_unseen(&mut self, command: Command) {
        self.shard.command(self.now, command, &mut self.out);
        self.out.batch.clear();
        self.told.append(&mut self.out.told);
    }

    pub(crate) fn api(&mut self, request: ApiRequest) -> Result<Vec<u8>, ApiError> {
        self.command(Command::Api { call: 1, request: Box::new(request) });
        let answer = self.told.iter().rev().find_map(|told| match told {
            Told::Api { result, .. } => Some(result.clone()),
            _ => None,
        });
        answer.expect("every call is answered")
    }

    fn send_offer(&mut self, client: usize, sdp: String, pending: SdpPendingOffer) {
        let peer = &mut self.clients[client];
        peer.offer_id += 1;
        peer.pending = Some(pending);
        let message = signal_request::Message::Offer(description(sdp, peer.offer_id));
        self.signal(client, message);
    }

    /// Writes one RTP packet of a published track.
    pub(crate) fn write(&mut self, client: usize, mid: Mid, sequence: u64, payload: &[u8]) {
        let now = self.instant();
        let peer = &mut self.clients[client];
        let kind = peer.rtc.media(mid).expect("the section exists").kind();
        let codec = match kind {
            MediaKind::Audio => str0m::format::Codec::Opus,
            MediaKind::Video => str0m::format::Codec::Vp8,
        };
        let params = peer.rtc.codec_config().find(|p| p.spec().codec == codec);
        let pt = params.expect("a stock codec").pt();
        let mut api = peer.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).expect("a sending section has a stream");
        let time = u32::try_from(sequence).expect("short tests") * 960;
        stream.write_rtp(RtpWrite::new(pt, sequence.into(), time, now, payload));
    }

    /// Opens one more data channel, in band.
    pub(crate) fn open_channel(&mut self, client: usize, label: &str) {
        let config =
            str0m::channel::ChannelConfig { label: label.to_owned(), ..Default::default() };
        self.clients[client].rtc.direct_api().create_data_channel(config);
        self.clients[client].next = self.zero;
        self.run(Duration::from_millis(100));
    }

    pub(crate) fn send_bytes(&mut self, client: usize, label: &str, bytes: &[u8]) {
        let peer = &mut self.clients[client];
        let mut channel = peer.rtc.channel(peer.channels[label]).expect("the channel is open");
        assert!(channel.write(true, bytes).expect("writable"));
        peer.next = self.zero;
    }

    pub(crate) fn send_data(&mut self, client: usize, label: &str, packet: &proto::DataPacket) {
        let peer = &mut self.clients[client];
        let id = peer.channels[label];
        let mut channel = peer.rtc.channel(id).expect("the channel is open");
        assert!(channel.write(true, &packet.encode_to_vec()).expect("writable"));
        peer.next = self.zero;
    }

    /// Runs for a span, a millisecond at a time.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Duration::from_millis(1);
            self.step();
        }
    }

    /// Runs until a condition holds; panics when it does not within ten seconds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&World) -> bool) {
        for _ in 0..10_000 {
            if holds(self) {
                return;
            }
            self.run(Duration::from_millis(1));
        }
        panic!("did not come: {what}");
    }

    fn step(&mut self) {
        let now = self.instant();
        for index in 0..self.clients.len() {
            if self.clients[index].next <= now {
                let _ = self.clients[index].rtc.handle_input(Input::Timeout(now));
            }
            self.poll_client(index);
        }
        if self.shard.wake_at() <= self.now {
            self.shard.wake(self.now, &mut self.out);
        }
        self.shard.flush(self.now, &mut self.out);
        self.deliver();
    }

    fn poll_client(&mut self, index: usize) {
        loop {
            let client = &mut self.clients[index];
            let output = match client.rtc.poll_output() {
                // It does not try for ever.
                Err(_) if client.unplugged => return,
                output => output.expect("the client's engine works"),
            };
            match output {
                Output::Timeout(at) => {
                    client.next = at;
                    return;
                }
                Output::Transmit(transmit) => {
                    let (source, unplugged) = (client.address, client.unplugged);
                    if unplugged || transmit.destination != SERVER {
                        continue;
                    }
                    let mut bytes = transmit.contents.to_vec();
                    self.shard.datagram(self.now, 0, source, &mut bytes, &mut self.out);
                }
                Output::Event(Event::Connected) => client.connected = true,
                Output::Event(Event::ChannelOpen(id, label)) => {
                    client.channels.insert(label, id);
                }
                Output::Event(Event::ChannelData(data)) => client.messages.push(data.data),
                Output::Event(Event::RtpPacket(packet)) => {
                    let ssrc = packet.header.ssrc;
                    let mut api = client.rtc.direct_api();
                    let mid = api.stream_rx(&ssrc).map(|stream| stream.mid().to_string());
                    let sequence = packet.header.sequence_number;
                    client.received.entry(mid.unwrap_or_default()).or_default().push(sequence);
                }
                Output::Event(_) => {}
            }
        }
    }

    /// Hands out what the shard said, and answers requirements as SDKs do.
    fn deliver(&mut self) {
        let mut datagrams = Vec::new();
        for run in self.out.batch.runs() {
            for datagram in run.bytes.chunks(run.segment.max(1)) {
                self.sent += 1;
                let to = self.clients.iter().position(|c| c.address == run.path.address);
                datagrams.extend(to.map(|index| (index, datagram.to_vec())));
            }
        }
        self.out.batch.clear();
        for (index, datagram) in datagrams {
            let at = self.instant();
            let client = &mut self.clients[index];
            let Ok(contents) = datagram.as_slice().try_into() else { continue };
            if client.unplugged {
                continue;
            }
            let destination = client.address;
            let receive = Receive { proto: Protocol::Udp, source: SERVER, destination, contents };
            let _ = client.rtc.handle_input(Input::Receive(at, receive));
            // str0m keeps one received packet at a time: each is polled before the next.
            self.poll_client(index);
        }
        let mut requirements = BTreeSet::new();
        for told in std::mem::take(&mut self.out.told) {
            self.hear(&told, &mut requirements);
            self.told.push(told);
        }
        for (client, audios, videos) in requirements {
            self.offer_more(client, audios, videos);
        }
    }

    fn hear(&mut self, told: &Told, requirements: &mut BTreeSet<(usize, u32, u32)>) {
        let index = |session: &SessionId| usize::try_from(session.0 - 1).expect("small");
        match told {
            Told::Frame { session, bytes } => {
                let response = proto::SignalResponse::decode(&bytes[..]).expect("a message");
                let message = response.message.expect("with a body");
                if let Message::MediaSectionsRequirement(need) = &message {
                    requirements.insert((index(session), need.num_audios, need.num_videos));
                }
                self.receive(index(session), message);
            }
            Told::Refused { session, refusal } => {
                self.clients[index(session)].refused = Some(refusal.clone());
            }
            Told::Close { session } => {
                if let Some(client) = self.clients.get_mut(index(session)) {
                    client.closed = true;
                }
            }
            _ => {}
        }
    }

    fn receive(&mut self, index: usize, message: Message) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if let Message::Answer(answer) = &message {
            assert_eq!(answer.id, client.offer_id, "an answer names its offer");
            client.late = Some(answer.sdp.clone());
        }
        client.inbox.push(message);
        self.apply(index);
    }

    /// The client applies the answer that it has, and goes on with what had to wait for it.
    fn apply(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(sdp) = client.late.take_if(|_| !client.slow) else { return };
        let pending = client.pending.take().expect("an answer follows an offer");
        let parsed = SdpAnswer::from_sdp_string(&sdp).expect("a well-formed answer");
        client.rtc.sdp_api().accept_answer(pending, parsed).expect("an acceptable answer");
        client.next = self.zero;
        if let Some((audios, videos)) = client.more.take() {
            self.offer_more(index, audios, videos);
        }
    }

    /// From now on the client applies answers at once.
    pub(crate) fn hurry(&mut self, index: usize) {
        self.clients[index].slow = false;
        self.apply(index);
    }

    fn offer_more(&mut self, client: usize, audios: u32, videos: u32) {
        let peer = &mut self.clients[client];
        if peer.closed {
            return;
        }
        if peer.pending.is_some() {
            let (old_audios, old_videos) = peer.more.unwrap_or_default();
            peer.more = Some((old_audios + audios, old_videos + videos));
            return;
        }
        let mut change = peer.rtc.sdp_api();
        for (kind, count) in [(MediaKind::Audio, audios), (MediaKind::Video, videos)] {
            for _ in 0..count {
                change.add_media(kind, Direction::RecvOnly, None, None, None);
            }
        }
        if audios + videos == 0 {
            // str0m offers only changes.
            change.ice_restart(true);
        }
        let (offer, pending) = change.apply().expect("there is a change");
        self.send_offer(client, offer.to_sdp_string(), pending);
    }

    pub(crate) fn instant(&self) -> Instant {
        self.zero + Duration::from_nanos(self.now.as_nanos())
    }
}

fn description(sdp: String, id: u32) -> proto::SessionDescription {
    proto::SessionDescription { r#type: "offer".to_owned(), sdp, id, ..Default::default() }
}
