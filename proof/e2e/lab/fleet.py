"""Three regions of real `outlast` processes on loopback, and the faults done to them."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import time
from pathlib import Path

import aiohttp

from lab.lines import clean_environment, die_with_parent
from lab.metrics import Metrics, parse_metrics
from lab.ports import free_block
from lab.settings import (
    API_KEY,
    API_SECRET,
    PORTS,
    REGIONS,
    Server,
    hosts_file,
    region_address,
    write_configs,
)
from lab.watch import until

READY_SECONDS = 20.0
START_TRIES = 3
SETTLE_SECONDS = 1.5  # three beats: a node that came back is in every gateway's view
EXIT_SECONDS = 20.0


class Process:
    """One server process; faults are done to its pid alone."""

    def __init__(self, server: Server, logs: Path) -> None:
        self.server = server
        self._logs = logs
        self._child: subprocess.Popen[bytes] | None = None
        self.is_frozen = False

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def pid(self) -> int:
        """The running process's id."""
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    def is_running(self) -> bool:
        """Whether the process exists (a frozen one does)."""
        return self._child is not None and self._child.poll() is None

    def last_words(self) -> str:
        """The end of its log, for a failure's message."""
        return (self._logs / f"{self.name}.log").read_text(errors="replace")[-600:]

    def start(self) -> None:
        """Starts the process; its output is appended to `<name>.log`."""
        with (self._logs / f"{self.name}.log").open("ab") as log:
            self._child = subprocess.Popen(
                self.server.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self.is_frozen = False

    def _signal(self, number: signal.Signals) -> float:
        assert self.is_running(), f"{self.name} is not running"
        os.kill(self.pid, number)
        return time.time()

    def kill(self) -> float:
        """SIGKILL; returns when it was done (unix seconds)."""
        at = self._signal(signal.SIGKILL)
        assert self._child is not None
        self._child.wait()
        return at

    def freeze(self) -> float:
        """SIGSTOP; sockets stay open and the kernel still acknowledges."""
        self.is_frozen = True
        return self._signal(signal.SIGSTOP)

    def wake(self) -> float:
        """SIGCONT after `freeze`."""
        self.is_frozen = False
        return self._signal(signal.SIGCONT)

    def terminate(self) -> float:
        """SIGTERM: the graceful stop."""
        return self._signal(signal.SIGTERM)

    async def exited(self, within: float = EXIT_SECONDS) -> int:
        """Waits for the end of the process; returns its exit code."""
        assert self._child is not None
        deadline = time.monotonic() + within
        while self._child.poll() is None:
            assert time.monotonic() < deadline, f"{self.name} still runs after {within:.0f} s"
            await asyncio.sleep(0.05)
        return self._child.returncode

    def stop(self) -> None:
        """Ends the process whatever state it is in."""
        if self.is_running():
            self.kill()

    def resident_peak(self) -> int:
        """The highest resident set since `forget_peak`, in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no VmHWM of {self.name}")

    def forget_peak(self) -> None:
        """Starts `resident_peak` anew from what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


class Fleet:
    """Three regions, each one gateway, one name server and two nodes."""

    key = API_KEY
    secret = API_SECRET

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._http: aiohttp.ClientSession
        self.processes: dict[str, Process] = {}
        self.hosts = hosts_file(folder)
        self._drained: set[str] = set()

    async def start(self) -> None:
        """Starts everything and waits until every process is ready."""
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3))
        for attempt in range(1, START_TRIES + 1):
            base = free_block([region_address(region) for region in REGIONS], PORTS)
            servers = write_configs(self._binary, self._folder, base)
            self.processes = {s.name: Process(s, self._folder) for s in servers}
            for process in self.processes.values():
                process.start()
            try:
                await self._all_ready()
                break
            except AssertionError:
                self.stop_all()
                if attempt == START_TRIES:
                    raise
        await asyncio.sleep(SETTLE_SECONDS)

    async def _all_ready(self) -> None:
        async def condition() -> str | None:
            for process in self.processes.values():
                assert process.is_running(), f"{process.name} ended: {process.last_words()}"
                status = await self.status(process.server, "/healthz/ready")
                if status != 200:
                    return f"{process.name} answers {status}"
            return None

        await until("fleet ready", condition, READY_SECONDS)

    async def status(self, server: Server, path: str) -> int:
        """The status of a GET on the admin listener; 0 when nobody answers."""
        try:
            async with self._http.get(server.admin_url + path) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def metrics(self, name: str) -> Metrics:
        """The Prometheus page of one process."""
        async with self._http.get(self.processes[name].server.admin_url + "/metrics") as response:
            assert response.status == 200, f"/metrics of {name}: {response.status}"
            return parse_metrics(await response.text())

    async def panic(self, name: str, identity: str) -> int:
        """Makes one session of a node panic, by the hook on its internal server; the status."""
        server = self.processes[name].server
        pki = self._folder / "pki"
        context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        context.load_cert_chain(pki / f"{name}.pem", pki / f"{name}.key")
        url = f"https://{server.address}:{server.public}/debug/panic/{identity}"
        async with self._http.post(url, ssl=context, server_hostname="outlast-cluster") as response:
            return response.status

    async def wipe_directory(self, region: str) -> int:
        """Empties the directory of a region's gateway, by the hook on its admin listener."""
        server = self.gateway(region).server
        async with self._http.post(server.admin_url + "/debug/directory/wipe") as response:
            return response.status

    async def drain(self, target: str, *options: str) -> tuple[int, str]:
        """`outlast drain` of a node or region; its exit code and what it said."""
        config = self.gateway(REGIONS[0]).server.config
        process = await asyncio.create_subprocess_exec(
            str(self._binary),
            "drain",
            target,
            "--config",
            str(config),
            *options,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=clean_environment(),
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        if "--undo" in options:
            self._drained.discard(target)
        elif target in self.processes or target in REGIONS:
            self._drained.add(target)
        return process.returncode, said.decode(errors="replace")

    async def heal(self) -> None:
        """Brings back everything that a test before has broken."""
        broken = [p for p in self.processes.values() if p.is_frozen or not p.is_running()]
        for process in broken:
            process.stop()
            process.start()
        for target in sorted(self._drained):
            await self.drain(target, "--undo")
        await self._all_ready()
        if broken:
            await asyncio.sleep(SETTLE_SECONDS)

    def stop_all(self) -> None:
        """Kills every process that was started."""
        for process in self.processes.values():
            process.stop()

    async def close(self) -> None:
        """Ends the fleet."""
        self.stop_all()
        await self._http.close()

    def gateway(self, region: str) -> Process:
        """The region's gateway."""
        return self.processes[f"{region}-gw"]

    def name_server(self, region: str) -> Process:
        """The region's name server."""
        return self.processes[f"{region}-dns"]

    def nodes(self) -> list[Process]:
        """All nodes."""
        return [p for p in self.processes.values() if p.server.role == "node"]

    def region(self, region: str) -> list[Process]:
        """Every process of one region."""
        return [p for p in self.processes.values() if p.server.region == region]

    def url(self, first: str, second: str | None = None) -> str:
        """The WebSocket URL that resolves to one gateway, or to two of them in this order."""
        name = f"call-{first}" + (f"-{second}" if second else "")
        return f"ws://{name}.outlast.test:{self.gateway(first).server.public}"

    def api_url(self, region: str) -> str:
        """The HTTP URL of a region's gateway by its address."""
        server = self.gateway(region).server
        return f"http://{server.address}:{server.public}"

    async def home(self) -> Process:
        """The one node that holds a room now."""
        await self._fresh_metrics()
        holders = [
            node
            for node in self._answering_nodes()
            if (await self.metrics(node.name)).total("outlast_node_rooms") > 0
        ]
        assert len(holders) == 1, f"rooms are on {[n.name for n in holders]}, not on one node"
        return holders[0]

    def _answering_nodes(self) -> list[Process]:
        return [node for node in self.nodes() if node.is_running() and not node.is_frozen]

    async def _fresh_metrics(self) -> None:
        """Waits until every node has counted anew: shards report with their beats."""

        async def beats() -> dict[str, float]:
            names = [node.name for node in self._answering_nodes()]
            return {n: (await self.metrics(n)).total("outlast_node_beats_total") for n in names}

        before = await beats()

        async def counted() -> str | None:
            now = await beats()
            late = [n for n in now if now[n] < before.get(n, 0) + 2]
            return f"{late} have not beaten twice" if late else None

        await until("fresh metrics", counted)
