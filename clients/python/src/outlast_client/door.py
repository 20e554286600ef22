"""A door on loopback through which the SDK reaches whichever server answers.

The SDK dials one URL for as long as a session lasts, and its core is not Python's. So it is given the URL of this door, and each time it dials, the
door connects to the first server that can be reached: the one of the last call first, each next one `stagger` seconds later or as soon as the one
before has failed. Bytes are passed on as they are, except for the Host of the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

HEAD_BYTES_MAX = 64 << 10
CHUNK_BYTES = 64 << 10
ANSWER_SECONDS = 3.0


@dataclass(frozen=True)
class Race:
    """How servers are tried."""

    stagger: float = 0.3
    """Seconds until the next server is tried as well."""
    patience: float = 3.0
    """Seconds until a server that does not answer counts as gone."""
    quiet: float = 1.5
    """Seconds without a word from the server of a call after which it is asked for one; 0: never."""
    probe: float = 0.5
    """Seconds that it then has for its answer."""


@dataclass
class _Link:
    url: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answered: bytes
    """What it has said already."""

    def close(self) -> None:
        self.writer.close()


class Door:
    """The door of one session."""

    def __init__(self, urls: Sequence[str], race: Race, on_gone: Callable[[], None]) -> None:
        self.urls = list(urls)
        self.last: str | None = None
        """The server of the last call."""
        self._shunned: str | None = None
        self._race = race
        self._on_gone = on_gone
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Begins to listen; the URL for the SDK."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return f"ws://127.0.0.1:{port}"

    async def close(self) -> None:
        """Ends all calls, and listens no more."""
        if self._server is not None:
            self._server.close()
        for call in list(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the SDK sees a connection that has ended
        finally:
            self._calls.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if len(head) > HEAD_BYTES_MAX:
            return
        link = await self._first(head, reader)
        if link is None:
            if not reader.at_eof():
                self._on_gone()
            return
        self.last, self._shunned = link.url, None
        writer.write(link.answered)
        heard = _Heard()
        ways = [
            asyncio.ensure_future(_pass_on(reader, link.writer)),
            asyncio.ensure_future(_pass_on(link.reader, writer, heard)),
        ]
        if self._race.quiet > 0 and link.answered.split(b" ", 2)[1:2] == [b"101"]:
            ways.append(asyncio.ensure_future(self._watch(link.url, heard)))
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            link.close()

    async def _watch(self, url: str, heard: _Heard) -> None:
        """Ends when the server says nothing any more: one that hangs, or is cut off, takes no connection down."""
        loop = asyncio.get_running_loop()
        while True:
            left = heard.at + self._race.quiet - loop.time()
            if left > 0:
                await asyncio.sleep(left)
                continue
            before = heard.at
            answers = await self._answers(url)
            if not answers and heard.at == before:
                self._shunned = url
                return
            heard.at = max(heard.at, loop.time()) if answers else heard.at

    async def _answers(self, url: str) -> bool:
        async def probe() -> None:
            link = await _open(url)
            try:
                await _probe(link)
            finally:
                link.close()

        try:
            await asyncio.wait_for(probe(), self._race.probe)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            return False
        return True

    def _order(self) -> list[str]:
        """The server of the last call first, and one that was given up last."""
        return sorted(self.urls, key=lambda url: (url == self._shunned, url != self.last))

    async def _first(self, head: bytes, reader: asyncio.StreamReader) -> _Link | None:
        """Sends the request to the first server that can be reached; `None` when none can be."""
        left = self._order()
        while left:
            link = await self._connect(left)
            if link is None:
                return None
            if reader.at_eof():
                # The SDK has given up, and dials anew: a join that comes late would be a second one.
                link.close()
                return None
            left = [url for url in left if url != link.url]
            try:
                link.writer.write(_for_host(head, link.url))
                answer = link.reader.readuntil(b"\r\n")
                link.answered = await asyncio.wait_for(answer, ANSWER_SECONDS)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                link.close()
                continue
            # A server that cannot serve now is passed over, as long as there is another one.
            if _is_5xx(link.answered) and left:
                link.close()
                continue
            return link
        return None

    async def _connect(self, urls: list[str]) -> _Link | None:
        waiting = list(urls)
        trying: set[asyncio.Task[_Link | None]] = set()
        found: _Link | None = None
        while (waiting or trying) and found is None:
            if waiting:
                trying.add(asyncio.ensure_future(self._dial(waiting.pop(0))))
            stagger = self._race.stagger if waiting else None
            done, trying = await asyncio.wait(
                trying, timeout=stagger, return_when=asyncio.FIRST_COMPLETED
            )
            links = [link for link in (task.result() for task in done) if link is not None]
            found = links.pop(0) if links else None
            for link in links:
                link.close()
        for task in trying:
            task.add_done_callback(_forget)
            task.cancel()
        return found

    async def _dial(self, url: str) -> _Link | None:
        try:
            link = await asyncio.wait_for(_open(url), self._race.patience)
        except (OSError, asyncio.TimeoutError):
            return None
        try:
            # A process that hangs still takes connections: it has to say something.
            head = await asyncio.wait_for(_probe(link), self._race.patience)
            if _stays_open(head):
                return link
            link.close()
            return await asyncio.wait_for(_open(url), self._race.patience)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            link.close()
            return None
        except asyncio.CancelledError:
            link.close()
            raise


async def _open(url: str) -> _Link:
    parts = urlsplit(url)
    secure = parts.scheme in ("wss", "https")
    port = parts.port or (443 if secure else 80)
    context = ssl.create_default_context() if secure else None
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=context, limit=HEAD_BYTES_MAX
    )
    return _Link(url, reader, writer, b"")


async def _probe(link: _Link) -> bytes:
    """The head of the answer to a question whose answer has no body."""
    link.writer.write(_for_host(b"HEAD / HTTP/1.1\r\n\r\n", link.url))
    return await link.reader.readuntil(b"\r\n\r\n")


def _stays_open(head: bytes) -> bool:
    line, *headers = head.lower().split(b"\r\n")
    closes = [it for it in headers if it.startswith(b"connection:") and b"close" in it]
    return line.startswith(b"http/1.1") and not closes


def _forget(task: asyncio.Task[_Link | None]) -> None:
    """Closes a connection that came too late."""
    if not task.cancelled() and task.exception() is None and (link := task.result()) is not None:
        link.close()


class _Heard:
    """When something came from the server last."""

    def __init__(self) -> None:
        self.at = asyncio.get_running_loop().time()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: _Heard | None = None
) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            if heard is not None:
                heard.at = asyncio.get_running_loop().time()
            writer.write(chunk)
            await writer.drain()


def _for_host(head: bytes, url: str) -> bytes:
    """The request with the server's own Host, and below the path of its URL."""
    parts = urlsplit(url)
    line, *headers = head.split(b"\r\n")
    path = parts.path.rstrip("/").encode()
    if path:
        method, target, version = line.split(b" ", 2)
        line = b" ".join([method, path + target, version])
    kept = [header for header in headers if not header.lower().startswith(b"host:")]
    host = parts.netloc.rpartition("@")[2].encode()
    return b"\r\n".join([line, b"Host: " + host, *kept])


def _is_5xx(status_line: bytes) -> bool:
    words = status_line.split(b" ", 2)
    return len(words) > 1 and words[1].startswith(b"5")
