"""Uploads, kept in JetStream beside the log that mentions them, whatever their size.

The client's own object store holds a whole body in memory when it reads; this
one asks for one piece after the other. An object is its pieces and, written
last, its summary: without a summary there is no object, so nobody will ever
read half an upload.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct

from core.bus import Bus, api_error
from core.jetstream import STREAM_NAME_IN_USE, last_message
from core.log import Unavailable

STREAM = "OBJECTS"
PIECE_BYTES = 128 << 10
IN_FLIGHT = 8
"""Pieces on their way at once: a reader or writer holds about a megabyte."""


class TooLarge(Exception):
    """The upload is larger than it may be."""


class ObjectIsUnknown(Exception):
    """There is no object of this name."""


class ObjectIsDamaged(Exception):
    """The object is not what was stored under its name."""


class Stored(Struct, frozen=True):
    sha256: str
    bytes: int


class _Summary(Struct, frozen=True):
    sha256: str
    bytes: int
    pieces: int


class Objects:
    """Names are one token of a subject, and are never used twice."""

    def __init__(self, bus: Bus, replicas: int = 1) -> None:
        self._bus, self._replicas = bus, replicas
        self._created = False

    async def put(self, name: str, chunks: AsyncIterable[bytes], limit: int) -> Stored:
        """Keep everything `chunks` yields, in bounded memory.

        Raises `TooLarge` beyond `limit` bytes and `core.log.Unavailable`; then,
        as when `chunks` raises, nothing is kept.
        """
        await self._create()
        digest, size, pieces = hashlib.sha256(), 0, 0
        sent: deque[asyncio.Task[None]] = deque()
        try:
            async for piece in _pieces(chunks):
                size += len(piece)
                if size > limit:
                    raise TooLarge(f"larger than {limit} bytes")
                digest.update(piece)
                if len(sent) == IN_FLIGHT:
                    await sent.popleft()
                sent.append(asyncio.create_task(self._publish(f"obj.{name}.{pieces}", piece)))
                pieces += 1
            while sent:
                await sent.popleft()
            summary = _Summary(digest.hexdigest(), size, pieces)
            await self._publish(f"obj.{name}.summary", msgspec.json.encode(summary))
        except BaseException:
            for task in sent:
                task.cancel()
            await asyncio.gather(*sent, return_exceptions=True)
            await self.delete(name)
            raise
        return Stored(summary.sha256, size)

    async def get(self, name: str) -> AsyncIterator[bytes]:
        """The bytes of an object, in pieces.

        Raises `ObjectIsUnknown`, `core.log.Unavailable`, and at the end
        `ObjectIsDamaged` if what was read is not what was stored.
        """
        await self._create()
        kept = await self._last(f"obj.{name}.summary")
        if kept is None:
            raise ObjectIsUnknown(name)
        summary = msgspec.json.decode(kept, type=_Summary)
        digest = hashlib.sha256()
        ahead: deque[asyncio.Task[bytes | None]] = deque()
        try:
            for number in range(summary.pieces + IN_FLIGHT):
                if number < summary.pieces:
                    ahead.append(asyncio.create_task(self._last(f"obj.{name}.{number}")))
                if ahead and (number >= summary.pieces or len(ahead) == IN_FLIGHT):
                    piece = await ahead.popleft()
                    if piece is None:
                        raise ObjectIsDamaged(f"{name}: a piece is missing")
                    digest.update(piece)
                    yield piece
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
        if digest.hexdigest() != summary.sha256:
            raise ObjectIsDamaged(f"{name}: its bytes have changed")

    async def delete(self, name: str) -> None:
        """Forget an object; one that is not there is forgotten already. Raises `core.log.Unavailable`."""
        await self._create()
        await self._api(f"PURGE.{STREAM}", {"filter": f"obj.{name}.>"})

    async def _create(self) -> None:
        if self._created:
            return
        config = {
            "name": STREAM,
            "subjects": ["obj.*.*"],
            "storage": "file",
            "num_replicas": self._replicas,
            "allow_direct": True,
            "max_msgs_per_subject": 1,
        }
        await self._api(f"CREATE.{STREAM}", config, or_error=STREAM_NAME_IN_USE)
        self._created = True

    async def _api(self, verb: str, body: dict[str, Any], or_error: int = 0) -> None:
        _, data = await self._bus.request(f"$JS.API.STREAM.{verb}", msgspec.json.encode(body), timeout=10)
        answer = msgspec.json.decode(data)
        error = answer.get("error")
        if error is not None and error.get("err_code") != or_error:
            raise Unavailable(f"stream {STREAM}: {api_error(answer)}")

    async def _publish(self, subject: str, data: bytes) -> None:
        _, body = await self._bus.request(subject, data, {"Nats-Expected-Stream": STREAM}, timeout=10)
        answer = msgspec.json.decode(body)
        if "error" in answer:
            raise Unavailable(f"stream {STREAM}: {api_error(answer)}")

    async def _last(self, subject: str) -> bytes | None:
        found = await last_message(self._bus, STREAM, subject)
        return found[1] if found else None


async def _pieces(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, in pieces of one size but for the last."""
    rest = bytearray()
    async for chunk in chunks:
        for at in range(0, len(chunk), PIECE_BYTES):
            rest += chunk[at : at + PIECE_BYTES]
            if len(rest) >= PIECE_BYTES:
                yield bytes(rest[:PIECE_BYTES])
                del rest[:PIECE_BYTES]
    if rest:
        yield bytes(rest)
