"""Questions to name servers by dig and kdig, and a resolver (unbound) that asks them for others."""

from __future__ import annotations

import asyncio
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.fleet import Process
from lab.lines import clean_environment, die_with_parent
from lab.ports import free_block
from lab.settings import ZONE
from lab.watch import until

ADDRESS = "127.64.9.53"
PATIENCE_SECONDS = "3"


@dataclass(frozen=True)
class Answer:
    """What dig or kdig shows of an answer."""

    text: str

    @property
    def status(self) -> str:
        """NOERROR, NXDOMAIN and so on; empty when nobody answered."""
        found = re.search(r"status: (\w+)", self.text)
        return found.group(1) if found else ""

    @property
    def flags(self) -> set[str]:
        """The header's flags, in small letters."""
        found = re.search(r"[Ff]lags: ([\w ]+);", self.text)
        return set(found.group(1).split()) if found else set()

    def records(self, kind: str) -> list[tuple[str, int, str]]:
        """Owner, TTL and data of the records of a type, in their order."""
        lines = re.findall(rf"^([^;\s]\S*)\s+(\d+)\s+IN\s+{kind}\s+(.+)$", self.text, re.MULTILINE)
        return [(owner, int(ttl), data.strip()) for owner, ttl, data in lines]

    def addresses(self) -> list[str]:
        """IPv4 addresses, in their order."""
        return [data for _, _, data in self.records("A")]


async def ask(tool: str, address: str, port: int, *words: str) -> Answer:
    """`dig` or `kdig`, once and without recursion unless the words say otherwise."""
    rest = ("+retry=0", "+norec") if tool == "kdig" else ("+tries=1", "+norec")
    command = (tool, f"@{address}", "-p", str(port), f"+time={PATIENCE_SECONDS}", *rest, *words)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(),
    )
    said, _ = await process.communicate()
    return Answer(said.decode(errors="replace"))


async def ask_server(server: Process, *words: str, tool: str = "dig") -> Answer:
    """The same of one of the fleet's name servers."""
    return await ask(tool, server.server.address, server.server.public, *words)


class Resolver:
    """unbound, which asks the fleet's name servers for their zone and nobody for anything else."""

    def __init__(self, servers: list[Process], folder: Path) -> None:
        self._config = folder / "unbound.conf"
        self._log = folder / "unbound.log"
        self._servers = servers
        self._child: subprocess.Popen[bytes] | None = None
        self.port = 0

    async def start(self) -> None:
        """Starts it, and waits until it answers."""
        self.port = free_block([ADDRESS], 1)
        self._config.write_text(self._settings())
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                ("unbound", "-d", "-p", "-c", str(self._config)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                preexec_fn=die_with_parent,
            )

        async def answers() -> str | None:
            assert self._child is not None
            assert self._child.poll() is None, self._log.read_text(errors="replace")[-600:]
            return None if (await self.ask(ZONE)).status else "no answer"

        await until("unbound answers", answers)

    async def ask(self, *words: str) -> Answer:
        """A client's question."""
        return await ask("dig", ADDRESS, self.port, "+rec", *words)

    def stop(self) -> None:
        """Ends it."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _settings(self) -> str:
        stubs = [f"  stub-addr: {s.server.address}@{s.server.public}" for s in self._servers]
        return "\n".join(
            [
                "server:",
                f"  interface: {ADDRESS}@{self.port}",
                "  access-control: 127.0.0.0/8 allow",
                "  do-not-query-localhost: no",
                '  username: ""',
                '  chroot: ""',
                '  directory: "/"',
                "  use-syslog: no",
                "  num-threads: 1",
                "  do-ip6: no",
                '  module-config: "iterator"',
                "  rrset-roundrobin: no",
                "remote-control:",
                "  control-enable: no",
                "stub-zone:",
                f'  name: "{ZONE}"',
                "  stub-prime: no",
                *stubs,
                "",
            ]
        )
