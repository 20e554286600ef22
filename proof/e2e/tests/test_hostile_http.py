"""Show 6, the half that comes in by HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import time

import pytest
from livekit.protocol import rtc

from lab.api import Api
from lab.clients import Client
from lab.external import External
from lab.fleet import Fleet
from lab.memory import bounded
from lab.party import Party
from lab.sound import Sound, sound_now, sound_went_on
from lab.tokens import claims, hostile_tokens, join_token, sign
from lab.watch import everybody_receives, gaps_since, no_renewal
from lab.wire import (
    Wire,
    bomb,
    empty_messages,
    encoded,
    ended,
    first_answers,
    join_request,
    offer_sdp,
    wrapped,
)

MEMORY_MAX = 24 << 20  # what any hostile input may add to a process
SECTIONS = 1_000
WATCH_SECONDS = 2.0
Target = Fleet | External


async def test_every_bad_token_is_refused_with_401(party: Party, target: Target) -> None:
    request = wrapped(join_request())
    table = hostile_tokens(target.key, target.secret, party.room)
    wrong = []
    async with Wire(target.api_url("eu")) as wire:
        for name, token in table.items():
            for in_query in (False, True):
                if not token and not in_query:
                    continue  # an HTTP client does not send "Bearer "
                status = await wire.upgrade(token, request, in_query)
                if status != 401:
                    wrong.append(f"{name} ({'query' if in_query else 'header'}): {status}")
            validated, headers = await wire.get(
                "/rtc/v1/validate",
                access_token=token,
                join_request=request,
                headers={"origin": "http://page.test"},
            )
            if validated.status != 401:
                wrong.append(f"{name} (validate): {validated.status}")
            if headers.get("access-control-allow-origin") not in ("*", "http://page.test"):
                wrong.append(f"{name} (validate): a browser cannot read the answer")
            if token and token in validated.text:
                wrong.append(f"{name} (validate): the answer repeats the token")
        good = party.token("alice")
        validated, _ = await wire.get("/rtc/v1/validate", access_token=good, join_request=request)
        assert (validated.status, validated.text.strip()) == (200, "success")
        assert await wire.upgrade(good, request) == 101
    assert not wrong, "\n".join(wrong)


async def test_tokens_are_bounded_by_their_room_and_grants(
    party: Party, api: Api, target: Target
) -> None:
    python = await party.python("alice")
    await party.join(python, "eu")
    request = wrapped(join_request())
    async with Wire(target.api_url("eu")) as wire:
        for room, identity in (("", "bob"), ("x" * 300, "bob"), (party.room, ""), ("r", "x" * 300)):
            body = claims(target.key, identity, room)
            status = await wire.upgrade(sign(body, target.secret), request)
            assert status in (400, 401), f"room {room[:8]!r}, identity {identity[:8]!r}: {status}"
        other = join_token(target.key, target.secret, "alice", party.room + "-other")
        assert await wire.upgrade(other, request) == 101
    await asyncio.sleep(0.5)
    assert not python.happened("disconnected"), "the same identity in another room is another one"

    await api.forget(party.room + "-other")

    body = {"room": party.room}
    for method, grants in (
        ("ListParticipants", {"roomAdmin": True}),
        ("ListParticipants", {"roomJoin": True, "roomList": True, "roomCreate": True}),
        ("DeleteRoom", {"roomAdmin": True, "roomList": True}),
        ("CreateRoom", {"roomAdmin": True, "roomList": True}),
        ("ListRooms", {"roomAdmin": True, "roomCreate": True}),
    ):
        # The admin grant is for another room, which only a body that can be read tells; where the
        # grant itself is missing, the body is not even looked at.
        token = api.token(party.room + "-other", **grants)
        admin = method == "ListParticipants" and "roomAdmin" in grants
        for sent in (body,) if admin else (body, b"\xff\xff garbage"):
            status, _ = await api.raw(method, sent, token)
            assert status in (401, 403), f"{method} with {grants}: {status}"
        status, _ = await api.raw(method, body, None)
        assert status == 401, f"{method} without a token: {status}"
    for name, token in hostile_tokens(target.key, target.secret, party.room).items():
        status, _ = await api.raw("ListRooms", {}, token)
        assert status in (401, 403), f"ListRooms, {name}: {status}"


async def test_plain_http_surface(target: Target) -> None:
    async with Wire(target.api_url("eu")) as wire:
        for method in ("GET", "HEAD"):
            answer, _ = await wire.get("/", method=method)
            assert answer.status == 200
        answer, headers = await wire.get(
            "/rtc/v1/validate",
            method="OPTIONS",
            headers={
                "origin": "http://page.test",
                "access-control-request-method": "GET",
                "access-control-request-headers": "authorization",
            },
        )
        assert answer.status // 100 == 2
        assert headers.get("access-control-allow-origin") in ("*", "http://page.test")
        answer, _ = await wire.get("/nothing/here")
        assert answer.status == 404


BAD_JOIN_REQUESTS = [
    ("inflates to 20 MiB", bomb(20)),
    ("inflates to 2 MiB", bomb(2)),
    ("is no base64", "!!!!"),
    ("is empty", ""),
    ("is truncated gzip", encoded(b"\x1f\x8b\x08\x00\x00")),
    ("is truncated", wrapped(join_request(7))[:400]),
    ("is no protobuf", wrapped(b"\xff" * 64)),
    ("nests for ever", wrapped(b"\x0a\xff\xff\xff\xff\x0f" * 8)),
    ("is of empty messages", wrapped(b"\x2a\x00" * 200_000)),
]


@pytest.mark.parametrize(
    ("name", "parameter"), BAD_JOIN_REQUESTS, ids=[name for name, _ in BAD_JOIN_REQUESTS]
)
async def test_bad_join_request_is_400(
    party: Party, target: Target, name: str, parameter: str
) -> None:
    token = party.token("mallory")
    with bounded(target, MEMORY_MAX, f"a join_request that {name}"):
        async with Wire(target.api_url("eu")) as wire:
            for _ in range(5):
                assert await wire.upgrade(token, parameter) == 400
            answer, _ = await wire.get(
                "/rtc/v1/validate", access_token=token, join_request=parameter
            )
            assert answer.status == 400


async def test_a_thousand_sections_are_refused(party: Party, target: Target) -> None:
    call = await party.call(0, 2, [("eu", None), ("us", None)])
    start, sound = time.time(), await sound_now(call)
    with bounded(target, MEMORY_MAX, f"{SECTIONS} m-lines"):
        async with Wire(target.api_url("eu")) as wire:
            if isinstance(target, Fleet):  # LiveKit's server lets it in
                status = await wire.upgrade(party.token("mallory"), wrapped(join_request(SECTIONS)))
                assert status == 400
            async with wire.socket(party.token("trudy"), wrapped(join_request())) as socket:
                assert (await first_answers(socket))[0].WhichOneof("message") == "join"
                request = rtc.SignalRequest()
                request.offer.type, request.offer.id = "offer", 2
                request.offer.sdp = offer_sdp(SECTIONS)
                await socket.send_bytes(request.SerializeToString())
                if isinstance(target, Fleet):
                    over, code = await ended(socket)
                    assert over, "the session goes on after an offer of 1,000 sections"
                    print(f"\n  the socket ends with {code}")
    await _unharmed(call, start, sound)


async def test_empty_messages_and_oversized_frames(party: Party, target: Target) -> None:
    call = await party.call(0, 2, [("eu", None), ("us", None)])
    start, sound = time.time(), await sound_now(call)
    with bounded(target, MEMORY_MAX, "2 MiB of empty messages"):
        async with Wire(target.api_url("eu")) as wire:
            for size in (2 << 20, 250 << 10, 60 << 10):
                for number in range(3):
                    token = party.token(f"mallory{number}")
                    async with wire.socket(token, wrapped(join_request())) as socket:
                        assert (await first_answers(socket))[0].WhichOneof("message") == "join"
                        try:
                            await socket.send_bytes(empty_messages(size))
                        except ConnectionError:
                            # Refused by its header: a reset may overtake the close frame.
                            assert size > 1 << 20, f"{size} bytes are no oversized frame"
                            continue
                        if isinstance(target, Fleet) and size > 1 << 20:
                            over, code = await ended(socket)
                            assert over and code in (1006, 1008, 1009), f"close code {code}"
            # Garbage is no message: the session may end, nothing else.
            for garbage in (b"", b"\xff" * 1000, b"\x08", bytes(range(256)) * 64):
                async with wire.socket(party.token("eve"), wrapped(join_request())) as socket:
                    assert (await first_answers(socket))[0].WhichOneof("message") == "join"
                    await socket.send_bytes(garbage)
                    await socket.send_str("{not json")
                    await asyncio.sleep(0.1)
    await _unharmed(call, start, sound)


async def _unharmed(clients: list[Client], since: float, sound: Sound) -> None:
    await asyncio.sleep(WATCH_SECONDS)
    await everybody_receives(clients)
    no_renewal(clients, since)
    gaps = await gaps_since(clients, since)
    lost = await sound_went_on(clients, sound)
    print(
        f"  the call beside it: longest silence {gaps.worst * 1000:.0f} ms, "
        f"packets of sound missing: {lost}"
    )
