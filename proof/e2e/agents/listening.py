"""What the Python participant receives, counted in decoded frames.

Arrivals are polled from the receiver's statistics, as in the browser: a video arrival is a poll in
which frames_decoded grew, an audio arrival one in which samples that were not concealed grew (NetEq
makes sound even when nothing arrives). Pictures and sound themselves are sampled only to know whose
they are, and not counted: with livekit 1.2.1 a VideoStream stopped delivering in about 5 of 40
calls, always the first tab's camera. In both cases that were looked into, the track's statistics
showed every frame decoded; the cause is not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from livekit import rtc
from livekit.rtc._proto.stats_pb2 import RtcStats

POLL_SECONDS = 0.05
SAMPLE_SECONDS = 0.7  # between two looks at a picture's colour
HEAR_RATE = 8_000
REAL_SAMPLES_MIN = 240  # 5 ms of sound at 48 kHz in one poll
Inbound = RtcStats.InboundRtp
SOURCE_NAMES = {
    rtc.TrackSource.SOURCE_CAMERA: "camera",
    rtc.TrackSource.SOURCE_MICROPHONE: "microphone",
    rtc.TrackSource.SOURCE_SCREENSHARE: "screen_share",
    rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO: "screen_share_audio",
}


def stream_key(who: rtc.Participant, publication: rtc.TrackPublication) -> str:
    """`identity/source`, or `identity/name` for a second track of the same source."""
    source = SOURCE_NAMES.get(publication.source, "unknown")
    plain = publication.name in ("", source)
    return f"{who.identity}/{source if plain else publication.name}"


@dataclass
class Stream:
    """Arrivals of one `identity/source`, over all its tracks since the join."""

    arrivals: list[float] = field(default_factory=list)
    sizes: list[list[float]] = field(default_factory=list)  # width, height, first, last, frames
    hue: int = 0
    hertz: float = 0.0
    loud_at: float = 0.0
    track: str = ""  # libwebrtc's name of the newest track
    count: int = 0  # frames or real samples of that track at the last poll
    counters: dict[str, float] = field(default_factory=dict)

    def polled(self, at: float, stat: Inbound) -> None:
        """Compares with the poll before."""
        inbound, received = stat.inbound, stat.received
        is_video = stat.stream.kind == "video"
        if is_video:
            count, least = inbound.frames_decoded, 1
        else:
            count = inbound.total_samples_received - inbound.concealed_samples
            least = REAL_SAMPLES_MIN
        is_first = self.track != inbound.track_identifier
        grown = count - (0 if is_video else count) if is_first else count - self.count
        self.track, self.count = inbound.track_identifier, count
        if grown >= least:
            self.arrivals.append(at)
            if is_video:
                self._picture(at, inbound.frame_width, inbound.frame_height, grown)
        self.counters = {
            "framesReceived": inbound.frames_received,
            "framesDecoded": inbound.frames_decoded,
            "framesDropped": inbound.frames_dropped,
            "keyFramesDecoded": inbound.key_frames_decoded,
            "pliCount": inbound.pli_count,
            "nackCount": inbound.nack_count,
            "freezeCount": inbound.freeze_count,
            "packetsReceived": received.packets_received,
            "packetsLost": received.packets_lost,
        }

    def _picture(self, at: float, width: int, height: int, frames: int) -> None:
        if self.sizes and self.sizes[-1][0] == width and self.sizes[-1][1] == height:
            self.sizes[-1][3] = at
            self.sizes[-1][4] += frames
        else:
            self.sizes.append([width, height, at, at, frames])


def complain(task: asyncio.Task[None]) -> None:
    """Says on stderr why a listener ended, unless it was told to."""
    if not task.cancelled() and (error := task.exception()):
        print(f"a listener failed: {error!r}", file=sys.stderr)


class Ears:
    """Every stream that this participant is subscribed to."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self._names: dict[str, str] = {}  # libwebrtc's name of a track -> stream
        self._work: dict[str, list[asyncio.Task[None]]] = {}
        self._poller: asyncio.Task[None] | None = None

    def open(self, room: rtc.Room) -> None:
        """Begins to poll a room that was joined."""
        self._poller = asyncio.create_task(self._poll_for_ever(room))
        self._poller.add_done_callback(complain)

    def attend(
        self,
        track: rtc.RemoteTrack,
        publication: rtc.RemoteTrackPublication,
        who: rtc.Participant,
    ) -> None:
        """Starts to count a track that was subscribed."""
        key = stream_key(who, publication)
        stream = self.streams.setdefault(key, Stream())
        if isinstance(track, rtc.RemoteVideoTrack):
            sample = self._watch(track, stream)
        else:
            sample = self._hear(track, stream)
        self._work[track.sid] = [
            asyncio.create_task(work) for work in (self._name(track, key), sample)
        ]
        for task in self._work[track.sid]:
            task.add_done_callback(complain)

    def leave(self, track: rtc.RemoteTrack) -> None:
        """Stops to count a track."""
        for task in self._work.pop(track.sid, []):
            task.cancel()

    def close(self) -> None:
        """Stops everything and forgets what was heard."""
        for tasks in self._work.values():
            for task in tasks:
                task.cancel()
        if self._poller is not None:
            self._poller.cancel()
        self._work.clear()
        self._names.clear()
        self.streams.clear()

    async def _name(self, track: rtc.RemoteTrack, key: str) -> None:
        """Learns libwebrtc's name of a track, by which the room's statistics know it."""
        while True:
            for stat in await track.get_stats():
                if stat.HasField("inbound_rtp") and stat.inbound_rtp.inbound.track_identifier:
                    self._names[stat.inbound_rtp.inbound.track_identifier] = key
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def _poll_for_ever(self, room: rtc.Room) -> None:
        while True:
            due = time.time() + POLL_SECONDS
            try:
                stats = await room.get_rtc_stats()
            except RuntimeError:  # not connected just now
                stats = None
            at = time.time()
            for stat in [*stats.publisher_stats, *stats.subscriber_stats] if stats else []:
                if stat.HasField("inbound_rtp"):
                    inbound = stat.inbound_rtp
                    key = self._names.get(inbound.inbound.track_identifier)
                    if key is not None:
                        self.streams[key].polled(at, inbound)
            await asyncio.sleep(max(0.005, due - time.time()))

    async def sound(self, room: rtc.Room) -> dict[str, Any]:
        """RTP packets of sound until now: those that we sent, and those received of each stream."""
        stats = await room.get_rtc_stats()
        sent, received = 0, {}
        for stat in [*stats.publisher_stats, *stats.subscriber_stats]:
            if stat.HasField("outbound_rtp") and stat.outbound_rtp.stream.kind == "audio":
                sent += stat.outbound_rtp.sent.packets_sent
            if stat.HasField("inbound_rtp") and stat.inbound_rtp.stream.kind == "audio":
                key = self._names.get(stat.inbound_rtp.inbound.track_identifier)
                if key is not None:
                    received[key] = stat.inbound_rtp.received.packets_received
        return {"sent": sent, "received": received}

    async def _watch(self, track: rtc.RemoteVideoTrack, stream: Stream) -> None:
        while True:
            pictures = rtc.VideoStream(track, capacity=1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAMPLE_SECONDS):
                    async for event in pictures:
                        frame = event.frame
                        plane = frame.get_plane(1)
                        if frame.type == rtc.VideoBufferType.I420 and plane is not None:
                            stream.hue = int(np.frombuffer(plane, np.uint8).mean())
                        break
            await pictures.aclose()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _hear(self, track: rtc.RemoteAudioTrack, stream: Stream) -> None:
        frames = rtc.AudioStream(
            track, capacity=8, sample_rate=HEAR_RATE, num_channels=1, frame_size_ms=100
        )
        async for event in frames:
            sound = np.frombuffer(event.frame.data, np.int16).astype(np.float32)
            if np.sqrt(np.mean(sound**2)) < 100:
                continue
            stream.loud_at = time.time()
            power = np.abs(np.fft.rfft(sound))
            power[0] = 0
            stream.hertz = float(power.argmax()) * HEAR_RATE / len(sound)

    def report(self, since: float) -> dict[str, Any]:
        """Per stream: arrivals since then, and sizes, hue and tone seen last."""
        now = time.time()
        return {
            key: {
                "arrivals": [round(at, 3) for at in stream.arrivals if at >= since],
                "total": len(stream.arrivals),
                "sizes": [size for size in stream.sizes if size[3] >= since],
                "hue": stream.hue,
                "hertz": stream.hertz,
                "loud_at": stream.loud_at,
                "at": now,
            }
            for key, stream in self.streams.items()
        }
