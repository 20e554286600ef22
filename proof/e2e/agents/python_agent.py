"""One participant on the unmodified Python SDK, driven by JSON lines.

Reads `{"id": n, "do": "join", ...}` from stdin, writes `{"id": n, "ok": ...}` or
`{"id": n, "error": "..."}` to stdout, and `{"event": name, "at": unix seconds, ...}` as things
happen. Times are wall-clock seconds: the browser's page uses the same clock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from listening import Ears, stream_key
from livekit import rtc
from outlast_client import Endpoint, FallbackRoom
from sources import Camera, Microphone

SOURCES = {
    "camera": rtc.TrackSource.SOURCE_CAMERA,
    "microphone": rtc.TrackSource.SOURCE_MICROPHONE,
    "screen_share": rtc.TrackSource.SOURCE_SCREENSHARE,
    "screen_share_audio": rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO,
}
QUALITIES = {
    "low": rtc.VideoQuality.VIDEO_QUALITY_LOW,
    "medium": rtc.VideoQuality.VIDEO_QUALITY_MEDIUM,
    "high": rtc.VideoQuality.VIDEO_QUALITY_HIGH,
}
CHAT_TOPIC = "lk.chat"
Json = dict[str, Any]
Event = Literal[
    "connected",
    "reconnecting",
    "reconnected",
    "participant_connected",
    "participant_disconnected",
    "track_muted",
    "track_unmuted",
]


def tell(message: Json) -> None:
    """Writes one line for the driver."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def tell_event(name: str, **detail: Any) -> None:
    """Reports something that happened by itself."""
    tell({"event": name, "at": time.time(), **detail})


class Participant:
    """The room, what this participant sends into it and what it hears from it."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.ears = Ears()
        self.sent: dict[str, Camera | Microphone] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def _listen(self) -> None:
        room = self.room

        @room.on("disconnected")
        def _(reason: rtc.DisconnectReason.ValueType) -> None:
            tell_event("disconnected", reason=rtc.DisconnectReason.Name(reason))

        links: tuple[Event, ...] = ("connected", "reconnecting", "reconnected")
        for name in links:
            room.on(name, lambda *_, name=name: tell_event(name))

        people: tuple[Event, ...] = ("participant_connected", "participant_disconnected")
        for name in people:

            def came_or_went(who: rtc.RemoteParticipant, name: str = name) -> None:
                tell_event(name, identity=who.identity, sid=who.sid)

            room.on(name, came_or_went)

        @room.on("track_subscribed")
        def _(
            track: rtc.RemoteTrack, publication: rtc.RemoteTrackPublication, who: rtc.Participant
        ) -> None:
            self.ears.attend(track, publication, who)
            tell_event("track_subscribed", stream=stream_key(who, publication))

        @room.on("track_unsubscribed")
        def _(
            track: rtc.RemoteTrack, publication: rtc.RemoteTrackPublication, who: rtc.Participant
        ) -> None:
            self.ears.leave(track)
            tell_event("track_unsubscribed", stream=stream_key(who, publication))

        mutes: tuple[Event, ...] = ("track_muted", "track_unmuted")
        for name in mutes:

            def muted(
                who: rtc.Participant, publication: rtc.TrackPublication, name: str = name
            ) -> None:
                tell_event(name, stream=stream_key(who, publication))

            room.on(name, muted)

        @room.on("data_received")
        def _(packet: rtc.DataPacket) -> None:
            tell_event(
                "data",
                sender=packet.participant.identity if packet.participant else "",
                topic=packet.topic,
                text=packet.data.decode(errors="replace"),
            )

        def on_text(reader: rtc.TextStreamReader, identity: str) -> None:
            async def read() -> None:
                tell_event("chat", sender=identity, text=await reader.read_all())

            self._spawn(read())

        room.register_text_stream_handler(CHAT_TOPIC, on_text)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def do_join(
        self,
        token: str,
        url: str = "",
        urls: list[str] | None = None,
        endpoint: str = "",
        auto_subscribe: bool = True,
    ) -> Json:
        """Connects, with `urls` or an `endpoint` by outlast_client; the RPC method `echo` is registered on the way."""
        if urls or endpoint:
            self.room = FallbackRoom()
        self._listen()
        started = time.time()
        options = rtc.RoomOptions(auto_subscribe=auto_subscribe)
        where: Any = urls or url
        if endpoint:
            where = Endpoint(endpoint, {"authorization": f"Bearer {token}"})
        await self.room.connect(where, token, options)
        self.ears.open(self.room)
        self.room.local_participant.register_rpc_method("echo", self._echo)
        return {"seconds": time.time() - started, "sid": self.room.local_participant.sid}

    async def _echo(self, call: rtc.RpcInvocationData) -> str:
        return f"{self.room.local_participant.identity} heard {call.payload}"

    async def do_leave(self) -> None:
        """Leaves the room for good, as a user would."""
        await self.room.disconnect()

    async def do_rejoin(self, url: str, token: str) -> Json:
        """Joins again in this process after `leave`, with nothing published."""
        for source in self.sent.values():
            await source.stop()
        self.sent.clear()
        self.ears.close()
        self.room = rtc.Room()
        return await self.do_join(token, url)

    async def do_publish_audio(
        self, name: str = "microphone", source: str = "microphone", hertz: float = 440.0
    ) -> str:
        """Publishes a tone; returns the track's sid."""
        microphone = Microphone(hertz)
        track = rtc.LocalAudioTrack.create_audio_track(name, microphone.source)
        options = rtc.TrackPublishOptions(source=SOURCES[source], dtx=False)
        return await self._publish(name, microphone, track, options)

    async def do_publish_video(
        self,
        name: str = "camera",
        source: str = "camera",
        width: int = 320,
        height: int = 180,
        fps: int = 15,
        hue: int = 128,
        simulcast: bool = False,
    ) -> str:
        """Publishes a moving pattern whose U plane is `hue`; returns the track's sid."""
        camera = Camera(width, height, fps, hue, is_screen=source == "screen_share")
        track = rtc.LocalVideoTrack.create_video_track(name, camera.source)
        # Said outright: the SDK's own preset for a small screen share is 3 frames a second.
        encoding = rtc.VideoEncoding(max_bitrate=width * height * 8, max_framerate=fps)
        options = rtc.TrackPublishOptions(
            source=SOURCES[source],
            simulcast=simulcast,
            video_codec=rtc.VideoCodec.VP8,
            video_encoding=encoding,
        )
        return await self._publish(name, camera, track, options)

    async def _publish(
        self, name: str, source: Camera | Microphone, track: Any, options: rtc.TrackPublishOptions
    ) -> str:
        source.start(track)
        self.sent[name] = source
        publication = await self.room.local_participant.publish_track(track, options)
        return str(publication.sid)

    def _own(self, name: str) -> rtc.LocalTrackPublication:
        """Our newest publication of that name (a full reconnect publishes anew)."""
        for publication in reversed(list(self.room.local_participant.track_publications.values())):
            if publication.name == name:
                return publication
        raise KeyError(f"nothing published as {name}")

    async def do_unpublish(self, name: str) -> None:
        """Takes a track back."""
        await self.room.local_participant.unpublish_track(self._own(name).sid)
        await self.sent.pop(name).stop()

    async def do_mute(self, name: str, muted: bool) -> None:
        """Mutes or unmutes one of our tracks."""
        track = self.sent[name].track
        if muted:
            track.mute()
        else:
            track.unmute()

    def _theirs(self, stream: str) -> rtc.RemoteTrackPublication:
        identity = stream.rpartition("/")[0]
        who = self.room.remote_participants[identity]
        for publication in who.track_publications.values():
            if stream_key(who, publication) == stream:
                return publication
        raise KeyError(f"no publication {stream}")

    async def do_subscribe(self, stream: str, on: bool) -> None:
        """Subscribes to, or leaves, one remote publication."""
        self._theirs(stream).set_subscribed(on)

    async def do_quality(self, stream: str, quality: str) -> None:
        """Asks for a simulcast layer of a remote video."""
        self._theirs(stream).set_video_quality(QUALITIES[quality])

    async def do_send_data(
        self, text: str, reliable: bool = True, topic: str = "e2e", to: list[str] | None = None
    ) -> None:
        """Sends a data packet to everybody, or to the identities in `to`."""
        await self.room.local_participant.publish_data(
            text, reliable=reliable, topic=topic, destination_identities=to or []
        )

    async def do_chat(self, text: str) -> None:
        """Sends a chat line as a text stream."""
        await self.room.local_participant.send_text(text, topic=CHAT_TOPIC)

    async def do_rpc(self, to: str, payload: str, method: str = "echo") -> str:
        """Calls a method of another participant."""
        return await self.room.local_participant.perform_rpc(
            destination_identity=to, method=method, payload=payload, response_timeout=8.0
        )

    async def do_where(self) -> Json:
        """The server in use, as outlast_client tells."""
        return {"server": getattr(self.room, "server_url", None) or ""}

    async def do_counters(self, stream: str) -> dict[str, float]:
        """The receiver's statistics of one stream."""
        return self.ears.streams[stream].counters

    async def do_sound(self) -> Json:
        """RTP packets of sound until now."""
        return await self.ears.sound(self.room)

    async def do_look(self, since: float) -> Json:
        """What was received since that moment, and who is in the room."""
        who = self.room.remote_participants
        return {
            "at": time.time(),
            "streams": self.ears.report(since),
            "participants": {identity: p.sid for identity, p in who.items()},
            "publications": [
                stream_key(p, t) for p in who.values() for t in p.track_publications.values()
            ],
            "sid": self.room.local_participant.sid if self.room.isconnected() else "",
        }


async def answer(request: Json, action: Callable[..., Awaitable[Any]]) -> None:
    """Runs one request and tells how it ended."""
    number, name = request.pop("id"), request.pop("do")
    try:
        tell({"id": number, "ok": await action(**request)})
    except Exception as error:  # whatever the SDK raises is a result for the test
        tell({"id": number, "error": f"{name}: {type(error).__name__}: {error}"})


async def main() -> None:
    """Serves requests until stdin ends."""
    participant = Participant()
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tell_event("ready")
    running: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        request = json.loads(line)
        task = asyncio.create_task(answer(request, getattr(participant, "do_" + request["do"])))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main())
