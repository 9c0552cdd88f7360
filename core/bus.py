"""One connection to NATS, fast enough to read back every event ever written.

nats-py keeps the connection (reconnects, TLS, credentials). Messages of our own
subscriptions bypass its per-message objects: `_Frames` hands them to a plain
callback straight from the read buffer, which replays a log three times faster.
It relies on the shape of nats-py's parser, so that version is pinned.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Self

import nats
import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.protocol.parser import Parser

from core.log import Unavailable

log = structlog.get_logger(__name__)

Handler = Callable[[bytes, bytes, bytes, bytes], None]
"""subject, reply, headers as they came (b"" if none), payload. Must not block."""

Done = Callable[[bytes, bytes], None]
"""headers, payload of a reply."""

PENDING_BYTES = 64 << 20


class _Frames(Parser):
    """Complete MSG and HMSG frames of known subscriptions go to their handler, all else to nats-py."""

    def __init__(self, client: Client) -> None:
        self.handlers: dict[bytes, Handler] = {}
        super().__init__(client)

    def reset(self) -> None:
        super().reset()
        self._rest = b""

    async def parse(self, data: bytes = b"") -> None:
        buffer = self._rest + data if self._rest else data
        at, size = 0, len(buffer)
        while at < size:
            line_end = buffer.find(b"\r\n", at)
            if line_end < 0:
                break
            end = line_end + 2
            first = buffer[at]
            if first == 77 or first == 72:  # M(SG) or H(MSG)
                words = buffer[at:line_end].split(b" ")
                body = end
                end += int(words[-1]) + 2
                if end > size:
                    break
                handler = self.handlers.get(words[2])
                if handler is not None:
                    if first == 77:
                        reply = words[3] if len(words) == 5 else b""
                        head, payload = b"", buffer[body : end - 2]
                    else:
                        reply = words[3] if len(words) == 6 else b""
                        split = body + int(words[-2])
                        head, payload = buffer[body:split], buffer[split : end - 2]
                    try:
                        handler(words[1], reply, head, payload)
                    except Exception:  # an exception here would end nats-py's read loop in silence
                        log.exception("message handler failed", subject=words[1].decode())
                    at = end
                    continue
            await super().parse(buffer[at:end])
            at = end
        self._rest = buffer[at:]


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as they go over the wire. Raises `ValueError` for a value that would break out of its line."""
    lines = []
    for name, value in headers.items():
        if "\r" in value or "\n" in value:
            raise ValueError(f"header {name}: line breaks are not allowed")
        lines.append(f"{name}: {value}\r\n")
    return b"NATS/1.0\r\n" + "".join(lines).encode() + b"\r\n"


def header(block: bytes, name: bytes) -> bytes:
    """One header's value out of a block, b"" if it is not there."""
    start = block.find(b"\r\n" + name + b": ")
    if start < 0:
        return b""
    start += len(name) + 4
    return block[start : block.index(b"\r\n", start)]


def parsed(block: bytes) -> dict[str, str]:
    """All headers of a block; a status line becomes `Status` and `Description`."""
    if not block:
        return {}
    first, *lines = block.decode(errors="replace").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    status = first.split(" ", 2)
    if len(status) > 1:
        headers["Status"] = status[1]
        headers["Description"] = status[2] if len(status) > 2 else ""
    return headers


class Bus:
    """Publish, ask and listen. Everything awaited here raises `Unavailable` when NATS does not answer."""

    nats: Client
    js: JetStreamContext

    def __init__(self, client: Client) -> None:
        self.nats = client
        self.js = client.jetstream(timeout=10)
        self.on_reconnect: list[Callable[[], None]] = []
        self._loop = asyncio.get_running_loop()
        self._frames = _Frames(client)
        self._inbox = f"_INBOX.{secrets.token_hex(8)}."
        self._prefix = self._inbox.encode()
        self._waiting: dict[bytes, Done] = {}
        self._tokens = 0
        self._reported: dict[str, float] = {}

    @classmethod
    async def connect(cls, url: str, name: str) -> Self:
        client = Client()
        bus = cls(client)
        await client.connect(
            url,
            name=name,
            pending_size=PENDING_BYTES,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,  # type: ignore[arg-type]  # nats-py sleeps any number of seconds
            connect_timeout=2,
            allow_reconnect=True,
            error_cb=bus._error,
            reconnected_cb=bus._reconnected,
        )
        client._ps = bus._frames
        await bus.listen(bus._inbox + "*", bus._answered)
        return bus

    async def close(self) -> None:
        await self.nats.close()

    @property
    def connected(self) -> bool:
        return bool(self.nats.is_connected)

    def send(self, subject: bytes, payload: bytes, reply: bytes = b"", headers: bytes = b"") -> None:
        """Put a message on the wire; fire and forget."""
        client, gap = self.nats, b" " if reply else b""
        if headers:
            sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
            frame = b"HPUB %b %b%b%b\r\n%b%b\r\n" % (subject, reply, gap, sizes, headers, payload)
        else:
            frame = b"PUB %b %b%b%d\r\n%b\r\n" % (subject, reply, gap, len(payload), payload)
        client._pending.append(frame)
        client._pending_data_size += len(frame)
        if client._flush_queue is not None and client._flush_queue.empty() and client.is_connected:
            client._flush_queue.put_nowait(self._loop.create_future())

    def call(self, subject: bytes, payload: bytes, headers: bytes, done: Done) -> bytes:
        """Ask, and have `done` called with the reply. Returns the token that `forget` takes."""
        if not self.nats.is_connected:
            raise Unavailable("not connected to NATS")
        token = self.expect(done)
        self.send(subject, payload, self._prefix + token, headers)
        return token

    def expect(self, done: Done) -> bytes:
        """A token under which one reply is awaited, at `address(token)`."""
        self._tokens += 1
        token = b"%d" % self._tokens
        self._waiting[token] = done
        return token

    def address(self, token: bytes) -> bytes:
        return self._prefix + token

    def forget(self, token: bytes) -> None:
        self._waiting.pop(token, None)

    async def ask(
        self, subject: bytes, payload: bytes, headers: bytes = b"", timeout: float = 5.0
    ) -> tuple[bytes, bytes]:
        """The reply's header block and payload."""
        answer: asyncio.Future[tuple[bytes, bytes]] = self._loop.create_future()

        def done(head: bytes, body: bytes) -> None:
            if not answer.done():
                answer.set_result((head, body))

        token = self.call(subject, payload, headers, done)
        try:
            async with asyncio.timeout(timeout):  # 3.11's wait_for may swallow a cancellation
                head, body = await answer
        except TimeoutError:
            raise Unavailable(f"no answer from {subject.decode()} within {timeout} s") from None
        finally:
            self.forget(token)
        if not body and head.startswith(b"NATS/1.0 503"):
            raise Unavailable(f"nobody answers {subject.decode()}")
        return head, body

    async def request(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, timeout: float = 5.0
    ) -> tuple[dict[str, str], bytes]:
        block = header_block(headers) if headers else b""
        head, body = await self.ask(subject.encode(), data, block, timeout)
        return parsed(head), body

    def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send(subject.encode(), data, b"", header_block(headers) if headers else b"")

    async def listen(self, subject: str, handler: Handler) -> Subscription:
        subscription = await self.nats.subscribe(subject)
        self._frames.handlers[b"%d" % subscription._id] = handler
        return subscription

    async def unlisten(self, subscription: Subscription) -> None:
        self._frames.handlers.pop(b"%d" % subscription._id, None)
        if self.nats.is_connected:
            await subscription.unsubscribe()

    def _answered(self, subject: bytes, reply: bytes, head: bytes, body: bytes) -> None:
        done = self._waiting.pop(subject[len(self._prefix) :], None)
        if done is not None:
            done(head, body)

    async def _reconnected(self) -> None:
        for callback in list(self.on_reconnect):
            callback()

    async def _error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        now = self._loop.time()
        if now - self._reported.get(text, -60.0) >= 60.0:  # a broker that is away fails ten times a second
            self._reported[text] = now
            log.warning("nats", error=text)


async def connect_when_up(url: str, name: str, attempts: int = 100) -> Bus:
    """`Bus.connect`, patient with a server that is still starting. Raises `Unavailable` in the end."""
    for _ in range(attempts):
        try:
            return await Bus.connect(url, name)
        except (OSError, TimeoutError, nats.errors.Error):
            await asyncio.sleep(0.1)
    raise Unavailable(f"no NATS server answers at {url}")


def api_error(answer: Mapping[str, Any]) -> str:
    """What JetStream says is wrong, in words."""
    error = answer.get("error") or {}
    return f"{error.get('description', 'unknown error')} ({error.get('err_code', error.get('code', '?'))})"
