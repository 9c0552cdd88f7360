"""The log in NATS JetStream, and the streams around it.

A commit is one message, so it is atomic by construction and costs one check and
one fsync. Only an append that spans streams (a user and the name it reserves)
is an atomic batch, which JetStream stages on disk: some hundred a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import uuid4

import msgspec

from core.bus import Bus, api_error, header, header_block
from core.contexts import Stream
from core.log import (
    COMMIT_BYTES_MAX,
    Append,
    Conflict,
    Recorded,
    TooLarge,
    Unavailable,
    decode,
    encode,
)
from core.reader import Reader

PARTITIONS = 16
"""Of commands. Fixed: another number would send a stream's commands elsewhere while old ones still wait."""

WRONG_LAST_SEQUENCE = (10071, 10164)
STREAM_NAME_IN_USE = 10058
APPEND_TIMEOUT_S = 5.0
HEADER_EVENTS_MAX = 64
"""The headers name the first so many events of a commit: a server refuses headers of 64 kB."""

BACKLOG_MAX = 20_000
STREAMS_MAX = 50_000
DAY_NS = 86_400 * 1_000_000_000


def streams(replicas: int = 1) -> list[dict[str, Any]]:
    """Every stream the platform keeps, as JetStream wants it said."""
    common: dict[str, Any] = {"storage": "file", "num_replicas": replicas, "allow_direct": True}
    return [
        common
        | {
            "name": "EVENTS",
            "subjects": ["evt.*.*.*"],
            "discard": "new",
            "deny_delete": True,
            "deny_purge": True,
            "allow_atomic": True,
            "compression": "s2",
        },
        common
        | {
            "name": "COMMANDS",
            "subjects": ["cmd.*.*.*.*"],
            "max_age": 7 * DAY_NS,
            "max_msg_size": 1 << 20,
            "duplicate_window": 120 * 1_000_000_000,
            "subject_transform": {
                "src": "cmd.*.*.*.*",
                "dest": f"cmd.{{{{partition({PARTITIONS},1,2,3)}}}}."
                "{{wildcard(1)}}.{{wildcard(2)}}.{{wildcard(3)}}.{{wildcard(4)}}",
            },
        },
        common | {"name": "LEASES", "subjects": ["lease.*"], "max_msgs_per_subject": 1},
        common | {"name": "DEAD", "subjects": ["dead.*.*.*"]},
        common | {"name": "VAULT", "subjects": ["vault.*"], "max_msgs_per_subject": 1},
        common | {"name": "OUTPUT", "subjects": ["out.>"], "max_age": 7 * DAY_NS, "max_bytes": 1 << 30},
    ]


async def create_streams(bus: Bus, replicas: int = 1) -> None:
    """Make them, or bring those that exist up to date. Raises `Unavailable` with the server's words."""
    for config in streams(replicas):
        body = msgspec.json.encode(config)
        for verb in ("CREATE", "UPDATE"):
            _, data = await bus.ask(f"$JS.API.STREAM.{verb}.{config['name']}".encode(), body, timeout=10)
            answer = msgspec.json.decode(data)
            error = answer.get("error")
            if error is None:
                break
            if verb == "UPDATE" or error.get("err_code") != STREAM_NAME_IN_USE:
                raise Unavailable(f"stream {config['name']}: {api_error(answer)}")


async def last_message(bus: Bus, stream: str, subject: str) -> tuple[bytes, bytes] | None:
    """The newest message of one subject: its header block, with `Nats-Sequence` among others, and body."""
    head, body = await bus.ask(f"$JS.API.DIRECT.GET.{stream}.{subject}".encode(), b"")
    if head.startswith(b"NATS/1.0 404"):
        return None
    if head.startswith(b"NATS/1.0 ") and not header(head, b"Nats-Sequence"):
        raise Unavailable(head.split(b"\r\n", 1)[0].decode())
    return head, body


async def last_sequence(bus: Bus, stream: str) -> int:
    _, body = await bus.ask(f"$JS.API.STREAM.INFO.{stream}".encode(), b"")
    answer = msgspec.json.decode(body)
    if "error" in answer:
        raise Unavailable(f"stream {stream}: {api_error(answer)}")
    return int(answer["state"]["last_seq"])


class JetStreamLog:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._loop = asyncio.get_running_loop()

    async def last(self, stream: Stream) -> Recorded | None:
        found = await last_message(self._bus, "EVENTS", stream.events)
        if found is None:
            return None
        head, body = found
        at = datetime.fromisoformat(header(head, b"Nats-Time-Stamp").decode()[:26].rstrip("Z") + "+00:00")
        return Recorded(stream, int(header(head, b"Nats-Sequence")), int(at.timestamp() * 1000), decode(body))

    async def read(self, stream: Stream, after: int = 0, until: int | None = None) -> list[Recorded]:
        newest = await self.last(stream)
        if newest is None or newest.position <= after:
            return []
        end = newest.position if until is None else min(until, newest.position)
        found: list[Recorded] = []
        tail = self._tail((stream.events,), after)
        try:
            async for batch in tail:
                found += batch
                if found[-1].position >= end:
                    break
        finally:
            await tail.aclose()
        return [recorded for recorded in found if recorded.position <= end]

    def append(self, *appends: Append) -> asyncio.Future[int]:
        outcome: asyncio.Future[int] = self._loop.create_future()
        subject, body, headers = self._frame(appends[-1])
        if len(body) > COMMIT_BYTES_MAX:  # the broker would cut the connection, and again at each attempt
            outcome.set_exception(TooLarge(f"{len(body)} bytes for {appends[-1].stream}"))
            return outcome
        if len(appends) > 1:
            batch = uuid4().hex
            for number, append in enumerate(appends[:-1], start=1):
                first, data, about = self._frame(append)
                about |= {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                self._bus.send(first, data, b"", header_block(about))
            headers |= {
                "Nats-Batch-Id": batch,
                "Nats-Batch-Sequence": str(len(appends)),
                "Nats-Batch-Commit": "1",
            }

        def done(head: bytes, data: bytes) -> None:
            timer.cancel()
            if outcome.done():
                return
            if not data:
                outcome.set_exception(Unavailable("nobody keeps the log"))
                return
            answer = msgspec.json.decode(data)
            error = answer.get("error")
            if error is None:
                outcome.set_result(answer["seq"])
            elif error.get("err_code") in WRONG_LAST_SEQUENCE:
                outcome.set_exception(Conflict(str(appends[-1].stream)))
            else:
                outcome.set_exception(Unavailable(api_error(answer)))

        def expired() -> None:
            self._bus.forget(token)
            if not outcome.done():
                outcome.set_exception(Unavailable("the log did not answer"))

        token = self._bus.call(subject, body, header_block(headers), done)
        timer = self._loop.call_later(APPEND_TIMEOUT_S, expired)
        return outcome

    @staticmethod
    def _frame(append: Append) -> tuple[bytes, bytes, dict[str, str]]:
        decisions = append.commit.decisions
        decision = decisions[-1]
        events = islice((event for one in decisions for event in one.events), HEADER_EVENTS_MAX)
        headers = {
            "Nats-Expected-Last-Subject-Sequence": str(append.expected),
            "Stratus-Events": ",".join(type(event).__name__ for event in events),
            "Stratus-Command": decision.command,
            "Stratus-Actor": decision.actor,
            "Stratus-Correlation": decision.correlation,
        }
        return append.stream.events.encode(), encode(append.commit), headers

    async def end(self) -> int:
        return await last_sequence(self._bus, "EVENTS")

    def follow(self, *contexts: str, after: int = 0) -> AsyncGenerator[list[Recorded], None]:
        return self._tail(tuple(f"evt.*.{context}.*" for context in contexts), after)

    async def _tail(self, subjects: Sequence[str], after: int) -> AsyncGenerator[list[Recorded], None]:
        backlog: list[tuple[int, int, bytes, bytes]] = []
        grown = asyncio.Event()
        known: dict[bytes, Stream] = {}

        def take(sequence: int, at_ms: int, subject: bytes, head: bytes, body: bytes) -> None:
            backlog.append((sequence, at_ms, subject, body))
            grown.set()
            if len(backlog) > BACKLOG_MAX:
                reader.pause()

        reader = Reader(self._bus, "EVENTS", after, take, subjects)
        await reader.start()
        try:
            while True:
                await grown.wait()
                grown.clear()
                batch, backlog = backlog, []
                reader.resume()
                if len(known) > STREAMS_MAX:
                    known.clear()
                recorded = []
                for sequence, at_ms, subject, body in batch:
                    stream = known.get(subject)
                    if stream is None:
                        stream = known[subject] = Stream(*subject.decode().split(".")[1:])
                    recorded.append(Recorded(stream, sequence, at_ms, decode(body)))
                yield recorded
        finally:
            await reader.stop()
