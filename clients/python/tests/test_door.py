"""The door against servers that answer, hang, refuse, and say no."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from outlast_client.door import Door, Race

REQUEST = b"GET /rtc/v1?join_request=x HTTP/1.1\r\nHost: 127.0.0.1:1\r\nUpgrade: websocket\r\n\r\n"
QUICK = Race(stagger=0.05, patience=0.5)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A server, and the requests that it has got."""

    def __init__(self, answer: bytes | None, closes: bool = False) -> None:
        self.heads: list[bytes] = []
        self.ended = 0
        self.url = ""
        self._answer, self._closes = answer, closes

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            self.heads.append(head)
            if self._answer is None:
                await asyncio.sleep(3600)
            if head.startswith(b"HEAD"):
                close = b"Connection: close\r\n" if self._closes else b""
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + close + b"\r\n")
                if self._closes:
                    break
                continue
            writer.write(self._answer or b"")
            while chunk := await reader.read(1000):
                writer.write(chunk.upper())
            break
        self.ended += 1
        writer.close()


@asynccontextmanager
async def running(*servers: Server) -> AsyncIterator[list[str]]:
    listeners = []
    for server in servers:
        listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
        server.url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        listeners.append(listener)
    try:
        yield [server.url for server in servers]
    finally:
        for listener in listeners:
            listener.close()


def nobody() -> str:
    """A port at which nobody listens."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{it.getsockname()[1]}"


async def call(door: Door, url: str, text: bytes = b"hello") -> bytes:
    """One request through the door; what comes back, until both ends are done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(REQUEST)
    answer = await reader.readline()
    if answer:
        writer.write(text)
        answer += await reader.read(len(text) + 100)
    writer.close()
    return answer


ACCEPTS = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"


async def through(urls: list[str], calls: int = 1) -> tuple[list[bytes], Door, int]:
    gone = 0

    def count() -> None:
        nonlocal gone
        gone += 1

    door = Door(urls, QUICK, count)
    url = await door.open()
    answers = [await call(door, url) for _ in range(calls)]
    await door.close()
    return answers, door, gone


@pytest.mark.parametrize("closes", [False, True])
async def test_bytes_are_passed_on_and_the_host_is_the_server_s(closes: bool) -> None:
    server = Server(ACCEPTS, closes)
    async with running(server) as urls:
        answers, door, gone = await through(urls)
    assert b"101" in answers[0] and door.last == urls[0] and gone == 0
    request = server.heads[-1]
    assert request.startswith(b"GET /rtc/v1?join_request=x HTTP/1.1\r\n")
    assert request.count(b"Host:") == 1 and f"Host: {urls[0][5:]}".encode() in request


async def test_who_hangs_or_refuses_is_passed_over_and_who_answered_is_asked_first() -> None:
    hung, well = Server(None), Server(ACCEPTS)
    async with running(hung, well) as (hanging, good):
        answers, door, _ = await through([nobody(), hanging, good], calls=2)
    assert all(b"101" in answer for answer in answers) and door.last == good
    assert len(hung.heads) == 1, "the second call begins with the server of the first"


async def test_a_server_that_cannot_serve_is_passed_over_unless_it_is_the_last() -> None:
    busy, well = Server(BUSY), Server(ACCEPTS)
    async with running(busy, well) as (first, second):
        answers, door, _ = await through([first, second])
        assert b"101" in answers[0] and door.last == second
        answers, _, gone = await through([first])
        assert b"503" in answers[0] and gone == 0


async def test_when_nobody_is_there_the_call_ends_and_it_is_told() -> None:
    answers, door, gone = await through([nobody(), nobody()])
    assert answers == [b""] and gone == 1 and door.last is None


async def test_a_closed_door_ends_its_calls() -> None:
    async with running(Server(ACCEPTS)) as urls:
        door = Door(urls, QUICK, lambda: None)
        url = await door.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(REQUEST)
        assert b"101" in await reader.readline()
        await door.close()
        assert await reader.read() in (b"", b"\r\n")
        writer.close()


async def test_a_server_that_falls_silent_and_does_not_answer_is_given_up() -> None:
    asked: list[bytes] = []

    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the first two requests, which are those of one call; whoever comes then hears nothing."""
        while head := await reader.readuntil(b"\r\n\r\n"):
            asked.append(head)
            if len(asked) > 2:
                await asyncio.sleep(3600)
            quiet = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
            writer.write(quiet if head.startswith(b"HEAD") else ACCEPTS)

    listener = await asyncio.start_server(hangs, "127.0.0.1", 0)
    server = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    door = Door([server], Race(quiet=0.2, probe=0.2), lambda: None)
    url = await door.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(REQUEST)
    assert b"101" in await reader.readline()
    assert await asyncio.wait_for(reader.read(), 20) in (b"", b"\r\n")
    assert len(asked) == 3 and asked[2].startswith(b"HEAD")
    writer.close()
    await door.close()
    listener.close()


async def test_a_server_that_is_silent_and_answers_is_left_alone() -> None:
    server = Server(ACCEPTS)
    async with running(server) as urls:
        door = Door(urls, Race(quiet=0.05, probe=2.0), lambda: None)
        url = await door.open()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(REQUEST)
        assert b"101" in await reader.readline()
        await reader.readline()
        while sum(head.startswith(b"HEAD") for head in server.heads) < 4:
            await asyncio.sleep(0.01)
        writer.write(b"still here")
        assert await asyncio.wait_for(reader.read(100), 20) == b"STILL HERE"
        writer.close()
        await door.close()


async def test_a_request_that_was_given_up_is_not_sent_any_more() -> None:
    slow = Server(None)
    well = Server(ACCEPTS)
    async with running(slow, well) as urls:
        door = Door(urls, Race(stagger=0.3), lambda: pytest.fail("somebody is there"))
        url = await door.open()
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(REQUEST)
        while not slow.heads:
            await asyncio.sleep(0.01)
        writer.close()
        while not well.ended:
            await asyncio.sleep(0.01)
        assert [head.split()[0] for head in slow.heads + well.heads] == [b"HEAD", b"HEAD"]
        await door.close()
