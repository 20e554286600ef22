"""The servers' configuration files: the one place that knows Outlast's keys and commands."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

REGIONS = ("eu", "us", "ap")
NODES_PER_REGION = 2
SHARDS = 2
PORTS = 40  # per fleet; the regions have the same ports on addresses of their own
ZONE = "call.outlast.zone"
API_KEY = "e2ekey"
API_SECRET = "e2e-secret-that-is-long-enough-for-everybody"


@dataclass(frozen=True)
class Server:
    """One process of the fleet and where it listens."""

    name: str
    role: str  # "gateway", "node" or "dns"
    region: str
    address: str
    public: int  # gateway: HTTP and WebSocket; node: internal mTLS; dns: questions
    beat: int
    admin: int
    media: tuple[int, ...] = ()  # node: one UDP port a shard
    config: Path = field(default=Path())
    command: tuple[str, ...] = ()

    @property
    def admin_url(self) -> str:
        return f"http://{self.address}:{self.admin}"


def region_address(region: str) -> str:
    """The region's loopback address.

    All of them share the same prefix with 127.0.0.1, or else getaddrinfo would order them by it
    (RFC 6724 rule 9) and not as the hosts file does.
    """
    return f"127.64.{REGIONS.index(region) + 1}.1"


def gateway_url(server: Server) -> str:
    """What clients of this gateway's region dial."""
    return f"ws://call-{server.region}.outlast.test:{server.public}"


def layout(base: int) -> list[Server]:
    """Every process of the fleet on the block of ports that starts at `base`."""
    servers = []
    for region in REGIONS:
        address = region_address(region)
        servers.append(Server(f"{region}-gw", "gateway", region, address, base, base + 1, base + 2))
        ports = (base + 3, base + 4, base + 5)
        servers.append(Server(f"{region}-dns", "dns", region, address, *ports))
        for number in range(1, NODES_PER_REGION + 1):
            first = base + 10 * number
            media = tuple(range(first + 3, first + 3 + SHARDS))
            servers.append(
                Server(
                    f"{region}-{number}",
                    "node",
                    region,
                    address,
                    first,
                    first + 1,
                    first + 2,
                    media,
                )
            )
    return servers


def hosts_file(folder: Path) -> Path:
    """A hosts file in which `call-eu-us.outlast.test` is the gateway of eu, then that of us."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    for first in REGIONS:
        lines.append(f"{region_address(first)} call-{first}.outlast.test")
        for second in REGIONS:
            if second != first:
                name = f"call-{first}-{second}.outlast.test"
                lines.append(f"{region_address(first)} {name}")
                lines.append(f"{region_address(second)} {name}")
    path = folder / "hosts"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_configs(binary: Path, folder: Path, base: int) -> list[Server]:
    """Makes a cluster CA, one certificate and one configuration file a process."""
    servers = layout(base)
    pki = folder / "pki"
    shutil.rmtree(pki, ignore_errors=True)  # of an attempt on other ports
    _outlast(binary, "ca", "init", "--out", str(pki))
    for server in servers:
        folders = ("--ca", str(pki), "--out", str(pki))
        _outlast(binary, "ca", "issue", "--name", server.name, *folders)
    cluster_secret = secrets.token_hex(32)
    placed = []
    # For name servers 198.51.100.0/24 is near us; for gateways, which see everybody here come from it, 127.0.0.1 is near ap.
    (folder / "locations-dns").write_text("198.51.100.0/24 us\n")
    (folder / "locations-gateway").write_text("127.0.0.1/32 ap\n")
    for server in servers:
        path = folder / f"{server.name}.toml"
        path.write_text(_config(server, servers, pki, cluster_secret))
        path.chmod(0o600)
        command = (str(binary), "serve", "--config", str(path))
        placed.append(Server(**{**server.__dict__, "config": path, "command": command}))
    return placed


def _outlast(binary: Path, *arguments: str) -> None:
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"outlast {' '.join(arguments)}: {done.stderr.strip()}")


def _config(server: Server, servers: list[Server], pki: Path, cluster_secret: str) -> str:
    lines = [
        f'region = "{server.region}"',
        f'roles = ["{server.role}"]',
        "[keys]",
        f'{API_KEY} = "{API_SECRET}"',
        "[cluster]",
        f'secret = "{cluster_secret}"',
        f'ca = "{pki / "ca.pem"}"',
        f'cert = "{pki / (server.name + ".pem")}"',
        f'key = "{pki / (server.name + ".key")}"',
        "[admin]",
        f'listen = "{server.address}:{server.admin}"',
        "[signal]",
        "ping_interval_s = 1",
        "ping_timeout_s = 3",
        "[debug]",
        "panic_hook = true",
        f"[{server.role}]",
        f'id = "{server.name}"',
        f'listen = "{server.address}:{server.public}"',
        f'beat = "{server.address}:{server.beat}"',
    ]
    if server.role == "gateway":
        lines.append(f'url = "{gateway_url(server)}"')
    if server.role == "dns":
        lines += [f'zone = "{ZONE}"', f'public = ["{server.address}"]']
    if server.role != "node":
        lines += ["[locate]", f'file = "locations-{server.role}"']
    if server.role == "node":
        lines += [
            f"media_ports = {server.media[0]}",
            f"shards = {SHARDS}",
            f'bind = ["{server.address}"]',
            f'advertise = ["{server.address}"]',
            "capacity = 100",
        ]
    for peer in servers:  # a process may stand in its own list
        lines += [
            "[[peers]]",
            f'role = "{peer.role}"',
            f'id = "{peer.name}"',
            f'region = "{peer.region}"',
            f'beat = "{peer.address}:{peer.beat}"',
        ]
        if peer.role == "node":
            lines += [f'address = "{peer.address}:{peer.public}"', "capacity = 100"]
        else:
            lines.append(f'public = ["{peer.address}"]')
        if peer.role == "gateway":
            lines.append(f'url = "{gateway_url(peer)}"')
    return "\n".join(lines) + "\n"
