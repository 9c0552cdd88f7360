"""Which Docker engine the platform runs containers on: one that answers, one of its own, or none, and why.

An engine of our own is put up beside any other: with its own socket, bridge,
cgroups and data, and without touching the machine's firewall or settings. It
restores live: containers outlive a crash of dockerd and are found again.

Containers are stopped, not removed, when the platform goes down. Each keeps the
moment and the code it ended with, so that the node's agent can report the true
end when the platform comes up again, however much later.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Literal

import aiohttp
from msgspec import Struct

from core.services.process import dies_with_parent

SOCKET = Path("/run/docker.sock")
PING_S = 2
START_S = 30
STOP_S = 20
CAPABILITIES_NEEDED = 1 << 21 | 1 << 12  # CAP_SYS_ADMIN, to mount; CAP_NET_ADMIN, for the bridge


class Choice(Struct, frozen=True):
    """`url` is '' if there is none; of a private engine, it answers once that has been started."""

    url: str
    how: Literal["setting", "socket", "private", "none"]
    reason: str


class DockerFailed(Exception):
    """Our own dockerd did not start; the message ends with what it said last."""


async def find(docker_url: str, data_dir: Path, socket: Path = SOCKET) -> Choice:
    """`docker_url` wins; 'none' means that containers are not wanted at all."""
    if docker_url == "none":
        return Choice("", "none", "switched off by the setting docker_url")
    if docker_url:
        state = "answers" if await answers(docker_url) else "does not answer yet"
        return Choice(docker_url, "setting", f"docker_url is set, and {state}")
    if await answers(f"unix://{socket}"):
        return Choice(f"unix://{socket}", "socket", f"an engine answers at {socket}")
    if missing := cannot_start_one():
        return Choice("", "none", f"no engine answers at {socket}, and {missing}")
    return Choice(
        PrivateDocker(data_dir).url, "private", f"no engine answers at {socket}, dockerd is installed"
    )


def cannot_start_one() -> str:
    """What is missing for an engine of our own, '' if nothing."""
    if os.geteuid() != 0:
        return "only root can start one"
    for program in ("dockerd", "containerd", "ip"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    status = Path("/proc/self/status").read_text()
    held = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
    if held & CAPABILITIES_NEEDED != CAPABILITIES_NEEDED:
        return "this root may not mount or make bridges"
    return ""


async def answers(url: str) -> bool:
    try:
        async with _session(url, PING_S) as (http, base), http.get(f"{base}/_ping") as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return False


def platform_id(data_dir: Path) -> str:
    """What tells the containers of one platform from those of another on the same engine: 8 hex digits."""
    return sha256(str(data_dir.resolve()).encode()).hexdigest()[:8]


async def stop_everything(url: str, node_id: str = "", platform: str = "", grace_s: int = 10) -> int:
    """Stop all running containers, of one node or platform if it is named; how many those were.

    Run it when the node's agent has ended: an agent that is awake would report
    the ends, and the platform would start them again. Raises `aiohttp.ClientError`.
    """
    filters = {"status": ["running", "paused", "restarting"]}
    labels = {"stratus.node": node_id, "stratus.platform": platform}
    filters["label"] = [f"{name}={value}" for name, value in labels.items() if value]
    async with _session(url, grace_s + STOP_S) as (http, base):
        async with http.get(f"{base}/containers/json", params={"filters": json.dumps(filters)}) as response:
            running = [container["Id"] for container in await response.json()]

        async def stop(container: str) -> None:
            async with http.post(f"{base}/containers/{container}/stop", params={"t": grace_s}):
                pass

        await asyncio.gather(*map(stop, running))
    return len(running)


@asynccontextmanager
async def _session(url: str, timeout_s: float) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    scheme, _, rest = url.partition("://")
    connector = aiohttp.UnixConnector(rest, limit=0) if scheme == "unix" else aiohttp.TCPConnector(limit=0)
    base = "http://docker" if scheme == "unix" else f"http://{rest}"
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        yield http, base


class PrivateDocker:
    """A dockerd of our own, the same one for the same data directory.

    A supervisor runs `argv` between `prepare` and `clear`, and sees to it that
    `stop_everything` is called before its end: live restoring means that containers
    stay when dockerd goes.

    What is volatile lies in /run, whatever the data directory: the path of a
    socket must be shorter than 108 bytes.
    """

    def __init__(self, data_dir: Path) -> None:
        self._key = key = platform_id(data_dir)
        self._runtime = Path(f"/run/stratus-{key}")
        self._data = data_dir.resolve() / "docker"
        self._bridge = f"stratus{key}"
        self._group = f"stratus-{key}"
        self._pidfile = self._runtime / "docker.pid"
        self.url = f"unix://{self._runtime}/docker.sock"
        self.log = self._data / "dockerd.log"
        self.process: asyncio.subprocess.Process | None = None

    def argv(self) -> list[str]:
        run = self._runtime
        return [
            "dockerd",
            f"--config-file={run}/daemon.json",
            f"--data-root={self._data}/data",
            f"--exec-root={run}/exec",
            f"--pidfile={self._pidfile}",
            f"--host={self.url}",
            f"--bridge={self._bridge}",
            f"--cgroup-parent=/{self._group}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--live-restore",
            # a second engine that manages the firewall wipes out the first one's rules
            "--iptables=false",
            "--ip6tables=false",
            "--ip-masq=false",
            "--ip-forward=false",
            "--shutdown-timeout=5",
            "--log-level=warn",
        ]

    async def prepare(self) -> None:
        """Before each start, the first or after a crash. Raises `DockerFailed`."""
        await self._end_predecessor()
        await asyncio.to_thread(self._prepare)

    async def ready(self) -> None:
        """Returns when the engine answers."""
        while not await answers(self.url):
            await asyncio.sleep(0.05)

    async def clear(self) -> None:
        """After its end: leaves nothing running, mounted or bridged."""
        await asyncio.to_thread(self._clear)

    async def start(self) -> None:
        """All of it, for those who have no supervisor. Returns when it answers. Raises `DockerFailed`."""
        await self.prepare()
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )
        answering, ended = asyncio.ensure_future(self.ready()), asyncio.ensure_future(self.process.wait())
        await asyncio.wait((answering, ended), timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            said = self.log.read_text(errors="replace")[-600:].strip()
            answering.cancel()
            await self.stop()
            raise DockerFailed(f"dockerd {'ended' if ended.done() else 'did not answer'}: {said}")

    async def stop(self, grace_s: int = 10) -> None:
        """Stops all its containers, then the engine, and clears up after it."""
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            await stop_everything(self.url, grace_s=grace_s)
        if self.process is not None:
            await _end(self.process)
            self.process = None
        await self.clear()

    async def _end_predecessor(self) -> None:
        """A dockerd that outlived whoever started it; its containers live on and will be found again."""
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            pid = int(self._pidfile.read_text())
            for number in (signal.SIGTERM, signal.SIGKILL):
                if self.url not in command_line(pid):
                    return
                os.kill(pid, number)  # once: it takes a third SIGTERM for impatience
                for _ in range(STOP_S * 20):
                    if not command_line(pid):
                        return
                    await asyncio.sleep(0.05)

    def _prepare(self) -> None:
        self._runtime.mkdir(mode=0o700, exist_ok=True)
        self._data.mkdir(parents=True, exist_ok=True)
        (self._runtime / "daemon.json").write_text("{}")  # or the machine's own would be read
        containerd = self._runtime / "exec/containerd/containerd.pid"
        with suppress(FileNotFoundError, ValueError):
            # after a kill its pid may linger as a zombie, and dockerd would wait for that in vain
            if not command_line(int(containerd.read_text())):
                containerd.unlink()
        if not Path("/sys/class/net", self._bridge).exists():
            _ip("link", "add", self._bridge, "type", "bridge")
        links = json.loads(_ip("-json", "-4", "addr", "show", "dev", self._bridge))
        if not any(link.get("addr_info") for link in links):
            _ip("addr", "add", str(self._free_network()), "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def _free_network(self) -> ipaddress.IPv4Interface:
        """Room for as many containers as one bridge takes, where the machine has no other route to."""
        taken = []
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            destination, mask = (int.from_bytes(bytes.fromhex(line.split("\t")[i])[::-1]) for i in (1, 7))
            if mask:
                taken.append(ipaddress.IPv4Network((destination, mask.bit_count())))
        networks = list(ipaddress.IPv4Network("10.192.0.0/10").subnets(new_prefix=20))
        first = int(self._key, 16) % len(networks)
        for network in networks[first:] + networks[:first]:
            if not any(network.overlaps(other) for other in taken):
                return ipaddress.IPv4Interface((network[1], 20))
        raise DockerFailed("no private network is free for a bridge")

    def _clear(self) -> None:
        for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()):
            if f"{self._runtime}/" in command_line(pid):  # containerd and its shims, if dockerd was killed
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        mounts = [line.split(" ")[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            if mount.startswith((f"{self._runtime}/", f"{self._data}/")):
                subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        if Path("/sys/class/net", self._bridge).exists():
            _ip("link", "delete", self._bridge)
        groups = Path("/sys/fs/cgroup")
        for top in [groups / self._group, *(parent / self._group for parent in groups.iterdir())]:
            for folder, _, _ in os.walk(top, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)
        shutil.rmtree(self._runtime, ignore_errors=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def command_line(pid: int) -> str:
    """'' for a process that is no more, or is a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DockerFailed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
