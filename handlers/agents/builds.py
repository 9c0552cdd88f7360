"""Uploads become images here, one after the other, and tell their story while they do."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from typing import IO, Literal

import msgspec
import structlog

from core.archives import ArchiveRefused, examine, repack
from core.bus import Bus
from core.commands import Commands, Declined
from core.log import Unavailable
from core.message import Command
from core.messages.catalog import (
    Archive,
    ClaimBuild,
    Reference,
    ReportBuildFailed,
    ReportBuilt,
    SavedImage,
)
from core.objects import ObjectIsDamaged, ObjectIsUnknown, Objects
from handlers.agents.engine import BuildRefused, Engine, EngineIsDown, EngineRefused
from projections.catalog import Image
from projections.views import Views

log = structlog.get_logger(__name__)

BUILD_S_MAX = 600
OUTPUT_CHARS_MAX = 1 << 20
FLUSH_S = 0.25
REASON_CHARS_MAX = 1500
AGAIN_S = 2.0

Say = Callable[[str], None]


class Builder:
    """Builds for one node whatever no other node has claimed."""

    def __init__(
        self, node_id: str, engine: Engine, bus: Bus, objects: Objects, commands: Commands, views: Views
    ) -> None:
        self._node_id, self._engine, self._views = node_id, engine, views
        self._bus, self._objects, self._commands = bus, objects, commands
        self._others: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Build what there is to build, for ever. A build that was cut short is made again."""
        while True:
            change = asyncio.ensure_future(self._views.change())
            try:
                for image in self._open():
                    await self._build(image)
                await change
            except (EngineIsDown, EngineRefused, Unavailable, TimeoutError) as error:
                log.warning("build interrupted", reason=str(error))
                await asyncio.sleep(AGAIN_S)
            finally:
                change.cancel()

    def _open(self) -> list[Image]:
        """Images that are not built yet; one that another node builds is asked for once only."""
        waiting = [image for image in self._views.catalog.all() if image.status in ("registered", "building")]
        self._others &= {image.image_id for image in waiting}
        return [
            image
            for image in waiting
            if image.image_id not in self._others and not isinstance(image.source, Reference)
        ]

    async def _build(self, image: Image) -> None:
        image_id, node_id = image.image_id, self._node_id
        output = Output(self._bus, image.tenant, image_id)
        try:
            await self._send(ClaimBuild(image_id=image_id, node_id=node_id, at_ms=_now_ms()), image.tenant)
            try:
                async with output:
                    ref = self._engine.ref(image.tenant, image_id)
                    size = await self.make(image, ref, output.say)
                report: Command = ReportBuilt(
                    image_id=image_id, node_id=node_id, ref=ref, bytes=size, at_ms=_now_ms()
                )
            except BuildRefused as refused:
                reason = str(refused)[:REASON_CHARS_MAX]
                report = ReportBuildFailed(image_id=image_id, node_id=node_id, reason=reason, at_ms=_now_ms())
            await self._send(report, image.tenant)
        except Declined as declined:
            log.info("build declined", image_id=image_id, reason=declined.rejection)
            self._others.add(image_id)

    async def _send(self, command: Command, tenant: str) -> None:
        position = await self._commands.send(command, tenant, actor=self._node_id)
        await self._views.wait(position, 10)

    async def make(self, image: Image, ref: str, say: Say) -> int:
        """Have the engine know the image of an upload by `ref`; its size in bytes.

        Raises `BuildRefused`, and `EngineIsDown` or `Unavailable` if trying again may help.
        """
        source = image.source
        try:
            async with self._one_at_a_time, asyncio.timeout(BUILD_S_MAX):
                with tempfile.TemporaryFile() as file:
                    match source:
                        case Archive():
                            await self._fetch(source, file)
                            context = await self._examined(file, "build", image.tenant)
                            labels = {"stratus.image": image.image_id, "stratus.tenant": image.tenant}
                            lines = self._engine.build(context, ref, labels)
                        case SavedImage():
                            await self._fetch(source, file)
                            lines = self._engine.load(await self._examined(file, "saved", image.tenant), ref)
                        case Reference():
                            raise BuildRefused(f"{source.ref}: is no upload")
                    async for line in lines:
                        say(line)
        except TimeoutError:
            raise BuildRefused(f"the build took longer than {BUILD_S_MAX} s") from None
        except BuildRefused as refused:
            say(f"error: {refused}")
            raise
        picture = await self._engine.image(ref)
        if picture is None:
            raise EngineIsDown("the image is gone again")
        return picture.bytes

    async def _fetch(self, source: Archive | SavedImage, file: IO[bytes]) -> None:
        digest = sha256()
        try:
            async for piece in self._objects.get(source.object):
                digest.update(piece)
                await asyncio.to_thread(file.write, piece)
        except (ObjectIsUnknown, ObjectIsDamaged) as lost:
            raise BuildRefused("the upload is not there any more; upload it again") from lost
        if digest.hexdigest() != source.sha256:
            raise BuildRefused("the upload is not the one that was registered")

    async def _examined(
        self, file: IO[bytes], kind: Literal["build", "saved"], tenant: str
    ) -> AsyncIterator[bytes]:
        """The upload written anew, once it was found to be what it should be."""
        try:
            found = await asyncio.to_thread(examine, file)
        except ArchiveRefused as refused:
            raise BuildRefused(str(refused)) from refused
        if found.kind != kind:
            raise BuildRefused(f"the upload is of the kind {found.kind!r}, not {kind!r}")
        for base in bases(found.dockerfile):
            if await self._engine.image(base, tenant) is None:
                raise BuildRefused(f"FROM {base}: the node has no such image, and nothing is pulled")
        return _in_a_thread(repack(file, kind))


class Output:
    """What a build says, on its way to whoever follows it; what is too much is cut off, and said to be."""

    def __init__(self, bus: Bus, tenant: str, image_id: str) -> None:
        self._bus, self._subject = bus, f"out.{tenant}.builds.{image_id}"
        self._lines: list[str] = []
        self._left = OUTPUT_CHARS_MAX

    def say(self, line: str) -> None:
        if self._left <= 0:
            return
        self._left -= len(line) + 1
        self._lines.append(line if self._left > 0 else "(more output was cut off)")

    async def __aenter__(self) -> Output:
        self._flushing = asyncio.create_task(self._flush_now_and_then())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._flushing.cancel()
        await asyncio.gather(self._flushing, return_exceptions=True)
        await self._flush()

    async def _flush_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            await self._bus.request(self._subject, msgspec.json.encode({"at_ms": _now_ms(), "lines": lines}))


def bases(dockerfile: str) -> list[str]:
    """The images a Dockerfile starts or copies from, as far as its text tells; without its own stages.

    One whose name can not be told stays as it was written, which no image is called.
    """
    text = re.sub(r"\\[ \t]*\n", " ", re.sub(r"(?m)^[ \t]*#.*\n?", "", dockerfile))
    arguments: dict[str, str] = {}
    stages = {"scratch"}
    found: list[str] = []
    started = False

    def expanded(word: str) -> str:
        def value(m: re.Match[str]) -> str:
            known = arguments.get(m["braced"] or m["bare"])
            return known or m["default"] or (m[0] if known is None else "")

        return re.sub(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^${}]*))?\}|(?P<bare>\w+))", value, word)

    def need(image: str) -> None:
        if image and image.lower() not in stages and image not in found:
            found.append(image)

    for line in text.splitlines():
        instruction, *words = line.split() or [""]
        if instruction.upper() == "ONBUILD" and words:
            instruction, *words = words
        names = [word for word in words if not word.startswith("--")]
        flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
        match instruction.upper():
            case "ARG" if names and not started:
                name, _, value = names[0].partition("=")
                if "=" in names[0]:
                    arguments[name] = expanded(value.strip("\"'"))
            case "FROM" if names:
                started = True
                need(expanded(names[0]))
                if len(names) == 3:
                    stages.add(names[2].lower())
            case "COPY" if not flags.get("from", "0").isdecimal():
                need(expanded(flags["from"]))
            case _:
                pass
    return found


async def _in_a_thread(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        if piece:  # an empty one would end the request's body
            yield piece


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
