"""The log in a list: for tests, for the simulator, for trying things out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import count

from core.contexts import Stream
from core.log import COMMIT_BYTES_MAX, Append, Conflict, Recorded, TooLarge, decode, encode


class MemoryLog:
    """A log that forgets when the process ends.

    `pause` stands where a network would make us wait and others overtake us; it
    may raise `Unavailable` before or after the append took place, as a network may.
    """

    def __init__(self, pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)) -> None:
        self.recorded: list[Recorded] = []
        self._pause = pause
        self._grown = asyncio.Event()
        self._clock = count(1)

    async def last(self, stream: Stream) -> Recorded | None:
        await self._pause()
        return self._last(stream)

    async def read(self, stream: Stream, after: int = 0, until: int | None = None) -> list[Recorded]:
        await self._pause()
        return [r for r in self.recorded[after:until] if r.stream == stream]

    def append(self, *appends: Append) -> asyncio.Task[int]:
        return asyncio.get_running_loop().create_task(self._append(appends))

    async def _append(self, appends: tuple[Append, ...]) -> int:
        await self._pause()
        for append in appends:
            last = self._last(append.stream)
            if (last.position if last else 0) != append.expected:
                raise Conflict(str(append.stream))
        written = [encode(append.commit) for append in appends]
        if max(map(len, written)) > COMMIT_BYTES_MAX:
            raise TooLarge(str(appends[-1].stream))
        for append, body in zip(appends, written, strict=True):
            kept = decode(body)  # what a reader gets has been written and read
            self.recorded.append(Recorded(append.stream, len(self.recorded) + 1, next(self._clock), kept))
        position = len(self.recorded)
        self._grown.set()
        self._grown = asyncio.Event()
        await self._pause()
        return position

    async def end(self) -> int:
        return len(self.recorded)

    async def follow(self, *contexts: str, after: int = 0) -> AsyncGenerator[list[Recorded], None]:
        while True:
            grown = self._grown
            batch = [r for r in self.recorded[after:] if not contexts or r.stream.context in contexts]
            after = len(self.recorded)
            if batch:
                yield batch
            else:
                await grown.wait()

    def _last(self, stream: Stream) -> Recorded | None:
        return next((r for r in reversed(self.recorded) if r.stream == stream), None)
