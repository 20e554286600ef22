"""LiveKit's signalling by hand, for what no SDK would send."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from livekit.protocol import models, rtc

SECONDS = 10.0
FINGERPRINT = ":".join(["AB"] * 32)


def offer_sdp(sections: int) -> str:
    """A data channel and `sections - 1` recvonly audio sections, as short as they may be."""
    mids = " ".join(str(n) for n in range(sections))
    lines = [
        "v=0",
        "o=- 1 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        f"a=group:BUNDLE {mids}",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdef01234567",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "a=setup:actpass",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sctp-port:5000",
    ]
    for mid in range(1, sections):
        lines += [
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "c=IN IP4 0.0.0.0",
            f"a=mid:{mid}",
            "a=recvonly",
            "a=rtcp-mux",
            "a=rtpmap:111 opus/48000/2",
        ]
    return "\r\n".join(lines) + "\r\n"


def join_request(sections: int = 1) -> bytes:
    """An encoded JoinRequest with such an offer."""
    request = rtc.JoinRequest()
    request.client_info.sdk = models.ClientInfo.SDK.PYTHON
    request.client_info.protocol = 16
    request.client_info.version = "1.2.1"
    request.connection_settings.auto_subscribe = True
    if sections:
        request.publisher_offer.type = "offer"
        request.publisher_offer.sdp = offer_sdp(sections)
        request.publisher_offer.id = 1
    return bytes(request.SerializeToString())


def wrapped(request: bytes) -> str:
    """The `join_request` parameter: gzip, WrappedJoinRequest, base64."""
    return encoded(gzip.compress(request, 9))


def encoded(compressed: bytes) -> str:
    """The parameter for bytes that claim to be gzip."""
    wrapper = rtc.WrappedJoinRequest(
        compression=rtc.WrappedJoinRequest.Compression.GZIP, join_request=compressed
    )
    return base64.urlsafe_b64encode(wrapper.SerializeToString()).decode()


def bomb(mebibytes: int) -> str:
    """A `join_request` that inflates to so many MiB: about a thousandth of it on the wire."""
    return encoded(gzip.compress(bytes(mebibytes << 20), 9))


def empty_messages(size: int) -> bytes:
    """A SignalRequest of that many bytes: sync_state with nothing but empty publish_tracks."""
    inner = b"\x1a\x00" * ((size - 8) // 2)  # SyncState.publish_tracks = 3, length 0
    length = len(inner)
    varint = bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return b"\x62" + bytes(varint) + inner  # SignalRequest.sync_state = 12


@dataclass(frozen=True)
class Answer:
    """How a request was answered before any upgrade."""

    status: int
    text: str


class Wire:
    """Requests to one gateway by its HTTP URL."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.close()

    async def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", **query: str
    ) -> tuple[Answer, dict[str, str]]:
        """A plain request; returns the answer and its headers in lower case."""
        async with self._http.request(
            method, self._base + path, params=query, headers=headers
        ) as response:
            text = await response.text()
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, text), lower

    async def upgrade(self, token: str, request: str, in_query: bool = False) -> int:
        """Tries the WebSocket of /rtc/v1; returns the status (101 when it opened)."""
        try:
            async with self.socket(token, request, in_query):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    def socket(self, token: str, request: str, in_query: bool = False) -> Any:
        """A WebSocket of /rtc/v1, as an async context."""
        query = {"join_request": request}
        headers = {}
        if in_query:
            query["access_token"] = token
        else:
            headers["authorization"] = f"Bearer {token}"
        return self._http.ws_connect(
            self._base + "/rtc/v1", params=query, headers=headers, max_msg_size=0
        )


async def first_answers(socket: aiohttp.ClientWebSocketResponse, count: int = 1) -> list[Any]:
    """The first decoded SignalResponses of a socket."""
    found: list[Any] = []
    while len(found) < count:
        message = await socket.receive(SECONDS)
        if message.type is not aiohttp.WSMsgType.BINARY:
            break
        response = rtc.SignalResponse()
        response.ParseFromString(message.data)
        found.append(response)
    return found


async def ended(socket: aiohttp.ClientWebSocketResponse) -> tuple[bool, int | None]:
    """Reads until the server ends the socket; (whether it did, close code)."""
    try:
        while True:
            message = await socket.receive(SECONDS)
            if message.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            ):
                return True, socket.close_code
    except TimeoutError:
        return False, None
