"""A child process that is driven by JSON lines and dies with this one."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
CALL_SECONDS = 60.0
CLOSE_SECONDS = 5.0
LINE_BYTES_MAX = 1 << 24
PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_libc = ctypes.CDLL(None)


class AgentError(Exception):
    """The agent refused or failed a request; the text is the SDK's own."""


def die_with_parent() -> None:
    """Runs in the child before exec: the kernel kills it when the test run dies."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    """Our environment without proxies: the SDKs' Rust part would dial through them."""
    return {k: v for k, v in os.environ.items() if k.lower() not in PROXY_NAMES}


def with_hosts(command: list[str], hosts: Path | None) -> list[str]:
    """The command in a mount namespace of its own in which `hosts` is /etc/hosts."""
    if hosts is None:
        return command
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    flags = ["-m"] if os.geteuid() == 0 else ["-r", "-m"]
    return ["unshare", *flags, "--propagation", "private", "sh", "-c", script, str(hosts), *command]


class LineProcess:
    """Requests and answers matched by number; everything else goes to `on_event`."""

    def __init__(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._ready: asyncio.Future[None]
        self._process: asyncio.subprocess.Process
        self._reader: asyncio.Task[None]

    async def start(self, command: list[str], log: Path) -> None:
        """Starts the process and waits for its first `ready` line."""
        self._ready = asyncio.get_running_loop().create_future()
        with log.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=clean_environment(),
                limit=LINE_BYTES_MAX,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._reader = asyncio.create_task(self._read())
        await asyncio.wait_for(self._ready, CALL_SECONDS)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a library that prints to stdout is not talking to us
            if "id" in message:
                future = self._waiting.pop(message["id"], None)
                if future is None or future.done():
                    continue
                if "error" in message:
                    future.set_exception(AgentError(message["error"]))
                else:
                    future.set_result(message["ok"])
            elif message.get("event") == "ready":
                if not self._ready.done():
                    self._ready.set_result(None)
            else:
                self._on_event(message)
        gone = AgentError(f"the agent ended with {await self._process.wait()}")
        for future in (self._ready, *self._waiting.values()):
            if not future.done():
                future.set_exception(gone)

    async def call(self, do: str, seconds: float = CALL_SECONDS, **arguments: Any) -> Any:
        """One request; raises `AgentError` with the agent's reason."""
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n"
        )
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            raise AgentError(f"{do}: no answer within {seconds:.0f} s") from None
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """Lets the process end by itself, then ends its group."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), CLOSE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._reader
