"""An ordered reader of a JetStream stream that heals itself.

An ephemeral pull consumer without acknowledgements, kept supplied with requests
and replaced from the last seen sequence after a gap, a lost connection, a
restarted server or a deleted consumer. What was handled is remembered by whoever
reads (a checkpoint), because acknowledgements lose messages at a failover.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import structlog
from nats.aio.subscription import Subscription

from core.bus import Bus, api_error, header
from core.log import Unavailable

log = structlog.get_logger(__name__)

OnMessage = Callable[[int, int, bytes, bytes, bytes], None]
"""stream sequence, milliseconds since 1970 at which the stream took it, subject, header block, payload."""

EXPIRES_S = 10
HEARTBEAT_S = 3


class Reader:
    """Calls `on_message` for everything in `stream` after sequence `after`, in order, each once."""

    def __init__(
        self,
        bus: Bus,
        stream: str,
        after: int,
        on_message: OnMessage,
        subjects: Sequence[str] = (),
        batch: int = 1000,
    ) -> None:
        self.last = after
        self._bus, self._stream, self._subjects, self._batch = bus, stream, subjects, batch
        self._on_message = on_message
        self._generation = 0
        self._subscription: Subscription | None = None
        self._name = ""
        self._requests = b""
        self._inbox = b""
        self._credit = 0
        self._low = batch // 2
        self._delivered = 0
        self._heard = 0.0
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._creating: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._bus.on_reconnect.append(self._restart)
        self._watching = self._loop.create_task(self._watch())
        self._restart()

    async def stop(self) -> None:
        self._generation += 1
        if self._restart in self._bus.on_reconnect:
            self._bus.on_reconnect.remove(self._restart)
        for task in (self._watching, self._creating):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._drop()

    def pause(self) -> None:
        """Ask for no more; what was already asked for still comes."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._requests:
            self._supply()

    def _restart(self) -> None:
        self._generation += 1
        self._requests = b""
        if self._creating is not None:
            self._creating.cancel()
        self._creating = self._loop.create_task(self._create(self._generation))

    async def _drop(self) -> None:
        subscription, self._subscription = self._subscription, None
        if self._name and self._bus.connected:
            self._bus.send(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}".encode(), b"")
        self._name = ""
        if subscription is not None:
            with contextlib.suppress(Exception):  # the connection may be gone, and the subscription with it
                await self._bus.unlisten(subscription)

    async def _create(self, generation: int) -> None:
        while True:
            try:
                await self._drop()
                name = f"r{secrets.token_hex(8)}"
                config: dict[str, Any] = {
                    "name": name,
                    "deliver_policy": "by_start_sequence" if self.last else "all",
                    "ack_policy": "none",
                    "mem_storage": True,
                    "num_replicas": 1,
                    "inactive_threshold": 30_000_000_000,
                    "max_waiting": 64,
                }
                if self.last:
                    config["opt_start_seq"] = self.last + 1
                if self._subjects:
                    config["filter_subjects"] = list(self._subjects)
                request = {"stream_name": self._stream, "action": "create", "config": config}
                self._name = name
                subject = f"$JS.API.CONSUMER.CREATE.{self._stream}.{name}"
                _, body = await self._bus.ask(subject.encode(), msgspec.json.encode(request), timeout=3)
                answer = msgspec.json.decode(body)
                if "error" in answer:
                    raise Unavailable(api_error(answer))
                inbox = f"_INBOX.{secrets.token_hex(8)}"
                self._inbox, self._delivered, self._credit = inbox.encode(), 0, 0
                self._heard = self._loop.time()
                self._subscription = await self._bus.listen(inbox, partial(self._message, generation))
                self._requests = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{name}".encode()
                self._supply()
                return
            except Unavailable as error:
                log.debug("reader is waiting", stream=self._stream, reason=str(error))
                await asyncio.sleep(0.2)

    def _supply(self) -> None:
        wanted = self._batch - self._credit
        if wanted <= 0 or self._paused:
            return
        self._credit += wanted
        request = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (
            wanted,
            EXPIRES_S * 1_000_000_000,
            HEARTBEAT_S * 1_000_000_000,
        )
        self._bus.send(self._requests, request, self._inbox)

    def _message(self, generation: int, subject: bytes, reply: bytes, head: bytes, body: bytes) -> None:
        if generation != self._generation:
            return
        self._heard = self._loop.time()
        if head.startswith(b"NATS/1.0 ") and not reply.startswith(b"$JS.ACK"):
            self._status(head)
            return
        # $JS.ACK.….<stream sequence>.<consumer sequence>.<nanoseconds>.<pending>
        _, sequence, delivered, nanoseconds, _ = reply.rsplit(b".", 4)
        self._delivered += 1
        if int(delivered) != self._delivered:
            self._restart()
            return
        self.last = int(sequence)
        self._credit -= 1
        if self._credit < self._low:
            self._supply()
        self._on_message(self.last, int(nanoseconds[:-6] or 0), subject, head, body)

    def _status(self, head: bytes) -> None:
        status = head[9:12]
        if status == b"100":
            return
        unused = header(head, b"Nats-Pending-Messages")
        if status in (b"408", b"404") and unused:
            self._credit = max(0, self._credit - int(unused))
            self._supply()
        else:
            self._restart()

    async def _watch(self) -> None:
        """A consumer that says nothing for three heartbeats is gone."""
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            silent_s = self._loop.time() - self._heard
            if self._requests and not self._paused and silent_s > 3 * HEARTBEAT_S and self._bus.connected:
                log.warning("reader restarts", stream=self._stream, silent_s=round(silent_s))
                self._restart()
