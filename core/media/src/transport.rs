//! One participant's ICE-lite, DTLS and SCTP, and, with `transport/dtls.rs`, the only place that names str0m. No media is declared to it: SRTP
//! keys are tapped from its DTLS provider, and the packet plane does the rest (docs/adr/0001).

mod dtls;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use outlast_model::Time;
use str0m::{
    Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig,
    channel::ChannelId,
    config::{CryptoProvider, DtlsCert, Fingerprint},
    net::{Protocol, Receive},
};

use self::dtls::TapProvider;
use crate::{
    Batch, Path, SrtpKeys,
    stun::{self, Class},
};

/// Bytes of data-channel messages that may wait for a participant before writes are refused.
pub const CHANNEL_BUFFER_BYTES_MAX: usize = 4 << 20;
/// Largest data-channel message that a participant may send, as the SDP says too (LiveKit's SDKs keep to 64,000).
pub const CHANNEL_MESSAGE_BYTES_MAX: u32 = 256 * 1024;
/// After how long without an authenticated ICE check nothing more is sent (RFC 7675 allows 30 s).
pub const CONSENT_SPAN: Duration = Duration::from_secs(10);

/// What all transports of a shard share: the certificate, the crypto provider, the mapping of times.
pub struct TransportContext {
    provider: Arc<CryptoProvider>,
    certificate: DtlsCert,
    fingerprint: Vec<u8>,
    zero: Instant,
    advertise: Vec<SocketAddr>,
}

impl std::fmt::Debug for TransportContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportContext")
            .field("advertise", &self.advertise)
            .finish_non_exhaustive()
    }
}

impl TransportContext {
    /// Makes a certificate; `zero` is the `Instant` at [`Time::ZERO`], `advertise` the candidates' addresses.
    pub fn new(zero: Instant, advertise: Vec<SocketAddr>) -> TransportContext {
        let mut provider = str0m_aws_lc_rs::default_provider();
        let certificate = provider
            .dtls_provider
            .generate_certificate()
            .expect("the aws-lc-rs provider generates certificates");
        let fingerprint = provider.sha256_provider.sha256(&certificate.certificate).to_vec();
        // str0m wants a provider that lives for ever; there is one for each shard, made once.
        let tap = TapProvider::new(provider.dtls_provider, &certificate);
        provider.dtls_provider = Box::leak(Box::new(tap));
        TransportContext { provider: Arc::new(provider), certificate, fingerprint, zero, advertise }
    }

    /// SHA-256 of the DTLS certificate, for the SDP.
    pub fn fingerprint(&self) -> &[u8] {
        &self.fingerprint
    }

    /// Addresses of the host candidates, for the SDP.
    pub fn advertise(&self) -> &[SocketAddr] {
        &self.advertise
    }

    fn instant(&self, now: Time) -> Instant {
        self.zero + Duration::from_nanos(now.as_nanos())
    }

    fn time(&self, instant: Instant) -> Time {
        let nanos = instant.saturating_duration_since(self.zero).as_nanos();
        Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// ICE username fragment and password of one side.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The username fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

impl From<&Credentials> for IceCreds {
    fn from(credentials: &Credentials) -> IceCreds {
        IceCreds { ufrag: credentials.ufrag.clone(), pass: credentials.pwd.clone() }
    }
}

/// A data channel of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel(ChannelId);

/// What a transport tells its owner. No `Debug`: it may hold keys.
#[allow(missing_debug_implementations, reason = "keys are never printed")]
pub enum TransportEvent {
    /// The DTLS handshake gave the SRTP keys.
    Keys(SrtpKeys),
    /// ICE and DTLS are up.
    Connected,
    /// The client has proved by an authenticated check that it is here; media may come from here.
    Validated(Path),
    /// An authenticated check nominates this pair: the client wants its datagrams here.
    Nominated(Path),
    /// The client opened a data channel with this label.
    ChannelOpen(Channel, String),
    /// A data channel is gone.
    ChannelClosed(Channel),
    /// A message arrived.
    Message {
        /// On which channel.
        channel: Channel,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The client closed DTLS, or the engine failed; nothing works any more.
    Closed,
}

/// Why a transport could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the offer's transport parameters were refused: {0}")]
pub struct TransportError(String);

/// ICE-lite agent, DTLS server and SCTP association of one participant.
pub struct Transport {
    rtc: Rtc,
    keys: Arc<OnceLock<SrtpKeys>>,
    keys_told: bool,
    path: Option<Path>,
    /// Last authenticated check (RFC 7675); the transport's birth before the first.
    consent_at: Time,
    next: Time,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Transport {
    /// A transport that answers an offer with these ICE credentials and certificate fingerprint.
    ///
    /// # Errors
    /// The engine refuses a parameter.
    pub fn new(
        context: &TransportContext,
        now: Time,
        local: &Credentials,
        remote: &Credentials,
        (algorithm, digest): (&str, &[u8]),
    ) -> Result<Transport, TransportError> {
        let refused = |what: String| TransportError(what);
        let config = RtcConfig::new()
            .set_rtp_mode(true)
            .set_crypto_provider(context.provider.clone())
            .set_dtls_cert(context.certificate.clone())
            .set_local_ice_credentials(local.into())
            .set_ice_lite(true)
            .set_sctp_max_buffered_amount(CHANNEL_BUFFER_BYTES_MAX)
            .set_sctp_max_message_size(CHANNEL_MESSAGE_BYTES_MAX);
        let mut rtc = config.build(context.instant(now));
        let keys = dtls::tapped().ok_or_else(|| refused("no DTLS instance".into()))?;
        for address in &context.advertise {
            let candidate =
                Candidate::host(*address, "udp").map_err(|error| refused(error.to_string()))?;
            rtc.add_local_candidate(candidate);
        }
        let mut api = rtc.direct_api();
        api.set_remote_ice_credentials(remote.into());
        api.set_ice_controlling(false);
        api.set_remote_fingerprint(Fingerprint {
            hash_func: algorithm.to_ascii_lowercase(),
            bytes: digest.to_vec(),
        });
        api.start_dtls(false).map_err(|error| refused(error.to_string()))?;
        api.start_sctp(false);
        Ok(Transport { rtc, keys, keys_told: false, path: None, consent_at: now, next: now })
    }

    /// Takes new credentials for an ICE restart (RFC 8445 §9); DTLS, SCTP and SRTP go on.
    pub fn restart_ice(&mut self, now: Time, local: &Credentials, remote: &Credentials) {
        // The client is alive, it has just offered; its checks begin anew.
        self.consent_at = now;
        let mut api = self.rtc.direct_api();
        api.set_local_ice_credentials(local.into());
        api.set_remote_ice_credentials(remote.into());
    }

    /// Handles one STUN or DTLS datagram. `local` is the advertised address of the socket it came by.
    pub fn datagram(
        &mut self,
        context: &TransportContext,
        now: Time,
        (from, local): (Path, SocketAddr),
        bytes: &[u8],
        out: &mut Batch,
        events: &mut Vec<TransportEvent>,
    ) {
        let glance = stun::glance(bytes);
        let Ok(contents) = bytes.try_into() else { return };
        let receive =
            Receive { proto: Protocol::Udp, source: from.address, destination: local, contents };
        let input = Input::Receive(context.instant(now), receive);
        if self.rtc.handle_input(input).is_err() {
            events.push(TransportEvent::Closed);
            return;
        }
        let answered = self.drain(context, from.socket, out, events);
        let request = glance.filter(|seen| seen.class == Class::Request);
        let Some(request) = request.filter(|_| answered == Some(from.address)) else { return };
        // The agent answers with success only what carried the right password.
        self.consent_at = now;
        events.push(TransportEvent::Validated(from));
        if request.nominates || self.path.is_none() {
            events.push(TransportEvent::Nominated(from));
        }
    }

    /// Where DTLS and data channels go; STUN answers go where their requests came from. `None` until a pair is known.
    pub fn set_path(&mut self, path: Option<Path>) {
        self.path = path;
    }

    /// The client has shown by other means (a resume) that it is alive: its checks have [`CONSENT_SPAN`] to come.
    pub fn renew_consent(&mut self, now: Time) {
        self.consent_at = now;
    }

    /// Runs timers that are due.
    pub fn wake(
        &mut self,
        context: &TransportContext,
        now: Time,
        out: &mut Batch,
        events: &mut Vec<TransportEvent>,
    ) {
        if now < self.next {
            return;
        }
        if self.rtc.handle_input(Input::Timeout(context.instant(now))).is_err() {
            events.push(TransportEvent::Closed);
            return;
        }
        self.drain(context, self.path.map_or(0, |path| path.socket), out, events);
    }

    /// When [`Transport::wake`] wants to be called.
    pub fn wake_at(&self) -> Time {
        self.next
    }

    /// Whether the client has proved within [`CONSENT_SPAN`] that it wants our datagrams.
    pub fn has_consent(&self, now: Time) -> bool {
        now.since(self.consent_at) < CONSENT_SPAN
    }

    /// Queues a message; `false` when the channel is gone or [`CHANNEL_BUFFER_BYTES_MAX`] are waiting.
    pub fn send(
        &mut self,
        context: &TransportContext,
        now: Time,
        channel: Channel,
        bytes: &[u8],
        (out, events): (&mut Batch, &mut Vec<TransportEvent>),
    ) -> bool {
        let Some(mut channel) = self.rtc.channel(channel.0) else { return false };
        let taken = channel.write(true, bytes).unwrap_or(false);
        self.next = now;
        self.wake(context, now, out, events);
        taken
    }

    /// Bytes of messages that wait for the client on this channel.
    pub fn waiting(&mut self, channel: Channel) -> usize {
        self.rtc.channel(channel.0).map_or(0, |mut channel| channel.buffered_amount())
    }

    /// Polls the engine dry. Says where a STUN success went, if one did.
    fn drain(
        &mut self,
        context: &TransportContext,
        socket: u8,
        out: &mut Batch,
        events: &mut Vec<TransportEvent>,
    ) -> Option<SocketAddr> {
        let mut answered = None;
        loop {
            let event = match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.next = context.time(at);
                    break;
                }
                Ok(Output::Transmit(transmit)) => {
                    let bytes: &[u8] = &transmit.contents;
                    let stun = stun::glance(bytes);
                    let success = stun.is_some_and(|message| message.class == Class::Success);
                    answered = answered.or(success.then_some(transmit.destination));
                    let chosen = Path { socket, address: transmit.destination };
                    // The agent keeps to its own pair for up to 15 s after the client has moved on.
                    let path = self.path.filter(|_| stun.is_none()).unwrap_or(chosen);
                    out.push(path, bytes);
                    continue;
                }
                Ok(Output::Event(event)) => event,
                Err(_) => {
                    events.push(TransportEvent::Closed);
                    break;
                }
            };
            match event {
                Event::Connected => events.push(TransportEvent::Connected),
                Event::ChannelOpen(id, label) => {
                    events.push(TransportEvent::ChannelOpen(Channel(id), label));
                }
                Event::ChannelData(data) => events
                    .push(TransportEvent::Message { channel: Channel(data.id), bytes: data.data }),
                Event::ChannelClose(id) => events.push(TransportEvent::ChannelClosed(Channel(id))),
                _ => {}
            }
        }
        if !self.keys_told
            && let Some(keys) = self.keys.get()
        {
            self.keys_told = true;
            events.insert(0, TransportEvent::Keys(keys.clone()));
        }
        if !self.rtc.is_alive() {
            events.push(TransportEvent::Closed);
        }
        answered
    }
}
