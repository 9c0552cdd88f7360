"""Asking for something: put a command onto the queue, get the answer back."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Literal, Protocol
from uuid import uuid4

import msgspec
from msgspec import Struct

from core.bus import Bus, api_error, header, header_block
from core.contexts import Stream, command_subject, stream_of
from core.jetstream import JetStreamLog, last_message
from core.log import Unavailable
from core.message import Command

Kind = Literal["unknown", "invalid", "conflict"]

RETRY_S = 1.0
"""How long an answer may take before we look into the log for it."""

_TOKEN = re.compile(r"[A-Za-z0-9_:%~-]{1,250}")


class Refusal(Struct, frozen=True):
    """A no, as it travels: the rejection's class name, what it means for the caller, and why."""

    rejection: str
    kind: Kind
    reason: str


class Answer(Struct, frozen=True, omit_defaults=True):
    """`position` is where in the log the wish is true; or else `refusal` says why not."""

    position: int = 0
    refusal: Refusal | None = None


class Declined(Exception):
    """The command was understood, and declined; `rejection` is the name of the rejection's class."""

    def __init__(self, rejection: str, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.rejection, self.kind, self.reason = rejection, kind, reason


class Commands(Protocol):
    async def send(
        self,
        command: Command,
        tenant: str,
        *,
        actor: str | None = None,
        correlation: str = "",
        command_id: str | None = None,
        timeout: float = 10.0,
    ) -> int:
        """The log position the wish is true at. Raises `Declined`, or `core.log.Unavailable`."""
        ...


def position_of(answer: Answer) -> int:
    """Raises `Declined` for a refusal."""
    if answer.refusal is not None:
        raise Declined(answer.refusal.rejection, answer.refusal.kind, answer.refusal.reason)
    return answer.position


class CommandQueue:
    """Commands over JetStream: published at least once, decided exactly once.

    A repeated publish carries the same `Nats-Msg-Id`, so the broker stores it
    once; an answer that got lost is recovered from the log itself.
    """

    def __init__(self, bus: Bus, actor: str) -> None:
        self._bus, self._actor = bus, actor
        self._log = JetStreamLog(bus)
        self._decode = msgspec.json.Decoder(Answer).decode

    async def send(
        self,
        command: Command,
        tenant: str,
        *,
        actor: str | None = None,
        correlation: str = "",
        command_id: str | None = None,
        timeout: float = 10.0,
    ) -> int:
        stream, subject = stream_of(command, tenant), command_subject(command, tenant)
        for part in stream:
            if not _TOKEN.fullmatch(part):
                raise Declined(
                    "Malformed", "invalid", f"{part!r} is no identifier: use A-Z a-z 0-9 _ : % ~ -"
                )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        body = msgspec.json.encode(command, order="sorted")
        headers = {
            "Stratus-Actor": actor or self._actor,
            "Stratus-Correlation": correlation or uuid4().hex,
        }
        command_id = command_id or uuid4().hex
        while True:
            answer: asyncio.Future[Answer] = loop.create_future()

            def answered(head: bytes, data: bytes) -> None:
                if not answer.done():
                    answer.set_result(self._decode(data))

            token = self._bus.expect(answered)
            try:
                about = headers | {
                    "Nats-Msg-Id": command_id,
                    "Stratus-Reply": self._bus.address(token).decode(),
                }
                sequence = await self._publish(subject, body, about, answer, deadline)
                while not answer.done() and loop.time() < deadline:
                    patience = min(RETRY_S, deadline - loop.time())
                    await asyncio.wait((answer,), timeout=patience)
                    if answer.done():
                        break
                    with contextlib.suppress(Unavailable):
                        position = await self._recover(stream, sequence)
                        if position is not None:
                            return position
                        if await self._passed(sequence):
                            break  # decided without an event, and the reason got lost: ask again
                if answer.done():
                    return position_of(answer.result())
                if loop.time() >= deadline:
                    raise Unavailable(f"{type(command).__name__} was accepted, its answer is not in yet")
                command_id = uuid4().hex
            finally:
                self._bus.forget(token)

    async def _publish(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str],
        answer: asyncio.Future[Answer],
        deadline: float,
    ) -> int:
        """The command's sequence; 0 if its answer came before the broker's acknowledgement did."""
        loop, block = asyncio.get_running_loop(), header_block(headers)
        while True:
            try:
                stored: asyncio.Future[bytes] = loop.create_future()

                def done(head: bytes, data: bytes) -> None:
                    if not stored.done():
                        stored.set_result(data)

                token = self._bus.call(subject.encode(), body, block, done)
                try:
                    await asyncio.wait((stored, answer), timeout=2, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    self._bus.forget(token)
                if answer.done():
                    return 0
                if stored.done():
                    acknowledged = msgspec.json.decode(stored.result() or b'{"error":{}}')
                    if "error" not in acknowledged:
                        return int(acknowledged["seq"])
                    if acknowledged["error"].get("err_code") == 10054:
                        raise Declined("TooLarge", "invalid", "a command may be 1 MiB at most")
                    raise Unavailable(f"the queue refuses commands: {api_error(acknowledged)}")
            except Unavailable:
                if loop.time() + 0.2 >= deadline:
                    raise
                await asyncio.sleep(0.2)
            if loop.time() >= deadline:
                raise Unavailable("the queue did not acknowledge the command")

    async def _recover(self, stream: Stream, sequence: int) -> int | None:
        """Where the command became an event, if it did."""
        last = await self._log.last(stream)
        if not sequence or last is None or last.commit.answers < sequence:
            return None
        for recorded in reversed(await self._log.read(stream)):
            if any(decision.sequence == sequence for decision in recorded.commit.decisions):
                return recorded.position
        return None

    async def _passed(self, sequence: int) -> bool:
        """Whether the partition's handlers are done with everything up to the command."""
        _, body = await self._bus.ask(b"$JS.API.STREAM.MSG.GET.COMMANDS", b'{"seq":%d}' % sequence)
        message = msgspec.json.decode(body).get("message")
        if message is None:
            return True
        partition = message["subject"].split(".")[1]
        lease = await last_message(self._bus, "LEASES", f"lease.{partition}")
        return lease is not None and int(msgspec.json.decode(lease[1])["checkpoint"]) >= sequence


def reply_address(block: bytes) -> bytes:
    """Where the sender of a command waits; only inboxes are answered, never a stream's subject."""
    address = header(block, b"Stratus-Reply")
    return address if address.startswith(b"_INBOX.") and b" " not in address else b""
