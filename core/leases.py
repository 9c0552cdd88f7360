"""Leases: which process works on what, and how far it has come.

A lease is one message that names its owner and checkpoint; it changes hands by a
write that expects the last one, so exactly one claimant wins. That an owner
lives is said by heartbeats on core NATS, which cost the disk nothing. A lease
only spares double work: what keeps a zombie out is the expected sequence of
every append.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog
from msgspec import Struct

from core.bus import Bus, header, header_block
from core.jetstream import WRONG_LAST_SEQUENCE, last_message
from core.log import Conflict, Unavailable

log = structlog.get_logger(__name__)

HEARTBEAT_S = 0.25
LIFE_S = 1.25
"""An owner silent for so long is dead."""

CHECKPOINT_S = 1.0
GONE = "-"
"""Before an owner's name: the last it is heard of, so nobody leaves it its share any longer."""


class Lease(Struct):
    """As kept in the stream LEASES; `owner` is "" when it was given back.

    `crashes` counts the owners that died in a row without getting any further;
    `suspect` is the command the last of them was about to decide, if it went
    carefully, 0 if not.
    """

    owner: str = ""
    checkpoint: int = 0
    crashes: int = 0
    suspect: int = 0


class _Held(Struct):
    sequence: int
    lease: Lease


class Leases:
    """Claims a fair share of `names`, calling `lead(name, lease)` for each and `lose(name)` afterwards."""

    def __init__(
        self,
        bus: Bus,
        names: Sequence[str],
        lead: Callable[[str, Lease], Awaitable[None]],
        lose: Callable[[str], Awaitable[None]],
        checkpoint: Callable[[str], int],
    ) -> None:
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._bus, self._names = bus, tuple(names)
        self._lead, self._lose, self._checkpoint = lead, lose, checkpoint
        self._held: dict[str, _Held] = {}
        self._alive: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        self._tick = asyncio.Event()
        self._started = self._loop.time()
        self._written = 0.0
        self._task: asyncio.Task[None] | None = None
        self.settled = asyncio.Event()
        """Set once every lease has a living owner."""

    @property
    def held(self) -> tuple[str, ...]:
        return tuple(self._held)

    async def start(self) -> None:
        await self._bus.listen("alive.handlers", self._heard)
        await self._bus.listen("lease.*", self._changed)
        self._task = self._loop.create_task(self._run())

    async def resign(self) -> None:
        """Give everything back, so that others take over at once."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._bus.publish("alive.handlers", f"{GONE}{self.owner}".encode())
        await asyncio.gather(*(self._give_back(name) for name in list(self._held)))

    def _heard(self, subject: bytes, reply: bytes, head: bytes, body: bytes) -> None:
        owner = body.decode()
        if owner.startswith(GONE):
            self._alive.pop(owner.removeprefix(GONE), None)
        else:
            self._alive[owner] = self._loop.time()

    def _changed(self, subject: bytes, reply: bytes, head: bytes, body: bytes) -> None:
        if b'"owner":""' in body:
            self._tick.set()

    async def _run(self) -> None:
        while True:
            began = self._loop.time()
            try:
                self._bus.publish("alive.handlers", self.owner.encode())
                await self._round(began)
            except Unavailable as error:
                log.debug("leases are waiting", reason=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):  # 3.11's wait_for may swallow a cancellation
                    await self._tick.wait()
            self._tick.clear()
            if self._loop.time() - began > LIFE_S:  # we were stopped or starved: others may have taken over
                await self._confirm()

    async def _round(self, now: float) -> None:
        if now - self._written >= CHECKPOINT_S:
            self._written = now
            await asyncio.gather(*(self._save(name) for name in list(self._held)))
        alive = {owner for owner, at in self._alive.items() if now - at < LIFE_S} | {self.owner}
        share = -(-len(self._names) // len(alive))
        others = [name for name in self._names if name not in self._held]
        found = await asyncio.gather(*(self._read(name) for name in others))
        free = [
            (name, sequence, lease)
            for name, (sequence, lease) in zip(others, found, strict=True)
            if lease.owner == self.owner or lease.owner not in alive
        ]
        if now - self._started < LIFE_S:  # owners had no time yet to be heard
            due = [one for one in free if one[2].owner in ("", self.owner)]
        else:
            due = free
        await asyncio.gather(*(self._claim(*one) for one in due[: max(0, share - len(self._held))]))
        for name in list(self._held)[share:]:
            await self._give_back(name)
        if all(name in self._held for name, _, _ in free):
            self.settled.set()

    async def _claim(self, name: str, sequence: int, lease: Lease) -> None:
        abandoned = lease.owner not in ("", self.owner)
        mine = Lease(self.owner, lease.checkpoint, lease.crashes + 1 if abandoned else 0, lease.suspect)
        try:
            self._held[name] = _Held(await self._write(name, sequence, mine), mine)
        except Conflict:
            return
        log.debug("lease taken", lease=name, checkpoint=mine.checkpoint, crashes=mine.crashes)
        await self._lead(name, mine)

    async def _give_back(self, name: str) -> None:
        held = self._held.pop(name)
        await self._lose(name)
        given = Lease("", max(held.lease.checkpoint, self._checkpoint(name)))
        with contextlib.suppress(Conflict, Unavailable):
            await self._write(name, held.sequence, given)

    async def _save(self, name: str) -> None:
        held = self._held.get(name)
        if held is None or self._checkpoint(name) <= held.lease.checkpoint:
            return
        lease = Lease(self.owner, self._checkpoint(name))
        try:
            held.sequence, held.lease = await self._write(name, held.sequence, lease), lease
        except Conflict:
            await self._lost(name)

    async def suspect(self, name: str, sequence: int) -> None:
        """Note what is decided next before deciding it, so that a crash tells which command it was."""
        held = self._held.get(name)
        if held is None:
            return
        lease = Lease(self.owner, self._checkpoint(name), held.lease.crashes, sequence)
        try:
            held.sequence, held.lease = await self._write(name, held.sequence, lease), lease
        except Conflict:
            await self._lost(name)

    async def _confirm(self) -> None:
        for name in list(self._held):
            with contextlib.suppress(Unavailable):
                _, lease = await self._read(name)
                if lease.owner != self.owner:
                    await self._lost(name)

    async def _lost(self, name: str) -> None:
        if self._held.pop(name, None) is not None:
            log.warning("lease lost", lease=name)
            await self._lose(name)

    async def _read(self, name: str) -> tuple[int, Lease]:
        found = await last_message(self._bus, "LEASES", f"lease.{name}")
        if found is None:
            return 0, Lease()
        sequence = int(header(found[0], b"Nats-Sequence"))
        try:
            return sequence, msgspec.json.decode(found[1], type=Lease)
        except msgspec.MsgspecError as error:
            log.warning("lease is unreadable, starting over", lease=name, reason=str(error))
            return sequence, Lease()

    async def _write(self, name: str, expected: int, lease: Lease) -> int:
        headers = header_block({"Nats-Expected-Last-Subject-Sequence": str(expected)})
        _, body = await self._bus.ask(f"lease.{name}".encode(), msgspec.json.encode(lease), headers, 2.0)
        answer = msgspec.json.decode(body)
        error = answer.get("error")
        if error is None:
            return int(answer["seq"])
        if error.get("err_code") in WRONG_LAST_SEQUENCE:
            raise Conflict(name)
        raise Unavailable(str(error))
