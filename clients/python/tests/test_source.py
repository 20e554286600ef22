"""Lists and endpoints, and mistakes in them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from outlast_client.source import Endpoint, Servers, source_of


class Answering:
    """An endpoint that gives one answer, and what it was asked."""

    def __init__(self, status: int, answer: Any) -> None:
        told: dict[str, Any] = {}
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                told.update(headers=dict(self.headers), body=json.loads(self.rfile.read(length)))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.told = told
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"

    def __enter__(self) -> Answering:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


async def test_an_endpoint_is_asked_as_livekit_asks() -> None:
    with Answering(201, {"server_url": "wss://a", "participant_token": "t", "other": 1}) as it:
        source = Endpoint(it.url, {"authorization": "mine"}, {"room_name": "r"})
        assert await source.fetch() == Servers(("wss://a",), "t")
    assert it.told["body"] == {"room_name": "r"}
    assert it.told["headers"]["Authorization"] == "mine"
    several = {"serverUrl": "wss://a", "serverUrls": ["wss://a", "wss://b"], "participantToken": "t"}
    with Answering(200, several) as it:
        assert (await Endpoint(it.url).fetch()).server_urls == ("wss://a", "wss://b")


@pytest.mark.parametrize(
    "answer",
    [{}, {"server_url": "wss://a"}, {"server_urls": [], "participant_token": "t"},
     {"server_urls": [1], "participant_token": "t"}, None, b"not json"],
)
async def test_an_answer_that_is_none_is_an_error(answer: Any) -> None:
    with Answering(200, answer) as it, pytest.raises(ValueError):
        await Endpoint(it.url).fetch()


async def test_an_endpoint_that_is_not_there_is_an_error() -> None:
    with Answering(500, {}) as it, pytest.raises(OSError):
        await Endpoint(it.url).fetch()
    with pytest.raises(ValueError):
        await Endpoint("file:///etc/passwd").fetch()


async def test_a_list_is_what_it_says() -> None:
    assert await source_of("wss://a", "t").fetch() == Servers(("wss://a",), "t")
    endpoint = Endpoint("http://a")
    assert source_of(endpoint, None) is endpoint
    for where, token in [([], "t"), (["wss://a", "nowhere"], "t"), ("wss://a", None)]:
        with pytest.raises(ValueError):
            source_of(where, token)
