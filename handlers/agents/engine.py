"""Docker, as far as the platform needs it; no other file knows that it is Docker.

What is asked of the engine is repeatable: names and labels are given, not
drawn, and what exists already is adopted. For neither a lost answer nor a
cancelled call undoes anything there.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import struct
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

import aiodocker
import aiohttp
from msgspec import Struct

API_NEWEST = (1, 47)
"""The newest API this was written for."""
PIDS_MAX = 256
FILES_MAX = 65536
LOG_BYTES_MAX = 1 << 20
BUILD_MEMORY_BYTES = 1 << 30
CPU_PERIOD_US = 100_000
CPU_MILLI_MIN = 10
"""The kernel gives nobody less than a hundredth of a CPU, and the engine fails to start who asks for less."""

HOSTNAME_MAX = 63

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,})?"
)

QUICK = aiohttp.ClientTimeout(total=60, sock_connect=5)
ENDLESS = aiohttp.ClientTimeout(sock_connect=5)


class EngineIsDown(Exception):
    """The engine did not answer; whether it did what was asked is unknown."""


class EngineRefused(Exception):
    """The engine answered that it will not; the message is its own."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class BuildRefused(Exception):
    """The image can not be made from what was given; the message says why."""


class Machine(Struct, frozen=True):
    engine: str
    cpu_milli: int
    memory_mib: int


class Wanted(Struct, frozen=True):
    """One run of a container, as it shall be; `devices` are the machine's own numbers of its GPUs."""

    container_id: str
    run: int
    tenant: str
    image_id: str
    ref: str
    port: int
    cpu_milli: int
    memory_mib: int
    devices: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.container_id}-{self.run}"


class Actual(Struct, frozen=True):
    """One run of a container, as the engine has it. Times are 0 where there was none (yet)."""

    runtime_id: str
    container_id: str
    run: int
    tenant: str
    state: Literal["created", "running", "ended"]
    address: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    exit_code: int = -1
    oom: bool = False
    detail: str = ""


class Picture(Struct, frozen=True):
    """An image the engine has, with all the names it is known by."""

    digest: str
    bytes: int
    read_only: bool
    names: tuple[str, ...]


def is_reference(text: str) -> bool:
    """Whether an image could be called so; what could not is never asked for, for it may lead anywhere."""
    return _REFERENCE.fullmatch(text) is not None


class Engine:
    """The engine at `url`, `unix://` or `tcp://`; only what this node of this platform made is ever touched.

    Everything raises `EngineIsDown` and, unless it says otherwise, `EngineRefused`.
    """

    def __init__(self, url: str, node_id: str, platform: str) -> None:
        self._labels = {
            "managed-by": "nvidia-orchestrator",
            "orchestrator-instance": node_id,
            "stratus.node": node_id,
            "stratus.platform": platform,
        }
        self._platform = platform
        scheme, _, rest = url.partition("://")
        # a limit would make a stream that follows keep others waiting
        self._connector: aiohttp.BaseConnector = (
            aiohttp.UnixConnector(rest, limit=0) if scheme == "unix" else aiohttp.TCPConnector(limit=0)
        )
        self._docker = aiodocker.Docker(
            url="unix://localhost" if scheme == "unix" else url, connector=self._connector, timeout=QUICK
        )
        self._negotiated = False
        self._cpu_milli: int | None = None

    async def close(self) -> None:
        await self._docker.close()
        await self._connector.close()

    async def machine(self) -> Machine:
        info = await self._ask("info")
        self._cpu_milli = info["NCPU"] * 1000
        return Machine(f"docker {info['ServerVersion']}", self._cpu_milli, info["MemTotal"] >> 20)

    async def containers(self, changed: Collection[str] = ()) -> list[Actual]:
        """All of this node, running or not.

        The engine's list lags behind its events; so the runtime ids in `changed` are looked at one by one.
        """
        filters = {"label": [f"{name}={value}" for name, value in self._labels.items()]}
        listed = await self._ask("containers/json", params={"all": 1, "filters": json.dumps(filters)})
        found: list[Actual] = []
        for container in listed:
            labels, state = container["Labels"], container["State"]
            if state == "removing" or f"/{_name(labels)}" not in container["Names"]:
                continue
            if state in ("running", "paused", "restarting") and container["Id"] not in changed:
                found.append(_actual(container, labels, "running"))
            elif (closely := await self.inspect(container["Id"])) is not None:
                found.append(closely)
        return found

    async def inspect(self, runtime: str) -> Actual | None:
        """A container by its runtime id or whole name; None if there is none or it is not ours.

        Ours has our labels and the name that goes with them. The steps of a build
        are containers too, with whatever labels the Dockerfile gives them.
        """
        try:
            container = await self._ask(f"containers/{runtime}/json")
        except EngineRefused as refused:
            if refused.status == 404:
                return None
            raise
        labels, state = container["Config"]["Labels"], container["State"]
        name = container["Name"].removeprefix("/")
        if runtime not in (container["Id"], name):
            return None  # the engine takes the beginning of an id for the whole
        if name != _name(labels) or any(labels.get(key) != value for key, value in self._labels.items()):
            return None
        word: Literal["created", "running", "ended"] = "ended"
        if state["Running"] or state["Status"] == "created":
            word = "running" if state["Running"] else "created"
        return _actual(
            container,
            labels,
            word,
            started_ms=_millis(state["StartedAt"]),
            ended_ms=_millis(state["FinishedAt"]),
            exit_code=state["ExitCode"],
            oom=state["OOMKilled"],
            detail=state["Error"],
        )

    async def create(self, wanted: Wanted, read_only: bool = False) -> str:
        """The runtime id of the new container, or of the one that was made for this run before."""
        try:
            body = self._configuration(wanted, read_only, await self._nano_cpus(wanted.cpu_milli))
            created = await self._ask("containers/create", "POST", params={"name": wanted.name}, data=body)
            return str(created["Id"])
        except EngineRefused as refused:
            if refused.status != 409 or (existing := await self.inspect(wanted.name)) is None:
                raise
            return existing.runtime_id

    async def _nano_cpus(self, cpu_milli: int) -> int:
        """More than the machine has is no limit, and refused; other clusters than its own count otherwise."""
        most = self._cpu_milli or (await self.machine()).cpu_milli
        return min(max(cpu_milli, CPU_MILLI_MIN), most) * 1_000_000

    def _configuration(self, wanted: Wanted, read_only: bool, nano_cpus: int) -> dict[str, Any]:
        memory, files = wanted.memory_mib << 20, _clamped(resource.RLIMIT_NOFILE, FILES_MAX)
        gpus = {
            "Driver": "nvidia",
            "DeviceIDs": [str(number) for number in wanted.devices],
            "Capabilities": [["gpu"]],
        }
        return {
            "Image": wanted.ref,
            "Hostname": wanted.container_id[:HOSTNAME_MAX],
            "Env": [f"PORT={wanted.port}"],
            "Labels": self._labels
            | {
                "created-at": datetime.now(UTC).isoformat(),
                "stratus.image": wanted.image_id,
                "stratus.tenant": wanted.tenant,
                "stratus.container": wanted.container_id,
                "stratus.run": str(wanted.run),
            },
            "HostConfig": {
                "NanoCpus": nano_cpus,
                "Memory": memory,
                "MemorySwap": memory,  # or swap would double it
                "PidsLimit": PIDS_MAX,
                "DeviceRequests": [gpus] if wanted.devices else [],
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
                "IpcMode": "private",
                "Init": True,  # a process that ignores SIGTERM as pid 1 would sit out every grace period
                "RestartPolicy": {"Name": "no"},  # the platform restarts; two would fight
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "4m", "max-file": "2"}},
                "Ulimits": [{"Name": "nofile", "Soft": files, "Hard": files}],
                # most images write somewhere, and many are root inside: both are the image's own choice
                "ReadonlyRootfs": read_only,
                "Tmpfs": {"/tmp": "rw,nosuid,nodev,size=64m"} if read_only else {},
            },
        }

    async def start(self, runtime_id: str) -> None:
        """Does nothing if it runs already."""
        await self._ask(f"containers/{runtime_id}/start", "POST")

    async def stop(self, runtime_id: str, grace_s: int) -> None:
        """SIGTERM, and SIGKILL after `grace_s`. Nothing, if it has ended or is gone."""
        patience = aiohttp.ClientTimeout(total=grace_s + 30, sock_connect=5)
        await self._ask_if_there(
            f"containers/{runtime_id}/stop", "POST", params={"t": grace_s}, timeout=patience
        )

    async def remove(self, runtime_id: str) -> None:
        """Kills it if need be. Nothing, if it is gone or going."""
        await self._ask_if_there(f"containers/{runtime_id}", "DELETE", params={"force": 1, "v": 1})

    async def limit(self, runtime_id: str, cpu_milli: int, memory_mib: int) -> None:
        """Give a container other limits, at once and while it runs."""
        memory = memory_mib << 20
        nano_cpus = await self._nano_cpus(cpu_milli)
        body = {"NanoCpus": nano_cpus, "Memory": memory, "MemorySwap": memory}
        await self._ask(f"containers/{runtime_id}/update", "POST", data=body)

    async def logs(self, runtime: str, tail: int) -> list[str]:
        """The last lines of both outputs with their times, up to a megabyte; [] if there is no container."""
        lines: deque[str] = deque()
        size = 0
        if await self.inspect(runtime) is None:
            return []
        params = {"stdout": 1, "stderr": 1, "timestamps": 1, "tail": tail}
        async with self._stream(f"containers/{runtime}/logs", params=params) as response:
            while True:
                try:
                    (length,) = struct.unpack(">4xL", await response.content.readexactly(8))
                    line = await response.content.readexactly(length)
                except asyncio.IncompleteReadError:
                    return list(lines)
                lines.append(line.decode(errors="replace").rstrip("\n"))
                size += len(line)
                while size > LOG_BYTES_MAX:
                    size -= len(lines.popleft().encode()) + 1

    async def changes(self) -> AsyncGenerator[str, None]:
        """'' when the engine has answered, then the runtime id of whatever starts, ends or vanishes here.

        Only a hint: events are lost while the engine is away. Ends with `EngineIsDown`.
        """
        labels = [f"{name}={value}" for name, value in self._labels.items()]
        filters = {"type": ["container"], "label": labels, "event": ["start", "die", "oom", "destroy"]}
        params = {"since": f"{time.time():.9f}", "filters": json.dumps(filters)}
        async with self._stream("events", params=params) as response:
            yield ""
            async for line in response.content:
                yield json.loads(line)["Actor"]["ID"]
        raise EngineIsDown("the engine ended the stream of events")

    async def image(self, ref: str, tenant: str | None = None) -> Picture | None:
        """None if there is none; nor is there any for a `tenant` among what others have uploaded.

        The engine also finds images by the beginning of their ids. So it is the names
        of what was found that count: one of them must be for everybody, or the tenant's.
        """
        if not is_reference(ref) or (tenant is not None and self._is_of_another(ref, tenant)):
            return None
        try:
            image = await self._ask(f"images/{quote(ref, safe='/:@')}/json")
        except EngineRefused as refused:
            if refused.status in (400, 404):
                return None
            raise
        labels = (image["Config"] or {}).get("Labels") or {}
        names = (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ()))
        if tenant is not None and all(self._is_of_another(name, tenant) for name in names):
            return None
        return Picture(image["Id"], image["Size"], labels.get("stratus.read-only") == "true", names)

    def _is_of_another(self, name: str, tenant: str) -> bool:
        """Whether it names an upload, and not one of this tenant to this platform."""
        path = re.sub(r"^((index\.)?docker\.io|localhost)/", "", name)
        own = rf"stratus/{re.escape(tenant.lower())}/[^/:@]+:{re.escape(self._platform)}"
        return re.match("stratus/[^/]+/", path) is not None and re.fullmatch(own, path) is None

    def ref(self, tenant: str, image_id: str) -> str:
        """What the engine shall know an uploaded image by, whatever its upload calls itself."""
        return f"stratus/{tenant.lower()}/{image_id.lower()}:{self._platform}"

    async def refs(self) -> list[str]:
        """The names of all images that were uploaded to this platform and are here."""
        filters = {"reference": [f"stratus/*/*:{self._platform}"]}
        images = await self._ask("images/json", params={"filters": json.dumps(filters)})
        ours = re.compile(rf"stratus/[^/]+/[^/]+:{re.escape(self._platform)}")
        return [ref for image in images for ref in image["RepoTags"] or () if ours.fullmatch(ref)]

    async def build(
        self, context: AsyncIterator[bytes], ref: str, labels: Mapping[str, str]
    ) -> AsyncIterator[str]:
        """What the builder says, line by line, until the image is there as `ref`. Raises `BuildRefused`.

        No network, little memory, one CPU: the steps are a stranger's program.
        """
        params = {
            "t": ref,
            "labels": json.dumps(labels),
            "memory": BUILD_MEMORY_BYTES,
            "memswap": BUILD_MEMORY_BYTES,
            "cpuperiod": CPU_PERIOD_US,
            "cpuquota": CPU_PERIOD_US,
            "networkmode": "none",
            "rm": 1,
            "forcerm": 1,
            "version": 1,
        }
        try:
            async with self._stream("build", "POST", params=params, data=context) as response:
                async for line in _said(response):
                    yield line
        except EngineRefused as refused:
            raise BuildRefused(str(refused)) from refused

    async def load(self, saved: AsyncIterator[bytes], ref: str) -> AsyncIterator[str]:
        """The same for a `docker save` tar that gives itself no names."""
        digest = ""
        try:
            async with self._stream("images/load", "POST", data=saved) as response:
                async for line in _said(response):
                    yield line
                    if found := re.search(r"sha256:[0-9a-f]{64}", line):
                        digest = found[0]
        except EngineRefused as refused:
            raise BuildRefused(str(refused)) from refused
        if not digest:
            raise BuildRefused("the engine found no image in the archive")
        repository, _, tag = ref.rpartition(":")
        await self._ask(f"images/{digest}/tag", "POST", params={"repo": repository, "tag": tag})

    async def forget(self, ref: str) -> None:
        """Untag an image and remove what nobody else uses of it. Nothing, if it is gone or needed."""
        await self._ask_if_there(f"images/{quote(ref, safe='/:@')}", "DELETE")

    async def _ask_if_there(self, path: str, method: str, **about: Any) -> None:
        try:
            await self._ask(path, method, **about)
        except EngineRefused as refused:
            if refused.status not in (404, 409):
                raise

    async def _ask(
        self,
        path: str,
        method: str = "GET",
        *,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        timeout: aiohttp.ClientTimeout = QUICK,
    ) -> Any:
        body = json.dumps(data).encode() if data is not None else None
        async with self._stream(path, method, params=params, data=body, timeout=timeout) as response:
            text = await response.read()
            return json.loads(text) if text else None

    @asynccontextmanager
    async def _stream(
        self,
        path: str,
        method: str = "GET",
        *,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        timeout: aiohttp.ClientTimeout = ENDLESS,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        kind = {
            "Content-Type": "application/json"
            if data is None or isinstance(data, bytes)
            else "application/x-tar"
        }
        try:
            await self._negotiate()
            async with self._docker._query(
                path, method, params=dict(params or {}), data=data, headers=kind, timeout=timeout
            ) as response:
                try:
                    yield response
                finally:
                    response.close()  # aiodocker leaves the connection of a stream open
        except aiodocker.DockerError as error:
            if error.status not in (900, 502, 503, 504):
                raise EngineRefused(error.status, error.message) from error
            self._negotiated = False  # another version may come back
            raise EngineIsDown(error.message) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._negotiated = False
            raise EngineIsDown(str(error) or type(error).__name__) from error

    async def _negotiate(self) -> None:
        """aiodocker would take the engine's newest API, whatever that may come to mean."""
        if self._negotiated:
            return
        version = await self._docker._query_json("version", versioned_api=False, timeout=QUICK)
        newest, oldest = (_numbers(version.get(name, "1.24")) for name in ("ApiVersion", "MinAPIVersion"))
        major, minor = max(min(newest, API_NEWEST), oldest)
        self._docker.api_version = f"v{major}.{minor}"
        self._negotiated = True


async def _said(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The lines of a build or a load; the engine says 200 first, and what is wrong with it later."""
    rest = b""
    async for piece in response.content.iter_any():  # aiohttp's own lines may not be long
        *whole, rest = (rest + piece).split(b"\n")
        for raw in whole:
            said = json.loads(raw)
            if "error" in said:
                raise BuildRefused(str(said["error"]).strip())
            for line in str(said.get("stream", "")).splitlines():
                if line.strip():
                    yield line


def _name(labels: Mapping[str, str]) -> str:
    return f"{labels.get('stratus.container', '')}-{labels.get('stratus.run', '')}"


def _actual(
    container: Mapping[str, Any],
    labels: Mapping[str, str],
    state: Literal["created", "running", "ended"],
    **more: Any,
) -> Actual:
    return Actual(
        runtime_id=container["Id"],
        container_id=labels["stratus.container"],
        run=int(labels["stratus.run"]),
        tenant=labels["stratus.tenant"],
        state=state,
        address=_address(container),
        **more,
    )


def _address(container: Mapping[str, Any]) -> str:
    networks = container["NetworkSettings"]["Networks"] or {}
    return next((network["IPAddress"] for network in networks.values() if network.get("IPAddress")), "")


def _millis(moment: str) -> int:
    """`2026-11-21T12:06:31.374976653Z` to milliseconds; 0 for the year one, Docker's never."""
    if moment.startswith("0001-"):
        return 0
    seconds = datetime.fromisoformat(moment[:19] + "+00:00")
    fraction = moment[20:].rstrip("Z")[:3] if moment[19:20] == "." else ""
    return int(seconds.timestamp()) * 1000 + int(fraction.ljust(3, "0"))


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _clamped(limit: int, wished: int) -> int:
    """A limit above our own hard one makes the engine fail to start the container."""
    _, hard = resource.getrlimit(limit)
    return wished if hard == resource.RLIM_INFINITY else min(wished, hard)
