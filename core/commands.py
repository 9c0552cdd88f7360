"""Asking for something: put a command onto the queue, get the answer back."""

from __future__ import annotations

import asyncio
import contextlib
import re
from secrets import token_hex
from typing import Any, Literal, Protocol

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

MESSAGE_TOO_LARGE = 10054

_TOKEN = re.compile(r"[A-Za-z0-9_:%~-]{1,250}")


class Refusal(Struct, frozen=True):
    """A no, as it travels: the rejection's class name, what it means for the caller, and why."""

    rejection: str
    kind: Kind
    reason: str


class Answer(Struct, frozen=True, omit_defaults=True):
    """`position` is where in the log the wish is true, or where it was not and `refusal` says why."""

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
        command_id = command_id or token_hex(16)
        address, body = subject.encode(), msgspec.json.encode(command, order="sorted")
        about = {"Stratus-Actor": actor or self._actor, "Stratus-Correlation": correlation or command_id}
        asked, reply, acknowledgement = _Asked(), b"", b""
        try:
            while True:
                if not reply:
                    reply = self._bus.expect(asked.answered)
                headers = about | {
                    "Nats-Msg-Id": command_id,
                    "Stratus-Reply": self._bus.address(reply).decode(),
                }
                outcome = asked.wait(loop, min(RETRY_S, max(deadline - loop.time(), 0.0)))
                try:
                    acknowledgement = self._bus.call(address, body, header_block(headers), asked.stored)
                    return position_of(await outcome)
                except (_Late, Unavailable) as late:
                    if asked.sequence:
                        with contextlib.suppress(Unavailable):
                            position = await self._recover(stream, asked.sequence)
                            if position is not None:
                                return position
                            if await self._passed(asked.sequence):
                                # decided without an event, and its answer lost: ask again
                                self._bus.forget(reply)
                                asked, reply, command_id = _Asked(), b"", token_hex(16)
                                continue
                    if loop.time() >= deadline:
                        what = (
                            "accepted, its answer is not in yet" if asked.sequence else f"not taken: {late}"
                        )
                        raise Unavailable(f"{type(command).__name__} was {what}") from None
                    self._bus.forget(acknowledgement)
                    await asked.pause(min(0.1, deadline - loop.time()))
        finally:
            asked.close()
            self._bus.forget(reply)
            self._bus.forget(acknowledgement)

    async def _recover(self, stream: Stream, sequence: int) -> int | None:
        """Where the command became an event, if it did."""
        last = await self._log.last(stream)
        if last is None or last.commit.answers < sequence:
            return None
        history = [last] if any(d.sequence == sequence for d in last.commit.decisions) else None
        for recorded in reversed(history or await self._log.read(stream)):
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


class _Late(Exception):
    """No answer within the time it usually takes."""


class _Asked:
    """One command under way: where the queue stored it, and what came of it."""

    def __init__(self) -> None:
        self.sequence = 0
        self._answer: Answer | None = None
        self._outcome: asyncio.Future[Answer] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, loop: asyncio.AbstractEventLoop, patience_s: float) -> asyncio.Future[Answer]:
        """The answer, even one that came between two waits; `_Late` after so long."""
        outcome = self._outcome = loop.create_future()
        if self._answer is not None:
            outcome.set_result(self._answer)
        else:
            self._timer = loop.call_later(patience_s, self._fail, _Late("the queue does not answer"))
        return outcome

    async def pause(self, seconds: float) -> None:
        with contextlib.suppress(_Late):
            await self.wait(asyncio.get_running_loop(), seconds)

    def stored(self, head: bytes, data: bytes) -> None:
        acknowledged = _decode_stored(data) if data else _Stored(error={"description": "nobody keeps it"})
        if acknowledged.error is None:
            self.sequence = acknowledged.seq
        elif acknowledged.error.get("err_code") == MESSAGE_TOO_LARGE:
            self._fail(Declined("TooLarge", "invalid", "a command may be 1 MiB at most"))
        else:
            self._fail(Unavailable(api_error({"error": acknowledged.error})))

    def answered(self, head: bytes, data: bytes) -> None:
        self._answer = _decode_answer(data)
        self.close()
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(self._answer)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_exception(error)


class _Stored(Struct, frozen=True):
    seq: int = 0
    error: dict[str, Any] | None = None


_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_stored = msgspec.json.Decoder(_Stored).decode


def reply_address(block: bytes) -> bytes:
    """Where the sender of a command waits; only inboxes are answered, never a stream's subject."""
    address = header(block, b"Stratus-Reply")
    return address if address.startswith(b"_INBOX.") and b" " not in address else b""
