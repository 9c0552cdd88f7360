"""What a running process believes, said on request, so that a replay can check it.

    nats request stratus.views ''

Each process that keeps views answers with how far it has read and the hashes of
its projections at exactly that position.
"""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import Struct

from core.bus import Bus
from projections.views import Views

SUBJECT = "stratus.views"


class Testimony(Struct, frozen=True):
    process: str
    position: int
    fingerprints: dict[str, str]


async def testify(bus: Bus, views: Views, process: str) -> None:
    """From now on, and for as long as the connection lasts."""

    def asked(subject: bytes, reply: bytes, head: bytes, body: bytes) -> None:
        if reply:
            said = Testimony(process, views.position, views.fingerprints())
            bus.publish(reply.decode(), msgspec.json.encode(said))

    await bus.listen(SUBJECT, asked)
    await bus.nats.flush()


async def question(bus: Bus, patience_s: float = 2.0) -> list[Testimony]:
    """Everybody's testimony; nobody's, if nobody answers in time."""
    heard: list[Testimony] = []
    inbox = bus.nats.new_inbox()

    def answered(subject: bytes, reply: bytes, head: bytes, body: bytes) -> None:
        if body:
            heard.append(msgspec.json.decode(body, type=Testimony))

    subscription = await bus.listen(inbox, answered)
    try:
        bus.send(SUBJECT.encode(), b"", inbox.encode())
        await asyncio.sleep(patience_s)
    finally:
        await bus.unlisten(subscription)
    return sorted(heard, key=lambda one: one.process)
